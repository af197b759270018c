//! Reading a configuration: what is right loads, what is wrong is said with its place.

use std::{fs, net::IpAddr, os::unix::fs::PermissionsExt as _, path::Path};

use weft_config::{
    API_DEFAULT, Engine, KeyLimits, Latency, LogConfig, LogFormat, LogLevel, Placement, Share,
    User, check_text,
};

use crate::fixture::{Fixture, GOOD};

/// The good file with one change, which must apply.
pub(crate) fn with(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from:?} is not in the file");
    GOOD.replacen(from, to, 1)
}

#[test]
fn the_contract_loads() {
    let fixture = Fixture::new();
    let config = fixture.load(GOOD).unwrap();
    assert_eq!(config.host.as_str(), "host-a");
    assert_eq!(config.listen, "192.0.2.1:5820".parse().unwrap());
    assert_eq!(config.api, fixture.path("run/weftd.sock"), "relative to the file");
    assert_eq!(config.metrics, Some("127.0.0.1:9820".parse().unwrap()));
    assert_eq!(config.workers, Some(2));
    assert_eq!(config.engine, Engine::Auto);
    assert_eq!(config.placement, Placement::Free);
    assert_eq!(config.latency, Latency::Normal);
    assert_eq!(config.log, LogConfig::default());
    assert_eq!(config.keys, KeyLimits::default());
    let [acme, globex] = &config.environments[..] else { panic!("two environments") };
    assert_eq!(acme.attachments[0].interface, "eth7");
    assert_eq!(acme.attachments[0].netns.to_str(), Some("/run/netns/web1"));
    assert_eq!(acme.peers[0].addresses.len(), 2);
    assert_eq!(acme.credentials.identity().host.as_str(), "host-a");
    assert_eq!(globex.attachments[0].interface, "weft0");
    assert_eq!(globex.attachments[0].netns, fixture.path("netns/web1"));
    let both: Vec<IpAddr> = vec!["10.40.0.2".parse().unwrap(), "fd40::2".parse().unwrap()];
    assert_eq!(globex.attachments[0].addresses, both);
    assert_ne!(acme.anchor.tag(), globex.anchor.tag());
}

#[test]
fn what_is_optional_may_be_absent() {
    let fixture = Fixture::new();
    let text = GOOD
        .replace("workers = 2", "")
        .replace("api = \"run/weftd.sock\"", "")
        .replace("metrics = \"127.0.0.1:9820\"", "");
    let config = fixture.load(&text).unwrap();
    assert_eq!((config.workers, config.metrics, config.user), (None, None, None));
    assert_eq!(config.api, Path::new(API_DEFAULT));
    let none = "host = \"host-a\"\nlisten = \"[2001:db8::1]:5820\"\napi = \"/run/weft/weftd.sock\"";
    assert!(fixture.load(none).unwrap().environments.is_empty());
}

#[test]
fn shares_are_read() {
    let text = GOOD
        .replacen("subnet = ", "weight = 300\negress_mbit_max = 1000000\nsubnet = ", 1)
        .replacen("\"eth7\"", "\"eth7\"\n  weight = 1\n  egress_mbit_max = 1", 1);
    let config = Fixture::new().load(&text).unwrap();
    let share = |weight, egress_mbit_max| Share { weight, egress_mbit_max };
    assert_eq!(config.environments[0].share, share(300, Some(1_000_000)));
    assert_eq!(config.environments[0].attachments[0].share, share(1, Some(1)));
    assert_eq!(config.environments[1].share, share(100, None));
    assert_eq!(config.environments[1].attachments[0].share, Share::default());
}

#[test]
fn other_endpoints_are_read() {
    let more =
        "alternative_endpoints = [\"198.51.100.2:5820\", \"203.0.113.2:7000\"]\n  endpoint = ";
    let config = Fixture::new().load(&GOOD.replacen("endpoint = ", more, 1)).unwrap();
    let peer = &config.environments[0].peers[0];
    let places: Vec<_> = peer.alternatives.iter().map(ToString::to_string).collect();
    assert_eq!(places, ["198.51.100.2:5820", "203.0.113.2:7000"]);
    assert!(config.environments[1].peers[0].alternatives.is_empty());
}

#[test]
fn a_keepalive_is_read() {
    let text = GOOD.replacen("[\"10.40.0.3\", \"10.40.0.4\"]", "[]\n  keepalive_seconds = 25", 1);
    let config = Fixture::new().load(&text).unwrap();
    assert_eq!(config.environments[0].peers[0].keepalive_seconds, Some(25));
    assert_eq!(config.environments[1].peers[0].keepalive_seconds, None);
}

/// Needs root.
#[test]
fn files_are_read_as_the_user_that_the_daemon_becomes() {
    let fixture = Fixture::new();
    let text = with("workers = 2", "user = \"65534\"");
    let denied = "cannot be read by user 65534: Permission denied (os error 13)";
    let whole = fixture.path("weftd.toml");
    let set_mode = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    set_mode(fixture.base(), 0o700);
    assert_eq!(fixture.problems(&text), [format!(" file: {denied}")]);
    set_mode(fixture.base(), 0o755);
    assert_eq!(fixture.load(&text).unwrap().user, Some(User::Id(65534)));
    for name in ["acme/host-a.key", "globex/ca.pem"] {
        set_mode(&fixture.path(name), 0o600);
    }
    assert_eq!(
        fixture.problems(&text),
        [
            format!("13: environment[0].key: acme/host-a.key: {denied}"),
            format!("30: environment[1].ca: globex/ca.pem: {denied}"),
        ]
    );
    // A daemon that runs reads with the rights that it has, and asks nobody who the user is.
    let text = text.replace("65534", "nobody-has-this-name");
    fs::write(&whole, text).unwrap();
    let user = User::Name("nobody-has-this-name".into());
    assert_eq!(weft_config::reload(&whole).unwrap().user, Some(user));
}

#[test]
fn log_and_keys_are_read() {
    let text = with(
        "workers = 2",
        "log = { level = \"debug\", format = \"json\" }\n[keys]\nepoch_datagrams_max = 64\n\
         epoch_seconds_max = 1\nrehandshake_seconds = 5\n",
    );
    let config = Fixture::new().load(&text).unwrap();
    assert_eq!(config.log.level, LogLevel::Debug);
    assert_eq!(config.log.format, LogFormat::Json);
    let keys = KeyLimits { epoch_datagrams_max: 64, epoch_seconds_max: 1, rehandshake_seconds: 5 };
    assert_eq!(config.keys, keys);
}

#[test]
fn every_engine_is_read() {
    for (word, engine) in
        [("auto", Engine::Auto), ("epoll", Engine::Epoll), ("uring", Engine::Uring)]
    {
        let text = with("workers = 2", &format!("engine = \"{word}\""));
        assert_eq!(Fixture::new().load(&text).unwrap().engine, engine);
    }
}

#[test]
fn every_placement_is_read() {
    for (word, placement) in [("free", Placement::Free), ("pinned", Placement::Pinned)] {
        let text = with("workers = 2", &format!("placement = \"{word}\""));
        assert_eq!(Fixture::new().load(&text).unwrap().placement, placement);
    }
}

#[test]
fn every_latency_is_read() {
    for (word, latency) in [("normal", Latency::Normal), ("low", Latency::Low)] {
        let text = with("workers = 2", &format!("latency = \"{word}\""));
        assert_eq!(Fixture::new().load(&text).unwrap().latency, latency);
    }
}

/// Each change to the good file, and the one problem that it must give.
#[rustfmt::skip]
const WRONG: &[(&str, &str, &str)] = &[
    ("host = \"host-a\"", "host = \"Host\"",
     "2: host: \"Host\": 'H' is not allowed; expected a-z, 0-9 and '-' (not first or last)"),
    ("workers = 2", "user = 998", "6: user: is a whole number; expected the name or number of a user, in quotes"),
    ("workers = 2", "user = \"a b\"",
     "6: user: \"a b\": ' ' is not allowed; expected the name or the number of a user"),
    ("workers = 2", "user = \"nobody-has-this-name\"",
     "6: user: nobody-has-this-name is no user of this host; expected one that is there, or a number"),
    ("workers = 2", "user = \"root\"", "6: user: root is root; expected another user, or none"),
    ("192.0.2.1:5820", "192.0.2.1", "3: listen: \"192.0.2.1\": expected ADDRESS:PORT or [IPv6]:PORT"),
    ("192.0.2.1:5820", "192.0.2.1:0", "3: listen: \"192.0.2.1:0\": port 0 is not usable; expected 1 to 65535"),
    ("192.0.2.1:5820", "224.0.0.1:1",
     "3: listen: \"224.0.0.1:1\": 224.0.0.1 is no single host; expected a unicast address"),
    ("run/weftd.sock", "", "4: api: \"\": is empty; expected a path"),
    ("127.0.0.1:9820", "192.0.2.1:5820",
     "5: metrics: 192.0.2.1:5820 overlaps listen = \"192.0.2.1:5820\"; expected another port or address"),
    ("127.0.0.1:9820", "0.0.0.0:5820",
     "5: metrics: 0.0.0.0:5820 overlaps listen = \"192.0.2.1:5820\"; expected another port or address"),
    ("workers = 2", "workers = 0", "6: workers: 0 is out of range; expected 1 to 64"),
    ("workers = 2", "workers = 65", "6: workers: 65 is out of range; expected 1 to 64"),
    ("workers = 2", "workers = \"2\"", "6: workers: is a string; expected a number of 1 to 64"),
    ("workers = 2", "engine = \"io_uring\"",
     "6: engine: \"io_uring\": expected one of auto, epoll, uring"),
    ("workers = 2", "engine = 1", "6: engine: is a whole number; expected an engine"),
    ("workers = 2", "placement = \"core 1\"", "6: placement: \"core 1\": expected one of free, pinned"),
    ("workers = 2", "latency = \"lowest\"", "6: latency: \"lowest\": expected one of normal, low"),
    ("workers = 2", "worker = 2",
     "6: worker: unknown field; expected one of host, user, listen, api, metrics, workers, engine, placement, latency, log, keys, control, environment"),
    ("workers = 2", "log = { level = \"all\" }",
     "6: log.level: \"all\": expected one of error, warn, info, debug, trace"),
    ("workers = 2", "log = { file = \"x\" }", "6: log.file: unknown field; expected one of level, format"),
    ("workers = 2", "keys = { epoch_datagrams_max = 268435457 }",
     "6: keys.epoch_datagrams_max: 268435457 is out of range; expected 64 to 268435456"),
    ("workers = 2", "keys = { epoch_seconds_max = 0 }",
     "6: keys.epoch_seconds_max: 0 is out of range; expected 1 to 120"),
    ("workers = 2", "keys = { rehandshake_seconds = 4 }",
     "6: keys.rehandshake_seconds: 4 is out of range; expected 5 to 3600"),
    ("10.40.0.0/16", "10.40.0.1/16",
     "10: environment[0].subnet: \"10.40.0.1/16\": 10.40.0.1 has bits set below the prefix; expected 10.40.0.0/16"),
    ("10.40.0.0/16", "10.40.0.0/31",
     "10: environment[0].subnet: \"10.40.0.0/31\": leaves no room; expected a prefix of at most 30 bits"),
    ("10.40.0.0/16", "0.0.0.0/0",
     "10: environment[0].subnet: \"0.0.0.0/0\": overlaps 0.0.0.0/8 (this network); expected a range of its own"),
    ("10.40.0.0/16", "fd40::/64",
     "10: environment[0].subnet: \"fd40::/64\": is of the other family; expected IPv4, for example 10.40.0.0/16"),
    ("fd40::/64", "fe80::/64",
     "29: environment[1].subnet6: \"fe80::/64\": overlaps fe80::/10 (link-local); expected a range of its own"),
    ("[\"10.40.0.3\", \"10.40.0.4\"]", "[]\n  keepalive_seconds = 0",
     "25: environment[0].peer[0].keepalive_seconds: 0 is out of range; expected 1 to 3600"),
    ("subnet = ", "weight = 0\nsubnet = ", "10: environment[0].weight: 0 is out of range; expected 1 to 10000"),
    ("subnet = ", "egress_mbit_max = 1000001\nsubnet = ",
     "10: environment[0].egress_mbit_max: 1000001 is out of range; expected 1 to 1000000"),
    ("\"eth7\"", "\"eth7\"\n  weight = \"high\"",
     "19: environment[0].attachment[0].weight: is a string; expected a number of 1 to 10000"),
    ("subnet = ", "other_names = \"drop\"\nsubnet = ",
     "10: environment[0].other_names: \"drop\": expected one of refuse, absent, forward"),
    ("subnet = ", "other_names = \"forward\"\nsubnet = ",
     "8: environment[0].name_servers: is missing; expected 1 to 4 servers to forward to"),
    ("subnet = ", "other_names = \"forward\"\nname_servers = []\nsubnet = ",
     "8: environment[0].name_servers: is empty; expected 1 to 4 servers to forward to"),
    ("subnet = ", "name_servers = [\"192.0.2.53\"]\nsubnet = ",
     "8: environment[0].name_servers: is asked by nobody; expected it with other_names = \"forward\" only"),
    ("subnet = ", "other_names = \"forward\"\nname_servers = [\"10.40.0.1\"]\nsubnet = ",
     "11: environment[0].name_servers[0]: 10.40.0.1 is the gateway that asks; expected a server outside"),
    ("subnet = ", "other_names = \"forward\"\nname_servers = [\"0.0.0.0\"]\nsubnet = ",
     "11: environment[0].name_servers[0]: \"0.0.0.0\": 0.0.0.0 names no host; expected a server's address"),
    ("subnet = ", "other_names = \"forward\"\nname_servers = [\"ns.example\"]\nsubnet = ",
     "11: environment[0].name_servers[0]: \"ns.example\": expected ADDRESS:PORT or [IPv6]:PORT"),
    ("  name = \"web-1\"\n", "", "15: environment[0].attachment[0].name: is missing; expected a name"),
    ("eth7", "sixteen-letters-", 
     "18: environment[0].attachment[0].interface: \"sixteen-letters-\": has 16 bytes; expected 1 to 15"),
    ("eth7", "eth%d",
     "18: environment[0].attachment[0].interface: \"eth%d\": '%' is not allowed; expected letters, digits, '-', '_' and '.'"),
    ("eth7", "lo", "18: environment[0].attachment[0].interface: \"lo\": is reserved; expected another name"),
    ("\"10.40.0.2\"", "\"10.41.0.2\"",
     "19: environment[0].attachment[0].address: 10.41.0.2 is outside; expected one of 10.40.0.0/16"),
    ("\"10.40.0.2\"", "\"10.40.0.0\"",
     "19: environment[0].attachment[0].address: 10.40.0.0 is the network address of 10.40.0.0/16; expected another"),
    ("\"10.40.0.2\"", "\"10.40.0.1\"",
     "19: environment[0].attachment[0].address: 10.40.0.1 is the gateway address of 10.40.0.0/16; expected another"),
    ("\"10.40.0.2\"", "\"10.40.255.255\"",
     "19: environment[0].attachment[0].address: 10.40.255.255 is the broadcast address of 10.40.0.0/16; expected another"),
    ("\"10.40.0.2\"", "\"fd40::2\"",
     "19: environment[0].attachment[0].address: \"fd40::2\": expected an IPv4 address"),
    ("  address = \"10.40.0.2\"\n", "",
     "15: environment[0].attachment[0].address: is missing; expected address, address6 or both"),
    ("\"host-b\"", "\"host-a\"", "22: environment[0].peer[0].host: host-a is this host; expected another one"),
    ("192.0.2.2:5820", "192.0.2.1:5820",
     "23: environment[0].peer[0].endpoint: 192.0.2.1:5820 is where this host listens; expected an address of the peer"),
    ("192.0.2.2:5820", "0.0.0.0:5820",
     "23: environment[0].peer[0].endpoint: 0.0.0.0 names no host; expected an address of the peer"),
    ("192.0.2.2:5820", "[2001:db8::2]:5820",
     "23: environment[0].peer[0].endpoint: [2001:db8::2]:5820 cannot be reached from listen = \"192.0.2.1:5820\"; expected IPv4"),
    ("10.40.0.4", "10.40.0.2",
     "24: environment[0].peer[0].addresses[1]: 10.40.0.2 is already environment[0].attachment[0].address; expected each address in one place"),
    ("10.40.0.4", "10.40.0.3",
     "24: environment[0].peer[0].addresses[1]: 10.40.0.3 is already environment[0].peer[0].addresses[0]; expected each address in one place"),
    ("10.40.0.4", "10.40.0.x",
     "24: environment[0].peer[0].addresses[1]: \"10.40.0.x\": expected an IPv4 or IPv6 address"),
    ("[\"10.40.0.3\", \"10.40.0.4\"]", "\"10.40.0.3\"",
     "24: environment[0].peer[0].addresses: is a string; expected an array of overlay addresses"),
    ("\"fd40::5\"", "\"fd40::2\"",
     "43: environment[1].attachment[1].address6: fd40::2 is already environment[1].attachment[0].address6; expected each address in one place"),
    ("\"fd40::5\"", "\"fd40::\"",
     "43: environment[1].attachment[1].address6: fd40:: is the network address of fd40::/64; expected another"),
    ("db-1", "web-1",
     "41: environment[1].attachment[1].name: web-1 is already environment[1].attachment[0].name; expected each attachment name once"),
    ("netns/db1", "netns/web1",
     "40: environment[1].attachment[1]: environment[1].attachment[0] already makes weft0 in netns/web1; expected one interface of a name in a namespace"),
    ("ca = \"acme/ca.pem\"", "ca = 5", "11: environment[0].ca: is a whole number; expected the path of a PEM file"),
    ("key = \"acme/host-a.key\"", "key = \"\"\"-----BEGIN\nKEY\"\"\"",
     "13: environment[0].key: has a line break or another control character; expected the path of a file"),
    ("acme/ca.pem", "globex/ca.pem",
     "11: environment[0].ca: globex/ca.pem: is of environment globex; expected acme"),
    ("key = \"globex/host-a.key\"", "key = \"acme/host-a.key\"",
     "32: environment[1].key: acme/host-a.key: the private key does not belong to the host certificate"),
    ("key = \"acme/host-a.key\"", "key = \"none.key\"",
     "13: environment[0].key: none.key: cannot be read: No such file or directory (os error 2)"),
    ("key = \"acme/host-a.key\"", "key = \"acme\"",
     "13: environment[0].key: acme: cannot be read: Is a directory (os error 21)"),
];

#[test]
fn each_fault_is_said_once_with_its_line() {
    let fixture = Fixture::new();
    for (from, to, expected) in WRONG {
        assert_eq!(fixture.problems(&with(from, to)), [*expected], "{from:?} -> {to:?}");
    }
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let fixture = Fixture::new();
    let text = GOOD
        .replace("host-a\"\nlisten", "HOST\"\nlisten")
        .replacen("id = \"globex\"", "id = \"acme\"", 1)
        .replacen("10.40.0.3", "10.41.0.3", 1)
        .replacen("web-1", "WEB", 1)
        .replace("workers", "wrokers");
    let fields: Vec<_> = fixture.load(&text).unwrap_err().into_iter().map(|p| p.field).collect();
    let expected = [
        "host",
        "wrokers",
        "environment[0].attachment[0].name",
        "environment[0].peer[0].addresses[0]",
        "environment[1].id",
        "environment[1].ca",
        "environment[1].cert",
    ];
    assert_eq!(fields, expected);
}

#[test]
fn syntax_errors_do_not_hide_the_rest() {
    let text = "host = \nlisten = 5\napi = [1,\n";
    let problems: Vec<_> = check_text(text).iter().map(ToString::to_string).collect();
    assert_eq!(
        problems,
        [
            "weftd.toml:1: syntax: string values must be quoted, expected literal string",
            "weftd.toml:2: listen: is a whole number; expected ADDRESS:PORT or [IPv6]:PORT",
            "weftd.toml:3: syntax: unclosed array, expected `]`",
        ]
    );
    assert_eq!(
        check_text("host = \"a\"\nhost = \"b\"")[0].to_string(),
        "weftd.toml:2: syntax: duplicate key"
    );
}

#[test]
fn a_file_that_cannot_be_read_is_one_problem() {
    let fixture = Fixture::new();
    let problems = weft_config::load(&fixture.path("none.toml")).unwrap_err();
    assert_eq!(problems.len(), 1);
    assert_eq!((problems[0].line, problems[0].field.as_str()), (None, "file"));
    let path = fixture.path("binary.toml");
    fs::write(&path, b"host = \"a\"\n\xff").unwrap();
    let problem = weft_config::load(&path).unwrap_err()[0].to_string();
    assert!(problem.ends_with("is not UTF-8 at line 2; expected TOML"), "{problem}");
}

#[test]
fn limits_hold() {
    let addresses: Vec<_> =
        (0..16_385).map(|i| format!("\"10.40.{}.{}\"", 16 + i / 200, i % 200)).collect();
    let text = with("\"10.40.0.3\", \"10.40.0.4\"", &addresses.join(","));
    assert_eq!(
        Fixture::new().problems(&text),
        ["24: environment[0].peer[0].addresses: has 16385 entries; expected at most 16384"]
    );
}

#[test]
fn a_host_may_have_1024_environments() {
    let problems_of = |count: usize| {
        let head = "host = \"a\"\nlisten = \"192.0.2.1:5820\"\napi = \"weftd.sock\"\n".to_owned();
        let environments = (0..count).map(|n| {
            let files = "ca = \"ca.pem\"\ncert = \"a.pem\"\nkey = \"a.key\"";
            format!("[[environment]]\nid = \"e{n}\"\nsubnet = \"10.40.0.0/16\"\n{files}\n")
        });
        let text: String = std::iter::once(head).chain(environments).collect();
        check_text(&text).iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(problems_of(1_024), [""; 0]);
    let [refused] = &problems_of(1_025)[..] else { panic!("one problem") };
    assert!(refused.ends_with("environment: has 1025 entries; expected at most 1024"), "{refused}");
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever the text is, checking ends and every place is in it.
        #[test]
        fn any_text_is_checked(text in ".{0,300}") {
            let lines = text.bytes().filter(|b| *b == b'\n').count() + 1;
            for problem in check_text(&text) {
                prop_assert!(problem.line.is_some_and(|line| (1..=lines).contains(&line)));
            }
        }

        /// A good file with a part cut out or doubled is still checked to its end.
        #[test]
        fn any_damage_is_checked(start in 0..GOOD.len(), len in 0_usize..200, twice: bool) {
            let end = (start + len).min(GOOD.len());
            let (head, middle, tail) = (&GOOD[..start], &GOOD[start..end], &GOOD[end..]);
            let middle = if twice { middle.repeat(2) } else { String::new() };
            for problem in check_text(&format!("{head}{middle}{tail}")) {
                prop_assert!(!problem.message.is_empty());
            }
        }
    }
}
