//! What any host must have.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr},
};

use weft_config::{Config, Engine};
use weft_proto::aead::{Suite, has_aes, provider};
use weft_sys::{
    netns::Netns,
    process,
    ring::Ring,
    tun::{Tun, TunOptions},
    udp,
};

use super::{Finding, privileges};

/// Device of the trial, in a namespace that ends with it.
const TRIAL: TunOptions<'_> = TunOptions {
    name: "weft-doctor",
    queues: 2,
    mtu: 1_408,
    gso_max_size: 60_000,
    gso_max_segs: 64,
    queue_len: 32,
};
/// Share of the connection tracking table above which it is a danger to everything, percent.
const CONNTRACK_PERCENT_MAX: u64 = 80;

/// Every check of the host. `config` says what is asked of it, if that is known.
pub(super) fn check(config: Option<&Config>) -> Vec<Finding> {
    let mut findings = vec![kernel(), processor()];
    findings.extend(privileges::check(config));
    if privileges::is_root() {
        findings.push(interfaces());
    }
    findings.extend([segmentation(), buffers()]);
    findings.push(rings(config.is_some_and(|config| config.engine == Engine::Uring)));
    findings.extend([clock(), congestion_control()]);
    findings.extend(connection_tracking());
    findings
}

fn kernel() -> Finding {
    match read("/proc/sys/kernel/osrelease") {
        Some(release) => Finding::good("kernel", format!("Linux {release}")),
        None => Finding::problem("kernel", "/proc is not there", "mount it"),
    }
}

fn processor() -> Finding {
    let aead = format!("AES-256-GCM by {}", provider(Suite::Aes256Gcm));
    if has_aes() {
        Finding::good("processor", format!("AES instructions; {aead}"))
    } else {
        Finding::advice(
            "processor",
            "no AES instructions",
            "ChaCha20-Poly1305 is used with every peer, which takes several times as long",
        )
    }
}

/// Makes an interface as a container gets it, and forgets it.
fn interfaces() -> Finding {
    const CHECK: &str = "interfaces";
    let trial = Netns::create();
    if let Ok(trial) = &trial
        && let Err(error) = trial.cookie()
    {
        return Finding::problem(
            CHECK,
            format!("the kernel does not tell namespaces apart: {error}"),
            "weft-helper needs Linux 5.14 or newer (SO_NETNS_COOKIE)",
        );
    }
    let made = trial.and_then(|trial| trial.run(|| Tun::create(&TRIAL))).and_then(|made| made);
    match made {
        Ok(tun) if !tun.steering() => Finding::advice(
            CHECK,
            "the kernel refuses the program that keeps flows on one worker",
            "a kernel with CONFIG_BPF_SYSCALL and CONFIG_BPF_JIT spreads the load better",
        ),
        Ok(tun) if !tun.uso() => Finding::advice(
            CHECK,
            "interfaces take no UDP superpackets",
            "Linux 6.2 and newer do: UDP from containers is cheaper then",
        ),
        Ok(_) => Finding::good(CHECK, "several queues, TCP and UDP superpackets, steering"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Finding::problem(
            CHECK,
            format!("/dev/net/tun: {error}"),
            "load the module: `modprobe tun`; in a container, pass the device in",
        ),
        Err(error) => Finding::problem(
            CHECK,
            format!("no interface can be made: {error}"),
            "weftd needs CAP_NET_ADMIN and CAP_SYS_ADMIN, and a kernel with CONFIG_TUN",
        ),
    }
}

/// Sends two datagrams in one call, to nobody.
fn segmentation() -> Finding {
    const CHECK: &str = "segmentation";
    const LEN: usize = 100;
    let tried = udp::bind_lane(IpAddr::V4(Ipv4Addr::LOCALHOST), 0..=0).and_then(|socket| {
        socket.send(&socket.local_addr()?, 0, LEN, &[0; 2 * LEN])?;
        Ok(socket.gso_enabled())
    });
    match tried {
        Ok(true) => Finding::good(CHECK, "UDP leaves and arrives up to 64 datagrams at once"),
        Ok(false) => Finding::advice(
            CHECK,
            "the kernel takes one datagram at a time",
            "Linux 5.0 and newer take 64 (UDP_SEGMENT): several times the throughput",
        ),
        Err(error) => Finding::advice(
            CHECK,
            format!("could not be tried on 127.0.0.1: {error}"),
            "bring the interface lo up: `ip link set lo up`",
        ),
    }
}

/// How much may wait to be received: root may ask for more than others.
fn buffers() -> Finding {
    const CHECK: &str = "buffers";
    let wanted = usize::try_from(udp::SOCKET_RECEIVE_BYTES).unwrap_or(0);
    let tried = udp::bind_lane(IpAddr::V4(Ipv4Addr::LOCALHOST), 0..=0)
        .and_then(|socket| socket.receive_buffer());
    match tried {
        Ok(bytes) if bytes < wanted => Finding::advice(
            CHECK,
            format!("sockets hold {} KiB of {}", bytes >> 10, wanted >> 10),
            format!(
                "bursts are lost: give weftd CAP_NET_ADMIN, or `sysctl net.core.rmem_max={wanted}` and \
                 `net.core.wmem_max={wanted}`"
            ),
        ),
        Ok(bytes) => Finding::good(CHECK, format!("sockets hold {} KiB", bytes >> 10)),
        Err(error) => Finding::advice(
            CHECK,
            format!("could not be tried on 127.0.0.1: {error}"),
            "bring the interface lo up: `ip link set lo up`",
        ),
    }
}

fn rings(is_wanted: bool) -> Finding {
    const CHECK: &str = "io_uring";
    match Ring::probe() {
        Ok(()) => Finding::good(CHECK, "available"),
        Err(error) if is_wanted => Finding::problem(
            CHECK,
            format!("not available: {error}"),
            "engine = \"uring\" needs Linux 6.7, kernel.io_uring_disabled = 0 and no seccomp \
             profile that forbids it; engine = \"auto\" does without",
        ),
        Err(error) => {
            Finding::good(CHECK, format!("not available ({error}), and nothing asks for it"))
        }
    }
}

fn clock() -> Finding {
    const CHECK: &str = "clock";
    match process::clock_is_synchronised() {
        Ok(true) => Finding::good(CHECK, "synchronised"),
        Ok(false) => Finding::advice(
            CHECK,
            "not synchronised",
            "run an NTP client: whether certificates are valid is judged by this clock",
        ),
        Err(error) => Finding::advice(CHECK, format!("unknown: {error}"), "run an NTP client"),
    }
}

fn congestion_control() -> Finding {
    const CHECK: &str = "congestion control";
    match read("/proc/sys/net/ipv4/tcp_congestion_control") {
        Some(name) if name == "bbr" => Finding::advice(
            CHECK,
            "bbr, which sends by a timer",
            "where containers move much over a fast network, cubic may be twice as fast: \
             `sysctl net.ipv4.tcp_congestion_control=cubic`",
        ),
        Some(name) => Finding::good(CHECK, name),
        None => Finding::good(CHECK, "the kernel's"),
    }
}

fn connection_tracking() -> Option<Finding> {
    const CHECK: &str = "connection tracking";
    let number = |name: &str| -> Option<u64> {
        read(&format!("/proc/sys/net/netfilter/nf_conntrack_{name}"))?.parse().ok()
    };
    let (count, max) = (number("count")?, number("max")?);
    Some(if count.saturating_mul(100) > max.saturating_mul(CONNTRACK_PERCENT_MAX) {
        Finding::problem(
            CHECK,
            format!("{count} of {max} entries are used"),
            "raise net.netfilter.nf_conntrack_max, and exempt the listening port and the 512 ports \
             behind it (`notrack`)",
        )
    } else {
        Finding::good(CHECK, format!("{count} of {max} entries are used"))
    })
}

/// The only line of a file.
pub(super) fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim_end().to_owned())
}
