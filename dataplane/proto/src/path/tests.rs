//! A path that carries so many bytes, in virtual time.

use proptest::prelude::*;

use super::*;

// As the protocol has them, whatever the code says.
const BASE: u16 = 1_200;
const SECOND: Duration = Duration::from_secs(1);
/// From the moment at which a path shrinks until nothing too long is sent any more: until something
/// is asked, ten probes, and the answer that does not come.
const NOTICED: Duration = Duration::from_millis(500 + 900 + 1_000);

/// Between two datagrams.
const BETWEEN: Duration = Duration::from_millis(10);

/// A sender of long datagrams and its path.
struct Sender {
    mtu: PathMtu,
    now: Instant,
    probes: Vec<(Duration, u16)>,
    start: Instant,
}

impl Sender {
    fn new(limit: u16) -> Self {
        let now = Instant::now();
        Self { mtu: PathMtu::new(limit), now, probes: Vec::new(), start: now }
    }

    /// Sends for so long, over a path that carries `carried` bytes and loses by `loses`.
    fn run(&mut self, time: Duration, carried: u16, mut loses: impl FnMut() -> bool) {
        let end = self.now + time;
        while self.now < end {
            self.mtu.handle_use(self.now, self.mtu.current().into());
            while let Some(len) = self.mtu.poll_probe(self.now) {
                self.probes.push((self.now - self.start, len));
                if len <= carried && !loses() {
                    self.mtu.handle_answer(self.now, len);
                }
            }
            let urgent = self.mtu.poll_timeout();
            assert!(urgent.is_none_or(|at| at > self.now), "no busy loop");
            let next = urgent.or(self.mtu.idle_until()).unwrap_or(self.now + BETWEEN);
            self.now = next.min(end);
        }
    }

    fn run_without_loss(&mut self, time: Duration, carried: u16) {
        self.run(time, carried, || false);
    }
}

#[test]
fn what_both_ends_take_is_used_at_once_and_asked_for_while_it_is() {
    let mut sender = Sender::new(1_472);
    assert_eq!(sender.mtu.idle_until(), None, "nothing is asked before anything is sent");
    assert!(!sender.mtu.handle_use(sender.now, BASE.into()), "every path carries that");
    assert_eq!(sender.mtu.idle_until(), None);
    sender.run_without_loss(SECOND * 10, 1_472);
    let wanted: Vec<_> = (0..20).map(|half| (SECOND * half / 2, 1_472)).collect();
    assert_eq!(sender.probes, wanted);
}

#[test]
fn ends_that_take_less_than_the_base_are_not_asked_for_it() {
    let mut sender = Sender::new(1_000);
    sender.run_without_loss(SECOND * 10, 900);
    assert_eq!((sender.mtu.current(), sender.probes.len()), (1_000, 0));
}

#[test]
fn a_path_that_shrinks_is_noticed_and_its_length_found() {
    for carried in [1_232, 1_332, 1_392] {
        let mut sender = Sender::new(1_472);
        sender.run_without_loss(SECOND * 5, 1_472);
        sender.run_without_loss(NOTICED, carried);
        assert!(sender.mtu.current() <= carried, "{carried}: {}", sender.mtu.current());
        sender.run_without_loss(SECOND * 15, carried);
        let found = sender.mtu.current();
        assert!(found <= carried && found + 8 > carried, "{carried}: {found}");
    }
}

#[test]
fn a_jumbo_path_that_is_none_becomes_a_usual_one_first() {
    let mut sender = Sender::new(8_972);
    sender.run_without_loss(NOTICED, 1_472);
    sender.run_without_loss(Duration::from_millis(1), 1_472);
    assert_eq!(sender.mtu.current(), 1_472);
}

#[test]
fn a_path_that_grows_is_found_after_ten_minutes() {
    let mut sender = Sender::new(1_472);
    sender.run_without_loss(SECOND * 20, 1_332);
    let small = sender.mtu.current();
    sender.run_without_loss(SECOND * 570, 1_472);
    assert_eq!(sender.mtu.current(), small);
    sender.run_without_loss(SECOND * 30, 1_472);
    assert_eq!(sender.mtu.current(), 1_472);
}

/// Nothing is answered, neither long nor short.
#[test]
fn a_peer_that_is_away_is_no_small_path() {
    let mut sender = Sender::new(1_472);
    sender.run_without_loss(SECOND * 5, 1_472);
    sender.run_without_loss(SECOND * 60, 0);
    assert_eq!(sender.mtu.current(), 1_472);
    // Away in the middle of a search: it goes on.
    sender.run_without_loss(SECOND * 3, 1_332);
    assert_eq!(sender.mtu.current(), BASE);
    sender.run_without_loss(SECOND * 60, 0);
    sender.run_without_loss(SECOND * 30, 1_332);
    let found = sender.mtu.current();
    assert!((1_325..=1_332).contains(&found), "{found}");
}

#[test]
fn only_what_was_asked_is_answered() {
    let mut sender = Sender::new(1_472);
    sender.run_without_loss(SECOND * 20, 1_332);
    let small = sender.mtu.current();
    for made_up in [0, 1_200, 1_400, 1_472, u16::MAX] {
        assert!(!sender.mtu.handle_answer(sender.now, made_up));
    }
    assert_eq!(sender.mtu.current(), small);
}

#[test]
fn another_endpoint_or_limit_begins_anew() {
    let mut sender = Sender::new(1_472);
    sender.run_without_loss(SECOND * 20, 1_332);
    sender.mtu.set_limit(1_472);
    assert!(sender.mtu.current() < 1_472, "the same");
    sender.mtu.reset();
    assert_eq!(sender.mtu.current(), 1_472);
    sender.mtu.set_limit(8_972);
    assert_eq!(sender.mtu.current(), 8_972);
}

/// A fifth of all datagrams is lost, and of all answers.
#[test]
fn loss_is_not_taken_for_a_small_path() {
    let mut state = 1_u32;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state % 1_000
    };
    let mut sender = Sender::new(1_472);
    sender.run(Duration::from_secs(600), 1_472, || random() >= 640);
    assert_eq!(sender.mtu.current(), 1_472);
}

proptest! {
    /// Whatever the path does, it is followed: a search ends within PRECISION below what it carries.
    #[test]
    fn every_path_is_found(limit in 1_201_u16..=9_188, carried in 1_200_u16..=9_188) {
        let mut sender = Sender::new(limit);
        sender.run_without_loss(SECOND * 60, carried);
        let (found, possible) = (sender.mtu.current(), limit.min(carried));
        prop_assert!(found <= possible && found + 8 >= possible, "{found} of {possible}");
    }
}
