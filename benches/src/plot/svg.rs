//! What all plots share: style, escaping, numbers on axes.

use std::fmt::Write as _;

use crate::report::number;

/// Colours and fonts of all plots, for light and dark pages.
pub const STYLE: &str = "\
.plot{font-family:system-ui,-apple-system,'Segoe UI','DejaVu Sans',sans-serif;font-size:13px}\
.plot text{fill:#24292f}.plot .title{font-size:15px;font-weight:600}\
.plot .note,.plot .tick{fill:#6e7781;font-size:11px}.plot .value{font-size:11.5px}\
.plot .grid{stroke:#d8dee4;stroke-width:1}.plot .axis{stroke:#8c959f;stroke-width:1}\
.plot .ours{fill:#0969da;stroke:#0969da}.plot .peer{fill:#afb8c1;stroke:#afb8c1}\
.plot .reference{fill:#8c959f;stroke:#8c959f}\
.plot rect{stroke:none!important}.plot .second{fill-opacity:.62}.plot .third{fill-opacity:.34}\
.plot .c0{fill:#bc4c00;stroke:#bc4c00}.plot .c1{fill:#1a7f37;stroke:#1a7f37}\
.plot .c2{fill:#8250df;stroke:#8250df}.plot .c3{fill:#bf3989;stroke:#bf3989}\
.plot .c4{fill:#9a6700;stroke:#9a6700}.plot .c5{fill:#0a7d80;stroke:#0a7d80}\
.plot .c6{fill:#cf222e;stroke:#cf222e}\
.plot .spread{stroke:#24292f;stroke-width:1.3}\
.plot path{fill:none!important;stroke-width:1.6}.plot path.ours{stroke-width:2.6}\
.plot path.reference{stroke-dasharray:5 3}\
.plot circle{stroke:none}.plot text.name{stroke:none;font-size:12px}\
.plot .ours-label{font-weight:600}\
@media(prefers-color-scheme:dark){.plot text{fill:#e6edf3}.plot .note,.plot .tick{fill:#9198a1}\
.plot .grid{stroke:#30363d}.plot .axis{stroke:#656c76}.plot .ours{fill:#4493f8;stroke:#4493f8}\
.plot .peer{fill:#656c76;stroke:#656c76}.plot .reference{fill:#9198a1;stroke:#9198a1}\
.plot .c0{fill:#f0883e;stroke:#f0883e}.plot .c1{fill:#3fb950;stroke:#3fb950}\
.plot .c2{fill:#ab7df8;stroke:#ab7df8}.plot .c3{fill:#f778ba;stroke:#f778ba}\
.plot .c4{fill:#d29922;stroke:#d29922}.plot .c5{fill:#39c5cf;stroke:#39c5cf}\
.plot .c6{fill:#ff7b72;stroke:#ff7b72}\
.plot .spread{stroke:#e6edf3}}";

/// Starts a picture of this size; [`finish`] ends it.
pub(super) fn start(width: f64, height: f64, title: &str) -> String {
    let mut out = String::new();
    write(
        &mut out,
        format_args!(
            "<svg class=\"plot\" xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" \
         viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" height=\"{height:.0}\">\
         <title>{}</title><style>{STYLE}</style>",
            escape(title)
        ),
    );
    out
}

/// Ends a picture.
pub(super) fn finish(mut out: String) -> String {
    out.push_str("</svg>\n");
    out
}

/// Text at a place; `anchor` is `start`, `middle` or `end`.
pub(super) fn text(out: &mut String, (x, y): (f64, f64), class: &str, anchor: &str, text: &str) {
    write(
        out,
        format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" class=\"{class}\" text-anchor=\"{anchor}\">{}</text>",
            escape(text)
        ),
    );
}

/// A straight line.
pub(super) fn line(out: &mut String, from: (f64, f64), to: (f64, f64), class: &str) {
    let ((x1, y1), (x2, y2)) = (from, to);
    write(
        out,
        format_args!(
            "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" class=\"{class}\"/>"
        ),
    );
}

/// Appends; writing to a `String` cannot fail.
pub(super) fn write(out: &mut String, arguments: std::fmt::Arguments<'_>) {
    let _ = out.write_fmt(arguments);
}

/// Text as it may stand between tags and in attributes.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A value on an axis, without zeros behind the point.
pub(super) fn tick(value: f64) -> String {
    let text = number(value);
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

/// A step of 1, 2 or 5 times a power of ten that divides 0 to `max` into three to seven parts.
pub(super) fn step(max: f64) -> f64 {
    if !max.is_finite() || max <= 0.0 {
        return 1.0;
    }
    let rough = max / 5.0;
    let power = 10_f64.powf(rough.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|f| f * power).find(|s| *s >= rough).unwrap_or(power)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round_and_few() {
        for (max, expected) in [(1.0, 0.2), (7.0, 2.0), (34.0, 10.0), (258_858.0, 100_000.0)] {
            assert!((step(max) - expected).abs() < 1e-9, "{max}: {}", step(max));
        }
        assert!((step(0.0) - 1.0).abs() < f64::EPSILON);
        assert!((step(f64::NAN) - 1.0).abs() < f64::EPSILON);
    }

    #[test]
    fn ticks_have_no_zeros_behind_the_point() {
        assert_eq!(
            [0.0, 0.2, 10.0, 100.0, 20_000.0].map(tick),
            ["0", "0.2", "10", "100", "20,000"]
        );
    }

    #[test]
    fn names_cannot_break_out_of_the_picture() {
        let mut out = start(10.0, 10.0, "a<b");
        text(&mut out, (1.0, 1.0), "tick", "end", "<script>&\"");
        let out = finish(out);
        assert!(out.contains("&lt;script&gt;&amp;&quot;") && out.contains("a&lt;b"));
        assert!(!out.contains("<script>"));
    }
}
