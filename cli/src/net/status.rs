//! `weft net status`: what the daemon does, one table per environment.

use std::{
    io::Write,
    time::{Duration, UNIX_EPOCH},
};

use anyhow::Result;
use weft_api::v1::{
    AttachmentState, AttachmentStatus, ControlStatus, DropCount, EnvironmentStatus, PeerStatus,
    SessionRole, SessionState, StatusResponse, Traffic,
};

use super::{
    arguments::{StatusArguments, or_all},
    call::{self, connect},
    json,
    rate::{Between, Rates},
};
use crate::{
    format::{bit_rate, bytes, duration},
    text::{
        Align::{Left, Right},
        Line, Span, Style, Table, Tone,
    },
};

/// How long rates are measured.
const MEASURE: Duration = Duration::from_millis(500);
/// Addresses of a peer that are shown; `--json` has all.
const ADDRESSES_SHOWN_MAX: usize = 3;
/// Spaces before the tables of an environment.
const INDENT: usize = 2;

/// Prints the daemon's state.
pub(crate) async fn run(
    arguments: &StatusArguments,
    style: Style,
    out: &mut impl Write,
) -> Result<()> {
    let environment = or_all(arguments.env.as_ref());
    let mut client = connect(&arguments.socket.socket).await?;
    let first = call::status(&mut client, &environment).await?;
    if arguments.json {
        serde_json::to_writer_pretty(&mut *out, &json::status(&first))
            .map_err(std::io::Error::from)?;
        writeln!(out)?;
        return Ok(());
    }
    tokio::time::sleep(MEASURE).await;
    let now = call::status(&mut client, &environment).await?;
    for line in lines(&now, Between::new(&first, &now)) {
        writeln!(out, "{}", line.paint(style, usize::MAX))?;
    }
    Ok(())
}

/// The state as text.
pub(crate) fn lines(now: &StatusResponse, between: Option<Between<'_>>) -> Vec<Line> {
    let mut lines = vec![head(now)];
    lines.extend(now.control.as_ref().map(control));
    for environment in &now.environments {
        lines.push(Line::default());
        lines.push(title(environment));
        if !environment.attachments.is_empty() {
            lines.extend(attachments(environment, between));
        }
        if !environment.peers.is_empty() {
            lines.extend(peers(environment, between));
        }
        lines.extend(drops(&environment.drops, INDENT));
    }
    if now.environments.is_empty() {
        lines.push(Line::default().and(Tone::Faint, "no environments"));
    }
    if !now.drops.is_empty() {
        lines.push(Line::default());
        lines.push(Line::default().and(Tone::Strong, "of no environment"));
        lines.extend(drops(&now.drops, INDENT));
    }
    lines
}

/// One line about the daemon itself.
pub(crate) fn head(now: &StatusResponse) -> Line {
    let workers = match now.workers.len() {
        1 => "1 worker".to_owned(),
        n => format!("{n} workers"),
    };
    let (version, engine, listen) = (&now.version, &now.engine, &now.listen);
    let (up, memory) = (duration(now.uptime_ms), bytes(now.resident_bytes));
    Line::default().and(Tone::Strong, &now.host).and(
        Tone::Normal,
        format!("  weftd {version}, {engine}, {workers}, up {up}, {memory}, listens on {listen}"),
    )
}

/// One line about the control plane.
fn control(control: &ControlStatus) -> Line {
    let line = Line::default().and(Tone::Normal, format!("  follows {}", control.url));
    if control.connected {
        return line.and(Tone::Faint, format!("  revision {}", control.revision));
    }
    let contact = match control.contact_ms {
        0 => "never reached".to_owned(),
        ms => format!(
            "not reached since {}",
            weft_pki::format_utc(UNIX_EPOCH + Duration::from_millis(ms))
        ),
    };
    let line = line.and(Tone::Bad, format!("  {contact}"));
    match control.last_error.as_str() {
        "" => line,
        error => line.and(Tone::Bad, format!(": {error}")),
    }
}

fn title(environment: &EnvironmentStatus) -> Line {
    let until = UNIX_EPOCH + Duration::from_millis(environment.certificate_expires_ms);
    let subnets = environment.subnets.join(", ");
    let line = Line::default()
        .and(Tone::Strong, format!("environment {}", environment.id))
        .and(Tone::Normal, format!("  {subnets}"));
    match environment.certificate_expires_ms {
        0 => line,
        _ => line.and(Tone::Faint, format!("  certificate until {}", weft_pki::format_utc(until))),
    }
}

fn attachments(environment: &EnvironmentStatus, between: Option<Between<'_>>) -> Vec<Line> {
    let mut table = Table::new(&[
        ("ATTACHMENT", Left),
        ("STATE", Left),
        ("ADDRESSES", Left),
        ("INTERFACE", Left),
        ("RECEIVES", Right),
        ("SENDS", Right),
        ("RECEIVED", Right),
        ("SENT", Right),
        ("NAMESPACE", Left),
    ]);
    let mut errors = Vec::new();
    for attachment in &environment.attachments {
        let AttachmentStatus { name, interface, netns, addresses, last_error, .. } = attachment;
        let traffic = attachment.traffic.as_ref();
        let rates = between.and_then(|b| b.attachment(&environment.id, name, traffic));
        let mut row = vec![
            Span::new(Tone::Strong, name),
            attachment_state(attachment.state()),
            Span::new(Tone::Normal, addresses.join(", ")),
            Span::new(Tone::Normal, interface),
        ];
        row.extend(traffic_cells(rates, traffic));
        row.push(Span::new(Tone::Faint, netns));
        table.row(row);
        if !last_error.is_empty() {
            errors.push(Line::default().and(Tone::Bad, format!("  {name}: {last_error}")));
        }
    }
    let mut lines = table.lines(INDENT);
    lines.append(&mut errors);
    lines
}

fn peers(environment: &EnvironmentStatus, between: Option<Between<'_>>) -> Vec<Line> {
    let mut table = Table::new(&[
        ("PEER", Left),
        ("SESSION", Left),
        ("AGE", Right),
        ("KEY", Left),
        ("RECEIVES", Right),
        ("SENDS", Right),
        ("RECEIVED", Right),
        ("SENT", Right),
        ("HANDSHAKES", Left),
        ("ENDPOINT", Left),
        ("ADDRESSES", Left),
    ]);
    let mut errors = Vec::new();
    for peer in &environment.peers {
        let traffic = peer.traffic.as_ref();
        let rates = between.and_then(|b| b.peer(&environment.id, &peer.host, traffic));
        let handshakes = format!("{} ok, {} failed", peer.handshakes_ok, peer.handshakes_failed);
        let mut row = vec![
            Span::new(Tone::Strong, &peer.host),
            session(peer),
            Span::new(Tone::Normal, peer.session_age_ms.map(duration).unwrap_or_default()),
            Span::new(Tone::Normal, key(peer)),
        ];
        row.extend(traffic_cells(rates, traffic));
        row.extend([
            Span::new(Tone::Normal, handshakes),
            Span::new(Tone::Normal, place(peer)),
            Span::new(Tone::Normal, some(&peer.addresses)),
        ]);
        table.row(row);
        if !peer.last_error.is_empty() {
            let error = format!("  {}: last handshake: {}", peer.host, peer.last_error);
            errors.push(Line::default().and(Tone::Bad, error));
        }
    }
    let mut lines = table.lines(INDENT);
    lines.append(&mut errors);
    lines
}

fn traffic_cells(rates: Option<Rates>, traffic: Option<&Traffic>) -> [Span; 4] {
    let traffic = traffic.copied().unwrap_or_default();
    let rate = |of: fn(&Rates) -> f64| {
        Span::new(Tone::Normal, rates.map_or(String::new(), |rates| bit_rate(of(&rates))))
    };
    [
        rate(|r| r.rx_bits),
        rate(|r| r.tx_bits),
        Span::new(Tone::Normal, bytes(traffic.rx_bytes)),
        Span::new(Tone::Normal, bytes(traffic.tx_bytes)),
    ]
}

fn attachment_state(state: AttachmentState) -> Span {
    let tone = match state {
        AttachmentState::Up => Tone::Good,
        AttachmentState::Gone | AttachmentState::Failed => Tone::Bad,
        AttachmentState::Waiting | AttachmentState::Unspecified => Tone::Faint,
    };
    Span::new(tone, json::attachment_state(state))
}

/// Where a peer is, and where it was configured if that is somewhere else.
fn place(peer: &PeerStatus) -> String {
    match peer.reached_at.as_str() {
        "" => peer.endpoint.clone(),
        now => format!("{now} (moved from {})", peer.endpoint),
    }
}

/// The state of a peer's session, with this host's side of it.
pub(crate) fn session(peer: &PeerStatus) -> Span {
    let state = peer.state();
    let word = json::session_state(state);
    if let Some(silent) = peer.silent_ms {
        return Span::new(Tone::Bad, format!("silent {}", duration(silent)));
    }
    match (state, peer.role()) {
        (SessionState::Established, _) if peer.is_over_tcp => {
            Span::new(Tone::Busy, format!("{word} (over TCP)"))
        }
        (SessionState::Established, SessionRole::Unspecified) => Span::new(Tone::Good, word),
        (SessionState::Established, role) => {
            let role = json::session_role(role).unwrap_or_default();
            Span::new(Tone::Good, format!("{word} ({role})"))
        }
        (SessionState::Handshaking, _) => Span::new(Tone::Busy, word),
        (SessionState::Backoff, _) => Span::new(Tone::Bad, word),
        (SessionState::Idle | SessionState::Unspecified, _) => Span::new(Tone::Faint, word),
    }
}

fn key(peer: &PeerStatus) -> String {
    match (peer.epoch, peer.key_age_ms) {
        (Some(epoch), Some(age)) => format!("epoch {epoch}, {}", duration(age)),
        (Some(epoch), None) => format!("epoch {epoch}"),
        (None, _) => String::new(),
    }
}

/// The first few of a list.
fn some(items: &[String]) -> String {
    let shown = items.iter().take(ADDRESSES_SHOWN_MAX).cloned().collect::<Vec<_>>();
    match items.len().checked_sub(ADDRESSES_SHOWN_MAX) {
        None | Some(0) => shown.join(", "),
        Some(more) => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Packets dropped, most frequent cause first; no line when there are none.
fn drops(drops: &[DropCount], indent: usize) -> Option<Line> {
    let mut drops: Vec<_> = drops.iter().filter(|drop| drop.packets > 0).collect();
    drops.sort_by(|a, b| b.packets.cmp(&a.packets).then_with(|| a.cause.cmp(&b.cause)));
    if drops.is_empty() {
        return None;
    }
    let causes: Vec<_> = drops.iter().map(|d| format!("{} {}", d.cause, d.packets)).collect();
    let line = Line::default().and(Tone::Normal, " ".repeat(indent));
    Some(line.and(Tone::Busy, "dropped").and(Tone::Normal, format!("  {}", causes.join(", "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_plane_that_is_away_is_named_with_the_reason() {
        let text = |status: &ControlStatus| control(status).paint(Style::Plain, usize::MAX);
        let status = ControlStatus {
            url: "https://control.example:7443".to_owned(),
            connected: true,
            contact_ms: 1_800_000_000_000,
            revision: 42,
            first_certificate_ends_ms: 0,
            last_error: String::new(),
        };
        assert_eq!(text(&status), "  follows https://control.example:7443  revision 42");
        let away = ControlStatus { connected: false, last_error: "refused".to_owned(), ..status };
        assert_eq!(
            text(&away),
            "  follows https://control.example:7443  not reached since 2027-01-15 08:00:00 UTC: refused"
        );
        let never = ControlStatus { contact_ms: 0, last_error: String::new(), ..away };
        assert_eq!(text(&never), "  follows https://control.example:7443  never reached");
    }
}
