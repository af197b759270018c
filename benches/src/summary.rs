//! A run for people: the document as a page with plots, and the one plot that stands for it.

mod growth;
mod plots;
mod tables;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::document::Document;
use crate::page::{Page, Section};
use crate::plot::Role;

/// Name of the main plot.
pub const MAIN_PLOT: &str = "throughput.svg";

/// Writes the page beside a document, with its name, and the main plot as [`MAIN_PLOT`]. Gives the
/// page's path.
///
/// # Errors
/// When a file cannot be written.
pub fn write_beside(document: &Document, json: &Path) -> Result<PathBuf> {
    let page_path = json.with_extension("html");
    write(&page_path, &page(document).html())?;
    if let Some(plot) = plots::throughput(document) {
        write(&json.with_file_name(MAIN_PLOT), &plot.svg())?;
    }
    Ok(page_path)
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| path.display().to_string())
}

/// The page of a run.
#[must_use]
pub fn page(document: &Document) -> Page {
    let section = |heading: &str, text: &str, plots: Vec<String>| Section {
        heading: heading.to_owned(),
        text: text.to_owned(),
        plots,
        ..Section::default()
    };
    let mut sections = vec![tables::figures(document)];
    let throughput = plots::throughput(document).into_iter().chain(plots::other_streams(document));
    sections.push(section(
        "Throughput",
        "TCP through each tunnel, medians with smallest and largest round. Bare and VXLAN are the \
         kernel's own ways, without encryption.",
        throughput.map(|plot| plot.svg()).collect(),
    ));
    sections.push(section(
        "CPU",
        "CPU time of the daemons and of the whole machine, iperf3 included.",
        plots::cpu(document).iter().map(|plot| plot.svg()).collect(),
    ));
    let mut latency = section(
        "Latency",
        "Round trips of all rounds together. Towards the right, rarer and slower ones.",
        plots::latency(document).iter().map(|plot| plot.svg()).collect(),
    );
    latency.table = tables::percentiles(document);
    sections.push(latency);
    sections.push(section(
        "UDP",
        "Single packets from plain sockets, two flows.",
        plots::udp(document).iter().map(|plot| plot.svg()).collect(),
    ));
    sections.push(section(
        "Memory",
        "The most that the larger of the two daemons had resident.",
        plots::memory(document).iter().map(|plot| plot.svg()).collect(),
    ));
    sections.push(section(
        "Other underlays",
        "Offloads on (all that veth has), nic (no segmentation, aggregation on receipt) or off; \
         MTU; version of IP.",
        plots::other_underlays(document).iter().map(|plot| plot.svg()).collect(),
    ));
    sections.extend(growth::section(document));
    sections.retain(|section| !section.plots.is_empty() || section.table.is_some());
    sections.push(tables::without_result(document));
    sections.push(tables::peers(document));
    sections.push(Section::machine(&document.machine));
    sections.extend(tables::everything(document));
    Page {
        title: "Weft: the path of a packet".into(),
        introduction: introduction(document),
        sections,
    }
}

fn introduction(document: &Document) -> String {
    let machine = &document.machine;
    let rounds = document.plan.cells.first().map_or(0, |cell| cell.rounds);
    let smoke = if document.quick { "A quick run: a smoke test, not figures. " } else { "" };
    format!(
        "{smoke}{}, {} cores, Linux {}, {}, {}. {rounds} interleaved rounds where there are \
         targets; both hosts, all daemons and the load share this machine. TCP streams of {} s, \
         congestion control {}.",
        machine.cpu,
        machine.cores,
        machine.kernel,
        machine.weft,
        machine.day(),
        document.plan.stream_s,
        document.congestion_control,
    )
}

/// Whose samples these are.
fn role(peer: &str) -> Role {
    match peer {
        "bare" | "bare-low" | "vxlan" | "wake-ups" => Role::Reference,
        name if name.starts_with("weft") => Role::Ours,
        _ => Role::Peer,
    }
}

/// Whether a plot without samples of it says so: what is no tunnel of its own is left out then.
fn is_tunnel(peer: &str) -> bool {
    !matches!(peer, "weft-local" | "weft-low" | "bare-low" | "wake-ups")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::tests::document;

    #[test]
    fn a_page_shows_figures_everybody_and_what_is_missing() {
        let mut document = document();
        document.series[0].metric = "tcp-1-out".into();
        let html = page(&document).html();
        for figure in &document.figures {
            assert!(html.contains(&figure.name), "{}", figure.name);
        }
        for row in &document.left_out {
            assert!(html.contains(&row.figure) && html.contains(&row.reason));
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
        assert!(html.contains("<svg") && html.contains("Machine") && html.contains("cubic"));
        assert!(html.contains("A quick run"));
    }

    #[test]
    fn files_go_beside_the_document() {
        let dir = tempfile::tempdir().unwrap();
        let json = dir.path().join("report.json");
        let page = write_beside(&document(), &json).unwrap();
        assert_eq!(page, dir.path().join("report.html"));
        assert!(page.exists() && !dir.path().join(MAIN_PLOT).exists());
        let mut with_streams = document();
        with_streams.series[0].metric = "tcp-1-out".into();
        with_streams.series[0].cell = plots::USUAL;
        write_beside(&with_streams, &json).unwrap();
        let plot = std::fs::read_to_string(dir.path().join(MAIN_PLOT)).unwrap();
        assert!(plot.contains("QUICK RUN"), "{plot}");
    }
}
