//! What is wrong with a configuration, and where.

use std::{
    collections::HashSet,
    fmt,
    ops::Range,
    path::{Path, PathBuf},
};

/// One thing that is wrong. Displayed as `FILE:LINE: field: message`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The configuration file.
    pub file: PathBuf,
    /// The line in it, from 1; `None` when the file itself cannot be read.
    pub line: Option<usize>,
    /// Path of the field, for example `environment[0].attachment[1].address`, counted from 0 in
    /// the order of the file; `syntax` when the text is no TOML, `file` when it cannot be read.
    pub field: String,
    /// What is there and what was expected.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.display();
        match self.line {
            Some(line) => write!(f, "{file}:{line}: {}: {}", self.field, self.message),
            None => write!(f, "{file}: {}: {}", self.field, self.message),
        }
    }
}

impl std::error::Error for Problem {}

/// The field of problems that the TOML itself has.
pub(crate) const SYNTAX: &str = "syntax";

/// Where something stands in the text, in bytes.
pub(crate) type Span = Range<usize>;

/// A value with its place and its path.
#[derive(Debug, Clone)]
pub(crate) struct At<T> {
    pub(crate) value: T,
    pub(crate) field: String,
    pub(crate) span: Span,
}

impl<T> At<T> {
    /// The same place with another value.
    pub(crate) fn with<U>(&self, value: U) -> At<U> {
        At { value, field: self.field.clone(), span: self.span.clone() }
    }
}

/// Collects problems and knows the lines of the text.
#[derive(Debug)]
pub(crate) struct Report {
    file: PathBuf,
    /// Offset of the first byte of each line.
    line_starts: Vec<usize>,
    problems: Vec<Problem>,
    /// After a syntax error whatever is missing may only have been lost.
    pub(crate) ignore_missing: bool,
}

impl Report {
    pub(crate) fn new(file: &Path, text: &str) -> Self {
        let after_newlines = text.bytes().enumerate().filter(|(_, b)| *b == b'\n');
        Self {
            file: file.to_owned(),
            line_starts: std::iter::once(0).chain(after_newlines.map(|(i, _)| i + 1)).collect(),
            problems: Vec::new(),
            ignore_missing: false,
        }
    }

    /// The line of a byte offset, from 1.
    pub(crate) fn line(&self, offset: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= offset)
    }

    /// Reports `message` about the field at `span`.
    pub(crate) fn add(&mut self, field: &str, span: &Span, message: impl fmt::Display) {
        self.problems.push(Problem {
            file: self.file.clone(),
            line: Some(self.line(span.start)),
            field: field.to_owned(),
            message: message.to_string(),
        });
    }

    /// Reports `message` about a value.
    pub(crate) fn about<T>(&mut self, what: &At<T>, message: impl fmt::Display) {
        self.add(&what.field, &what.span, message);
    }

    /// Whether nothing was reported.
    pub(crate) fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    /// How many were reported.
    pub(crate) fn len(&self) -> usize {
        self.problems.len()
    }

    /// The problems in the order of the file, without what a syntax error brought with it.
    pub(crate) fn into_problems(mut self) -> Vec<Problem> {
        let is_syntax = |p: &Problem| p.field == SYNTAX;
        let broken: HashSet<_> =
            self.problems.iter().filter(|p| is_syntax(p)).map(|p| p.line).collect();
        self.problems.retain(|p| is_syntax(p) || !broken.contains(&p.line));
        self.problems.sort_by_key(|p| p.line);
        self.problems.dedup();
        self.problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_lines() {
        let report = Report::new(Path::new("f"), "a\nbc\n\nd");
        let lines: Vec<_> = (0..8).map(|i| report.line(i)).collect();
        assert_eq!(lines, [1, 1, 2, 2, 2, 3, 4, 4]);
    }

    #[test]
    fn reads_like_a_compiler() {
        let mut report = Report::new(Path::new("weftd.toml"), "x\ny");
        report.add("workers", &(2..3), "65 is out of range; expected 1 to 64");
        assert_eq!(
            report.into_problems()[0].to_string(),
            "weftd.toml:2: workers: 65 is out of range; expected 1 to 64"
        );
    }
}
