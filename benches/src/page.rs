//! A report as one HTML file that needs nothing else: it can be mailed, stored and opened offline.

use crate::machine::Machine;
use crate::plot::escape;

const STYLE: &str = "\
body{font-family:system-ui,sans-serif;max-width:780px;margin:2rem auto;padding:0 1rem;\
color:#24292f;background:#fff;line-height:1.5}\
h1{font-size:1.6rem}h2{font-size:1.2rem;margin-top:2.5rem}\
svg{max-width:100%;height:auto;margin:1rem 0}\
.table{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums}\
th,td{padding:.25rem .75rem;text-align:right;border-bottom:1px solid #d0d7de}\
th:first-child,td:first-child{text-align:left}th{font-weight:600}\
.missed{color:#cf222e;font-weight:600}.reached{color:#1a7f37}\
@media(prefers-color-scheme:dark){body{color:#e6edf3;background:#0d1117}\
th,td{border-color:#30363d}.missed{color:#ff7b72}.reached{color:#3fb950}}";

/// A report.
#[derive(Debug, Clone)]
pub struct Page {
    /// Heading and name of the page.
    pub title: String,
    /// What it is about, in a sentence or two.
    pub introduction: String,
    /// In reading order.
    pub sections: Vec<Section>,
}

/// A part of a report.
#[derive(Debug, Clone, Default)]
pub struct Section {
    /// Its heading.
    pub heading: String,
    /// What is to be seen, and under which conditions.
    pub text: String,
    /// Pictures made by [`crate::plot`]; taken over as they are.
    pub plots: Vec<String>,
    /// A table below the pictures.
    pub table: Option<Table>,
}

/// A table; the first column is its rows' names.
#[derive(Debug, Clone, Default)]
pub struct Table {
    /// Headings of the columns.
    pub head: Vec<String>,
    /// Cells, row by row.
    pub rows: Vec<Vec<Cell>>,
}

/// A cell of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cell {
    /// As it is.
    Plain(String),
    /// A target that was reached.
    Reached(String),
    /// A target that was missed.
    Missed(String),
}

impl Page {
    /// The whole file.
    #[must_use]
    pub fn html(&self) -> String {
        let title = escape(&self.title);
        let sections: String = self.sections.iter().map(Section::html).collect();
        format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width\">\
             <title>{title}</title><style>{STYLE}</style></head><body>\n\
             <h1>{title}</h1>\n<p>{}</p>\n{sections}</body></html>\n",
            escape(&self.introduction)
        )
    }
}

impl Section {
    fn html(&self) -> String {
        let table = self.table.as_ref().map(Table::html).unwrap_or_default();
        format!(
            "<section><h2>{}</h2>\n<p>{}</p>\n{}{table}</section>\n",
            escape(&self.heading),
            escape(&self.text),
            self.plots.concat()
        )
    }

    /// What everything was measured on; without it a figure says nothing.
    #[must_use]
    pub fn machine(machine: &Machine) -> Self {
        let row = |name: &str, value: String| vec![Cell::Plain(name.into()), Cell::Plain(value)];
        let rows = vec![
            row("processor", format!("{}, {} cores", machine.cpu, machine.cores)),
            row("memory", format!("{} MiB", machine.memory_kib / 1024)),
            row("kernel", machine.kernel.clone()),
            row("default congestion control", machine.congestion_control_default.clone()),
            row("iperf3", machine.iperf3.clone()),
            row("iproute2", machine.iproute2.clone()),
            row("weft", machine.weft.clone()),
            row("commit", machine.commit.clone()),
        ];
        let table = Some(Table { head: Vec::new(), rows });
        Self { heading: "Machine".into(), table, ..Self::default() }
    }
}

impl Table {
    fn html(&self) -> String {
        let head: String =
            self.head.iter().map(|name| format!("<th>{}</th>", escape(name))).collect();
        let head = if head.is_empty() { head } else { format!("<tr>{head}</tr>\n") };
        let row = |cells: &Vec<Cell>| {
            let cells: String = cells.iter().map(Cell::html).collect();
            format!("<tr>{cells}</tr>\n")
        };
        let rows: String = self.rows.iter().map(row).collect();
        format!("<div class=\"table\"><table>\n{head}{rows}</table></div>\n")
    }
}

impl Cell {
    fn html(&self) -> String {
        match self {
            Self::Plain(text) => format!("<td>{}</td>", escape(text)),
            Self::Reached(text) => format!("<td class=\"reached\">✔ {}</td>", escape(text)),
            Self::Missed(text) => format!("<td class=\"missed\">✘ {}</td>", escape(text)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_one_file_and_nothing_breaks_out_of_it() {
        let table = Table {
            head: vec!["figure".into(), "<b>".into()],
            rows: vec![vec![Cell::Plain("a&b".into()), Cell::Missed("0.44".into())]],
        };
        let section = Section {
            heading: "One <i>".into(),
            text: "<script>alert(1)</script>".into(),
            plots: vec!["<svg></svg>".into()],
            table: Some(table),
        };
        let machine = Section::machine(&Machine::look(None));
        let sections = vec![section, machine];
        let page = Page { title: "R".into(), introduction: "x < y".into(), sections };
        let html = page.html();
        assert!(!html.contains("<script") && !html.contains("<i>") && !html.contains("<b>"));
        assert!(
            html.contains("<svg></svg>") && html.contains("✘ 0.44") && html.contains("a&amp;b")
        );
        for elsewhere in ["http:", "https:", "src=", "@import", "url("] {
            let found = html.replace("http://www.w3.org/2000/svg", "").contains(elsewhere);
            assert!(!found, "{elsewhere}");
        }
    }
}
