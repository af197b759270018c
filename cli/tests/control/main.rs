//! `weft` asks a control plane: everything by the command, as a person or a script does it.
#![expect(clippy::unwrap_used, reason = "tests")]

mod desk;
mod fleet;
mod people;

use std::fs;

use serde_json::Value;

use desk::Desk;

#[test]
fn an_environment_from_its_organisation_to_its_end() {
    let desk = Desk::new();
    let made = desk.json("org create acme --owner owner@acme.example");
    assert!(made["id"].as_str().unwrap().starts_with("org-"));
    let token = desk.json("host token --pod one");
    assert!(token["secret"].as_str().unwrap().starts_with("weft_join_"));
    assert_eq!(desk.ok("host list"), "no hosts\n");
    assert_eq!(desk.json("host list"), Value::Array(Vec::new()));

    desk.accept(made["invitation"].as_str().unwrap(), "owner@acme.example");
    let who = desk.json("whoami");
    assert_eq!(who["email"], "owner@acme.example");
    let said = desk.ok("env create acme/shop --subnet 10.40.0.0/16 --subnet fd40::/64");
    assert!(said.starts_with("environment shop is made: env-"), "{said}");
    let shop = desk.json("env show acme/shop");
    assert_eq!((&shop["state"], &shop["attachments"]), (&"active".into(), &0.into()));
    let table = desk.ok("env list");
    let mut lines = table.lines();
    assert!(lines.next().unwrap().starts_with("id  "));
    assert!(lines.next().unwrap().contains("shop  active  10.40.0.0/16, fd40::/64"), "{table}");

    let reserved = desk.json("attachment reserve acme/shop db --address 10.40.0.7");
    assert_eq!(reserved["addresses"][0], "10.40.0.7");
    assert_eq!(desk.json("attachment slots acme/shop")[0]["service"], "db");
    desk.ok("attachment unreserve acme/shop db");
    assert_eq!(desk.ok("attachment slots acme/shop"), "no slots\n");

    let file = desk.write(
        "policy.json",
        r#"{"default": "deny", "rules": [{"name": "web-db", "from": "web", "to": "db", "protocol": "tcp",
            "ports": [{"first": 5432}], "verdict": "allow"}]}"#,
    );
    let set = format!("policy set acme/shop --file {file}");
    let dry = desk.ok(&format!("{set} --dry-run"));
    assert!(dry.contains("added         web-db     web   db   tcp       5432   allow"), "{dry}");
    assert!(dry.contains("changed to    (default)  any   any  any       -      deny"), "{dry}");
    assert!(!desk.ok("policy show acme/shop").contains("web-db"));
    desk.ok(&set);
    assert_eq!(desk.ok(&format!("{set} --dry-run")), "nothing would change\n");
    let policy = desk.ok("policy show acme/shop");
    assert!(policy.contains("web-db     web   db   tcp       5432   allow"), "{policy}");
    assert!(policy.contains("(default)  any   any  any       -      deny"), "{policy}");

    assert_eq!(desk.ok("env suspend acme/shop"), "environment shop is suspended\n");
    assert_eq!(desk.ok("env resume acme/shop"), "environment shop is active\n");
    let dry = desk.ok("env delete acme/shop --dry-run");
    assert!(dry.contains("would stop now and go in 604800 s"), "{dry}");
    let refused = desk.refused("env delete acme/shop");
    assert!(refused.contains("nothing was done: say --confirm shop"), "{refused}");
    let wrong = desk.write("wrong", "no password of anybody\n");
    let soon = "env delete acme/shop --confirm shop --grace-seconds 60 --password-file";
    let refused = desk.refused(&format!("{soon} {wrong}"));
    assert!(refused.contains("password: is wrong"), "{refused}");
    let deleted = desk.json(&format!("{soon} {}", desk.path("password").display()));
    assert_eq!(deleted["state"], "deleting");
    desk.ok("logout");
    assert_eq!(desk.refused("env list"), "weft: not logged in; use weft login");
}

/// An owner's session with an environment `acme/shop`, in which `db-0` and `db-1` are on a host.
fn shop() -> Desk {
    let desk = Desk::new();
    let made = desk.json("org create acme --owner owner@acme.example");
    desk.enrol("host-a");
    desk.accept(made["invitation"].as_str().unwrap(), "owner@acme.example");
    desk.ok("env create acme/shop --subnet 10.40.0.0/16");
    desk.login("operator@weft.example");
    desk.ok("env allow-host acme/shop host-a");
    desk.login("owner@acme.example");
    for n in 0..2 {
        desk.ok(&format!(
            "attachment create acme/shop db-{n} --host host-a --service db --slot {n}"
        ));
    }
    desk
}

#[test]
fn a_service_from_its_registration_to_its_end() {
    let desk = shop();
    let said = desk.ok("service set acme/shop db --port sql=tcp/5432 --metadata engine=postgres");
    assert!(said.starts_with("service db is registered, revision "), "{said}");
    let table = desk.ok("service list acme/shop");
    assert!(table.contains("db    sql=tcp/5432          2        2  -"), "{table}");
    let show = desk.json("service show acme/shop db");
    assert_eq!(show["metadata"]["engine"], "postgres");
    assert!(show["slots"][1].as_str().unwrap().starts_with("1 db-1 healthy 10.40."), "{show}");
    // Set again it is replaced as a whole.
    desk.ok("service set acme/shop db --port sql=tcp/5433");
    let show = desk.json("service show acme/shop db");
    assert_eq!(
        (&show["ports"][0], &show["metadata"]),
        (&"sql=tcp/5433".into(), &serde_json::json!({}))
    );

    assert_eq!(desk.ok("service drain acme/shop db-1"), "db-1 is out of service\n");
    assert_eq!(desk.json("service show acme/shop db")["healthy"], 1);
    assert_eq!(desk.ok("service resume acme/shop db-1"), "db-1 is in service\n");

    assert_eq!(desk.ok("service role list acme/shop db"), "no roles\n");
    let first = desk.json("service role acquire acme/shop db primary --holder db-0");
    let taken = desk.refused("service role acquire acme/shop db primary --holder db-1");
    assert_eq!(taken, "weft: role has changed since it was read");
    let epoch = &first["epoch"];
    let failover =
        format!("service role transfer acme/shop db primary --holder db-1 --epoch {epoch}");
    assert!(desk.ok(&failover).starts_with("db-1 is primary from epoch "));
    assert_eq!(desk.refused(&failover), "weft: role has changed since it was read");
    let roles = desk.json("service role list acme/shop db");
    assert_eq!(roles[0]["holder"], "db-1");
    let epoch = &roles[0]["epoch"];
    let said = desk.ok(&format!("service role release acme/shop db primary --epoch {epoch}"));
    assert_eq!(said, "nobody is primary of db\n");

    let refused = desk.refused("service delete acme/shop db");
    assert!(refused.contains("nothing was done: say --confirm db"), "{refused}");
    let dry = desk.ok("service delete acme/shop db --dry-run");
    assert_eq!(dry, "what is registered of service db would go\n");
    let refused = desk.refused("service delete acme/shop db --confirm db");
    assert_eq!(refused, "weft: attachments fill 2 slots of db: release them first");
    for n in 0..2 {
        desk.ok(&format!("attachment release acme/shop db-{n}"));
    }
    desk.ok("service delete acme/shop db --confirm db");
    assert_eq!(desk.ok("service list acme/shop"), "no services\n");
    let refused = desk.refused("service set acme/shop db --port sql=5432");
    assert!(refused.contains("expected NAME=tcp/PORT or NAME=udp/PORT"), "{refused}");
}

#[test]
fn an_authority_gives_way_to_its_next_generation() {
    let desk = shop();
    let generations = || {
        let shown = desk.json("env show acme/shop");
        let all = shown["authorities"].as_array().unwrap().iter();
        all.map(|of| format!("{} {}", of["generation"], of["state"])).collect::<Vec<_>>()
    };
    let dry = desk.ok("env rotate-authority acme/shop --dry-run");
    assert!(dry.contains("would be replaced step by step"), "{dry}");
    assert_eq!(generations(), ["1 \"current\""]);
    let begun = desk.ok("env rotate-authority acme/shop");
    let expected = "generation 1 of the authority of shop is being replaced; weft env show says how far it is\n";
    assert_eq!(
        (begun.as_str(), desk.ok("env rotate-authority acme/shop").as_str()),
        (expected, expected)
    );
    assert_eq!(generations(), ["1 \"current\"", "2 \"next\""]);
    let shown = desk.ok("env show acme/shop");
    assert!(shown.contains("generation=2"), "{shown}");

    let dry = desk.ok("env rotate-authority acme/shop --emergency --dry-run");
    assert!(dry.contains("would not be trusted any more at once"), "{dry}");
    let refused = desk.refused("env rotate-authority acme/shop --emergency");
    assert!(refused.contains("nothing was done: say --confirm shop"), "{refused}");
    let done = desk.ok("env rotate-authority acme/shop --emergency --confirm shop");
    assert_eq!(done, "generation 3 of the authority of shop issues, and no other is trusted\n");
    assert_eq!(generations(), ["3 \"current\""]);
}

#[test]
fn a_host_that_has_said_nothing_is_expected() {
    let desk = shop();
    desk.login("operator@weft.example");
    let host = desk.json("host show host-a");
    assert_eq!((&host["state"], &host["presence"]), (&"active".into(), &"expected".into()));
    assert_eq!(host["lost_ms"], Value::Null);
    assert!(desk.ok("host list").contains("host-a  active  expected"));
}

#[test]
fn a_secret_from_its_first_version_to_its_end() {
    let desk = shop();
    let file = desk.write("value", "one\n");
    let said = desk.ok(&format!("secret set acme/shop PASSWORD --file {file}"));
    assert_eq!(said, "version 1 of secret PASSWORD is written\n");
    let said = desk.ok_with_input("secret set acme/shop PASSWORD", b"two \xff");
    assert_eq!(said, b"version 2 of secret PASSWORD is written\n");
    // Every byte comes back, and nothing else.
    assert_eq!(desk.ok_with_input("secret release acme/shop PASSWORD", b""), b"two \xff");
    assert_eq!(desk.ok("secret release acme/shop PASSWORD --version 1"), "one\n");
    let json = desk.json("secret release acme/shop PASSWORD");
    assert_eq!((&json["version"], &json["value_base64"]), (&2.into(), &"dHdvIP8=".into()));

    let listed = desk.ok("secret list acme/shop");
    assert!(listed.contains("PASSWORD        2         2"), "{listed}");
    let versions = desk.json("secret show acme/shop PASSWORD");
    assert_eq!((&versions[0]["bytes"], &versions[1]["bytes"]), (&4.into(), &5.into()));
    for shown in [listed, versions.to_string()] {
        assert!(!shown.contains("one") && !shown.contains("two"), "{shown}");
    }

    let destroy = "secret destroy acme/shop PASSWORD --version 2";
    let dry = desk.ok(&format!("{destroy} --dry-run"));
    assert_eq!(dry, "versions [2] of secret PASSWORD would be destroyed\n");
    let refused = desk.refused(&format!("{destroy} --confirm OTHER"));
    assert!(refused.contains("nothing was done: say --confirm PASSWORD"), "{refused}");
    desk.ok(&format!("{destroy} --confirm PASSWORD"));
    let gone = desk.refused("secret release acme/shop PASSWORD");
    assert_eq!(gone, "weft: version 2 is destroyed");

    let refused = desk.refused("secret delete acme/shop PASSWORD");
    assert!(refused.contains("nothing was done"), "{refused}");
    desk.ok("secret delete acme/shop PASSWORD --confirm PASSWORD");
    assert_eq!(desk.ok("secret list acme/shop"), "no secrets\n");
    assert_eq!(desk.refused("secret show acme/shop PASSWORD"), "weft: no such secret");
    // Nobody is asked for a value among the arguments: they are seen by others.
    let refused = desk.refused("secret set acme/shop PASSWORD value");
    assert!(refused.contains("unexpected argument"), "{refused}");
    let long = desk.write("long", &"x".repeat(65_537));
    let refused = desk.refused(&format!("secret set acme/shop LONG --file {long}"));
    assert!(refused.ends_with("the value is longer than 65536 bytes"), "{refused}");
    // A machine's operator is none of the environment's.
    desk.ok(&format!("secret set acme/shop PASSWORD --file {file}"));
    desk.login("operator@weft.example");
    assert_eq!(desk.refused("secret release acme/shop PASSWORD"), "weft: this is not yours to do");
}

#[test]
fn what_was_done_is_listed_and_its_log_verified_here_and_there() {
    let desk = Desk::new();
    assert_eq!(desk.ok("audit list --since 7d --action hosts.create-join-token"), "no records\n");
    let made = desk.json("host token --pod one");
    desk.refused("host show host-a");
    let listed = desk.json("audit list --action hosts.create-join-token");
    assert_eq!(
        (listed[0]["outcome"].as_str(), listed[1]["outcome"].as_str()),
        (Some("begun"), Some("done"))
    );
    assert_eq!((&listed[1]["made"], &listed[1]["source"]), (&made["id"], &"127.0.0.1".into()));
    let table = desk.ok("audit list --outcome denied --limit 1");
    assert!(table.starts_with("time  ") && table.lines().count() == 2, "{table}");
    assert!(table.contains("hosts.get-host  host/host-a  denied/not-found"), "{table}");
    assert_eq!(desk.ok("audit list --since 2020-01-01 --until 2020-01-02"), "no records\n");
    let refused = desk.refused("audit list --since yesterday");
    assert!(refused.contains("expected 15m, 24h or 7d ago"), "{refused}");
    let owner = desk.json("org create acme --owner owner@acme.example");
    let invited = desk.json("audit list --org acme");
    assert_eq!(invited, Value::Array(Vec::new()), "it was made in no organisation");

    let heads = desk.path("heads");
    fs::create_dir(&heads).unwrap();
    let there = desk.json(&format!("audit verify --save-heads {}", heads.display()));
    assert_eq!(there[0]["process"], "control");
    assert!(there[0]["anchored"].as_u64().unwrap() > 0);
    let head = fs::read_dir(&heads).unwrap().next().unwrap().unwrap().path();
    let log = desk.path("audit/control");
    let here = format!(
        "audit verify --folder {} --key {} --head {}",
        log.display(),
        there[0]["key"].as_str().unwrap(),
        head.display()
    );
    let verified = desk.json(&here);
    assert_eq!(verified[0]["anchored"], there[0]["anchored"]);
    assert!(verified[0]["lines"].as_u64() >= there[0]["lines"].as_u64());
    assert_eq!(desk.noted("audit list --since 2020-01-01 --until 2020-01-02"), "");
    // Beside a copy, as a second host has one.
    let copy = desk.path("copy/control");
    fs::create_dir_all(&copy).unwrap();
    let name = "0000000001.jsonl";
    fs::copy(log.join(name), copy.join(name)).unwrap();
    let beside = format!("{here} --replica {}", copy.display());
    let compared = desk.json(&beside);
    assert_eq!(compared[0]["compared"], compared[0]["last"]);
    let whole = fs::read(copy.join(name)).unwrap();
    fs::write(copy.join(name), &whole[..whole.len() - 1]).unwrap();
    let last = compared[0]["last"].as_u64().unwrap();
    let lacks = format!("the second host's copy lacks line {last}");
    assert!(desk.refused(&beside).contains(&lacks));
    fs::write(copy.join(name), [&whole[..], &whole[..]].concat()).unwrap();
    assert!(desk.refused(&beside).contains(&format!("goes on with line {}", last + 1)));
    // Another's key, and a log that was changed.
    let other = here.replace(there[0]["key"].as_str().unwrap(), &"0".repeat(64));
    assert!(desk.refused(&other).contains("which is not trusted"));
    let segment = log.join("0000000001.jsonl");
    let text = fs::read_to_string(&segment).unwrap();
    fs::write(&segment, text.replacen("\"from\":\"127.0.0.1\"", "\"from\":\"127.0.0.2\"", 1))
        .unwrap();
    for order in [here.as_str(), "audit verify"] {
        let refused = desk.refused(order);
        assert!(refused.contains("the log of control is not what was written: "), "{refused}");
    }
    fs::remove_dir_all(&log).unwrap();
    assert!(desk.refused("audit verify").contains("audit/control: the log is not there"));
    let noted = desk.noted("audit list");
    assert!(noted.contains("not all records: the server that answered has no log of control;"));
    desk.accept(owner["invitation"].as_str().unwrap(), "owner@acme.example");
    let noted = desk.noted("audit list --org acme");
    assert!(noted.contains("has no log of some processes;"), "{noted}");
    assert_eq!(desk.refused("audit verify"), "weft: this is not yours to do");
    assert_eq!(desk.refused("audit list"), "weft: this is not yours to do");
}

#[test]
fn what_is_wrong_is_said() {
    let desk = Desk::new();
    for (order, said) in [
        ("env show acme/shop", "weft: no such environment"),
        (
            "env show shop",
            "weft: environment: \"shop\"; expected an id (env-…) or ORGANISATION/NAME",
        ),
        (
            "env create shop --subnet 10.0.0.0/8",
            "weft: \"shop\" is no name of a new environment; expected ORGANISATION/NAME",
        ),
        (
            "org create Acme --owner a@b",
            "weft: name: 'A' is not allowed; expected a-z, 0-9 and '-' (not first or last)",
        ),
        ("org create acme --owner nobody", "weft: email: expected NAME@DOMAIN"),
        ("host show host-a", "weft: no such host"),
    ] {
        assert_eq!(desk.refused(order), said, "weft {order}");
    }
    let there = desk.where_to();
    let wrong = desk.write("wrong", "not the password");
    let refused = desk
        .refused(&format!("login {there} --email operator@weft.example --password-file {wrong}"));
    assert!(refused.starts_with("weft: the control plane refused: "), "{refused}");
    // Another authority's server is not spoken to.
    let other = Desk::new();
    let stranger =
        format!("--server {} --authority {}", desk.server, other.path("authority.pem").display());
    let password = desk.path("password");
    let login = format!(
        "login {stranger} --email operator@weft.example --password-file {}",
        password.display()
    );
    let refused = desk.refused(&login);
    assert!(refused.starts_with("weft: cannot connect to 127.0.0.1:"), "{refused}");
}
