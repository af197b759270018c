//! Horizontal bars: one or a few figures of several tunnels, median and spread.

use super::{Role, svg};
use crate::report::number;
use crate::stats::Summary;

const WIDTH: f64 = 720.0;
const LABELS: f64 = 130.0;
/// Room right of the longest bar for its number.
const NUMBERS: f64 = 120.0;
const HEAD: f64 = 52.0;
/// Between two rows.
const GAP: f64 = 10.0;
const BAR: f64 = 16.0;
/// Height of a bar that has others beside it.
const BAR_OF_SEVERAL: f64 = 12.0;
const FOOT: f64 = 28.0;
/// A letter of the legend is about this wide.
const LETTER: f64 = 6.6;

/// Everything of one tunnel.
#[derive(Debug, Clone)]
pub struct Bar {
    /// Whose it is, in words.
    pub label: String,
    /// Median and spread of each figure; `None` when it was not measured, which the plot says
    /// (of a reference it says nothing: the kernel's ways have no daemons).
    pub values: Vec<Option<Summary>>,
    /// Colour.
    pub role: Role,
}

/// Figures of several tunnels.
#[derive(Debug, Clone)]
pub struct BarChart {
    /// What is shown.
    pub title: String,
    /// Conditions, unit, and whether more or less is better.
    pub note: String,
    /// What each of a row's bars is; empty when there is one.
    pub legend: Vec<String>,
    /// From top to bottom.
    pub bars: Vec<Bar>,
}

impl BarChart {
    /// The picture.
    #[must_use]
    pub fn svg(&self) -> String {
        let bar = if self.legend.len() > 1 { BAR_OF_SEVERAL } else { BAR };
        let row = |bar_of: &Bar| bar * as_f64(bar_of.values.len().max(1)) + GAP;
        let bottom = HEAD + self.bars.iter().map(row).sum::<f64>();
        let summaries = || self.bars.iter().flat_map(|bar| bar.values.iter().flatten());
        let largest = summaries().map(|s| s.max).fold(0.0, f64::max);
        let span = WIDTH - LABELS - NUMBERS;
        let x = |value: f64| {
            if largest > 0.0 { LABELS + value / largest * span } else { LABELS }
        };
        let mut out = svg::start(WIDTH, bottom + FOOT, &self.title);
        svg::text(&mut out, (0.0, 18.0), "title", "start", &self.title);
        svg::text(&mut out, (0.0, 36.0), "note", "start", &self.note);
        self.draw_legend(&mut out);
        let step = svg::step(largest);
        let mut tick = 0.0;
        while tick <= largest {
            svg::line(&mut out, (x(tick), HEAD), (x(tick), bottom), "grid");
            svg::text(&mut out, (x(tick), bottom + 16.0), "tick", "middle", &svg::tick(tick));
            tick += step;
        }
        let mut y = HEAD;
        for bar_of in &self.bars {
            bar_of.draw(&mut out, y + GAP / 2.0, bar, x);
            y += row(bar_of);
        }
        svg::line(&mut out, (LABELS, HEAD), (LABELS, bottom), "axis");
        svg::finish(out)
    }

    /// At the right of the head, from right to left.
    fn draw_legend(&self, out: &mut String) {
        let mut right = WIDTH;
        for (n, text) in self.legend.iter().enumerate().rev() {
            svg::text(out, (right, 18.0), "note", "end", text);
            right -= as_f64(text.chars().count()) * LETTER + 14.0;
            rectangle(out, (right, 9.0), (10.0, 10.0), &format!("ours {}", shade(n)));
            right -= 12.0;
        }
    }
}

impl Bar {
    fn draw(&self, out: &mut String, top: f64, bar: f64, x: impl Fn(f64) -> f64) {
        let height = bar * as_f64(self.values.len().max(1));
        let weight = if self.role == Role::Ours { "ours-label" } else { "" };
        svg::text(out, (LABELS - 8.0, top + height / 2.0 + 4.5), weight, "end", &self.label);
        for (n, value) in self.values.iter().enumerate() {
            let top = top + bar * as_f64(n);
            let middle = top + bar / 2.0;
            let Some(Summary { median, min, max, .. }) = *value else {
                // Who has no daemon has no costs of one.
                if self.role == Role::Reference {
                    continue;
                }
                svg::text(out, (LABELS + 6.0, middle + 4.0), "note", "start", "not measured");
                continue;
            };
            let class = format!("{} {}", self.role.class(), shade(n));
            let width = x(median) - x(0.0);
            rectangle(out, (x(0.0), top + 1.0), (width, bar - 2.0), &class);
            svg::line(out, (x(min), middle), (x(max), middle), "spread");
            for end in [min, max] {
                svg::line(out, (x(end), middle - 3.0), (x(end), middle + 3.0), "spread");
            }
            let weight = format!("{weight} value");
            svg::text(out, (x(max) + 8.0, middle + 4.0), &weight, "start", &number(median));
        }
    }
}

fn rectangle(out: &mut String, (x, y): (f64, f64), (width, height): (f64, f64), class: &str) {
    svg::write(
        out,
        format_args!(
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" \
             rx=\"2\" class=\"{class}\"/>"
        ),
    );
}

/// Class of a row's n-th bar: the first is full, the others are lighter.
fn shade(n: usize) -> &'static str {
    ["first", "second", "third"][n.min(2)]
}

fn as_f64(count: usize) -> f64 {
    f64::from(u16::try_from(count).unwrap_or(u16::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(label: &str, values: &[&[f64]], role: Role) -> Bar {
        let values = values.iter().map(|values| Summary::of(values)).collect();
        Bar { label: label.into(), values, role }
    }

    fn chart(legend: &[&str], bars: Vec<Bar>) -> String {
        let legend = legend.iter().map(|text| (*text).to_owned()).collect();
        BarChart { title: "Throughput".into(), note: "Gbit/s".into(), legend, bars }.svg()
    }

    #[test]
    fn bars_are_as_long_as_their_medians() {
        let bars = vec![
            bar("weft", &[&[5.0]], Role::Ours),
            bar("bare", &[&[10.0]], Role::Reference),
            bar("gone", &[&[]], Role::Peer),
        ];
        let svg = chart(&[], bars);
        assert!(svg.contains("width=\"235.0\"") && svg.contains("width=\"470.0\""), "{svg}");
        assert!(svg.contains("not measured") && svg.contains(">5.00<"));
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }

    #[test]
    fn several_figures_share_a_row_and_a_scale() {
        let bars = vec![bar("weft", &[&[2.0], &[8.0]], Role::Ours)];
        let svg = chart(&["1 stream", "4 streams"], bars);
        assert!(svg.contains("width=\"117.5\"") && svg.contains("width=\"470.0\""), "{svg}");
        assert!(svg.contains("1 stream") && svg.contains("4 streams") && svg.contains("second"));
    }

    #[test]
    fn an_empty_chart_is_a_picture_too() {
        assert!(!chart(&[], vec![bar("zero", &[&[0.0]], Role::Ours)]).contains("NaN"));
        assert!(!chart(&[], Vec::new()).contains("NaN"));
    }
}
