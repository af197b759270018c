//! How costs grow: a plot for each thing that was measured.

use crate::document::Document;
use crate::growth::Curve;
use crate::page::{Cell, Section, Table};
use crate::plot::{Axis, Line, LineChart, Role, Scale};

/// All curves, and what could not be measured of them; nothing when growth was not measured.
pub(super) fn section(document: &Document) -> Option<Section> {
    let growth = document.growth.as_ref()?;
    let mut plots = Vec::new();
    let mut shown: Vec<&Curve> = Vec::new();
    for first in &growth.curves {
        if shown.iter().any(|other| together(other, first)) {
            continue;
        }
        shown.push(first);
        let curves: Vec<_> = growth.curves.iter().filter(|curve| together(curve, first)).collect();
        plots.push(chart(&curves).svg());
    }
    let failed: Vec<_> =
        growth.failures.iter().map(|failure| vec![Cell::Missed(failure.clone())]).collect();
    let elsewhere = match growth.machine == document.machine {
        true => String::new(),
        false => format!(" Measured by {}, {}.", growth.machine.weft, growth.machine.day()),
    };
    let smoke = if growth.quick { " A quick run: a smoke test, not figures." } else { "" };
    Some(Section {
        heading: "Growth".into(),
        text: format!("What more of everything costs; flat lines are better.{elsewhere}{smoke}"),
        plots,
        table: (!failed.is_empty()).then(|| Table { head: Vec::new(), rows: failed }),
        ..Section::default()
    })
}

fn together(a: &Curve, b: &Curve) -> bool {
    (a.plot_and_line().0, &a.unit, &a.x_label) == (b.plot_and_line().0, &b.unit, &b.x_label)
}

fn chart(curves: &[&Curve]) -> LineChart {
    let first = curves[0];
    let line = |(n, curve): (usize, &&Curve)| {
        let summaries = curve.points.iter().filter_map(|p| Some((p.x, p.summary()?)));
        Line {
            label: curve.plot_and_line().1.to_owned(),
            points: summaries.clone().map(|(x, summary)| (x, summary.median)).collect(),
            spread: summaries.map(|(x, summary)| (x, summary.min, summary.max)).collect(),
            role: if n == 0 { Role::Ours } else { Role::Line(n - 1) },
        }
    };
    // A tenfold and more needs powers of ten.
    let xs = || curves.iter().flat_map(|curve| &curve.points).map(|point| point.x);
    let (least, most) = (xs().fold(f64::MAX, f64::min), xs().fold(0.0, f64::max));
    let scale = if most > 10.0 * least { Scale::Logarithmic } else { Scale::Linear };
    LineChart {
        title: format!("{} by {}", first.plot_and_line().0, first.x_label),
        note: format!("{}; medians with smallest and largest", first.y_label),
        x: Axis { label: first.x_label.clone(), scale },
        y: Axis { label: first.unit.clone(), scale: Scale::Linear },
        lines: curves.iter().enumerate().map(line).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::tests::document;
    use crate::growth::{GrowthDocument, Point, VERSION};
    use crate::machine::Machine;

    #[test]
    fn curves_of_one_plot_are_drawn_together() {
        let curve = |name: &str, unit: &str| Curve {
            name: name.into(),
            x_label: "environments".into(),
            y_label: "throughput".into(),
            unit: unit.into(),
            points: vec![
                Point { x: 1.0, samples: vec![5.0, 6.0] },
                Point { x: 1_000.0, samples: vec![4.0] },
            ],
        };
        let mut document = document();
        assert!(section(&document).is_none());
        document.growth = Some(GrowthDocument {
            version: VERSION,
            machine: Machine { weft: "weft 0.0.7".into(), ..Machine::default() },
            quick: false,
            curves: vec![
                curve("TCP: 1 stream", "Gbit/s"),
                curve("TCP: 4 streams", "Gbit/s"),
                curve("Memory", "MiB"),
            ],
            figures: Vec::new(),
            failures: vec!["10,000 routes: out of memory".into()],
        });
        let section = section(&document).unwrap();
        assert_eq!(section.plots.len(), 2);
        let first = &section.plots[0];
        assert!(first.contains("TCP by environments") && first.contains("4 streams"), "{first}");
        assert!(section.text.contains("weft 0.0.7"));
        assert_eq!(section.table.unwrap().rows.len(), 1);
    }
}
