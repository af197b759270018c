//! A run for people: the document as a page with plots.

use crate::document::{Better, Document, Series};
use crate::page::{Cell, Page, Section, Table};
use crate::plot::{Bar, BarChart, Role};
use crate::report::{Figure, Target, number};

/// The page of a run.
#[must_use]
pub fn page(document: &Document) -> Page {
    let smoke = if document.quick { " A quick run: a smoke test, not figures." } else { "" };
    let mut sections = Vec::new();
    if !document.figures.is_empty() {
        sections.push(figures(&document.figures));
    }
    let mut shown: Vec<&Series> = Vec::new();
    for series in &document.series {
        if shown.iter().any(|other| other.cell == series.cell && other.metric == series.metric) {
            continue;
        }
        shown.push(series);
    }
    let plots: Vec<_> = shown.iter().map(|series| chart(document, series).svg()).collect();
    if !plots.is_empty() {
        let text = "Underlay (offloads, MTU, IP) and measure stand above each plot.".to_owned();
        sections.push(Section { heading: "Comparison".into(), text, plots, table: None });
    }
    sections.push(without_result(document));
    sections.push(Section::machine(&document.machine));
    Page {
        title: "Weft: the path of a packet".into(),
        introduction: format!(
            "Medians and spread of interleaved rounds, congestion control {}.{smoke}",
            document.congestion_control
        ),
        sections,
    }
}

fn figures(figures: &[Figure]) -> Section {
    let rows = figures.iter().map(|figure| {
        let summary = figure.summary;
        let target = match figure.target {
            Target::AtLeast(bound) => format!("≥ {}", number(bound)),
            Target::AtMost(bound) => format!("≤ {}", number(bound)),
            Target::None => String::new(),
        };
        let target = match figure.reached {
            Some(true) => Cell::Reached(target),
            Some(false) => Cell::Missed(target),
            None => Cell::Plain(target),
        };
        let spread = format!("{} … {}", number(summary.min), number(summary.max));
        let median = format!("{} {}", number(summary.median), figure.unit);
        vec![Cell::Plain(figure.name.clone()), Cell::Plain(median), Cell::Plain(spread), target]
    });
    let head = ["figure", "median", "spread", "target"].map(str::to_owned).to_vec();
    let table = Some(Table { head, rows: rows.collect() });
    Section { heading: "Figures".into(), table, ..Section::default() }
}

/// One value of everybody who was measured, in the order of the peers.
fn chart(document: &Document, series: &Series) -> BarChart {
    let bars = document.peers.iter().map(|peer| {
        let own = document.series.iter().find(|other| {
            (other.cell, &other.metric, &other.peer) == (series.cell, &series.metric, &peer.name)
        });
        let role = match peer.name.as_str() {
            "weft" => Role::Ours,
            "bare" | "vxlan" => Role::Reference,
            _ => Role::Peer,
        };
        Bar { label: peer.name.clone(), summary: own.and_then(Series::summary), role }
    });
    let better = match series.better {
        Better::Higher => "more is better",
        Better::Lower => "less is better",
    };
    BarChart {
        title: series.metric.clone(),
        note: format!("{}; {better}", series.cell),
        unit: series.unit.clone(),
        bars: bars.collect(),
    }
}

/// What is missing, and what failed.
fn without_result(document: &Document) -> Section {
    let missing = document.peers.iter().filter_map(|peer| {
        let reason = peer.missing.clone()?;
        Some(vec![Cell::Plain(peer.name.clone()), Cell::Plain(reason)])
    });
    let failed = document.failures.iter().map(|failure| {
        let what = format!("{}: {} {}", failure.cell, failure.peer, failure.measure);
        vec![Cell::Missed(what), Cell::Plain(failure.error.clone())]
    });
    let rows: Vec<_> = missing.chain(failed).collect();
    let text = if rows.is_empty() { "Nothing: all was there and was measured." } else { "" };
    let table = (!rows.is_empty()).then(|| Table { head: Vec::new(), rows });
    Section { heading: "Without a result".into(), text: text.into(), table, ..Section::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::tests::document;

    #[test]
    fn a_page_shows_figures_everybody_and_what_is_missing() {
        let document = document();
        let html = page(&document).html();
        for figure in &document.figures {
            assert!(html.contains(&figure.name), "{}", figure.name);
        }
        for series in &document.series {
            assert!(html.contains(&series.metric) && html.contains(&series.peer));
        }
        for peer in document.peers.iter().filter(|peer| peer.missing.is_some()) {
            assert!(html.contains(&peer.name));
        }
        for failure in &document.failures {
            assert!(html.contains(&failure.error));
        }
        assert!(html.contains("<svg") && html.contains("Machine"));
    }
}
