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
/// Looks at a silence after which the peer is asked, at each of them: 0.5 s. Looks and not times, because a look
/// that comes a little late or early is none the less as many questions after the first.
const ASK_AFTER: u32 = 1;
/// After which it is looked for at its other places: a question was not answered in 0.5 s.
const LOOK_FOR_AFTER: u32 = 2;
/// After which UDP counts as blocked: a question was not answered in 1 s, nor the one after it in 0.5 s.
const BLOCKED_AFTER: u32 = 3;
/// After which a handshake is due: 2 s.
const SILENT_AFTER: u32 = 4;
/// How often a question is put at a time: of a network that loses a fifth of what it is given, two questions that come
/// to nothing are no sign of anything.
pub const QUESTIONS: usize = 3;

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
    /// How often that was seen since.
    looks: u32,
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
            self.looks = 0;
        } else if self.since.is_some() {
            self.looks = self.looks.saturating_add(1);
            if self.looks >= SILENT_AFTER {
                return Verdict::Silent;
            }
            if self.looks >= ASK_AFTER {
                return Verdict::Ask;
            }
        } else if has_sent {
            self.since = Some(now);
        }
        let idle = now.saturating_duration_since(last_sent);
        if keepalive.is_some_and(|keepalive| idle >= keepalive) {
            Verdict::Ask
        } else {
            Verdict::Fine
        }
    }

    /// How many questions the peer is to be asked at a time now.
    #[must_use]
    pub const fn questions(&self) -> usize {
        if self.since.is_some() { QUESTIONS } else { 1 }
    }

    /// Whether the peer has left a question unanswered, so that it may be elsewhere.
    #[must_use]
    pub const fn is_to_be_looked_for(&self) -> bool {
        self.looks >= LOOK_FOR_AFTER
    }

    /// Whether it has left several unanswered, so that UDP may not get through.
    #[must_use]
    pub const fn is_blocked(&self) -> bool {
        self.looks >= BLOCKED_AFTER
    }

    /// For how long packets have gone and nothing has come, from the first look that saw it on.
    #[must_use]
    pub fn silent_for(&self, now: Instant) -> Option<Duration> {
        let silence = now.saturating_duration_since(self.since?);
        (self.looks >= SILENT_AFTER).then_some(silence)
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
        assert!(silence.is_to_be_looked_for() && silence.is_blocked());
        assert_eq!(silence.look(now + LOOK_EVERY, (10, 6), None), Fine);
        assert_eq!(silence.silent_for(now + LOOK_EVERY), None);
    }

    /// Looks come a little early or late: no peer is looked for before it was asked.
    #[test]
    fn a_peer_has_half_a_second_to_answer_whenever_it_is_looked() {
        for jitter in [0, 1, 20, 80] {
            let start = Instant::now();
            let mut silence = Silence::default();
            let seen = [
                (Fine, false, false),
                (Fine, false, false),
                (Ask, false, false),
                (Ask, true, false),
                (Ask, true, true),
                (Silent, true, true),
            ];
            for (n, (verdict, is_looked_for, is_blocked)) in (0..).zip(seen) {
                let early = Duration::from_millis(if n % 2 == 1 { jitter } else { 0 });
                let now = start + LOOK_EVERY * n - early;
                let sent = if n == 0 { 5 } else { 6 };
                assert_eq!(silence.look(now, (sent, 5), None), verdict, "look {n}, {jitter} ms");
                assert_eq!(silence.is_to_be_looked_for(), is_looked_for);
                assert_eq!(silence.is_blocked(), is_blocked);
            }
        }
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
