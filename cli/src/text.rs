//! Coloured lines and aligned tables.
//!
//! Text is kept apart from its colour until it is written, so that widths are right and whatever
//! the daemon says cannot command the terminal.

use std::{env, fmt::Write};

/// Spaces between columns.
const GAP: usize = 2;

/// Whether colours are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    Plain,
    Coloured,
}

impl Style {
    /// Colours on a terminal, unless `NO_COLOR` is set (no-color.org) or the terminal is dumb.
    pub(crate) fn detect(terminal: bool) -> Self {
        let set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
        if terminal && !set("NO_COLOR") && !dumb { Self::Coloured } else { Self::Plain }
    }
}

/// What a piece of text means; the terminal's own palette gives the colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    Normal,
    /// Titles and names.
    Strong,
    /// Headings and what does not matter now.
    Faint,
    Good,
    /// Under way.
    Busy,
    Bad,
}

impl Tone {
    fn code(self) -> &'static str {
        match self {
            Self::Normal => "",
            Self::Strong => "1",
            Self::Faint => "2",
            Self::Good => "32",
            Self::Busy => "33",
            Self::Bad => "31",
        }
    }
}

/// A piece of text of one tone, without control characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Span {
    text: String,
    tone: Tone,
}

impl Span {
    pub(crate) fn new(tone: Tone, text: impl AsRef<str>) -> Self {
        let text = printable(text.as_ref());
        Self { text, tone }
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }
}

/// One line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Line(Vec<Span>);

impl Line {
    /// Adds a piece of text.
    #[must_use]
    pub(crate) fn and(mut self, tone: Tone, text: impl AsRef<str>) -> Self {
        self.0.push(Span::new(tone, text));
        self
    }

    /// The line as it is written, cut to `width` characters.
    pub(crate) fn paint(&self, style: Style, width: usize) -> String {
        let mut out = String::new();
        let mut left = width;
        for Span { text, tone } in &self.0 {
            let shown: String = text.chars().take(left).collect();
            left -= shown.chars().count();
            match style {
                Style::Coloured if *tone != Tone::Normal && !shown.is_empty() => {
                    // Writing to a string does not fail.
                    let _ = write!(out, "\x1b[{}m{shown}\x1b[0m", tone.code());
                }
                _ => out.push_str(&shown),
            }
        }
        out
    }
}

/// Which side of its column a cell keeps to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// Rows under headings, each column as wide as its widest cell.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<Span>>,
}

impl Table {
    pub(crate) fn new(columns: &[(&'static str, Align)]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row; cells that are missing on its right stay empty.
    pub(crate) fn row(&mut self, cells: Vec<Span>) {
        self.rows.push(cells);
    }

    /// The lines of the table, each `indent` spaces from the left.
    pub(crate) fn lines(&self, indent: usize) -> Vec<Line> {
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            let heading = self.columns[column].0.chars().count();
            cells.map(Span::width).max().unwrap_or(0).max(heading)
        };
        let widths: Vec<_> = (0..self.columns.len()).map(width).collect();
        let headings = self.columns.iter().map(|(name, _)| Span::new(Tone::Faint, name));
        let headings: Vec<_> = headings.collect();
        std::iter::once(&headings)
            .chain(&self.rows)
            .map(|row| self.line(row, &widths, indent))
            .collect()
    }

    fn line(&self, row: &[Span], widths: &[usize], indent: usize) -> Line {
        let mut line = Line::default();
        // Spaces that are due before the next text, so that no line ends with any.
        let mut due = indent;
        for ((cell, (_, align)), width) in row.iter().zip(&self.columns).zip(widths) {
            let fill = width - cell.width();
            let (before, after) = match align {
                Align::Left => (0, fill),
                Align::Right => (fill, 0),
            };
            if cell.text.is_empty() {
                due += width + GAP;
                continue;
            }
            line = line.and(Tone::Normal, " ".repeat(due + before));
            line.0.push(cell.clone());
            due = after + GAP;
        }
        line
    }
}

/// Text that cannot command a terminal: control characters and those that change the direction of
/// writing become `\u{fffd}`.
pub(crate) fn printable(text: &str) -> String {
    let turns = |c| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().map(|c| if c.is_control() || turns(c) { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_and_lines_end_with_text() {
        let mut table =
            Table::new(&[("NAME", Align::Left), ("N", Align::Right), ("X", Align::Left)]);
        let cell = |text| Span::new(Tone::Normal, text);
        table.row(vec![cell("a"), cell("1000")]);
        table.row(vec![cell("longer"), cell(""), cell("x")]);
        let lines: Vec<_> = table.lines(2).iter().map(|l| l.paint(Style::Plain, 80)).collect();
        assert_eq!(lines, ["  NAME       N  X", "  a       1000", "  longer        x"]);
    }

    #[test]
    fn colours_do_not_count() {
        let line = Line::default().and(Tone::Good, "good").and(Tone::Normal, " rest");
        assert_eq!(line.paint(Style::Coloured, 6), "\x1b[32mgood\x1b[0m r");
        assert_eq!(line.paint(Style::Plain, 3), "goo");
        assert_eq!(line.paint(Style::Coloured, 4), "\x1b[32mgood\x1b[0m");
    }

    #[test]
    fn nothing_commands_the_terminal() {
        let line = Line::default().and(Tone::Normal, "a\x1b[2Jb\n\u{202e}c");
        assert_eq!(line.paint(Style::Plain, 80), "a\u{fffd}[2Jb\u{fffd}\u{fffd}c");
    }
}
