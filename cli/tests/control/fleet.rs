//! Hosts, quotas, and what is asked before something is over.

use serde_json::json;
use weft_control_api::v1;

use crate::desk::Desk;

#[test]
fn a_token_that_no_host_has_joined_with_is_found_and_made_useless() {
    let desk = Desk::new();
    assert_eq!(desk.ok("host tokens"), "no tokens\n");
    let made = desk.json("host token --host host-a --pod one");
    let listed = desk.json("host tokens");
    assert_eq!((&listed[0]["id"], &listed[0]["host"]), (&made["id"], &json!("host-a")));
    let id = made["id"].as_str().unwrap();
    assert_eq!(
        desk.ok(&format!("host revoke-token {id}")),
        format!("no host joins with {id} any more\n")
    );
    assert_eq!(desk.ok("host tokens"), "no tokens\n");
}

#[test]
fn what_is_not_said_of_a_host_stays() {
    let desk = Desk::new();
    desk.enrol("host-a");
    let updated = desk.json("host update host-a --zone east --label disk=fast --label arch=arm64");
    assert_eq!((&updated["pod"], &updated["zone"]), (&json!("one"), &json!("east")));
    assert_eq!(updated["labels"], json!(["arch=arm64", "disk=fast"]));
    assert_eq!(updated["endpoints"], json!(["192.0.2.1:7777"]));
    let endpoints = "--endpoint 10.0.0.1:7777,one --endpoint 192.0.2.1:7777";
    let updated = desk.json(&format!("host update host-a {endpoints}"));
    assert_eq!(updated["endpoints"], json!(["10.0.0.1:7777,one", "192.0.2.1:7777"]));
    assert_eq!(updated["labels"], json!(["arch=arm64", "disk=fast"]));
    let refused = desk.refused("host update host-a --label fast");
    assert!(refused.contains("expected NAME=VALUE"), "{refused}");
}

#[test]
fn what_cannot_be_taken_back_is_said_twice() {
    let desk = Desk::new();
    desk.enrol("host-a");
    let dry = desk.ok("host set host-a revoked --dry-run");
    assert!(dry.contains("host-a, which is active, would be shut out for good"), "{dry}");
    for confirmed in ["", " --confirm host-b"] {
        let refused = desk.refused(&format!("host set host-a revoked{confirmed}"));
        assert!(refused.contains("nothing was done: a host that is revoked stays so"), "{refused}");
    }
    assert_eq!(desk.json("host show host-a")["state"], "active");
    assert_eq!(desk.ok("host set host-a cordoned"), "host host-a is cordoned\n");
    assert_eq!(desk.ok("host set host-a revoked --confirm host-a"), "host host-a is revoked\n");
}

#[test]
fn settings_are_changed_one_by_one() {
    let desk = Desk::new();
    let made = desk.json("org create acme --owner owner@acme.example");
    desk.accept(made["invitation"].as_str().unwrap(), "owner@acme.example");
    desk.ok("env create acme/shop --subnet 10.40.0.0/16");
    let refused = desk.refused("env update acme/shop");
    assert_eq!(refused, "weft: nothing was done: say --leaf-seconds, --other-names or both");
    let refused = desk.refused("env update acme/shop --leaf-seconds 60");
    assert_eq!(refused, "weft: leaf_seconds: 60; expected 3600 to 604800");
    let said = desk.ok("env update acme/shop --leaf-seconds 7200");
    assert_eq!(said, "environment shop has other settings now\n");
    let of = |found: &serde_json::Value| {
        ["leaf_seconds", "other_names", "name_servers"].map(|key| found[key].clone())
    };
    let shown = desk.json("env show acme/shop");
    assert_eq!(of(&shown), [json!(7_200), json!("refuse"), json!([])]);

    let forward = "env update acme/shop --other-names forward --name-server 192.0.2.53";
    assert_eq!(desk.refused(forward), "weft: this is not yours to do");
    desk.login("operator@weft.example");
    let changed = desk.json(&format!("{forward} --name-server [2001:db8::53]:5353"));
    let servers = json!(["192.0.2.53:53", "[2001:db8::53]:5353"]);
    assert_eq!(of(&changed), [json!(7_200), json!("forward"), servers]);
    let refused = desk.refused("env update acme/shop --other-names forward");
    assert_eq!(refused, "weft: other_names.name_servers: 0 servers; expected 1 to 4");
    desk.login("owner@acme.example");
    let changed = desk.json("env update acme/shop --other-names absent");
    assert_eq!(of(&changed), [json!(7_200), json!("absent"), json!([])]);
}

#[test]
fn quotas_are_changed_one_by_one_and_an_attachment_is_looked_at_before_it_ends() {
    let desk = Desk::new();
    desk.enrol("host-a");
    let made = desk.json("org create acme --owner owner@acme.example");
    desk.accept(made["invitation"].as_str().unwrap(), "owner@acme.example");
    desk.ok("env create acme/shop --subnet 10.40.0.0/16");
    desk.login("operator@weft.example");
    desk.ok("env allow-host acme/shop host-a");
    let changed = desk.json("env set-quotas acme/shop --attachments 7 --egress-mbit 100");
    let of = |found: &serde_json::Value| {
        ["attachments_max", "addresses_max", "egress_mbit_max"].map(|key| found[key].clone())
    };
    assert_eq!(of(&changed), [json!(7), json!(4_000), json!(100)]);
    let changed = desk.json("env set-quotas acme/shop --egress-mbit 0");
    assert_eq!(of(&changed), [json!(7), json!(4_000), json!(null)]);

    desk.login("owner@acme.example");
    let made = desk.json("attachment create acme/shop web --host host-a");
    assert_eq!(desk.json("attachment show acme/shop web"), made);
    let dry = desk.ok("attachment release acme/shop web --dry-run");
    assert!(dry.starts_with("web on host-a would end"), "{dry}");
    let generation = made["generation"].as_u64().unwrap();
    let other = generation + 1;
    desk.refused(&format!("attachment release acme/shop web --generation {other}"));
    desk.ok(&format!("attachment release acme/shop web --generation {generation}"));
    desk.refused("attachment show acme/shop web");
}

#[test]
fn what_a_host_has_is_shown_with_it_and_what_is_wrong_with_an_attachment_with_that() {
    let desk = Desk::new();
    let host = desk.enrol("host-a");
    assert_eq!(desk.json("host show host-a")["attachments"], json!([]));
    let made = desk.json("org create acme --owner owner@acme.example");
    desk.accept(made["invitation"].as_str().unwrap(), "owner@acme.example");
    let shop = desk.json("env create acme/shop --subnet 10.40.0.0/16");
    desk.login("operator@weft.example");
    desk.ok("env allow-host acme/shop host-a");
    desk.login("owner@acme.example");
    let web = desk.json("attachment create acme/shop web --host host-a");
    assert_eq!((&web["interface"], &web["reported_ms"]), (&json!(null), &json!(null)));

    let environment = shop["id"].as_str().unwrap().to_owned();
    let report = v1::ReportRequest {
        attachments: vec![v1::ActualAttachment {
            environment: environment.clone(),
            name: "web".to_owned(),
            generation: web["generation"].as_u64().unwrap(),
            error: "no such namespace".to_owned(),
            interface: v1::InterfaceState::Failed.into(),
            ..Default::default()
        }],
        peers: vec![v1::ActualPeer {
            environment: environment.clone(),
            host: "host-b".to_owned(),
            is_established: true,
            key_age_ms: 1_500,
            error: String::new(),
        }],
        ..Default::default()
    };
    desk.report(&host, report);
    let web = desk.json("attachment show acme/shop web");
    assert_eq!(
        (&web["interface"], &web["error"], &web["health"]),
        (&json!("failed"), &json!("no such namespace"), &json!("unhealthy"))
    );
    assert!(web["reported_ms"].as_u64().unwrap() > 0);
    let said = desk.ok("attachment show acme/shop web");
    assert!(said.contains("error        no such namespace"), "{said}");
    // The host is for operators.
    assert_eq!(desk.refused("host show host-a"), "weft: no such host");

    desk.login("operator@weft.example");
    let host = desk.json("host show host-a");
    let (attachment, session) = (&host["attachments"][0], &host["sessions"][0]);
    assert_eq!(
        (&attachment["environment"], &attachment["name"], &attachment["interface"]),
        (&json!(environment), &json!("web"), &json!("failed"))
    );
    assert_eq!(
        (&session["host"], &session["session"], &session["key_age_ms"]),
        (&json!("host-b"), &json!("up"), &json!(1_500))
    );
    let table = desk.ok("host show host-a");
    assert!(table.contains("\nattachments:\n  environment"), "{table}");
    assert!(table.contains("  host-b  up             1500  -"), "{table}");
}

#[test]
fn what_goes_with_a_host_that_is_denied_is_looked_at_first() {
    let desk = Desk::new();
    desk.enrol("host-a");
    let made = desk.json("org create acme --owner owner@acme.example");
    desk.accept(made["invitation"].as_str().unwrap(), "owner@acme.example");
    desk.ok("env create acme/shop --subnet 10.40.0.0/16");
    desk.login("operator@weft.example");
    let (deny, dry) = ("env deny-host acme/shop host-a", " --dry-run");
    let nothing = "nothing would change: host host-a may have no attachments there\n";
    assert_eq!(desk.ok(&format!("{deny}{dry}")), nothing);
    desk.ok("env allow-host acme/shop host-a");
    let said = desk.ok(&format!("{deny}{dry}"));
    assert_eq!(said, "host host-a would be denied; no attachment rests on it\n");
    desk.login("owner@acme.example");
    desk.ok("attachment create acme/shop web --host host-a");
    desk.login("operator@weft.example");
    let said = desk.ok(&format!("{deny}{dry}"));
    assert!(said.starts_with("it would be refused: 1 attachments rest on it"), "{said}");
    let removes = format!("{deny} --remove-attachments");
    let said = desk.ok(&format!("{removes}{dry}"));
    assert_eq!(said, "host host-a would be denied, and 1 attachments would go: web\n");
    assert_eq!(desk.json(&format!("{removes}{dry}"))["attachments"], json!(["web"]));
    assert_eq!(desk.json("env hosts acme/shop")[0]["host"], "host-a");
    assert_eq!(desk.ok(&removes), "denied; attachments removed: 1\n");
    assert_eq!(desk.ok(&format!("{deny}{dry}")), nothing);
}
