//! The same by a control plane: hosts join, and everything else is decided in one place.

use hickory_proto::rr::RecordType;
use netns_tests::process::{PATIENCE, wait_for};
use netns_tests::traffic::names::{Resolver, Transport};
use netns_tests::traffic::ping::once;
use netns_tests::{Family, ManagedSite, Namespace, Result, World, ensure};
use serde_json::json;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::screen::Screen;

/// Longest wait for the answer to one ping.
const ANSWER_MAX: Duration = Duration::from_secs(1);
const HOSTS: [&str; 2] = ["host-a", "host-b"];

fn until(what: &str, reached: bool, from: &Namespace, to: IpAddr) -> Result<Duration> {
    let begun = Instant::now();
    wait_for(what, PATIENCE, || Ok((once(from, to, ANSWER_MAX)? == reached).then_some(())))?;
    Ok(begun.elapsed())
}

pub(crate) fn follow(screen: &Screen, world: &World) -> Result<()> {
    screen.step("A control plane, and two hosts that follow it");
    let (web_ns, db_ns) = (world.namespace("web")?, world.namespace("db")?);
    let mut site =
        screen.during("weft-control init, serve; people; an environment", 3.0, || {
            ManagedSite::start(world, &HOSTS)
        })?;
    let shop = site.environment("shop")?;
    screen.note(&format!("weft env create acme/shop --subnet 10.40.0.0/16: {shop}"));
    screen.during("both hosts join with a token, once", 3.0, || {
        for host in HOSTS {
            site.start_host(host)?;
            site.connected(host)?;
        }
        Ok(())
    })?;
    let refused = site.attach("host-a", &shop, "web", &web_ns)?.ok();
    ensure!(refused.is_err(), "a host made itself a right");
    screen.check("a host without a right is told that there is no such environment");
    for host in HOSTS {
        site.weft(&format!("env allow-host acme/shop {host}"))?.ok()?;
    }
    let web = site.attached("host-a", &shop, "web", &web_ns)?;
    let db = site.attached("host-b", &shop, "db", &db_ns)?;
    screen.note(&format!("weft net attach: web is {web} on host-a, db is {db} on host-b"));
    until("web reaches db", true, &web_ns, db)?;
    screen.check("they reach each other; keys and certificates came by themselves");
    let resolver = Resolver::new(&web_ns, Family::V4, Transport::Udp);
    wait_for("db.internal", PATIENCE, || {
        let answer = resolver.ask("db.internal.", RecordType::A)?;
        Ok((answer.data == [db.to_string()]).then_some(()))
    })?;
    screen
        .check(&format!("db.internal is {db}, asked in web's container at {}", resolver.server()));
    let status = site.daemon("host-a")?.weft_net("status")?.ok()?;
    screen.quote("weft net status", &status);
    site.set_policy("shop", &json!({"default": "deny", "rules": []}))?;
    let after = until("the policy denies", false, &web_ns, db)?;
    screen.check(&format!("weft policy set: everything is denied, {} ms later", after.as_millis()));
    site.set_policy("shop", &json!({"default": "allow", "rules": []}))?;
    until("the policy allows", true, &web_ns, db)?;
    site.suspend("shop", true)?;
    let after = until("it is suspended", false, &web_ns, db)?;
    screen.check(&format!("weft env suspend: silent everywhere, {} ms later", after.as_millis()));
    site.suspend("shop", false)?;
    until("it is resumed", true, &web_ns, db)?;
    site.kill_control(0)?;
    ensure!(once(&web_ns, db, ANSWER_MAX)?, "traffic ended with the control plane");
    screen.check("kill -9 of weft-control: containers notice nothing");
    Ok(())
}
