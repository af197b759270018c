//! A report as one HTML file that needs nothing else: it can be mailed, stored and opened offline.

use crate::machine::Machine;
use crate::plot::escape;

const STYLE: &str = "\
body{font-family:system-ui,-apple-system,'Segoe UI','DejaVu Sans',sans-serif;max-width:760px;\
margin:2rem auto 4rem;padding:0 1rem;color:#24292f;background:#fff;line-height:1.5;font-size:15px}\
h1{font-size:1.7rem;margin-bottom:.25rem}\
h2{font-size:1.25rem;margin-top:3rem;padding-bottom:.3rem;border-bottom:1px solid #d0d7de}\
p{color:#57606a}svg{display:block;max-width:100%;height:auto;margin:1.75rem 0}\
.table{overflow-x:auto}\
table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.87rem;width:100%}\
th,td{padding:.3rem .6rem;text-align:right;border-bottom:1px solid #d8dee4;white-space:nowrap}\
th:first-child,td:first-child,td.words{text-align:left}th{font-weight:600;color:#57606a}\
td.words{white-space:normal;overflow-wrap:anywhere;color:#57606a}\
td:first-child{white-space:normal;min-width:16rem}\
summary{font-size:1.25rem;font-weight:600;margin-top:3rem;cursor:pointer}\
.missed{color:#cf222e;font-weight:600}.reached{color:#1a7f37;font-weight:600}\
@media(prefers-color-scheme:dark){body{color:#e6edf3;background:#0d1117}\
p,th,td.words{color:#9198a1}th,td{border-color:#30363d}h2{border-color:#30363d}\
.missed{color:#ff7b72}.reached{color:#3fb950}}";

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
    /// Shown only when it is opened.
    pub folded: bool,
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
    /// Words, over the columns that are left.
    Note(String),
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
        let (heading, text) = (escape(&self.heading), escape(&self.text));
        let text = if text.is_empty() { text } else { format!("<p>{text}</p>\n") };
        let plots = self.plots.concat();
        if self.folded {
            return format!(
                "<details><summary>{heading}</summary>\n{text}{plots}{table}</details>\n"
            );
        }
        format!("<section><h2>{heading}</h2>\n{text}{plots}{table}</section>\n")
    }

    /// What everything was measured on; without it a figure says nothing.
    #[must_use]
    pub fn machine(machine: &Machine) -> Self {
        let row = |name: &str, value: String| vec![Cell::Plain(name.into()), Cell::Note(value)];
        let rows = vec![
            row("processor", format!("{}, {} cores", machine.cpu, machine.cores)),
            row("memory", format!("{} MiB", machine.memory_kib / 1024)),
            row("kernel", machine.kernel.clone()),
            row("default congestion control", machine.congestion_control_default.clone()),
            row("iperf3", machine.iperf3.clone()),
            row("iproute2", machine.iproute2.clone()),
            row("ethtool", machine.ethtool.clone()),
            row("ping", machine.ping.clone()),
            row("weft", machine.weft.clone()),
            row("commit", machine.commit.clone()),
            row("when", machine.day()),
        ];
        let table = Some(Table { head: Vec::new(), rows });
        Self { heading: "Machine".into(), table, ..Self::default() }
    }
}

impl Table {
    fn html(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).chain([self.head.len()]).max().unwrap_or(0);
        let head: String =
            self.head.iter().map(|name| format!("<th>{}</th>", escape(name))).collect();
        let head = if head.is_empty() { head } else { format!("<tr>{head}</tr>\n") };
        let row = |cells: &Vec<Cell>| {
            let left = |n: usize| columns.saturating_sub(n).max(1);
            let cells: String = cells.iter().enumerate().map(|(n, c)| c.html(left(n))).collect();
            format!("<tr>{cells}</tr>\n")
        };
        let rows: String = self.rows.iter().map(row).collect();
        format!("<div class=\"table\"><table>\n{head}{rows}</table></div>\n")
    }
}

impl Cell {
    /// `left` columns are there for it and what follows.
    fn html(&self, left: usize) -> String {
        match self {
            Self::Note(text) => {
                format!("<td class=\"words\" colspan=\"{left}\">{}</td>", escape(text))
            }
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
            folded: false,
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
