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
        other_names: OtherNames::default(),
        created: UnixMs(0),
    }
}

fn leaf(seconds: u32) -> Change {
    Change { leaf_seconds: Some(seconds), ..Change::default() }
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

fn forward(servers: &[&str]) -> Change {
    let servers = servers.iter().map(|server| server.parse().unwrap()).collect();
    names(OtherNames::Forward(servers))
}

fn names(other: OtherNames) -> Change {
    Change { other_names: Some(other), ..Change::default() }
}

#[test]
fn a_server_is_one_host_with_a_port() {
    for (text, server) in [
        ("192.0.2.53", "192.0.2.53:53"),
        ("192.0.2.53:5353", "192.0.2.53:5353"),
        ("127.0.0.53", "127.0.0.53:53"),
        ("2001:db8::53", "[2001:db8::53]:53"),
        ("[2001:db8::53]:65535", "[2001:db8::53]:65535"),
    ] {
        assert_eq!(name_server(text).unwrap().to_string(), server);
    }
    let expected = "expected ADDRESS, ADDRESS:PORT or [IPv6]:PORT";
    for (text, problem) in [
        ("", expected),
        ("dns.example", expected),
        ("192.0.2.53:65536", expected),
        ("[2001:db8::53]", expected),
        ("192.0.2.53:0", "port 0 is not usable; expected 1 to 65535"),
        ("224.0.0.251", "is no single host; expected a unicast address"),
        ("[ff02::fb]:5353", "is no single host; expected a unicast address"),
        ("255.255.255.255", "is no single host; expected a unicast address"),
        ("0.0.0.0", "names no host; expected a server's address"),
        ("[::]:53", "names no host; expected a server's address"),
    ] {
        let refused = name_server(text).unwrap_err();
        let said = format!("{text}: {problem}");
        assert_eq!((refused.field(), refused.to_string()), ("other_names.name_servers", said));
    }
    let long = name_server(&"9".repeat(5_000)).unwrap_err().to_string();
    assert!(long.len() < 128, "{} bytes", long.len());
}

#[test]
fn other_names_go_to_a_few_servers_outside() {
    let before = environment();
    for change in [
        names(OtherNames::Absent),
        forward(&["192.0.2.53:53"]),
        forward(&["192.0.2.1:53", "192.0.2.2:53", "[2001:db8::3]:53", "127.0.0.1:53"]),
        names(OtherNames::Refuse),
    ] {
        let after = change.of(&before, NOW).unwrap();
        assert_eq!(Some(&after.other_names), change.other_names.as_ref());
        assert_eq!(Environment { other_names: OtherNames::Refuse, ..after }, before);
    }
    for (change, said) in [
        (forward(&[]), "0 servers; expected 1 to 4"),
        (forward(&["192.0.2.1:53"; 5]), "5 servers; expected 1 to 4"),
        (
            forward(&["192.0.2.1:53", "10.40.0.1:5353"]),
            "10.40.0.1:5353: is the gateway that asks; expected a server outside",
        ),
        (
            forward(&["[fd40::1]:53"]),
            "[fd40::1]:53: is the gateway that asks; expected a server outside",
        ),
    ] {
        assert_eq!(change.of(&before, NOW).unwrap_err().to_string(), said);
    }
}

/// Hosts ask from their own network: no tenant says whom.
#[test]
fn operators_alone_let_names_out_and_admins_may_keep_them_in() {
    use Action::{ManageEnvironment, ManageInstallation};
    let allowed = |change: &Change| {
        let all = Action::ALL.iter().copied();
        all.filter(|action| change.is_allowed(|may| may == *action)).collect::<Vec<_>>()
    };
    assert_eq!(allowed(&forward(&["192.0.2.53:53"])), [ManageInstallation]);
    for other in [OtherNames::Refuse, OtherNames::Absent] {
        assert_eq!(allowed(&names(other)), [ManageInstallation, ManageEnvironment]);
    }
    let all = Change { leaf_seconds: Some(3_600), ..forward(&["192.0.2.53:53"]) };
    assert_eq!(allowed(&all), [], "that takes both");
    assert!(all.is_allowed(|may| [ManageEnvironment, ManageInstallation].contains(&may)));
}
