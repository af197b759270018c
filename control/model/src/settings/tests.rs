use super::*;
use crate::{
    id::{OrganisationId, environment_id},
    record::{EnvironmentState, Lifetimes, Quotas},
};

const NOW: UnixMs = UnixMs(1_000_000);

fn environment() -> Environment {
    Environment {
        id: environment_id(&[1; 10]),
        organisation: OrganisationId::from_random(&[2; 10]),
        name: "shop".parse().unwrap(),
        state: EnvironmentState::Active,
        held: false,
        subnets: vec!["10.40.0.0/16".parse().unwrap(), "fd40::/64".parse().unwrap()],
        quotas: Quotas::default(),
        lifetimes: Lifetimes::default(),
        created: UnixMs(0),
    }
}

fn leaf(seconds: u32) -> Change {
    Change { leaf_seconds: Some(seconds) }
}

#[test]
fn leaves_are_valid_for_an_hour_to_a_week() {
    let before = environment();
    for seconds in [3_600, 604_800] {
        let after = leaf(seconds).of(&before, NOW).unwrap();
        assert_eq!(after.lifetimes.leaf_seconds, seconds);
        assert_eq!(Environment { lifetimes: before.lifetimes, ..after }, before);
    }
    for seconds in [0, 3_599, 604_801] {
        let refused = leaf(seconds).of(&before, NOW).unwrap_err();
        let said = format!("{seconds}; expected 3600 to 604800");
        assert_eq!((refused.field(), refused.to_string()), ("leaf_seconds", said));
    }
    assert!(Change::default().is_empty() && !leaf(3_600).is_empty());
    assert_eq!(Change::default().of(&before, NOW).unwrap(), before);
}

/// Leaves that there are stay as they are: a rotation waits for those, too.
#[test]
fn leaves_that_were_longer_are_waited_for() {
    let hours = |hours: u64| UnixMs(NOW.0 + hours * 3_600_000);
    let lives = Lifetimes::of(10 * 3_600);
    assert_eq!(lives.end_of_all(NOW), hours(10));
    let shorter = lives.changed(3_600, hours(2));
    assert_eq!(shorter.longer_until, Some(hours(12)));
    assert_eq!((shorter.end_of_all(NOW), shorter.end_of_all(hours(20))), (hours(12), hours(21)));
    // Of several that were longer, the last; one that is longer again takes nothing of it back.
    let twice = lives.changed(2 * 3_600, hours(2)).changed(3_600, hours(3));
    assert_eq!(twice.end_of_all(NOW), hours(12));
    let longer = twice.changed(4 * 3_600, hours(4));
    assert_eq!((longer.end_of_all(NOW), longer.end_of_all(hours(9))), (hours(12), hours(13)));
    assert_eq!(lives.changed(10 * 3_600, hours(2)), lives, "the same is no change");
}

#[test]
fn whoever_administers_an_environment_says_how_long_leaves_are_valid() {
    let allowed = |action| leaf(3_600).is_allowed(|may| may == action);
    let may: Vec<_> = Action::ALL.iter().copied().filter(|action| allowed(*action)).collect();
    assert_eq!(may, [Action::ManageEnvironment]);
}
