//! How many refusals are recorded in a minute, so that nobody fills the disk with them: a record has about 400 bytes,
//! so those of strangers are 35 MB a day at most. A call that fails by the fault of who makes it counts as a refusal.

use std::{
    collections::HashMap,
    mem,
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

use weft_audit::{Actor as Who, Event, Object, Origin};
use weft_model::UnixMs;

/// For how long is counted, and how often what was left out is recorded.
pub const BOUNDS_INTERVAL: Duration = Duration::from_secs(60);
/// Refusals of whoever has not shown who it is, of all together.
pub const STRANGERS_REFUSALS_MAX: u32 = 60;
/// The same of one address; of IPv6, of one /64, which is what one customer has.
pub const ADDRESS_REFUSALS_MAX: u32 = 10;
/// Refusals of one actor; who has more is not heard until the minute is over, for what it changes is recorded before
/// it is known whether it may, or whether that is a good request at all. With two records each, 690 MB a day.
pub const ACTOR_REFUSALS_MAX: u32 = 600;
/// The same of a part of the platform for one organisation: what a tenant has it do that fails (it is at its quota, say)
/// keeps it from nobody else. All together are bounded by [`super::PART_RATE`].
pub const PART_REFUSALS_MAX: u32 = 120;
/// Sources that are counted at once, of some 100 bytes each.
const SOURCES_MAX: usize = 8_192;

#[derive(Debug, PartialEq, Eq, Hash)]
enum Source {
    Actor(Who),
    /// A part of the platform, for whom.
    Part(Who, String),
    Address(IpAddr),
}

/// Whose an object is: its first two names, `organisation/org-…`, `host/host-a`.
fn whose(object: &Object) -> String {
    let text = object.as_str();
    let end = text.match_indices('/').nth(1).map_or(text.len(), |(end, _)| end);
    text[..end].to_owned()
}

impl Source {
    fn of(event: &Event) -> Self {
        match (&event.who, &event.from) {
            (Who::Anonymous, Origin::Address(IpAddr::V6(address))) => {
                let network = u128::from(*address) & !u128::from(u64::MAX);
                Self::Address(Ipv6Addr::from(network).into())
            }
            (Who::Anonymous, Origin::Address(address)) => Self::Address(*address),
            (who @ Who::Service(_), _) => Self::Part(who.clone(), whose(&event.object)),
            (who, _) => Self::Actor(who.clone()),
        }
    }

    fn max(&self) -> u32 {
        match self {
            Self::Actor(Who::Anonymous) => STRANGERS_REFUSALS_MAX,
            Self::Actor(_) => ACTOR_REFUSALS_MAX,
            Self::Part(..) => PART_REFUSALS_MAX,
            Self::Address(_) => ADDRESS_REFUSALS_MAX,
        }
    }
}

/// What was refused in this minute.
#[derive(Debug, Default)]
pub(super) struct Bounds {
    minute: u64,
    of: HashMap<Source, u32>,
    /// Of all strangers.
    strangers: u32,
    /// Refusals without a record that are not told yet.
    left_out: u64,
}

impl Bounds {
    fn turn(&mut self, now: UnixMs) {
        let minute = u128::from(now.0) / BOUNDS_INTERVAL.as_millis();
        if mem::replace(&mut self.minute, u64::try_from(minute).unwrap_or(u64::MAX)) != self.minute
        {
            self.of.clear();
            self.strangers = 0;
        }
    }

    /// Whether who calls has not been refused too often.
    pub(super) fn is_heard(&mut self, event: &Event, now: UnixMs) -> bool {
        self.turn(now);
        let source = Source::of(event);
        self.of.get(&source).is_none_or(|refusals| *refusals < source.max())
    }

    /// Counts a refusal; whether it may be recorded. It is counted among those that were left out otherwise.
    pub(super) fn admits(&mut self, event: &Event, now: UnixMs) -> bool {
        let is_admitted = self.count(event, now);
        if !is_admitted {
            self.leave_out();
        }
        is_admitted
    }

    /// Counts a refusal; whether there was room for it.
    pub(super) fn count(&mut self, event: &Event, now: UnixMs) -> bool {
        let is_stranger = event.who == Who::Anonymous;
        let has_room = self.is_heard(event, now)
            && !(is_stranger && self.strangers >= STRANGERS_REFUSALS_MAX)
            && self.of.len() < SOURCES_MAX;
        if has_room {
            *self.of.entry(Source::of(event)).or_default() += 1;
            self.strangers += u32::from(is_stranger);
        }
        has_room
    }

    pub(super) fn leave_out(&mut self) {
        self.left_out = self.left_out.saturating_add(1);
    }

    pub(super) fn left_out(&self) -> u64 {
        self.left_out
    }

    /// So many of them are told.
    pub(super) fn told(&mut self, count: u64) {
        self.left_out = self.left_out.saturating_sub(count);
    }
}

#[cfg(test)]
mod tests {
    use weft_audit::{Facts, Outcome, RequestId, Word};

    use super::*;

    fn refused(who: &str, from: &str) -> Event {
        Event {
            who: who.parse().unwrap(),
            from: from.parse().unwrap(),
            action: Word::new("a.b"),
            object: "a".parse::<Object>().unwrap(),
            outcome: Outcome::Begun,
            request: RequestId([0; 16]),
            facts: Facts::none(),
        }
    }

    fn admitted(bounds: &mut Bounds, events: impl Iterator<Item = Event>, now: UnixMs) -> u32 {
        events.map(|event| u32::from(bounds.admits(&event, now))).sum()
    }

    #[test]
    fn strangers_have_a_bound_each_and_together() {
        let mut bounds = Bounds::default();
        let one = || (0..1_000).map(|_| refused("anonymous", "192.0.2.1"));
        assert_eq!(admitted(&mut bounds, one(), UnixMs(0)), ADDRESS_REFUSALS_MAX);
        // All addresses of one network are one.
        let network = (0..1_000).map(|n| refused("anonymous", &format!("2001:db8::{n:x}")));
        assert_eq!(admitted(&mut bounds, network, UnixMs(0)), ADDRESS_REFUSALS_MAX);
        let many =
            (0..1_000).map(|n| refused("anonymous", &format!("10.0.{}.{}", n / 250, n % 250)));
        let rest = STRANGERS_REFUSALS_MAX - 2 * ADDRESS_REFUSALS_MAX;
        assert_eq!(admitted(&mut bounds, many, UnixMs(0)), rest);
        assert_eq!(bounds.left_out(), 3_000 - u64::from(STRANGERS_REFUSALS_MAX));
        // Whoever has shown who it is has its own.
        assert!(bounds.admits(&refused("user/a", "192.0.2.1"), UnixMs(0)));
        assert_eq!(admitted(&mut bounds, one(), UnixMs(60_000)), ADDRESS_REFUSALS_MAX);
    }

    #[test]
    fn who_is_refused_all_the_time_is_not_heard_until_the_minute_is_over() {
        let mut bounds = Bounds::default();
        let refusals = (0..ACTOR_REFUSALS_MAX).map(|_| refused("host/a", "192.0.2.1"));
        assert_eq!(admitted(&mut bounds, refusals, UnixMs(0)), ACTOR_REFUSALS_MAX);
        assert!(!bounds.is_heard(&refused("host/a", "192.0.2.9"), UnixMs(59_999)));
        assert!(bounds.is_heard(&refused("host/b", "192.0.2.1"), UnixMs(59_999)));
        assert!(bounds.is_heard(&refused("host/a", "192.0.2.1"), UnixMs(60_000)));
    }

    #[test]
    fn what_fails_for_one_organisation_keeps_a_part_of_the_platform_from_no_other() {
        let mut bounds = Bounds::default();
        let about = |object: &str| Event {
            object: object.parse().unwrap(),
            ..refused("service/scheduler", "192.0.2.1")
        };
        let environments = (0..1_000).map(|n| about(&format!("organisation/a/environment/{n}")));
        assert_eq!(admitted(&mut bounds, environments, UnixMs(0)), PART_REFUSALS_MAX);
        assert!(!bounds.is_heard(&about("organisation/a/environment/1001"), UnixMs(0)));
        for other in ["organisation/b/environment/1", "organisation", "host/a", "organisation/b"] {
            assert!(bounds.is_heard(&about(other), UnixMs(0)), "{other}");
        }
    }

    #[test]
    fn sources_have_a_bound_and_what_is_told_is_told_once() {
        let mut bounds = Bounds::default();
        let users = SOURCES_MAX + 10;
        let many = (0..users).map(|n| refused(&format!("user/{n}"), "192.0.2.1"));
        assert_eq!(admitted(&mut bounds, many, UnixMs(0)) as usize, SOURCES_MAX);
        assert_eq!(bounds.left_out(), 10);
        bounds.leave_out();
        bounds.told(10);
        assert_eq!(bounds.left_out(), 1);
    }
}
