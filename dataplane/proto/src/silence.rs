//! Whether a peer answers: dead peer detection without traffic of its own (as RFC 3706 asks for, but from
//! the counters of the packet path, and asked inside the session).
//!
//! ```text
//!  packets go, something comes back      nothing to do
//!  packets go, nothing comes for 0.5 s   ask, again and again: any host that has the session answers
//!  for 2 s                               the peer has forgotten us or is away: handshake
//! ```
//! A peer to which nothing is sent is not watched: idle sessions cost nothing.

use std::time::{Duration, Instant};

/// How often [`Silence::look`] is to be called.
pub const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Silence after which the peer is asked.
const ASK_AFTER: Duration = Duration::from_millis(500);
/// Silence after which a handshake is due. Three questions and their answers are lost by then.
const SILENT_AFTER: Duration = Duration::from_secs(2);
/// Silence after which the peer is looked for at its other places, and over TCP.
const LOOK_FOR_AFTER: Duration = Duration::from_secs(1);

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Fine,
    /// Ask the peer for an answer.
    Ask,
    /// The peer does not answer: handshake anew.
    Silent,
}

/// The silence of one peer.
#[derive(Debug, Clone, Default)]
pub struct Silence {
    sent: u64,
    received: u64,
    /// Since when packets go and nothing comes.
    since: Option<Instant>,
    /// When something was last sent.
    last_sent: Option<Instant>,
}

impl Silence {
    /// Takes the numbers of datagrams that were sent to the peer and accepted from it so far, all
    /// sessions and workers together. With `keepalive`, the peer is asked after so long without
    /// anything sent.
    pub fn look(
        &mut self,
        now: Instant,
        (sent, received): (u64, u64),
        keepalive: Option<Duration>,
    ) -> Verdict {
        let has_sent = sent != self.sent;
        self.sent = sent;
        if has_sent {
            self.last_sent = Some(now);
        }
        let last_sent = *self.last_sent.get_or_insert(now);
        if received != self.received {
            self.received = received;
            self.since = None;
        } else if has_sent || self.since.is_some() {
            let silence = now.saturating_duration_since(*self.since.get_or_insert(now));
            if silence >= SILENT_AFTER {
                return Verdict::Silent;
            }
            if silence >= ASK_AFTER {
                return Verdict::Ask;
            }
        }
        let idle = now.saturating_duration_since(last_sent);
        if keepalive.is_some_and(|keepalive| idle >= keepalive) {
            Verdict::Ask
        } else {
            Verdict::Fine
        }
    }

    /// Whether the peer has left a question unanswered, so that it may be elsewhere.
    #[must_use]
    pub fn is_to_be_looked_for(&self, now: Instant) -> bool {
        self.since.is_some_and(|since| now >= since + LOOK_FOR_AFTER)
    }

    /// For how long packets have gone and nothing has come, from the first look that saw it on.
    #[must_use]
    pub fn silent_for(&self, now: Instant) -> Option<Duration> {
        let silence = now.saturating_duration_since(self.since?);
        (silence >= SILENT_AFTER).then_some(silence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks every half second; gives what was to be done each time.
    fn watch(
        silence: &mut Silence,
        start: Instant,
        counts: impl IntoIterator<Item = (u64, u64)>,
    ) -> Vec<Verdict> {
        let times = (0..).map(|i| start + LOOK_EVERY * i);
        times.zip(counts).map(|(now, counts)| silence.look(now, counts, None)).collect()
    }

    use Verdict::{Ask, Fine, Silent};

    #[test]
    fn who_answers_is_left_alone() {
        let start = Instant::now();
        let busy = (1..40).map(|i| (i * 100, i * 3));
        assert!(watch(&mut Silence::default(), start, busy).iter().all(|v| *v == Fine));
        // An answer now and then is enough.
        let rare = (1..40).map(|i| (i, i / 2));
        assert!(watch(&mut Silence::default(), start, rare).iter().all(|v| *v == Fine));
    }

    #[test]
    fn who_is_sent_nothing_is_not_watched() {
        let start = Instant::now();
        let idle = [(7, 7); 100];
        assert!(watch(&mut Silence::default(), start, idle).iter().all(|v| *v == Fine));
        let only_hears = (0..100).map(|i| (7, i));
        assert!(watch(&mut Silence::default(), start, only_hears).iter().all(|v| *v == Fine));
    }

    #[test]
    fn who_does_not_answer_is_asked_and_then_silent() {
        let (mut silence, start) = (Silence::default(), Instant::now());
        // One packet goes, and after it the questions.
        let counts = [(5, 5), (6, 5), (6, 5), (7, 5), (8, 5), (9, 5), (9, 5)];
        assert_eq!(watch(&mut silence, start, counts), [Fine, Fine, Ask, Ask, Ask, Silent, Silent]);
        let now = start + LOOK_EVERY * 6;
        assert_eq!(silence.silent_for(now), Some(LOOK_EVERY * 5));
        assert!(silence.is_to_be_looked_for(now));
        assert!(!silence.is_to_be_looked_for(start + LOOK_EVERY * 2), "the question is on its way");
        assert_eq!(silence.look(now + LOOK_EVERY, (10, 6), None), Fine);
        assert_eq!(silence.silent_for(now + LOOK_EVERY), None);
    }

    #[test]
    fn a_question_that_is_answered_ends_it() {
        let counts = [(5, 5), (6, 5), (6, 5), (7, 6), (7, 6), (7, 6), (7, 6), (7, 6), (7, 6)];
        let verdicts = watch(&mut Silence::default(), Instant::now(), counts);
        assert_eq!(verdicts, [Fine, Fine, Ask, Fine, Fine, Fine, Fine, Fine, Fine]);
    }

    #[test]
    fn a_keepalive_asks_when_nothing_else_goes() {
        let (mut silence, start) = (Silence::default(), Instant::now());
        let keepalive = Some(Duration::from_secs(25));
        let (mut asked, mut counts) = (0, (1, 1));
        for i in 0..200 {
            match silence.look(start + LOOK_EVERY * i, counts, keepalive) {
                Fine => {}
                Ask => {
                    asked += 1;
                    counts = (counts.0 + 1, counts.1 + 1);
                }
                Silent => panic!("it answers"),
            }
        }
        // 100 s.
        assert_eq!(asked, 3);
    }
}
