//! Names of environments, asked by their containers, on two hosts and in two environments with the same addresses.
//!
//! ```text
//!  host-a  a1, a2 (acme)  a1, a2 (beta)      host-b  b1, b2 (acme)  b1, b2 (beta)
//!           │               │                         │
//!        10.40.0.1       10.40.0.1                 10.40.0.1   the gateways: each host answers its own
//! ```

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use netns_tests::config::{Service, ServicePort, Slot};
use netns_tests::process::wait_for;
use netns_tests::site::SETTLE_LIMIT;
use netns_tests::traffic::names::{Answer, OUTSIDE, Resolver, Transport, question, serve};
use netns_tests::traffic::ping::{Ping, ping};
use netns_tests::{
    ACME, BETA, Container, Family, Load, Plan, Result, Site, World, ensure, scenario,
};

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];
const TRANSPORTS: [Transport; 2] = [Transport::Udp, Transport::Tcp];
/// An answer of a gateway that is not busy; the machine may be.
const ANSWER_MAX: Duration = Duration::from_secs(1);

fn service(name: &str, addresses: &[&[&str]]) -> Service {
    let slots = addresses.iter().zip(0..).map(|(addresses, index)| Slot {
        index,
        addresses: addresses.iter().map(|a| (*a).to_owned()).collect(),
        roles: if index == 0 { vec!["primary".into()] } else { Vec::new() },
    });
    let port = ServicePort { name: "sql".into(), protocol: "tcp".into(), port: 5_432 };
    Service { name: name.into(), ports: vec![port], slots: slots.collect() }
}

/// Both hosts know a service of each environment: `db` in acme, `cache` in beta, at the same addresses.
fn prepared(world: &World) -> Result<Site> {
    let mut site = Site::prepare(world, &Plan::pair().two_each().with_beta())?;
    for host in ["host-a", "host-b"] {
        for (environment, name) in [(ACME, "db"), (BETA, "cache")] {
            let slots: [&[&str]; 2] = [&["10.40.0.3", "fd40::3"], &["10.40.0.5"]];
            site.config(host).environment(environment).services.push(service(name, &slots));
        }
    }
    Ok(site)
}

fn site(world: &World) -> Result<Site> {
    let mut site = prepared(world)?;
    site.start()?;
    site.settle()?;
    // Names of attachments follow between everything else.
    for container in &site.containers {
        let resolver = Resolver::new(&container.ns, Family::V4, Transport::Udp);
        let own = format!("{}.internal.", container.plan.name);
        wait_for(&format!("{own} in {:?}", container.ns), SETTLE_LIMIT, || {
            let answer = resolver.ask(&own, RecordType::A)?;
            Ok((!answer.data.is_empty()).then_some(()))
        })?;
    }
    Ok(site)
}

fn expect(answer: &Answer, code: ResponseCode, data: &[&str]) -> Result<()> {
    ensure!(answer.code == code && answer.data == data, "{answer:?}, not {code:?} {data:?}");
    Ok(())
}

/// Everything that a container of acme asks, in one way.
fn ask_all(container: &Container, family: Family, transport: Transport) -> Result<()> {
    let resolver = Resolver::new(&container.ns, family, transport);
    let ask = |name: &str, kind, data: &[&str]| {
        expect(&resolver.ask(name, kind)?, ResponseCode::NoError, data)
    };
    ask("db.internal.", RecordType::A, &["10.40.0.3", "10.40.0.5"])?;
    ask("db.internal.", RecordType::AAAA, &["fd40::3"])?;
    ask("1.db.internal.", RecordType::A, &["10.40.0.5"])?;
    ask("1.db.internal.", RecordType::AAAA, &[])?;
    ask("PRIMARY.db.Internal.", RecordType::A, &["10.40.0.3"])?;
    let ports = ["0 1 5432 0.db.internal.", "0 1 5432 1.db.internal."];
    ask("_sql._tcp.db.internal.", RecordType::SRV, &ports)?;
    ask("3.0.40.10.in-addr.arpa.", RecordType::PTR, &["0.db.internal."])?;
    ask("internal.", RecordType::A, &["10.40.0.1"])?;
    let v6 = format!("3.{}0.4.d.f.ip6.arpa.", "0.".repeat(27));
    ask(&v6, RecordType::PTR, &["0.db.internal."])?;
    // Its own name, by which only its own host knows it.
    let own = format!("{}.internal.", container.plan.name);
    ask(&own, RecordType::A, &[&container.plan.v4().to_string()])?;
    ask(&own, RecordType::AAAA, &[&container.plan.v6().to_string()])?;
    let outside = resolver.ask("example.com.", RecordType::A)?;
    expect(&outside, ResponseCode::Refused, &[])
}

#[test]
fn every_host_answers_its_own_containers() {
    scenario(Load::Light, |world| {
        let mut site = site(world)?;
        for name in ["a1", "b1", "a2"] {
            let container = site.container(ACME, name)?;
            for family in FAMILIES {
                for transport in TRANSPORTS {
                    ask_all(container, family, transport)?;
                }
            }
        }
        // Nothing of it is known to its twin.
        for transport in TRANSPORTS {
            let twin = Resolver::new(&site.container(BETA, "a1")?.ns, Family::V4, transport);
            expect(&twin.ask("db.internal.", RecordType::A)?, ResponseCode::NXDomain, &[])?;
            let own = twin.ask("0.cache.internal.", RecordType::A)?;
            expect(&own, ResponseCode::NoError, &["10.40.0.3"])?;
            let reverse = twin.ask("3.0.40.10.in-addr.arpa.", RecordType::PTR)?;
            expect(&reverse, ResponseCode::NoError, &["0.cache.internal."])?;
        }
        site.assert_healthy()
    });
}

/// An answer to one of two names of the same length, with the name made the same.
fn without_name(answer: &Answer, name: &str) -> Vec<u8> {
    let (at, label) = (12 + 1, name.split('.').next().unwrap_or_default());
    let mut bytes = answer.bytes.clone();
    bytes[at..at + label.len()].fill(b'x');
    bytes
}

#[test]
fn a_foreign_name_looks_as_an_absent_one() {
    scenario(Load::Light, |world| {
        let site = site(world)?;
        for (environment, foreign, absent) in
            [(ACME, "cache.internal.", "cachf.internal."), (BETA, "db.internal.", "dc.internal.")]
        {
            let ns = &site.container(environment, "a1")?.ns;
            for transport in TRANSPORTS {
                let resolver = Resolver::new(ns, Family::V6, transport);
                for kind in [RecordType::A, RecordType::AAAA, RecordType::SRV, RecordType::ANY] {
                    let answers = [resolver.ask(foreign, kind)?, resolver.ask(absent, kind)?];
                    expect(&answers[0], ResponseCode::NXDomain, &[])?;
                    let [one, other] = &answers;
                    let same = without_name(one, foreign) == without_name(other, absent);
                    ensure!(same, "{one:?} is not as {other:?}");
                }
            }
        }
        Ok(())
    });
}

#[test]
fn the_gateway_answers_pings_and_refuses_all_else() {
    scenario(Load::Light, |world| {
        let site = site(world)?;
        for (environment, name) in [(ACME, "a1"), (ACME, "b1"), (BETA, "a1")] {
            let ns = &site.container(environment, name)?.ns;
            for family in FAMILIES {
                let gateway = Resolver::new(ns, family, Transport::Udp).server();
                let pinged = ping(ns, gateway, &Ping::default())?;
                ensure!(pinged.complete(), "{}", pinged.text);
                let refused = ns.enter(|| Ok(std::net::TcpStream::connect((gateway, 80))))?;
                let kind = refused.map(drop).map_err(|error| error.kind());
                ensure!(kind == Err(std::io::ErrorKind::ConnectionRefused), "{kind:?}");
            }
        }
        Ok(())
    });
}

/// Queries as fast as the socket takes them, until it is over.
fn flood(container: &Container, is_over: &AtomicBool) -> Result<u64> {
    let gateway = Resolver::new(&container.ns, Family::V4, Transport::Udp).server();
    let question = question("db.internal.", RecordType::A)?;
    container.ns.enter(|| {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.connect((gateway, 53))?;
        let mut sent = 0;
        while !is_over.load(Ordering::Relaxed) {
            // The interface may be full: that is its own matter.
            sent += u64::from(socket.send(&question).is_ok());
        }
        Ok(sent)
    })
}

#[test]
fn a_flood_of_queries_stops_nobody_else() {
    scenario(Load::Heavy, |world| {
        let mut site = site(world)?;
        let is_over = AtomicBool::new(false);
        let noisy = site.container(ACME, "a2")?;
        let sent = std::thread::scope(|scope| {
            let flooding = scope.spawn(|| flood(noisy, &is_over));
            let quiet = quiet_under_flood(&site);
            is_over.store(true, Ordering::Relaxed);
            let sent = flooding.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            quiet.and(sent)
        })?;
        ensure!(sent > 10_000, "only {sent} queries are no flood");
        let busy = site.drops_by("host-a", ACME, "gateway_busy")?;
        let silent = site.drops_by("host-a", ACME, "gateway_query")?;
        println!("{sent} queries, {busy} dropped by workers, {silent} above the rate");
        // Others never came so far: the interface's queue was full.
        ensure!(busy > 1_000 && silent > 0, "{busy} and {silent}: {}", site.all_drops()?);
        for cause in ["gateway_busy", "gateway_query"] {
            let foreign = site.drops_by("host-a", BETA, cause)?;
            ensure!(foreign == 0, "{foreign} drops in the other environment: {cause}");
        }
        // It is answered again itself.
        let again = Resolver::new(&site.container(ACME, "a2")?.ns, Family::V4, Transport::Udp);
        wait_for("an answer after the flood", SETTLE_LIMIT, || {
            let again = again.clone().within(ANSWER_MAX);
            Ok(again.ask("db.internal.", RecordType::A).is_ok().then_some(()))
        })?;
        site.assert_healthy()
    });
}

/// A neighbour in the same environment, its twin in the other, and traffic between hosts.
fn quiet_under_flood(site: &Site) -> Result<()> {
    let begun = Instant::now();
    let mut longest = Duration::ZERO;
    let mut asked = 0;
    while begun.elapsed() < Duration::from_secs(3) {
        for (environment, name) in [(ACME, "db.internal."), (BETA, "cache.internal.")] {
            let ns = &site.container(environment, "a1")?.ns;
            let resolver = Resolver::new(ns, Family::V4, Transport::Udp).within(ANSWER_MAX);
            let at = Instant::now();
            let answer = resolver.ask(name, RecordType::A)?;
            longest = longest.max(at.elapsed());
            expect(&answer, ResponseCode::NoError, &["10.40.0.3", "10.40.0.5"])?;
            asked += 1;
        }
        // Below the rate of a container.
        std::thread::sleep(Duration::from_millis(10));
    }
    println!("{asked} queries of others answered under the flood, the slowest in {longest:?}");
    let (from, to) = (site.container(ACME, "a1")?, site.container(ACME, "b1")?);
    let pinged = ping(&from.ns, to.address(Family::V4), &Ping::default())?;
    ensure!(pinged.complete(), "{}", pinged.text);
    Ok(())
}

#[test]
fn other_names_are_asked_outside_where_the_configuration_says_so() {
    scenario(Load::Light, |world| {
        let mut site = prepared(world)?;
        let socket =
            site.topology.host("host-a")?.ns.enter(|| Ok(UdpSocket::bind("127.0.0.1:0")?))?;
        let acme = site.config("host-a").environment(ACME);
        acme.other_names = Some("forward".into());
        acme.name_servers = vec![socket.local_addr()?.to_string()];
        site.config("host-a").environment(BETA).other_names = Some("absent".into());
        site.start()?;
        site.settle()?;
        let is_over = AtomicBool::new(false);
        let answered = std::thread::scope(|scope| {
            let serving = scope.spawn(|| serve(&socket, &is_over));
            let asked = ask_outside(&site);
            is_over.store(true, Ordering::Relaxed);
            let answered = serving.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            asked.and(answered)
        })?;
        ensure!(answered == 2, "{answered} queries were asked outside");
        site.assert_healthy()
    });
}

fn ask_outside(site: &Site) -> Result<()> {
    let resolver = |environment, name, family| {
        Ok::<_, anyhow::Error>(Resolver::new(
            &site.container(environment, name)?.ns,
            family,
            Transport::Udp,
        ))
    };
    for family in FAMILIES {
        let answer = resolver(ACME, "a1", family)?.ask("example.com.", RecordType::A)?;
        expect(&answer, ResponseCode::NoError, &[OUTSIDE])?;
    }
    let ours = resolver(ACME, "a1", Family::V4)?.ask("nobody.internal.", RecordType::A)?;
    expect(&ours, ResponseCode::NXDomain, &[])?;
    let beta = resolver(BETA, "a1", Family::V4)?.ask("example.com.", RecordType::A)?;
    expect(&beta, ResponseCode::NXDomain, &[])?;
    let there = resolver(ACME, "b1", Family::V4)?.ask("example.com.", RecordType::A)?;
    expect(&there, ResponseCode::Refused, &[])
}

#[test]
fn services_change_while_everything_runs() {
    scenario(Load::Light, |world| {
        let mut site = site(world)?;
        let services = &mut site.config("host-a").environment(ACME).services;
        services[0] = service("db", &[&["10.40.0.5"]]);
        services.push(service("queue", &[&["fd40::5"]]));
        site.reload("host-a")?;
        let ns = &site.container(ACME, "a1")?.ns;
        let resolver = Resolver::new(ns, Family::V4, Transport::Udp);
        wait_for("the new slot", SETTLE_LIMIT, || {
            let answer = resolver.ask("db.internal.", RecordType::A)?;
            Ok((answer.data == ["10.40.0.5"]).then_some(()))
        })?;
        let queue = resolver.ask("queue.internal.", RecordType::AAAA)?;
        expect(&queue, ResponseCode::NoError, &["fd40::5"])?;
        // The other host has not been told, and the other environment does not know.
        let there = Resolver::new(&site.container(ACME, "b1")?.ns, Family::V4, Transport::Udp);
        let old = there.ask("db.internal.", RecordType::A)?;
        expect(&old, ResponseCode::NoError, &["10.40.0.3", "10.40.0.5"])?;
        let twin = Resolver::new(&site.container(BETA, "a1")?.ns, Family::V4, Transport::Udp);
        let none = twin.ask("queue.internal.", RecordType::AAAA)?;
        expect(&none, ResponseCode::NXDomain, &[])?;
        site.settle()
    });
}
