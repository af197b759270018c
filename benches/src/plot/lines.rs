//! Lines: how one figure grows with another, or how a distribution runs.

use super::{Role, svg};

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 70.0;
/// Room right of the lines for their names.
const RIGHT: f64 = 130.0;
const TOP: f64 = 68.0;
const BOTTOM: f64 = 44.0;
/// Names of lines keep this distance from each other.
const NAME_HEIGHT: f64 = 15.0;

/// An axis of at most so many powers of ten has ticks at 2 and 5 too.
const DECADES_DIVIDED: f64 = 3.0;
/// More ticks than any axis has room for.
const TICKS_MAX: u8 = 32;

/// How values are laid out on an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// From zero, equal steps.
    Linear,
    /// Powers of ten; only values above zero are shown.
    Logarithmic,
    /// Values of *one in n*, 1 and more, shown as percentiles: 2 is 50 %, 100 is 99 %.
    Percentile,
}

/// One axis.
#[derive(Debug, Clone)]
pub struct Axis {
    /// What it shows, with the unit.
    pub label: String,
    /// How it is laid out.
    pub scale: Scale,
}

/// One line.
#[derive(Debug, Clone)]
pub struct Line {
    /// Its name, written at its end.
    pub label: String,
    /// Points, in order of x.
    pub points: Vec<(f64, f64)>,
    /// Smallest and largest value at an x, where there is a spread: x, min, max.
    pub spread: Vec<(f64, f64, f64)>,
    /// Colour.
    pub role: Role,
}

/// Several lines over one pair of axes.
#[derive(Debug, Clone)]
pub struct LineChart {
    /// What is shown.
    pub title: String,
    /// Conditions, and whether more or less is better.
    pub note: String,
    /// To the right.
    pub x: Axis,
    /// Upwards.
    pub y: Axis,
    /// In the order in which they are drawn: the last is on top.
    pub lines: Vec<Line>,
}

impl LineChart {
    /// The picture.
    #[must_use]
    pub fn svg(&self) -> String {
        let shown = |scale: Scale, v: f64| v.is_finite() && (scale == Scale::Linear || v > 0.0);
        let lines: Vec<(&Line, Vec<(f64, f64)>)> = self
            .lines
            .iter()
            .map(|line| {
                let visible =
                    |p: &&(f64, f64)| shown(self.x.scale, p.0) && shown(self.y.scale, p.1);
                (line, line.points.iter().filter(visible).copied().collect())
            })
            .collect();
        let points = || lines.iter().flat_map(|(_, points)| points.iter());
        let ends = self.lines.iter().flat_map(|line| &line.spread).flat_map(|s| [s.1, s.2]);
        let values = points().map(|p| p.1).chain(ends.filter(|v| shown(self.y.scale, *v)));
        let x = Range::of(self.x.scale, points().map(|p| p.0), (LEFT, WIDTH - RIGHT));
        let y = Range::of(self.y.scale, values, (HEIGHT - BOTTOM, TOP));
        let mut out = svg::start(WIDTH, HEIGHT, &self.title);
        svg::text(&mut out, (0.0, 18.0), "title", "start", &self.title);
        svg::text(&mut out, (0.0, 36.0), "note", "start", &self.note);
        for tick in y.ticks() {
            let at = y.place(tick);
            svg::line(&mut out, (LEFT, at), (WIDTH - RIGHT, at), "grid");
            svg::text(&mut out, (LEFT - 6.0, at + 4.0), "tick", "end", &y.label(tick));
        }
        for tick in x.ticks() {
            let at = x.place(tick);
            svg::line(&mut out, (at, HEIGHT - BOTTOM), (at, HEIGHT - BOTTOM + 4.0), "axis");
            svg::text(&mut out, (at, HEIGHT - BOTTOM + 17.0), "tick", "middle", &x.label(tick));
        }
        svg::line(&mut out, (LEFT, HEIGHT - BOTTOM), (WIDTH - RIGHT, HEIGHT - BOTTOM), "axis");
        let middle = f64::midpoint(LEFT, WIDTH - RIGHT);
        svg::text(&mut out, (middle, HEIGHT - 8.0), "note", "middle", &self.x.label);
        svg::text(&mut out, (0.0, TOP - 10.0), "note", "start", &self.y.label);
        let mut names = Vec::new();
        for (line, points) in lines {
            let Some(last) = points.last() else { continue };
            let mut path = String::new();
            for (n, point) in points.iter().enumerate() {
                let command = if n == 0 { 'M' } else { 'L' };
                let (x, y) = (x.place(point.0), y.place(point.1));
                svg::write(&mut path, format_args!("{command}{x:.1} {y:.1}"));
            }
            let class = line.role.class();
            svg::write(&mut out, format_args!("<path d=\"{path}\" class=\"{class}\"/>"));
            for (at, min, max) in &line.spread {
                let at = x.place(*at);
                svg::line(&mut out, (at, y.place(*min)), (at, y.place(*max)), "spread");
            }
            names.push((y.place(last.1), line));
        }
        spread_out(&mut names);
        for (at, line) in names {
            let weight = if line.role == Role::Ours { "name ours-label" } else { "name" };
            let class = format!("{weight} {}", line.role.class());
            svg::text(&mut out, (WIDTH - RIGHT + 8.0, at + 4.0), &class, "start", &line.label);
        }
        svg::finish(out)
    }
}

/// Moves names down until none covers another, and back up from the bottom of the picture.
fn spread_out(names: &mut [(f64, &Line)]) {
    names.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut free = f64::MIN;
    for (at, _) in names.iter_mut() {
        *at = at.max(free);
        free = *at + NAME_HEIGHT;
    }
    let mut free = HEIGHT - NAME_HEIGHT / 2.0;
    for (at, _) in names.iter_mut().rev() {
        *at = at.min(free);
        free = *at - NAME_HEIGHT;
    }
}

/// Values and the pixels that they are shown at.
struct Range {
    scale: Scale,
    values: (f64, f64),
    pixels: (f64, f64),
}

impl Range {
    fn of(scale: Scale, values: impl Iterator<Item = f64>, pixels: (f64, f64)) -> Self {
        let found = values.fold(None, |range: Option<(f64, f64)>, value| {
            Some(range.map_or((value, value), |(min, max)| (min.min(value), max.max(value))))
        });
        let (min, max) = found.unwrap_or((1.0, 1.0));
        let values = match scale {
            Scale::Linear => (0.0, if max > 0.0 { max } else { 1.0 }),
            Scale::Percentile => (0.0, max.log10().max(1.0)),
            Scale::Logarithmic => {
                let (low, high) = (round_below(min).log10(), round_above(max).log10());
                (low, if high > low { high } else { low + 1.0 })
            }
        };
        Self { scale, values, pixels }
    }

    fn place(&self, value: f64) -> f64 {
        let value = match self.scale {
            Scale::Linear => value,
            Scale::Logarithmic | Scale::Percentile => value.log10(),
        };
        let ((low, high), (start, end)) = (self.values, self.pixels);
        start + (value - low) / (high - low) * (end - start)
    }

    fn ticks(&self) -> Vec<f64> {
        let (low, high) = self.values;
        match self.scale {
            Scale::Linear => {
                let step = svg::step(high);
                steps().map(|n| n * step).take_while(|at| *at <= high + step / 1e6).collect()
            }
            Scale::Percentile => {
                let tens = steps().map(|n| 10_f64.powf(n)).take_while(|at| at.log10() <= high);
                tens.flat_map(|at| if at < 2.0 { vec![at, 2.0] } else { vec![at] }).collect()
            }
            Scale::Logarithmic => {
                let within = |at: &f64| (low - 1e-9..=high + 1e-9).contains(&at.log10());
                // Few decades have room for ticks in between.
                let parts: &[f64] =
                    if high - low <= DECADES_DIVIDED { &[1.0, 2.0, 5.0] } else { &[1.0] };
                let tens = steps().map(|n| low.floor() + n).take_while(|at| *at <= high + 1e-9);
                let all = tens.flat_map(|at| parts.iter().map(move |p| p * 10_f64.powf(at)));
                all.filter(within).collect()
            }
        }
    }

    fn label(&self, tick: f64) -> String {
        match self.scale {
            Scale::Percentile => format!("{} %", 100.0 - round_to_digits(100.0 / tick)),
            Scale::Linear | Scale::Logarithmic => svg::tick(tick),
        }
    }
}

/// 0, 1, 2 and so on, as many as an axis may have.
fn steps() -> impl Iterator<Item = f64> {
    (0..TICKS_MAX).map(f64::from)
}

/// Without the noise of a division.
fn round_to_digits(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

fn round_below(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    [5.0, 2.0].into_iter().map(|f| f * power).find(|v| *v <= value).unwrap_or(power)
}

fn round_above(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    let all = [1.0, 2.0, 5.0, 10.0];
    all.into_iter().map(|f| f * power).find(|v| *v >= value).unwrap_or(10.0 * power)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(scale: Scale, points: Vec<(f64, f64)>) -> LineChart {
        let axis = || Axis { label: "n".into(), scale };
        let spread = Vec::new();
        let line = Line { label: "weft".into(), points, spread, role: Role::Ours };
        LineChart {
            title: "Growth".into(),
            note: "flat is better".into(),
            x: axis(),
            y: axis(),
            lines: vec![line],
        }
    }

    #[test]
    fn lines_run_from_corner_to_corner() {
        let svg = chart(Scale::Linear, vec![(0.0, 0.0), (10.0, 5.0)]).svg();
        assert!(svg.contains("M70.0 276.0L590.0 68.0"), "{svg}");
        let svg = chart(Scale::Logarithmic, vec![(1.0, 10.0), (1_000.0, 100.0)]).svg();
        assert!(svg.contains("M70.0 276.0L590.0 68.0"), "{svg}");
    }

    #[test]
    fn what_an_axis_cannot_show_is_left_out() {
        let svg = chart(Scale::Logarithmic, vec![(0.0, 1.0), (f64::NAN, 1.0)]).svg();
        assert!(!svg.contains("<path") && !svg.contains("NaN"));
        let svg = chart(Scale::Logarithmic, vec![(0.0, 1.0), (10.0, 1.0)]).svg();
        assert!(svg.contains("<path") && !svg.contains("NaN") && !svg.contains("inf"));
    }

    #[test]
    fn names_do_not_cover_each_other() {
        let (label, points, spread) = (String::new(), Vec::new(), Vec::new());
        let line = Line { label, points, spread, role: Role::Peer };
        let mut names = vec![(100.0, &line), (101.0, &line), (50.0, &line)];
        spread_out(&mut names);
        let places: Vec<f64> = names.iter().map(|(at, _)| *at).collect();
        assert_eq!(places, [50.0, 100.0, 115.0]);
        let mut low = vec![(HEIGHT, &line), (HEIGHT, &line)];
        spread_out(&mut low);
        assert!(low[0].0 + NAME_HEIGHT <= low[1].0 && low[1].0 < HEIGHT);
    }

    #[test]
    fn percentiles_and_parts_of_decades_have_names() {
        let ticks = |scale, values: [f64; 2]| {
            let range = Range::of(scale, values.into_iter(), (0.0, 100.0));
            range.ticks().into_iter().map(|tick| range.label(tick)).collect::<Vec<_>>()
        };
        let percent = ["0 %", "50 %", "90 %", "99 %", "99.9 %"];
        assert_eq!(ticks(Scale::Percentile, [1.0, 1_250.0]), percent);
        assert_eq!(ticks(Scale::Logarithmic, [60.0, 700.0]), ["50", "100", "200", "500", "1,000"]);
        assert_eq!(
            ticks(Scale::Logarithmic, [1.0, 10_000.0]),
            ["1", "10", "100", "1,000", "10,000"]
        );
        assert_eq!(ticks(Scale::Linear, [0.0, 7.0]), ["0", "2", "4", "6"]);
    }
}
