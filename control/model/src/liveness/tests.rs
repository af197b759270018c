//! Hosts that report or do not, and processes that hear them, pause and begin anew.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::record::UnixMs;

const HOSTS: [&str; 3] = ["host-a", "host-b", "host-c"];

fn host(n: usize) -> HostId {
    HOSTS[n].parse().unwrap()
}

fn heartbeat(n: usize, at: u64) -> Heartbeat {
    Heartbeat { host: host(n), at: UnixMs(at), version: "1.0.0".to_owned(), revision: at }
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn a_record_is_written_no_more_often_than_its_grain_and_only_when_there_is_news() {
    let mut heartbeats = Heartbeats::default();
    let mut written = Vec::new();
    for second in 0..=120 {
        if second % 10 == 0 && second < 90 {
            heartbeats.handle_report(heartbeat(0, second), None);
        }
        let due = heartbeats.due(secs(second));
        keep(&mut heartbeats, &due, second);
        written.extend(due.iter().map(|(kept, _)| (second, kept.at.0)));
    }
    assert_eq!(written, [(0, 0), (30, 30), (60, 60), (90, 80)]);
    // What was said while the last was on its way is written in its turn.
    heartbeats.handle_report(heartbeat(0, 200), None);
    let due = heartbeats.due(secs(200));
    heartbeats.handle_report(heartbeat(0, 210), None);
    keep(&mut heartbeats, &due, 210);
    assert_eq!(heartbeats.due(secs(239)), []);
    assert_eq!(heartbeats.due(secs(240)), [(heartbeat(0, 210), Some(Revision(210)))]);
    heartbeats.retain(|known| *known != host(0));
    assert_eq!((heartbeats.last(&host(0)), heartbeats.due(secs(999))), (None, Vec::new()));
}

/// All of it was written at once, at a revision that is the second.
fn keep(heartbeats: &mut Heartbeats, due: &[(Heartbeat, Option<Revision>)], second: u64) {
    let kept = due.iter().map(|(kept, _)| kept);
    heartbeats.handle_kept(kept, Revision(second), secs(second));
}

#[test]
fn what_another_process_has_heard_since_stays_and_what_is_said_next_comes_over_it() {
    let mut heartbeats = Heartbeats::default();
    heartbeats.handle_report(heartbeat(0, 0), Some(Revision(3)));
    assert_eq!(heartbeats.due(secs(0)), [(heartbeat(0, 0), Some(Revision(3)))]);
    heartbeats.handle_overtaken(&heartbeat(0, 0), Some(Revision(5)));
    assert_eq!(heartbeats.due(secs(99)), []);
    // Also where what is seen of the store is late.
    heartbeats.handle_report(heartbeat(0, 100), Some(Revision(3)));
    assert_eq!(heartbeats.due(secs(100)), [(heartbeat(0, 100), Some(Revision(5)))]);
    // What was said meanwhile is not what was overtaken.
    heartbeats.handle_report(heartbeat(0, 110), Some(Revision(5)));
    heartbeats.handle_overtaken(&heartbeat(0, 100), Some(Revision(7)));
    assert_eq!(heartbeats.due(secs(110)), [(heartbeat(0, 110), Some(Revision(7)))]);
    // The host was forgotten, with its record.
    heartbeats.handle_overtaken(&heartbeat(0, 110), None);
    heartbeats.handle_report(heartbeat(0, 120), None);
    assert_eq!(heartbeats.due(secs(120)), [(heartbeat(0, 120), None)]);
}

#[test]
fn a_host_is_lost_after_its_time_and_not_before() {
    let mut watchman = Watchman::default();
    let sign = Some(Revision(7));
    for second in (0..90).step_by(10) {
        assert_eq!(watchman.look(secs(second), [(host(0), sign), (host(1), None)]), []);
    }
    let lost = watchman.look(secs(90), [(host(0), sign), (host(1), None)]);
    assert_eq!(lost, [(host(0), sign), (host(1), None)], "also one that was never heard of");
    let lost = watchman.look(secs(100), [(host(0), Some(Revision(9))), (host(1), None)]);
    assert_eq!(lost, [(host(1), None)]);
}

#[test]
fn who_has_paused_gives_every_host_all_of_its_time() {
    let mut watchman = Watchman::default();
    let look = |watchman: &mut Watchman, second| {
        watchman.look(secs(second), [(host(0), Some(Revision(7)))])
    };
    for second in (0..=80).step_by(10) {
        assert_eq!(look(&mut watchman, second), []);
    }
    for second in (111..201).step_by(30) {
        assert_eq!(look(&mut watchman, second), [], "{second}");
    }
    assert_eq!(look(&mut watchman, 201).len(), 1);
    watchman.forget();
    assert_eq!(look(&mut watchman, 202), []);
}

#[derive(Debug, Clone, Copy)]
enum Step {
    /// So many seconds go by, in which everybody does what it does.
    Pass(u64),
    /// A host stops to report, or begins again.
    Toggle(usize),
    /// A host calls the other process from now on.
    Change(usize),
    /// The watchman does nothing for so many seconds; hosts and processes go on.
    Pause(u64),
    /// Another process watches from now on.
    TakeOver,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (1..60u64).prop_map(Step::Pass),
        2 => (0..HOSTS.len()).prop_map(Step::Toggle),
        2 => (0..HOSTS.len()).prop_map(Step::Change),
        1 => (1..200u64).prop_map(Step::Pause),
        1 => Just(Step::TakeOver),
    ];
    proptest::collection::vec(step, 1..40)
}

/// Two processes that hear hosts, with one store, and who watches.
struct World {
    second: u64,
    processes: [Heartbeats; 2],
    /// Which process hears each host, if it says anything.
    calls: [(usize, bool); HOSTS.len()],
    /// When each host last said something, and for how long it had said nothing before.
    reported: [u64; HOSTS.len()],
    paused: [u64; HOSTS.len()],
    store: BTreeMap<HostId, Revision>,
    revision: u64,
    watchman: Watchman,
    /// When the watchman looked last, and since when it has missed nothing.
    looked: Option<u64>,
    watches: u64,
}

impl World {
    fn tick(&mut self, is_watched: bool) {
        self.second += 1;
        let now = secs(self.second);
        for (n, (process, reports)) in self.calls.into_iter().enumerate() {
            // Not all at the same moment.
            if reports && (self.second + n as u64 * 3).is_multiple_of(REPORT_INTERVAL.as_secs()) {
                let record = self.store.get(&host(n)).copied();
                self.processes[process].handle_report(heartbeat(n, self.second), record);
                self.paused[n] = self.second - self.reported[n];
                self.reported[n] = self.second;
            }
        }
        for (n, process) in self.processes.iter_mut().enumerate() {
            if !(self.second + n as u64 * 5).is_multiple_of(KEEP_INTERVAL.as_secs()) {
                continue;
            }
            for (kept, over) in process.due(now) {
                let record = self.store.get(&kept.host).copied();
                if record != over {
                    process.handle_overtaken(&kept, record);
                    continue;
                }
                self.revision += 1;
                self.store.insert(kept.host.clone(), Revision(self.revision));
                process.handle_kept([&kept], Revision(self.revision), now);
            }
        }
        if is_watched && self.second.is_multiple_of(LOOK_INTERVAL.as_secs()) {
            let missed = |looked| self.second - looked > LOOK_GAP_MAX.as_secs();
            if self.looked.is_none_or(missed) {
                self.watches = self.second;
            }
            self.looked = Some(self.second);
            let hosts = (0..HOSTS.len()).map(|n| (host(n), self.store.get(&host(n)).copied()));
            let lost = self.watchman.look(now, hosts);
            let lost: BTreeSet<_> = lost.into_iter().map(|(host, _)| host).collect();
            self.judge(&lost);
        }
    }

    fn judge(&self, lost: &BTreeSet<HostId>) {
        let watched = self.second - self.watches;
        for (n, reported) in self.reported.iter().enumerate() {
            let silent = self.second - reported;
            if lost.contains(&host(n)) {
                assert!(
                    watched >= LOST_AFTER.as_secs(),
                    "{n} is lost after {watched} s of looking"
                );
                // What it said last may have waited for its turn to be written; what it says again still may.
                let least = (LOST_AFTER - HEARTBEAT_GRAIN - KEEP_INTERVAL).as_secs();
                let is_just_back = silent <= KEEP_INTERVAL.as_secs() && self.paused[n] >= least;
                assert!(silent >= least || is_just_back, "{n} is lost after {silent} s of silence");
            }
            let most = LOST_AFTER + HEARTBEAT_GRAIN + KEEP_INTERVAL + LOOK_INTERVAL;
            if silent.min(watched) > most.as_secs() {
                assert!(lost.contains(&host(n)), "{n} is not lost after {silent} s of silence");
            }
        }
    }
}

proptest! {
    /// A host that reports is never lost, whichever process hears it and whoever watches; one that does not is lost when
    /// somebody has watched long enough.
    #[test]
    fn whoever_reports_is_heard_of_and_whoever_does_not_is_lost(steps in steps()) {
        let mut world = World {
            second: 0,
            processes: [Heartbeats::default(), Heartbeats::default()],
            calls: [(0, true); HOSTS.len()],
            reported: [0; HOSTS.len()],
            paused: [0; HOSTS.len()],
            store: BTreeMap::new(),
            revision: 0,
            watchman: Watchman::default(),
            looked: None,
            watches: 0,
        };
        for step in steps {
            match step {
                Step::Pass(seconds) => (0..seconds).for_each(|_| world.tick(true)),
                Step::Toggle(n) => world.calls[n].1 ^= true,
                Step::Change(n) => world.calls[n].0 ^= 1,
                Step::Pause(seconds) => (0..seconds).for_each(|_| world.tick(false)),
                Step::TakeOver => (world.watchman, world.looked) = (Watchman::default(), None),
            }
        }
    }
}
