//! What hosts say of what they have: how much of it, and when it is kept.
//!
//! ```text
//!   host ──report──▶ attachments ──▶ one Health record an attachment, when it is another than before
//!                └─▶ peers ────────▶ one Peering record an environment and host, when a session comes or goes or says
//!                                    something else, and when the ages of keys in it are 10 minutes old
//! ```
//!
//! A host says what has changed, and over a new connection everything. It costs the store what changes and not how often
//! hosts say something. Nothing is kept by the process that hears it: every process has all of it.

use std::time::Duration;

use crate::record::{PeerSession, Peering, UnixMs};

/// Most attachments of a report; a host that has more says some in the next one.
pub const ATTACHMENTS_MAX: usize = 1_024;
/// Most peers of a report. All of an environment's are in one.
pub const PEERS_MAX: usize = 1_024;
/// Most environments of a report of which nothing but that is said.
pub const ENVIRONMENTS_MAX: usize = 1_024;
/// Longest error, bytes.
pub const ERROR_LEN_MAX: usize = 256;
/// So many errors of an environment's sessions are kept, of the first hosts that have one.
pub const ERRORS_KEPT_MAX: usize = 128;
/// What is kept of a host's sessions is written anew when it is older, so that ages of keys mean something. With 1,000
/// hosts of ten environments each that is 17 records a second.
pub const KEYS_GRAIN: Duration = Duration::from_secs(600);

/// Longest id of a host, bytes.
const HOST_LEN_MAX: usize = weft_types::NAME_LEN_MAX;
/// Most bytes of a session's document without the host's id and the error.
const SESSION_LEN_MAX: usize = 80;
/// Most bytes of what a record has besides.
const HEAD_LEN_MAX: usize = 256;
/// What is written in the place of one byte of an error: U+FFFD is three, an escape two.
const GROWTH_MAX: usize = 3;

// All of a report's sessions are one transaction of the store, and an environment's one value.
const _: () = assert!(
    PEERS_MAX * (HOST_LEN_MAX + SESSION_LEN_MAX + ERROR_LEN_MAX * GROWTH_MAX)
        + weft_store::OPERATIONS_MAX * HEAD_LEN_MAX
        <= weft_store::TRANSACTION_BYTES_MAX
);
const _: () = assert!(
    HEAD_LEN_MAX
        + PEERS_MAX * (HOST_LEN_MAX + SESSION_LEN_MAX)
        + ERRORS_KEPT_MAX * ERROR_LEN_MAX * GROWTH_MAX
        <= weft_store::VALUE_LEN_MAX
);

/// What a host has written, as people may read it: control characters and those that change the direction of writing
/// become U+FFFD.
#[must_use]
pub fn printable(text: &str) -> String {
    let turns = |c| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().map(|c| if c.is_control() || turns(c) { '\u{fffd}' } else { c }).collect()
}

impl Peering {
    /// As it is kept.
    #[must_use]
    pub fn shortened(mut self) -> Self {
        let errors = self.peers.values_mut().map(|peer| &mut peer.error);
        errors.filter(|error| !error.is_empty()).skip(ERRORS_KEPT_MAX).for_each(String::clear);
        self
    }

    /// Whether it is to be written, where this is what was.
    #[must_use]
    pub fn is_news(&self, before: Option<&Self>) -> bool {
        let Some(before) = before else { return !self.peers.is_empty() };
        let is_same = |(one, other): (&PeerSession, &PeerSession)| {
            (one.is_up, &one.error) == (other.is_up, &other.error)
        };
        let is_as_before = self.peers.keys().eq(before.peers.keys())
            && self.peers.values().zip(before.peers.values()).all(is_same);
        // Clocks differ, and are set.
        let (UnixMs(now), UnixMs(then)) = (self.at, before.at);
        let is_old = Duration::from_millis(now.abs_diff(then)) >= KEYS_GRAIN;
        !is_as_before || (is_old && !self.peers.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Record;

    fn session(is_up: bool, key_age_ms: u64, error: &str) -> PeerSession {
        PeerSession { is_up, key_age_ms, error: error.to_owned() }
    }

    fn peering(at: u64, peers: &[(&str, PeerSession)]) -> Peering {
        let peers = peers.iter().map(|(host, session)| (host.parse().unwrap(), session.clone()));
        Peering {
            environment: "env-a".parse().unwrap(),
            host: "host-a".parse().unwrap(),
            at: UnixMs(at),
            peers: peers.collect(),
        }
    }

    #[test]
    fn the_longest_fits_in_a_value() {
        for text in ["\u{1}", "\"", "\u{202e}"] {
            let error = printable(&text.repeat(ERROR_LEN_MAX / text.len()));
            let peers = (0..PEERS_MAX).map(|n| {
                let host = format!("{n:0>width$}", width = HOST_LEN_MAX - 1);
                (format!("h{host}").parse().unwrap(), session(false, u64::MAX, &error))
            });
            let environment = "e".repeat(HOST_LEN_MAX).parse().unwrap();
            let host = "h".repeat(HOST_LEN_MAX).parse().unwrap();
            let all = Peering { environment, host, at: UnixMs(u64::MAX), peers: peers.collect() };
            let kept = all.clone().shortened();
            let errors = kept.peers.values().filter(|peer| !peer.error.is_empty()).count();
            assert_eq!((kept.peers.len(), errors), (PEERS_MAX, ERRORS_KEPT_MAX));
            assert!(kept.encode().unwrap().len() <= weft_store::VALUE_LEN_MAX);
            assert!(all.encode().unwrap().len() > weft_store::VALUE_LEN_MAX);
        }
    }

    #[test]
    fn what_changes_is_written_and_ages_of_keys_now_and_then() {
        let grain = u64::try_from(KEYS_GRAIN.as_millis()).unwrap();
        let up = |age| ("host-b", session(true, age, ""));
        let before = peering(0, &[up(1_000)]);
        assert!(before.is_news(None));
        assert!(!peering(0, &[]).is_news(None), "there is nothing");
        assert!(!peering(grain - 1, &[up(2_000)]).is_news(Some(&before)));
        assert!(peering(grain, &[up(2_000)]).is_news(Some(&before)));
        assert!(!before.is_news(Some(&peering(grain - 1, &[up(0)]))), "a clock that was set");
        assert!(before.is_news(Some(&peering(grain, &[up(0)]))));
        for other in [
            peering(1, &[]),
            peering(1, &[("host-c", session(true, 1_000, ""))]),
            peering(1, &[("host-b", session(false, 1_000, ""))]),
            peering(1, &[("host-b", session(true, 1_000, "it does not answer"))]),
            peering(1, &[up(1_000), ("host-c", session(true, 0, ""))]),
        ] {
            assert!(other.is_news(Some(&before)), "{other:?}");
        }
        let none = peering(0, &[]);
        assert!(!peering(grain, &[]).is_news(Some(&none)), "nothing is no older");
    }

    #[test]
    fn nothing_that_a_terminal_obeys_is_left() {
        assert_eq!(printable("a\x1b[2Jb\n\u{202e}c é"), "a\u{fffd}[2Jb\u{fffd}\u{fffd}c é");
    }
}
