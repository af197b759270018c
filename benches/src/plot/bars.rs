//! Horizontal bars: one figure of several tunnels, median and spread.

use super::{Role, svg};
use crate::report::number;
use crate::stats::Summary;

const WIDTH: f64 = 720.0;
const LABELS: f64 = 170.0;
/// Room right of the longest bar for its number.
const NUMBERS: f64 = 150.0;
const HEAD: f64 = 48.0;
const ROW: f64 = 26.0;
const BAR: f64 = 16.0;
const FOOT: f64 = 30.0;

/// One bar.
#[derive(Debug, Clone)]
pub struct Bar {
    /// Whose it is, in words.
    pub label: String,
    /// Median and spread; `None` when it was not measured, which the plot says.
    pub summary: Option<Summary>,
    /// Colour.
    pub role: Role,
}

/// One figure of several tunnels.
#[derive(Debug, Clone)]
pub struct BarChart {
    /// What is shown.
    pub title: String,
    /// Conditions, and whether more or less is better.
    pub note: String,
    /// Unit of all bars.
    pub unit: String,
    /// From top to bottom.
    pub bars: Vec<Bar>,
}

impl BarChart {
    /// The picture.
    #[must_use]
    pub fn svg(&self) -> String {
        let rows = f64::from(u16::try_from(self.bars.len()).unwrap_or(u16::MAX));
        let height = HEAD + rows * ROW + FOOT;
        let largest = self.bars.iter().filter_map(|bar| bar.summary).map(|s| s.max);
        let largest = largest.fold(0.0, f64::max);
        let span = WIDTH - LABELS - NUMBERS;
        let x = |value: f64| {
            if largest > 0.0 { LABELS + value / largest * span } else { LABELS }
        };
        let mut out = svg::start(WIDTH, height, &self.title);
        svg::text(&mut out, (0.0, 18.0), "title", "start", &self.title);
        svg::text(&mut out, (0.0, 36.0), "note", "start", &self.note);
        let bottom = HEAD + rows * ROW;
        let step = svg::step(largest);
        let mut tick = 0.0;
        while tick <= largest {
            svg::line(&mut out, (x(tick), HEAD), (x(tick), bottom), "grid");
            svg::text(&mut out, (x(tick), bottom + 16.0), "tick", "middle", &svg::tick(tick));
            tick += step;
        }
        let mut y = HEAD;
        for bar in &self.bars {
            bar.draw(&mut out, y, x, &self.unit);
            y += ROW;
        }
        svg::line(&mut out, (LABELS, HEAD), (LABELS, bottom), "axis");
        svg::finish(out)
    }
}

impl Bar {
    fn draw(&self, out: &mut String, top: f64, x: impl Fn(f64) -> f64, unit: &str) {
        let middle = top + ROW / 2.0;
        let weight = if self.role == Role::Ours { "ours-label" } else { "" };
        svg::text(out, (LABELS - 8.0, middle + 4.5), weight, "end", &self.label);
        let Some(Summary { median, min, max, .. }) = self.summary else {
            svg::text(out, (LABELS + 6.0, middle + 4.5), "note", "start", "not measured");
            return;
        };
        let (left, width) = (x(0.0), x(median) - x(0.0));
        svg::write(
            out,
            format_args!(
                "<rect x=\"{left:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{BAR}\" rx=\"2\" \
             class=\"{}\"/>",
                middle - BAR / 2.0,
                self.role.class(),
            ),
        );
        svg::line(out, (x(min), middle), (x(max), middle), "spread");
        for end in [min, max] {
            svg::line(out, (x(end), middle - 4.0), (x(end), middle + 4.0), "spread");
        }
        let text = format!("{} {unit}", number(median));
        svg::text(out, (x(max) + 8.0, middle + 4.5), weight, "start", &text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(label: &str, values: &[f64], role: Role) -> Bar {
        Bar { label: label.into(), summary: Summary::of(values), role }
    }

    #[test]
    fn bars_are_as_long_as_their_medians() {
        let chart = BarChart {
            title: "Throughput".into(),
            note: "more is better".into(),
            unit: "Gbit/s".into(),
            bars: vec![
                bar("weft", &[5.0], Role::Ours),
                bar("bare", &[10.0], Role::Reference),
                bar("gone", &[], Role::Peer),
            ],
        };
        let svg = chart.svg();
        assert!(svg.contains("width=\"200.0\"") && svg.contains("width=\"400.0\""), "{svg}");
        assert!(svg.contains("not measured") && svg.contains("5.00 Gbit/s"));
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }

    #[test]
    fn an_empty_chart_is_a_picture_too() {
        let chart = BarChart {
            title: String::new(),
            note: String::new(),
            unit: String::new(),
            bars: vec![bar("zero", &[0.0], Role::Ours)],
        };
        assert!(!chart.svg().contains("NaN"));
    }
}
