//! Samples as they come in, until they are a document.

use anyhow::Result;
use weft_benches::growth::{Curve, Point};
use weft_benches::report::{Figure, Target};
use weft_benches::stats::Summary;

/// What grows, and what is measured of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) name: &'static str,
    pub(crate) x: &'static str,
    pub(crate) y: &'static str,
    pub(crate) unit: &'static str,
}

/// Everything that was measured so far.
#[derive(Debug, Default)]
pub(crate) struct Results {
    pub(crate) curves: Vec<Curve>,
    pub(crate) figures: Vec<Figure>,
    pub(crate) failures: Vec<String>,
}

impl Results {
    /// One sample of a curve at a size.
    pub(crate) fn sample(&mut self, line: Line, size: usize, value: f64) {
        if !value.is_finite() {
            self.failures.push(format!("{} of {size} {}: {value}", line.name, line.x));
            return;
        }
        let x = number(size);
        let place = self.curves.iter().position(|c| c.name == line.name && c.x_label == line.x);
        let curve = match place {
            Some(place) => &mut self.curves[place],
            None => {
                self.curves.push(Curve {
                    name: line.name.to_owned(),
                    x_label: line.x.to_owned(),
                    y_label: line.y.to_owned(),
                    unit: line.unit.to_owned(),
                    points: Vec::new(),
                });
                self.curves.last_mut().expect("just pushed")
            }
        };
        let at = curve.points.partition_point(|point| point.x < x);
        match curve.points.get_mut(at) {
            Some(point) if point.x.total_cmp(&x).is_eq() => point.samples.push(value),
            _ => curve.points.insert(at, Point { x, samples: vec![value] }),
        }
    }

    /// The samples of a curve at a size, in the order in which they came.
    pub(crate) fn samples(&self, line: Line, size: usize) -> &[f64] {
        let x = number(size);
        let curve = self.curves.iter().find(|c| c.name == line.name && c.x_label == line.x);
        let point = curve.and_then(|c| c.points.iter().find(|p| p.x.total_cmp(&x).is_eq()));
        point.map_or(&[], |point| &point.samples)
    }

    /// A figure, when there is anything to it.
    pub(crate) fn figure(
        &mut self,
        name: String,
        unit: &str,
        target: Target,
        summary: Option<Summary>,
    ) {
        self.figures.extend(Figure::new(name, unit, target, summary));
    }

    /// Keeps why something could not be measured, and goes on.
    pub(crate) fn attempt(&mut self, what: &str, done: Result<()>) {
        if let Err(error) = done {
            eprintln!("{what}: {error:#}");
            self.failures.push(format!("{what}: {error:#}"));
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "sizes are far below 2^53")]
pub(crate) fn number(size: usize) -> f64 {
    size as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_in_order_and_samples_as_they_came() {
        const LINE: Line = Line { name: "throughput", x: "hosts", y: "throughput", unit: "Gbit/s" };
        let mut results = Results::default();
        for (size, value) in [(8, 3.0), (2, 2.0), (8, 1.0)] {
            results.sample(LINE, size, value);
        }
        results.sample(LINE, 4, f64::NAN);
        let sizes: Vec<_> = results.curves[0].points.iter().map(|point| point.x).collect();
        assert_eq!(sizes, [2.0, 8.0]);
        assert_eq!(results.samples(LINE, 8), [3.0, 1.0]);
        assert_eq!(results.failures.len(), 1);
    }
}
