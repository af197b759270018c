//! Gigabytes with equal SHA-256, also over a network that loses, reorders and repeats.

use std::io::IoSliceMut;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use netns_tests::seeded::seed;
use netns_tests::traffic::datagrams::{Flow, send, socket};
use netns_tests::traffic::transfer::transfer;
use netns_tests::{ACME, Context, Family, Faults, Load, Plan, Result, Site, Way, ensure, scenario};
use nix::sys::socket::sockopt::{ReceiveTimestampns, UdpGsoSegment};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt};
use nix::sys::time::TimeSpec;

/// What has to arrive unchanged.
const BYTES: u64 = 2 << 30;
/// For the versions and directions that the long runs do not cover.
const SHORT: u64 = 128 << 20;
/// Within which packets arrive that are not lost.
const ARRIVAL_LIMIT: Duration = Duration::from_secs(5);
/// Share of datagrams that are dropped, reordered and repeated, each.
const ROUGH: f64 = 0.01;

#[test]
fn two_gibibytes_arrive_unchanged() {
    scenario(Load::Heavy, |world| {
        let mut site = Site::up(world, &Plan::pair())?;
        let (a, b) = (site.container(ACME, "a1")?, site.container(ACME, "b1")?);
        let run = transfer(&a.ns, &b.ns, (b.address(Family::V4), 0).into(), BYTES, seed())?;
        println!("{:.2} Gbit/s", run.bits_per_second() / 1e9);
        run.assert_equal(BYTES)?;
        let run = transfer(&b.ns, &a.ns, (a.address(Family::V6), 0).into(), SHORT, seed())?;
        run.assert_equal(SHORT)?;
        site.assert_healthy()
    });
}

#[test]
fn two_gibibytes_arrive_unchanged_over_a_rough_network() {
    scenario(Load::Heavy, |world| {
        let mut site = Site::prepare(world, &Plan::pair().relayed())?;
        let relay = site.relay(seed())?;
        site.start()?;
        site.settle()?;
        relay.faults(Faults::rough(ROUGH));
        let (a, b) = (site.container(ACME, "a1")?, site.container(ACME, "b1")?);
        let run = transfer(&a.ns, &b.ns, (b.address(Family::V4), 0).into(), BYTES, seed())?;
        let tally = relay.tally(Way::There);
        println!("{:.2} Gbit/s, {tally:?}", run.bits_per_second() / 1e9);
        run.assert_equal(BYTES)?;
        let share = tally.received / 200;
        ensure!(tally.dropped > share && tally.reordered > share, "the faults were at work");
        ensure!(tally.duplicated > share, "the faults were at work: {tally:?}");
        let run = transfer(&b.ns, &a.ns, (a.address(Family::V6), 0).into(), SHORT, seed())?;
        run.assert_equal(SHORT)?;
        ensure!(site.drops_by("host-b", ACME, "replay")? > 0, "duplicates are recognised");
        site.assert_healthy()
    });
}

#[test]
fn damaged_datagrams_are_as_good_as_lost() {
    scenario(Load::Heavy, |world| {
        let mut site = Site::prepare(world, &Plan::pair().relayed())?;
        let relay = site.relay(seed())?;
        site.start()?;
        site.settle()?;
        relay.faults(Faults { flip: ROUGH, truncate: ROUGH, ..Faults::NONE });
        let (a, b) = (site.container(ACME, "a1")?, site.container(ACME, "b1")?);
        let run = transfer(&a.ns, &b.ns, (b.address(Family::V4), 0).into(), SHORT, seed())?;
        run.assert_equal(SHORT)?;
        ensure!(relay.tally(Way::There).damaged > 100, "the faults were at work");
        ensure!(site.drops_by("host-b", ACME, "authentication")? > 0);
        site.assert_healthy()
    });
}

#[test]
fn a_slow_underlay_holds_packets_back_and_loses_none() {
    scenario(Load::Heavy, |world| {
        let mut site = Site::up(world, &Plan::pair())?;
        site.slow_down("host-a", 400)?;
        let (a, b) = (site.container(ACME, "a1")?, site.container(ACME, "b1")?);
        let flood = Flow {
            packets: 400_000,
            rate: Some(150_000),
            segments: 40,
            ..Flow::between(a.address(Family::V4), b.address(Family::V4))
        };
        let arrived = send(&a.ns, &b.ns, &flood)?;
        // What is too much goes before it is sealed: nothing that was paid for is lost.
        let refused = site.drops_by("host-a", ACME, "congestion")?;
        ensure!(refused > 0 && arrived.received < arrived.sent, "no flood: {arrived:?}");
        let lost = site.daemon("host-a")?.metrics()?.sum("send_errors", &[]);
        ensure!(lost == 0.0, "{lost} sealed datagrams lost: {arrived:?}");
        site.assert_healthy()
    });
}

/// Three megabytes are sent in some milliseconds and take 60 to leave. What other flows send then
/// arrives while most of it still waits.
#[test]
fn who_asks_for_little_does_not_wait_for_who_asks_for_much() {
    const SUPERPACKETS: usize = 75;
    const SEGMENTS: usize = 40;
    const PAYLOAD: usize = 1_000;
    const MUCH: usize = SUPERPACKETS * SEGMENTS;
    const OTHERS: usize = 8;
    const ATTEMPTS: usize = 5;
    scenario(Load::Heavy, |world| {
        let mut site = Site::up(world, &Plan::pair())?;
        site.slow_down("host-a", 400)?;
        let (a, b) = (site.container(ACME, "a1")?, site.container(ACME, "b1")?);
        let (from, to) = ((a.address(Family::V4), 0).into(), (b.address(Family::V4), 0).into());
        let flow = || -> Result<_> {
            let (sender, receiver) = (socket(&a.ns, from)?, socket(&b.ns, to)?);
            sender.connect(receiver.local_addr()?)?;
            setsockopt(&receiver, ReceiveTimestampns, &true)?;
            receiver.set_read_timeout(Some(ARRIVAL_LIMIT))?;
            Ok((sender, receiver))
        };
        // If this process is not scheduled meanwhile, there may be nothing left to overtake.
        for _ in 0..ATTEMPTS {
            let (much, much_there) = flow()?;
            let others = (0..OTHERS).map(|_| flow()).collect::<Result<Vec<_>>>()?;
            setsockopt(&much, UdpGsoSegment, &i32::try_from(PAYLOAD)?)?;
            for _ in 0..SUPERPACKETS {
                much.send(&[7; PAYLOAD * SEGMENTS])?;
            }
            let asked = SystemTime::now().duration_since(UNIX_EPOCH)?;
            for (sender, _) in &others {
                sender.send(b"little")?;
            }
            let mut last = Duration::ZERO;
            for (_, receiver) in &others {
                last = last.max(arrival(receiver)?);
            }
            let times = (0..MUCH).map(|_| arrival(&much_there)).collect::<Result<Vec<_>>>()?;
            let overtaken = times.iter().filter(|time| **time > last).count();
            let before = times.iter().filter(|time| asked < **time && **time < last).count();
            println!("{before} of {MUCH} packets in between, {overtaken} later");
            if before < MUCH / 2 && overtaken > MUCH / 4 {
                return site.assert_healthy();
            }
        }
        anyhow::bail!("all waited in {ATTEMPTS} attempts")
    });
}

/// When the next datagram arrived by the kernel's word, since 1970.
fn arrival(socket: &UdpSocket) -> Result<Duration> {
    let mut buffer = [0; 2_048];
    let mut parts = [IoSliceMut::new(&mut buffer)];
    let mut space = nix::cmsg_space!(TimeSpec);
    let flags = MsgFlags::empty();
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), flags)?;
    let time = message.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::ScmTimestampns(time) => Some(Duration::from(time)),
        _ => None,
    });
    time.context("no time")
}

#[test]
fn what_is_left_of_a_broken_superpacket_is_whole_packets() {
    scenario(Load::Heavy, |world| {
        let mut site = Site::prepare(world, &Plan::pair().relayed())?;
        let relay = site.relay(seed())?;
        site.start()?;
        site.settle()?;
        let (a, b) = (site.container(ACME, "a1")?, site.container(ACME, "b1")?);
        for family in [Family::V4, Family::V6] {
            // UDP superpackets of every size that a container can make, the largest included.
            for segments in [2, 40, 128] {
                let flow = Flow {
                    packets: 20_000,
                    payload: 500,
                    segments,
                    ..Flow::between(a.address(family), b.address(family))
                };
                relay.faults(Faults::NONE);
                let whole = send(&a.ns, &b.ns, &flow)?;
                ensure!(whole.complete() && whole.late == 0, "{segments} segments: {whole:?}");
                relay.faults(Faults::rough(0.05));
                let rough = send(&a.ns, &b.ns, &flow)?;
                ensure!(rough.damaged == 0 && rough.duplicates == 0, "{segments}: {rough:?}");
                // 5 % are dropped; reordered ones may come too late to be joined, not be lost.
                let share = rough.received * 100 / rough.sent;
                ensure!((90..=98).contains(&share), "{segments} segments: {rough:?}");
            }
        }
        site.assert_healthy()
    });
}
