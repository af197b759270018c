//! Clocks that are right, jump, and are put right again.

use proptest::prelude::*;

use super::*;

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(24 * 3_600);
const YEARS: Duration = Duration::from_secs(6 * 366 * 24 * 3_600);
const START: UnixMs = UnixMs(1_900_000_000_000);

/// A process on a machine.
struct Machine {
    keeper: Timekeeper,
    passed: Duration,
    wall: UnixMs,
}

impl Machine {
    fn started(wall: UnixMs) -> Self {
        Self { keeper: Timekeeper::default(), passed: Duration::ZERO, wall }
    }

    fn pass(&mut self, by: Duration) {
        self.passed += by;
        self.wall = self.wall.after(by);
    }

    fn look(&mut self, agreed: Option<UnixMs>) -> Time {
        self.keeper.look(self.passed, self.wall, agreed)
    }

    /// Whether it is believed after so long, in which it looks now and then.
    fn is_believed_after(&mut self, by: Duration, agreed: Option<UnixMs>) -> bool {
        for _ in 0..by.as_secs() / 600 {
            self.pass(Duration::from_secs(600));
            self.look(agreed);
        }
        self.look(agreed).doubt.is_none()
    }
}

fn believes(time: Time, wall: UnixMs) {
    assert_eq!((time.settled, time.doubt), (wall, None), "{time:?}");
}

#[test]
fn a_start_years_ahead_is_believed_after_a_steady_day_and_not_before() {
    let mut machine = Machine::started(START.after(YEARS));
    let time = machine.look(Some(START));
    assert_eq!(time.settled, START);
    assert_eq!(time.doubt, Some(Doubt { ahead: YEARS, left: STEADY }));
    assert!(!machine.is_believed_after(DAY - HOUR, Some(START)));
    assert_eq!(machine.look(Some(START)).settled, START.after(DAY - HOUR), "time goes on");
    assert!(machine.is_believed_after(HOUR, Some(START)));
    believes(machine.look(Some(START)), machine.wall);
}

#[test]
fn a_clock_that_is_set_meanwhile_has_all_of_the_day_before_it() {
    let mut machine = Machine::started(START.after(DAY * 2));
    assert!(!machine.is_believed_after(DAY - HOUR, Some(START)));
    machine.wall = machine.wall.after(UNEVEN_MAX * 2);
    assert!(!machine.is_believed_after(DAY - HOUR, Some(START)));
    // As NTP does it.
    machine.wall = machine.wall.after(UNEVEN_MAX / 2);
    assert!(machine.is_believed_after(HOUR * 2, Some(START)));
}

#[test]
fn a_clock_that_is_put_right_is_believed_at_once() {
    let mut machine = Machine::started(START);
    believes(machine.look(None), START);
    machine.wall = START.after(YEARS);
    assert!(machine.look(Some(START)).doubt.is_some());
    machine.wall = START;
    believes(machine.look(Some(START)), START);
}

#[test]
fn what_an_operator_confirms_is_believed_at_once_by_all() {
    let wall = START.after(DAY * 30);
    for mut machine in [Machine::started(wall), Machine::started(wall)] {
        assert!(machine.look(Some(START)).doubt.is_some());
        believes(machine.look(Some(wall)), wall);
    }
}

#[test]
fn a_restart_within_the_hour_and_a_first_start_are_believed() {
    for agreed in [None, Some(START)] {
        let wall = START.after(AHEAD_MAX);
        believes(Machine::started(wall).look(agreed), wall);
    }
}

#[derive(Debug, Clone, Copy)]
enum Step {
    /// So much goes by, evenly.
    Pass(Duration),
    /// The wall clock is set, by so much ahead.
    Ahead(Duration),
    /// The wall clock is right again.
    Right,
    /// The process begins anew.
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let secs = |range: std::ops::Range<u64>| range.prop_map(Duration::from_secs);
    let step = prop_oneof![
        6 => secs(1..3_000).prop_map(Step::Pass),
        3 => secs(1..2_000).prop_map(Step::Ahead),
        2 => secs(1..400_000_000).prop_map(Step::Ahead),
        2 => Just(Step::Right),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 1..60)
}

proptest! {
    /// Whatever is done to the wall clock in less than a day, and whenever processes begin anew, nothing goes that is due
    /// later than an hour from now, and an hour for each hour that has gone by and for each time that one began anew.
    #[test]
    fn no_jump_destroys_what_is_not_due_soon(steps in steps()) {
        let mut machine = Machine::started(START);
        let mut agreed = machine.look(None).agreed;
        let (mut right, mut restarts) = (START, 0);
        for step in steps {
            match step {
                Step::Pass(by) => {
                    machine.pass(by);
                    right = right.after(by);
                }
                Step::Ahead(by) => machine.wall = machine.wall.after(by),
                Step::Right => machine.wall = right,
                Step::Restart => {
                    machine = Machine::started(machine.wall);
                    restarts += 1;
                }
            }
            let evenly = Duration::from_millis(right.0 - START.0);
            prop_assume!(evenly < STEADY);
            let time = machine.look(Some(agreed));
            prop_assert!(time.settled <= machine.wall);
            let bound = right.after(evenly + AHEAD_MAX * (restarts + 1));
            prop_assert!(time.settled <= bound, "{time:?} at {right:?}");
            agreed = agreed.max(time.agreed);
        }
    }

    /// A clock that is right is never doubted, whoever starts when and however the day is cut.
    #[test]
    fn a_clock_that_is_right_is_believed(
        pauses in proptest::collection::vec(1..3_600u64, 1..200),
        restarts in proptest::collection::vec(any::<bool>(), 200),
    ) {
        let (mut machine, mut agreed) = (Machine::started(START), None);
        for (pause, restarts) in pauses.into_iter().zip(restarts) {
            machine.pass(Duration::from_secs(pause));
            if restarts {
                machine = Machine::started(machine.wall);
            }
            let time = machine.look(agreed);
            prop_assert_eq!((time.settled, time.doubt), (machine.wall, None));
            agreed = Some(time.agreed);
        }
    }
}
