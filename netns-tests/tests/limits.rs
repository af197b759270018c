//! The kernel gives no more memory: `mmap` fails.

use std::time::Duration;

use netns_tests::fault::{extent, row};
use netns_tests::site::reach;
use netns_tests::traffic::transfer::transfer;
use netns_tests::{ACME, Context, Family, Load, Plan, Result, Site, ensure, scenario};

const BYTES: u64 = 16 << 20;
const LIMIT: Duration = Duration::from_secs(5);
/// Containers that come while there is no memory to be had.
const NEWCOMERS: u8 = 20;

/// Bytes of address space that a process has.
fn address_space(pid: i32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmSize:")).context("no VmSize")?;
    let kib: u64 = line.split_whitespace().next().context("no number")?.parse()?;
    Ok(kib * 1_024)
}

/// The real id of a process's user or group.
fn own(pid: i32, field: &str) -> Result<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)).context("no such field")?;
    Ok(line.split_whitespace().next().context("no number")?.parse()?)
}

#[test]
fn where_no_memory_is_to_be_had_what_runs_goes_on() {
    scenario(Load::Heavy, |world| {
        let mut site = Site::up(world, &Plan::pair())?;
        let pid = site.daemon("host-a")?.process().pid().as_raw();
        let space = address_space(pid)?;
        let ns = site.topology.host("host-a")?.ns.clone();
        // Whatever it maps from now on is refused. Its own user may say so, and root may not everywhere.
        let (uid, gid) = (own(pid, "Uid:")?, own(pid, "Gid:")?);
        let own_user = format!("setpriv --reuid {uid} --regid {gid} --clear-groups");
        ns.run_ok(&format!("{own_user} prlimit --pid {pid} --as={space}:{space}"), LIMIT)?;
        let (a, b) = (site.container(ACME, "a1")?.clone(), site.container(ACME, "b1")?.clone());
        let carry = || -> Result<()> {
            let to = (b.address(Family::V4), 0).into();
            transfer(&a.ns, &b.ns, to, BYTES, 1)?.assert_equal(BYTES)
        };
        carry()?;
        let newcomer = world.namespace("newcomer")?;
        let path = newcomer.path().display().to_string();
        for number in 0..NEWCOMERS {
            let order = format!(
                "attach --env {ACME} --name new{number} --netns {path} --interface w{number} --address \
                 10.40.0.{}",
                50 + number
            );
            site.daemon("host-a")?.weft_net(&order)?.ok()?;
        }
        let sessions = extent(3, 50);
        for _ in 0..sessions {
            site.daemon_mut("host-b")?.kill()?;
            site.start_host("host-b")?;
            reach(&a, &b)?;
        }
        carry()?;
        ensure!(address_space(pid)? <= space, "it was given more");
        let figure =
            format!("{sessions} sessions and {NEWCOMERS} attachments without any more mmap");
        row("failed mmap", "no exit; data plane alive; clear error", figure);
        site.assert_healthy()
    });
}
