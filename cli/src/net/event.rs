//! `weft net events`: what happens, one line each.

use std::{
    io::Write,
    time::{Duration, UNIX_EPOCH},
};

use anyhow::Result;
use weft_api::v1::{Event, EventKind, WatchEventsRequest};

use super::{
    arguments::{EventsArguments, or_all},
    call::{ANSWER_TIMEOUT, answer, connect, sentence},
    json,
};
use crate::text::{Line, Style, Tone};

/// Prints events until the daemon stops.
pub(crate) async fn run(
    arguments: &EventsArguments,
    style: Style,
    out: &mut impl Write,
) -> Result<()> {
    let request = WatchEventsRequest { environment: or_all(arguments.env.as_ref()) };
    let mut client = connect(&arguments.socket.socket).await?;
    let mut events = answer(ANSWER_TIMEOUT, client.watch_events(request)).await?;
    while let Some(event) = events.message().await.map_err(|status| sentence(&status))? {
        if arguments.json {
            serde_json::to_writer(&mut *out, &json::event(&event)).map_err(std::io::Error::from)?;
            writeln!(out)?;
        } else {
            writeln!(out, "{}", line(&event).paint(style, usize::MAX))?;
        }
        // Each line is for now, not for when a buffer is full.
        out.flush()?;
    }
    Ok(())
}

fn line(event: &Event) -> Line {
    let time = UNIX_EPOCH + Duration::from_millis(event.time_ms);
    let tone = match event.kind() {
        EventKind::SessionEstablished
        | EventKind::Attached
        | EventKind::PeerAnswers
        | EventKind::PeerMoved
        | EventKind::Reloaded => Tone::Good,
        EventKind::AttachmentLost
        | EventKind::HandshakeFailed
        | EventKind::PeerSilent
        | EventKind::ReloadFailed => Tone::Bad,
        _ => Tone::Normal,
    };
    let mut line = Line::default().and(Tone::Faint, weft_pki::format_utc(time));
    if event.missed > 0 {
        line = line.and(Tone::Bad, format!("  ({} events missed)", event.missed));
    }
    line = line.and(tone, format!("  {}", json::event_kind(event.kind()).replace('_', " ")));
    for part in [&event.environment, &event.attachment, &event.host] {
        if !part.is_empty() {
            line = line.and(Tone::Strong, format!("  {part}"));
        }
    }
    match event.message.as_str() {
        "" => line,
        message => line.and(Tone::Normal, format!("  {message}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_says_it() {
        let event = Event {
            kind: EventKind::HandshakeFailed.into(),
            time_ms: 1_000,
            environment: "acme".to_owned(),
            host: "host-b".to_owned(),
            message: "its certificate expired\nyesterday".to_owned(),
            missed: 3,
            ..Event::default()
        };
        assert_eq!(
            line(&event).paint(Style::Plain, 200),
            "1970-01-01 00:00:01 UTC  (3 events missed)  handshake failed  acme  host-b  \
             its certificate expired\u{fffd}yesterday"
        );
    }
}
