//! A privileged container that has `/dev/net/tun` attaches to its own interface and changes what it can:
//! nobody else notices, and it has its connection again.

use std::process::Command;
use std::time::{Duration, Instant};

use netns_tests::fault::{extent, row};
use netns_tests::process::{pause, run_ok};
use netns_tests::site::{OVERLAY_INTERFACE, reach};
use netns_tests::traffic::datagrams::{Flow, send};
use netns_tests::traffic::transfer::transfer;
use netns_tests::{ACME, Container, Context, Family, Load, Plan, Result, Site, ensure, scenario};
use nix::sys::signal::{Signal, kill};

const LIMIT: Duration = Duration::from_secs(5);
/// What the container sends and receives afterwards, bytes.
const BYTES: u64 = 1 << 20;
const SEED: u64 = 1;

/// Attaches one more queue (`IFF_TUN | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE`), does something with it,
/// and lets go after a while. Perl is on every Debian and calls whatever it is told.
const ATTACH: &str = r#"
    open(my $tun, "+<", "/dev/net/tun") or die "open: $!";
    ioctl($tun, 0x400454ca, pack("a16 S x22", $ARGV[0], 0x5101)) or die "TUNSETIFF: $!";
    my $number = sub { pack("i", shift) };
"#;

/// What it does, as <linux/if_tun.h> numbers it; at a reduced extent the first of them.
const CHANGES: [(&str, &str); 9] = [
    ("a header of 12 bytes", "ioctl($tun, 0x400454d8, $number->(12)) or die $!;"),
    ("big endian", "ioctl($tun, 0x400454dc, $number->(0)); ioctl($tun, 0x400454de, $number->(1));"),
    ("no offloads", "ioctl($tun, 0x400454d0, 0) or die $!;"),
    ("a header of 64 bytes", "ioctl($tun, 0x400454d8, $number->(64)) or die $!;"),
    ("one offload", "ioctl($tun, 0x400454d0, 1) or die $!;"),
    ("persistent", "ioctl($tun, 0x400454cb, 1) or die $!;"),
    ("not persistent", "ioctl($tun, 0x400454cb, 0) or die $!;"),
    ("no steering", "ioctl($tun, 0x800454e0, $number->(-1));"),
    ("a queue that nobody reads", ""),
];

fn change(of: &Container, what: &str, call: &str) -> Result<()> {
    let program = format!("{ATTACH} {call} select(undef, undef, undef, 0.3);");
    let mut command: Command = of.ns.command("perl");
    command.args(["-e", &program, OVERLAY_INTERFACE]);
    run_ok(&mut command, LIMIT).with_context(|| what.to_owned()).map(drop)
}

/// Pings, datagrams and bytes in both directions.
fn works(near: &Container, far: &Container) -> Result<()> {
    reach(near, far)?;
    reach(far, near)?;
    for (from, to) in [(near, far), (far, near)] {
        let run = transfer(&from.ns, &to.ns, (to.address(Family::V4), 0).into(), BYTES, SEED)?;
        run.assert_equal(BYTES)?;
    }
    Ok(())
}

#[test]
fn what_a_container_does_to_its_own_interface_is_its_own_trouble() {
    scenario(Load::Heavy, |world| {
        let mut site = Site::up(world, &Plan::pair().two_each())?;
        let of = |name: &str| site.container(ACME, name).cloned();
        let (a1, b1, a2, b2) = (of("a1")?, of("b1")?, of("a2")?, of("b2")?);
        let mut longest = Duration::ZERO;
        let changes = &CHANGES[..extent(3, CHANGES.len())];
        for (what, call) in changes {
            let neighbour = Flow {
                packets: 1_500,
                rate: Some(2_000),
                ..Flow::between(a2.address(Family::V4), b2.address(Family::V4))
            };
            let arrived = std::thread::scope(|scope| {
                let sending = scope.spawn(|| send(&a2.ns, &b2.ns, &neighbour));
                pause(Duration::from_millis(200))?;
                change(&a1, what, call)?;
                sending.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })?;
            ensure!(arrived.complete(), "{what}: the neighbour: {arrived:?}");
            let begun = Instant::now();
            works(&a1, &b1).with_context(|| (*what).to_owned())?;
            longest = longest.max(begun.elapsed());
        }
        // It is "not persistent" now: whatever becomes of it, the neighbour's stays.
        change(&a1, "not persistent", "ioctl($tun, 0x400454cb, 0) or die $!;")?;
        let helper = site.daemon("host-a")?.helper()?.context("no helper")?;
        kill(helper, Signal::SIGKILL)?;
        site.daemon_mut("host-a")?.kill()?;
        site.start_host("host-a")?;
        works(&a2, &b2)?;
        works(&a1, &b1)?;
        let figure = format!(
            "{} changes: no datagram of its neighbour lost; works again, with 2 MiB, within {} ms",
            changes.len(),
            longest.as_millis()
        );
        row("a container attaches to its own TUN", "only it suffers, and recovers", figure);
        site.assert_healthy()
    });
}
