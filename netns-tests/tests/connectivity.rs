//! Traffic of every kind between containers, over every underlay: what WireGuard's `netns.sh`
//! does in its function `tests`, and the ways in which ours differs.

use std::time::Duration;

use netns_tests::daemon::Daemon;
use netns_tests::plan::PORT;
use netns_tests::process::wait_for;
use netns_tests::site::{OVERLAY_INTERFACE, SETTLE_LIMIT};
use netns_tests::topology::{Offloads, UNDERLAY_INTERFACE, Underlay};
use netns_tests::traffic::datagrams::{Flow, send};
use netns_tests::traffic::iperf::{Iperf, iperf};
use netns_tests::traffic::ping::{Ping, once, ping, ping_with};
use netns_tests::traffic::transfer::transfer;
use netns_tests::{ACME, Family, Load, Plan, Site, ensure, scenario};

const BOTH: [Family; 2] = [Family::V4, Family::V6];
const LIMIT: Duration = Duration::from_secs(3);
/// Slow enough for any machine that tests run on, fast enough to show that it is not a trickle.
const TCP_FLOOR: f64 = 2e8;
const SEED: u64 = 1;

#[test]
fn pings_both_ways_over_both_underlays() {
    for underlay in BOTH {
        scenario(Load::Light, |world| {
            let site = Site::up(world, &Plan::pair().two_each().over(underlay))?;
            site.ping_all()
        });
    }
}

#[test]
fn tcp_and_udp_over_both_underlays() {
    for (underlay, offloads) in
        [(Family::V4, Offloads::On), (Family::V6, Offloads::On), (Family::V4, Offloads::Off)]
    {
        scenario(Load::Heavy, |world| {
            let wires = Underlay { offloads, ..Underlay::default() };
            let plan = Plan::pair().over(underlay).underlay(wires);
            let mut site = Site::up(world, &plan)?;
            let (a, b) = (site.container(ACME, "a1")?, site.container(ACME, "b1")?);
            for (server, client, family, udp) in [
                (b, a, Family::V4, false),
                (a, b, Family::V6, false),
                (a, b, Family::V4, true),
                (b, a, Family::V6, true),
            ] {
                // UDP as fast as it goes, as in netns.sh: most is lost, nothing may break.
                let run = Iperf { udp, ..Iperf::default() };
                let report = iperf(&server.ns, &client.ns, server.address(family), &run)?;
                let rate = report.bits_per_second;
                ensure!(rate > if udp { 1e7 } else { TCP_FLOOR }, "{family:?} {udp}: {rate}");
            }
            site.assert_healthy()
        });
    }
}

#[test]
fn fifty_streams_in_parallel() {
    scenario(Load::Heavy, |world| {
        let mut site = Site::up(world, &Plan::pair())?;
        let (a, b) = (site.container(ACME, "a1")?, site.container(ACME, "b1")?);
        for streams in [4, 5, 50] {
            let run = Iperf { streams, time: Duration::from_secs(2), ..Iperf::default() };
            let report = iperf(&b.ns, &a.ns, b.address(Family::V4), &run)?;
            let each = report.json["end"]["streams"].as_array().map_or(&[][..], Vec::as_slice);
            ensure!(each.len() == usize::from(streams));
            let starved = each.iter().any(|s| s["receiver"]["bytes"].as_u64() == Some(0));
            ensure!(!starved, "a stream carried nothing: {}", report.json["end"]);
            ensure!(report.bits_per_second > TCP_FLOOR, "{}", report.bits_per_second);
        }
        site.assert_healthy()
    });
}

#[test]
fn the_mtu_is_exactly_what_the_underlay_leaves() {
    // Less what the larger underlay header needs: the same over both.
    let wires = [(1_500, 1_408), (9_000, 8_908)];
    for (underlay, (wire, mtu)) in BOTH.into_iter().flat_map(|b| wires.map(|w| (b, w))) {
        scenario(Load::Light, |world| {
            let wires = Underlay { mtu: wire, ..Underlay::default() };
            let site = Site::up(world, &Plan::pair().over(underlay).underlay(wires))?;
            let (a, b) = (site.container(ACME, "a1")?, site.container(ACME, "b1")?);
            let link = a.ns.ip_json(&format!("link show dev {OVERLAY_INTERFACE}"))?;
            ensure!(link[0]["mtu"] == mtu, "{link}");
            for (family, headers) in [(Family::V4, 28), (Family::V6, 48)] {
                let to = b.address(family);
                // The largest packet, and one that the container has to fragment.
                for size in [mtu - headers, 12_000, 20_000] {
                    let pinged = ping(&a.ns, to, &Ping { size, ..Ping::default() })?;
                    ensure!(pinged.complete(), "{size} bytes: {}", pinged.text);
                }
                let size = mtu - headers + 1;
                let one = Ping { count: 1, size, ..Ping::default() };
                let refused = ping_with(&a.ns, to, &one, "-M do");
                ensure!(refused.is_err() || refused?.received == 0, "{size} bytes with DF");
            }
            Ok(())
        });
    }
}

#[test]
fn a_host_without_jumbo_frames_is_reached_from_one_with_them() {
    scenario(Load::Heavy, |world| {
        let wires = Underlay { mtu: 9_000, ..Underlay::default() };
        let mut site = Site::prepare(world, &Plan::pair().underlay(wires))?;
        let host = site.topology.host("host-b")?.ns.clone();
        host.ip(&format!("link set dev {UNDERLAY_INTERFACE} mtu 1500"))?;
        site.start()?;
        let (a, b) = (site.container(ACME, "a1")?, site.container(ACME, "b1")?);
        for (family, headers) in [(Family::V4, 28), (Family::V6, 48)] {
            // The first is too big; the answer says how big the next may be.
            let size = 8_000;
            let to = b.address(family);
            let one = Ping { count: 1, size, ..Ping::default() };
            let refused = ping_with(&a.ns, to, &one, "-M do");
            ensure!(refused.is_err() || refused?.received == 0, "{size} bytes with DF");
            for size in [1_408 - headers, size] {
                let pinged = ping(&a.ns, to, &Ping { size, ..Ping::default() })?;
                ensure!(pinged.complete(), "{size} bytes: {}", pinged.text);
            }
            let bytes = 16 << 20;
            transfer(&a.ns, &b.ns, (to, 0).into(), bytes, SEED)?.assert_equal(bytes)?;
        }
        Ok(())
    });
}

#[test]
fn a_flow_keeps_its_order() {
    scenario(Load::Heavy, |world| {
        let site = Site::up(world, &Plan::pair())?;
        let (a, b) = (site.container(ACME, "a1")?, site.container(ACME, "b1")?);
        for (family, segments) in [(Family::V4, 1), (Family::V6, 1), (Family::V4, 40)] {
            let flow = Flow {
                packets: 100_000,
                payload: 1_200,
                rate: Some(40_000),
                segments,
                ..Flow::between(a.address(family), b.address(family))
            };
            let arrived = send(&a.ns, &b.ns, &flow)?;
            ensure!(arrived.late == 0 && arrived.damaged == 0, "{arrived:?}");
            ensure!(arrived.duplicates == 0, "{arrived:?}");
            // The order is the point here, but without arrivals it would prove nothing.
            ensure!(arrived.received > 95_000, "{arrived:?}");
        }
        Ok(())
    });
}

#[test]
fn containers_of_one_host_talk_without_the_underlay() {
    scenario(Load::Light, |world| {
        let site = Site::up(world, &Plan::pair().two_each())?;
        let (a1, a2) = (site.container(ACME, "a1")?, site.container(ACME, "a2")?);
        let host = &site.topology.host("host-a")?.ns;
        let before = host.link(UNDERLAY_INTERFACE)?;
        for family in BOTH {
            let bytes = 16 << 20;
            let to = (a2.address(family), 0).into();
            transfer(&a1.ns, &a2.ns, to, bytes, SEED)?.assert_equal(bytes)?;
            let flow = Flow::between(a2.address(family), a1.address(family));
            let arrived = send(&a2.ns, &a1.ns, &Flow { segments: 20, ..flow })?;
            ensure!(arrived.complete() && arrived.late == 0, "{arrived:?}");
        }
        let after = host.link(UNDERLAY_INTERFACE)?;
        ensure!(after.tx_bytes - before.tx_bytes < 1 << 20, "{before:?} {after:?}");
        Ok(())
    });
}

#[test]
fn unroutable_destinations_are_answered_but_not_without_end() {
    scenario(Load::Light, |world| {
        let site = Site::up(world, &Plan::pair())?;
        let a = site.container(ACME, "a1")?;
        for nobody in ["10.40.0.99", "fd40::99"] {
            let pinged = ping(&a.ns, nobody.parse()?, &Ping { count: 3, ..Ping::default() })?;
            ensure!(pinged.received == 0, "{}", pinged.text);
            let answered = pinged.text.to_lowercase().contains("unreachable");
            ensure!(answered, "no ICMP error: {}", pinged.text);
        }
        // 20,000 packets to nowhere bring a bounded number of errors.
        let nowhere = Flow {
            packets: 20_000,
            rate: Some(40_000),
            ..Flow::between(a.address(Family::V4), "10.40.0.99".parse()?)
        };
        let before = a.received()?;
        let sink = world.namespace("sink")?;
        sink.ip("address add 10.40.0.99/32 dev lo")?;
        ensure!(send(&a.ns, &sink, &nowhere)?.received == 0);
        let errors = a.received()? - before;
        ensure!((1..2_000).contains(&errors), "{errors} errors for 20,000 packets");
        ensure!(site.drops_by("host-a", ACME, "no_route")? >= 20_000);
        Ok(())
    });
}

#[test]
fn weft_runs_inside_weft() {
    scenario(Load::Light, |world| {
        // The containers of the outer overlay are the hosts of an inner one.
        let outer = Site::up(world, &Plan::pair())?;
        let mut inner = Plan::pair();
        inner.environments = vec!["inner".into()];
        for container in &mut inner.containers {
            container.environment = "inner".into();
        }
        let beside = world.beside()?;
        let mut inner = Site::prepare(&beside, &inner)?;
        let hosts = [("host-a", "a1"), ("host-b", "b1")];
        let endpoint = |name| -> netns_tests::Result<String> {
            Ok(format!("{}:{PORT}", outer.container(ACME, name)?.address(Family::V4)))
        };
        let mut daemons = Vec::new();
        for (host, container) in hosts {
            let config = inner.config(host);
            config.listen = endpoint(container)?;
            config.metrics = None;
            let (_, other) = hosts[usize::from(host == "host-a")];
            config.environment("inner").peers[0].endpoint = endpoint(other)?;
            let file = inner.write(host)?;
            let log = world.dir().join(format!("inner-{host}.log"));
            let ns = &outer.container(ACME, container)?.ns;
            daemons.push(Daemon::start(ns, &file, &inner.socket(host), &log)?);
        }
        let (a, b) = (inner.container("inner", "a1")?, inner.container("inner", "b1")?);
        wait_for("the inner tunnel", SETTLE_LIMIT, || {
            Ok(once(&a.ns, b.address(Family::V6), LIMIT)?.then_some(()))
        })?;
        let link = a.ns.ip_json(&format!("link show dev {OVERLAY_INTERFACE}"))?;
        ensure!(link[0]["mtu"] == 1_316, "{link}");
        let bytes = 16 << 20;
        let to = (b.address(Family::V4), 0).into();
        transfer(&a.ns, &b.ns, to, bytes, SEED)?.assert_equal(bytes)
    });
}
