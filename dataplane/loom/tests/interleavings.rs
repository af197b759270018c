//! Two workers and what they share.

use std::time::{Duration, Instant};

use loom::{model, sync::Arc, thread};
use weft_loom::{counters::Counter64, pace::Pace};

/// A packet of 3 ms at the pace's rate: alone, a worker sends two and then waits.
const PACKET_LEN: usize = 3_000;
const BITS_PER_SECOND: u64 = 8_000_000;
const PACKET_TIME: Duration = Duration::from_millis(3);

fn pace(start: Instant) -> Arc<Pace> {
    Arc::new(Pace::new(start, BITS_PER_SECOND))
}

/// Sends as the engine does, as long as it may; how many packets.
fn send(pace: &Pace, now: Instant) -> u32 {
    let mut sent = 0;
    while pace.wait(now).is_none() {
        pace.charge(now, PACKET_LEN);
        sent += 1;
    }
    sent
}

#[test]
fn nothing_that_is_sent_is_forgotten() {
    let start = Instant::now();
    model(move || {
        let pace = pace(start);
        let other = Arc::clone(&pace);
        let worker = thread::spawn(move || {
            other.charge(start, PACKET_LEN);
            other.charge(start, PACKET_LEN);
        });
        pace.charge(start, PACKET_LEN);
        pace.charge(start, PACKET_LEN);
        worker.join().unwrap();
        assert_eq!(pace.wait(start), Some(start + 4 * PACKET_TIME - Pace::BURST));
    });
}

/// Asking and charging are two steps: at the limit every worker may send one packet that the other
/// does not know of yet, and no more.
#[test]
fn workers_together_exceed_the_limit_by_one_packet_each_at_most() {
    let start = Instant::now();
    model(move || {
        let pace = pace(start);
        let other = Arc::clone(&pace);
        let worker = thread::spawn(move || send(&other, start));
        let sent = send(&pace, start) + worker.join().unwrap();
        assert!((2..=3).contains(&sent), "{sent}");
        assert_eq!(pace.wait(start), Some(start + sent * PACKET_TIME - Pace::BURST));
    });
}

/// Each has a time of its own: the later one begins anew after silence, and counts in full.
#[test]
fn a_worker_that_is_behind_takes_nothing_back() {
    let start = Instant::now();
    let later = start + Duration::from_secs(1);
    model(move || {
        let pace = pace(start);
        let other = Arc::clone(&pace);
        let worker = thread::spawn(move || other.charge(start, PACKET_LEN));
        pace.charge(later, PACKET_LEN);
        pace.charge(later, PACKET_LEN);
        worker.join().unwrap();
        // The one of long ago counts only if it came after the others.
        let [two, three] = [2, 3].map(|n| Some(later + n * PACKET_TIME - Pace::BURST));
        assert!([two, three].contains(&pace.wait(later)));
    });
}

#[test]
fn a_counter_is_read_in_the_order_in_which_it_grows() {
    model(|| {
        let counter = Arc::new(Counter64::default());
        let owned = Arc::clone(&counter);
        let worker = thread::spawn(move || {
            owned.add(2);
            owned.add(3);
        });
        let (first, second) = (counter.get(), counter.get());
        assert!([0, 2, 5].contains(&first) && [0, 2, 5].contains(&second));
        assert!(first <= second);
        worker.join().unwrap();
        assert_eq!(counter.get(), 5);
    });
}
