//! Hosts that follow a control plane.

use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use netns_tests::clock::Clock;
use netns_tests::fault::row;
use netns_tests::process::{PATIENCE, pause, wait_for};
use netns_tests::traffic::names::{OUTSIDE, Resolver, Transport, serve};
use netns_tests::traffic::ping;
use netns_tests::{Family, Load, ManagedSite, Namespace, Result, ensure, scenario};
use serde_json::json;

/// Where a database listens.
const PORT: u16 = 5432;
/// Longest wait for the answer to one ping.
const ANSWER_MAX: Duration = Duration::from_secs(1);
/// A suspended environment is silent within this time everywhere.
const SUSPENDED_MAX: Duration = Duration::from_secs(5);
/// A host that starts without its control plane has what it had within this time.
const RESTART_MAX: Duration = Duration::from_secs(10);

fn reaches(from: &Namespace, to: IpAddr) -> Result<()> {
    wait_for(&format!("{from:?} reaches {to}"), PATIENCE, || {
        Ok(ping::once(from, to, ANSWER_MAX)?.then_some(()))
    })
}

fn loses(from: &Namespace, to: IpAddr, limit: Duration) -> Result<()> {
    wait_for(&format!("{from:?} reaches {to} no more"), limit, || {
        Ok((!ping::once(from, to, ANSWER_MAX)?).then_some(()))
    })
}

/// From nothing to two containers that talk, and back: all by commands.
#[test]
fn two_hosts_join_and_their_containers_talk() {
    scenario(Load::Light, |world| {
        let mut site = ManagedSite::start(world, &["host-a", "host-b"])?;
        let (a, b) = (world.namespace("a")?, world.namespace("b")?);
        let shop = site.environment("shop")?;
        for host in ["host-a", "host-b"] {
            site.start_host(host)?;
            site.connected(host)?;
        }
        // Nobody has the right yet, and it is not said whether there is such an environment.
        let refused = site.attach("host-a", &shop, "web", &a)?.ok().unwrap_err().to_string();
        ensure!(refused.contains("no such environment"), "{refused}");
        for host in ["host-a", "host-b"] {
            site.weft(&format!("env allow-host acme/shop {host}"))?.ok()?;
        }
        let web = site.attached("host-a", &shop, "web", &a)?;
        let db = site.attached("host-b", &shop, "db", &b)?;
        reaches(&a, db)?;
        reaches(&b, web)?;
        // What is decided elsewhere is not done here.
        let peer = format!("peer add --env {shop} --host host-x --endpoint 192.0.2.9:1");
        let refused = site.daemon("host-a")?.weft_net(&peer)?.ok().unwrap_err().to_string();
        ensure!(refused.contains("which decides who its peers are"), "{refused}");
        let detach = format!("detach --env {shop} --name db");
        site.daemon("host-b")?.weft_net(&detach)?.ok()?;
        loses(&a, db, PATIENCE)?;
        let left = site.json("attachment list acme/shop")?;
        ensure!(left.as_array().is_some_and(|left| left.len() == 1), "{left}");
        for host in ["host-a", "host-b"] {
            site.daemon(host)?.assert_healthy()?;
        }
        Ok(())
    });
}

#[test]
fn without_the_control_plane_everything_goes_on_also_after_a_restart() {
    scenario(Load::Light, |world| {
        let mut site = ManagedSite::start(world, &["host-a", "host-b"])?;
        let (a, b, c) = (world.namespace("a")?, world.namespace("b")?, world.namespace("c")?);
        let shop = site.environment("shop")?;
        for host in ["host-a", "host-b"] {
            site.start_host(host)?;
            site.connected(host)?;
            site.weft(&format!("env allow-host acme/shop {host}"))?.ok()?;
        }
        let web = site.attached("host-a", &shop, "web", &a)?;
        let db = site.attached("host-b", &shop, "db", &b)?;
        reaches(&a, db)?;
        site.kill_control(0)?;
        // Until it is noticed.
        wait_for(
            "host-a is alone",
            PATIENCE,
            || Ok((!site.is_connected("host-a")?).then_some(())),
        )?;
        reaches(&b, web)?;
        let begun = Instant::now();
        for host in ["host-a", "host-b"] {
            site.daemon(host)?.kill()?;
            site.start_host(host)?;
        }
        reaches(&a, db)?;
        reaches(&b, web)?;
        let back = begun.elapsed();
        ensure!(back < RESTART_MAX, "after {back:?}");
        row(
            "the control plane is away, and both hosts are killed and start again",
            "traffic is back in 10 s",
            format!("after {back:.1?}"),
        );
        let refused = site.attach("host-a", &shop, "cache", &c)?.ok().unwrap_err().to_string();
        ensure!(refused.contains("nothing new is admitted"), "{refused}");
        site.start_control(0)?;
        site.connected("host-a")?;
        let cache = site.attached("host-a", &shop, "cache", &c)?;
        reaches(&b, cache)
    });
}

/// A day passes, by the hosts' clocks, in which nobody hears the control plane.
#[test]
fn without_the_control_plane_it_is_said_after_six_hours_and_ends_with_the_certificates() {
    const HOUR: i64 = 3_600;
    scenario(Load::Light, |world| {
        let mut site = ManagedSite::start(world, &["host-a", "host-b"])?;
        let (a, b) = (world.namespace("a")?, world.namespace("b")?);
        let near = world.namespace("near")?;
        let clock = Clock::new(world.dir())?;
        site.variables = clock.variables();
        let shop = site.environment("shop")?;
        for host in ["host-a", "host-b"] {
            site.start_host(host)?;
            site.connected(host)?;
            site.weft(&format!("env allow-host acme/shop {host}"))?.ok()?;
        }
        let web = site.attached("host-a", &shop, "web", &a)?;
        let db = site.attached("host-b", &shop, "db", &b)?;
        let cache = site.attached("host-a", &shop, "cache", &near)?;
        reaches(&a, db)?;
        site.kill_control(0)?;
        wait_for(
            "host-a is alone",
            PATIENCE,
            || Ok((!site.is_connected("host-a")?).then_some(())),
        )?;
        const ALARM: &str = "the control plane has been away for six hours";
        let at = |hours: i64| clock.set_wall(hours * HOUR).and(clock.pass(hours * HOUR));
        at(5)?;
        reaches(&a, db)?;
        ensure!(!site.daemon("host-a")?.log().contains(ALARM), "too early");
        at(7)?;
        wait_for("the alarm", PATIENCE, || {
            Ok(site.daemon("host-a")?.log().contains(ALARM).then_some(()))
        })?;
        // An hour before certificates end: they are of 24 hours, and were not renewed.
        at(23)?;
        pause(Duration::from_secs(2))?;
        reaches(&a, db)?;
        reaches(&b, web)?;
        at(25)?;
        loses(&a, db, PATIENCE)?;
        loses(&b, web, PATIENCE)?;
        // Nothing between two containers of one host is another host's to say.
        reaches(&a, cache)
    });
}

#[test]
fn environments_with_the_same_addresses_never_meet_and_a_revoked_host_is_shut_out() {
    scenario(Load::Light, |world| {
        let mut site = ManagedSite::start(world, &["host-a", "host-b"])?;
        let names = ["shop-a", "shop-b", "other-a", "other-b"];
        let spaces = names.map(|name| world.namespace(name));
        let [shop_a, shop_b, other_a, other_b] = spaces;
        let (shop_a, shop_b, other_a, other_b) = (shop_a?, shop_b?, other_a?, other_b?);
        let (shop, other) = (site.environment("shop")?, site.environment("other")?);
        for host in ["host-a", "host-b"] {
            site.start_host(host)?;
            site.connected(host)?;
            for environment in ["shop", "other"] {
                site.weft(&format!("env allow-host acme/{environment} {host}"))?.ok()?;
            }
        }
        site.attached("host-a", &shop, "web", &shop_a)?;
        let db = site.attached("host-b", &shop, "db", &shop_b)?;
        site.attached("host-a", &other, "web", &other_a)?;
        let twin = site.attached("host-b", &other, "db", &other_b)?;
        ensure!(db == twin, "{db} and {twin}: the same addresses in both were expected");
        reaches(&shop_a, db)?;
        reaches(&other_a, twin)?;
        site.login("owner@acme.example")?;
        let begun = Instant::now();
        site.weft("env suspend acme/other")?.ok()?;
        loses(&other_a, twin, SUSPENDED_MAX)?;
        let silent = begun.elapsed().as_millis();
        row(
            "a suspended environment",
            "silent in 5 s",
            format!("at most {silent} ms after the command began"),
        );
        site.login("operator@weft.example")?;
        reaches(&shop_a, db)?;
        site.suspend("other", false)?;
        reaches(&other_a, twin)?;
        let begun = Instant::now();
        site.weft("host set host-b revoked --confirm host-b")?.ok()?;
        loses(&shop_a, db, PATIENCE)?;
        let shut_out = begun.elapsed().as_millis();
        row(
            "a revoked host",
            "no session in 60 s",
            format!("at most {shut_out} ms after the command began"),
        );
        loses(&other_a, twin, PATIENCE)
    });
}

/// Other names go where an operator says, while everything runs, and after a restart without the control plane, too.
#[test]
fn other_names_are_asked_outside_where_an_operator_says_so() {
    scenario(Load::Light, |world| {
        let mut site = ManagedSite::start(world, &["host-a"])?;
        let ns = world.namespace("web")?;
        let shop = site.environment("shop")?;
        site.start_host("host-a")?;
        site.connected("host-a")?;
        site.weft("env allow-host acme/shop host-a")?.ok()?;
        site.attached("host-a", &shop, "web", &ns)?;
        let resolver = Resolver::new(&ns, Family::V4, Transport::Udp);
        let refused = resolver.ask("example.com.", RecordType::A)?;
        ensure!(refused.code == ResponseCode::Refused, "{refused:?}");
        let host = site.topology.host("host-a")?.ns.clone();
        let socket = host.enter(|| Ok(UdpSocket::bind("127.0.0.1:0")?))?;
        let server = socket.local_addr()?;
        let answered = || {
            wait_for("an answer from outside", PATIENCE, || {
                let answer = resolver.ask("example.com.", RecordType::A);
                Ok(answer.is_ok_and(|answer| answer.data == [OUTSIDE]).then_some(()))
            })
        };
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let serving = scope.spawn(|| serve(&socket, &is_over));
            let forward =
                format!("env update acme/shop --other-names forward --name-server {server}");
            let mut told = || {
                site.weft(&forward)?.ok()?;
                answered()?;
                site.kill_control(0)?;
                site.daemon("host-a")?.kill()?;
                site.start_host("host-a")?;
                answered()?;
                let ours = resolver.ask("nobody.internal.", RecordType::A)?;
                ensure!(ours.code == ResponseCode::NXDomain, "{ours:?}");
                Ok::<_, anyhow::Error>(())
            };
            let told = told();
            is_over.store(true, Ordering::Relaxed);
            let served = serving.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            told.and(served.map(drop))
        })
    });
}

/// Services have names everywhere in their environment, and a policy is about them, whoever fills them.
#[test]
fn services_are_found_by_name_and_a_policy_is_about_them() {
    scenario(Load::Light, |world| {
        let mut site = ManagedSite::start(world, &["host-a", "host-b"])?;
        let (web_ns, db_ns) = (world.namespace("web")?, world.namespace("db")?);
        let (job_ns, other_ns) = (world.namespace("job")?, world.namespace("other")?);
        let (shop, other) = (site.environment("shop")?, site.environment("other")?);
        let policy = json!({"default": "deny", "rules": [
            {"name": "web-db", "from": "web", "to": "db", "protocol": "tcp", "ports": [{"first": PORT}],
                "verdict": "allow"},
        ]});
        site.set_policy("shop", &policy)?;
        for host in ["host-a", "host-b"] {
            site.start_host(host)?;
            site.connected(host)?;
            for environment in ["shop", "other"] {
                site.weft(&format!("env allow-host acme/{environment} {host}"))?.ok()?;
            }
        }
        let web = site.attached("host-a", &shop, "web", &web_ns)?;
        site.attached("host-a", &shop, "job", &job_ns)?;
        let db = site.attached("host-b", &shop, "db", &db_ns)?;
        site.attached("host-b", &other, "secret", &other_ns)?;
        let names = |ns| Resolver::new(ns, Family::V4, Transport::Udp);
        wait_for("db.internal on the other host", PATIENCE, || {
            let answer = names(&web_ns).ask("db.internal.", RecordType::A)?;
            Ok((answer.data == [db.to_string()]).then_some(()))
        })?;
        // What another environment has is what nobody has.
        let foreign = names(&web_ns).ask("secret.internal.", RecordType::A)?;
        let absent = names(&web_ns).ask("absent.internal.", RecordType::A)?;
        ensure!((foreign.code, &foreign.data) == (absent.code, &absent.data), "{foreign:?}");

        let server = db_ns.enter(|| Ok(TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT))?))?;
        let connects = |ns: &Namespace, to: IpAddr| {
            ns.enter(|| Ok(TcpStream::connect_timeout(&(to, PORT).into(), ANSWER_MAX).is_ok()))
        };
        wait_for("web asks db", PATIENCE, || Ok(connects(&web_ns, db)?.then_some(())))?;
        ensure!(!connects(&job_ns, db)?, "job is no web");
        ensure!(!ping::once(&web_ns, db, ANSWER_MAX)?, "a ping is no question of TCP");
        ensure!(!connects(&db_ns, web)?, "db may answer, not ask");
        let status = site.daemon("host-a")?.metrics()?;
        let hits = status.sum("weft_policy_hits_total", &[("rule", "(default)")]);
        ensure!(hits > 0.0, "nothing was denied by the sender's host");
        // It changes while everything runs.
        site.set_policy("shop", &json!({"default": "allow", "rules": []}))?;
        reaches(&job_ns, db)?;
        drop(server);
        Ok(())
    });
}
