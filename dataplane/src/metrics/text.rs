//! Prometheus' text exposition format, version 0.0.4.

use std::fmt::{Display, Write as _};

/// What the format calls itself.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Only grows, until the daemon starts again.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A count and a sum (no quantiles).
    Summary,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Summary => "summary",
        }
    }
}

/// Label names with their values.
pub(super) type Labels<'a> = &'a [(&'a str, &'a str)];

/// The samples of one metric, as they are written.
pub(super) struct Samples<'a> {
    name: &'a str,
    text: &'a mut String,
}

impl<'a> Samples<'a> {
    /// Begins a metric.
    pub(super) fn begin(text: &'a mut String, name: &'a str, help: &str, kind: Kind) -> Self {
        text.push_str("# HELP ");
        text.push_str(name);
        text.push(' ');
        push_escaped(text, help, false);
        text.push_str("\n# TYPE ");
        text.push_str(name);
        text.push(' ');
        text.push_str(kind.word());
        text.push('\n');
        Self { name, text }
    }

    /// Adds a sample.
    pub(super) fn push(&mut self, labels: Labels<'_>, value: impl Display) {
        self.push_as("", labels, value);
    }

    /// Adds count and sum of a summary.
    pub(super) fn push_summary(&mut self, labels: Labels<'_>, count: u64, sum: f64) {
        self.push_as("_sum", labels, sum);
        self.push_as("_count", labels, count);
    }

    fn push_as(&mut self, suffix: &str, labels: Labels<'_>, value: impl Display) {
        self.text.push_str(self.name);
        self.text.push_str(suffix);
        for (i, (label, value)) in labels.iter().enumerate() {
            self.text.push(if i == 0 { '{' } else { ',' });
            self.text.push_str(label);
            self.text.push_str("=\"");
            push_escaped(self.text, value, true);
            self.text.push('"');
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        // Writing to a String does not fail.
        let _ = writeln!(self.text, " {value}");
    }
}

fn push_escaped(text: &mut String, value: &str, is_label: bool) {
    for c in value.chars() {
        match c {
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '"' if is_label => text.push_str("\\\""),
            c => text.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_written_as_the_format_wants_them() {
        let mut text = String::new();
        let mut samples =
            Samples::begin(&mut text, "a_total", "Of \"a\\b\".\nMore.", Kind::Counter);
        samples.push(&[], 7);
        samples.push(&[("x", "plain"), ("y", "\"a\\b\"\nc")], u64::MAX);
        let mut samples = Samples::begin(&mut text, "b_seconds", "Of b.", Kind::Summary);
        samples.push_summary(&[("x", "é")], 2, 0.25);
        Samples::begin(&mut text, "c", "Of c.", Kind::Gauge).push(&[], 1.5);
        let expected = r#"# HELP a_total Of "a\\b".\nMore.
# TYPE a_total counter
a_total 7
a_total{x="plain",y="\"a\\b\"\nc"} 18446744073709551615
# HELP b_seconds Of b.
# TYPE b_seconds summary
b_seconds_sum{x="é"} 0.25
b_seconds_count{x="é"} 2
# HELP c Of c.
# TYPE c gauge
c 1.5
"#;
        assert_eq!(text, expected);
    }
}
