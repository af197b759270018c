//! What a configuration asks of this host.

use std::{
    collections::BTreeMap,
    io,
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::net::UnixStream,
    path::Path,
    thread,
    time::{Duration, SystemTime},
};

use weft_config::{Config, Control, Seal};
use weft_sys::{netns::Netns, process, udp};

use super::{Finding, place, underlay};

/// How long a peer may take to take a connection.
const CONNECT_MAX: Duration = Duration::from_secs(2);
/// Peers that are tried at once.
const CONNECTS_MAX: usize = 32;
/// A certificate that ends sooner should have been renewed: a third of the usual 90 days.
const RENEW_BEFORE: Duration = Duration::from_secs(30 * 86_400);
/// What problems of files say, and what to do where that is not to correct the configuration.
const REMEDIES: [(&str, &str); 3] = [
    (
        "cannot be read by user",
        "give it to that user, with every folder on the way: `chown`, `chmod`",
    ),
    ("is not valid before", "see whether this host's clock is behind: `timedatectl`"),
    (
        "expired at",
        "issue another with `weft pki issue`, if this host's clock is right: `timedatectl`",
    ),
];
/// Descriptors that a daemon without attachments and peers has open, generously.
const DESCRIPTORS_BASE: usize = 256;

/// Reads the configuration; everything that is wrong with it is a problem.
pub(super) fn load(path: &Path, findings: &mut Vec<Finding>) -> Option<Config> {
    match weft_config::load(path) {
        Ok(config) => {
            findings
                .push(Finding::good("configuration", format!("{}: no problems", path.display())));
            Some(config)
        }
        Err(problems) => {
            findings.extend(problems.iter().map(|problem| {
                let known = REMEDIES.iter().find(|(words, _)| problem.message.contains(words));
                let remedy = known.map_or("correct the file, or what it names", |(_, what)| what);
                Finding::problem("configuration", problem.to_string(), remedy)
            }));
            None
        }
    }
}

/// Every check of what a configuration needs.
pub(super) fn check(config: &Config, findings: &mut Vec<Finding>) {
    let is_running = UnixStream::connect(&config.api).is_ok();
    place::check(config, is_running, findings);
    underlay::check(config, findings);
    findings.extend(ports(config, is_running));
    findings.push(workers(config));
    findings.extend(descriptors(config));
    findings.extend(certificates(config));
    findings.extend(config.control.as_ref().map(control));
    findings.extend(namespaces(config));
    findings.extend(peers(config));
}

/// How well the host keeps what its control plane says.
fn control(control: &Control) -> Finding {
    const CHECK: &str = "control";
    match &control.seal {
        Seal::Disk => Finding::advice(
            CHECK,
            "seal is \"disk\": whoever has this host's disk has its certificates",
            "let `seal` name a file with 32 bytes that is not on the disk, such as a credential of the \
             service manager that a TPM has sealed",
        ),
        Seal::File(path) => match std::fs::File::open(path) {
            Ok(_) => Finding::good(CHECK, format!("follows {}, sealed", control.url)),
            Err(error) => Finding::problem(
                CHECK,
                format!("seal: {}: {error}", path.display()),
                "put the key there before the daemon starts",
            ),
        },
    }
}

fn ports(config: &Config, is_running: bool) -> Vec<Finding> {
    const CHECK: &str = "ports";
    let listen = config.listen;
    if is_running {
        return vec![Finding::good(
            CHECK,
            format!("a daemon runs and answers on {}", config.api.display()),
        )];
    }
    let mut tries = vec![
        (format!("UDP {listen}"), udp::bind_group(listen, 1).map(drop)),
        (format!("TCP {listen}"), TcpListener::bind(listen).map(drop)),
    ];
    if let Some(metrics) = config.metrics {
        tries.push((format!("TCP {metrics} (metrics)"), TcpListener::bind(metrics).map(drop)));
    }
    let taken: Vec<_> =
        tries.into_iter().filter_map(|(what, tried)| Some((what, tried.err()?))).collect();
    if taken.is_empty() {
        return vec![Finding::good(CHECK, format!("{listen} is free"))];
    }
    let finding = |(what, error): (String, io::Error)| {
        let remedy = format!("see who has it: `ss -lnptu 'sport = :{}'`", listen.port());
        Finding::problem(CHECK, format!("{what}: {error}"), remedy)
    };
    taken.into_iter().map(finding).collect()
}

fn workers(config: &Config) -> Finding {
    const CHECK: &str = "workers";
    let cores = thread::available_parallelism().map_or(1, usize::from);
    match config.workers {
        Some(workers) if usize::from(workers) > cores => Finding::advice(
            CHECK,
            format!("{workers} workers on {cores} cores"),
            "more workers than cores wait for each other; leave `workers` out",
        ),
        Some(workers) => Finding::good(CHECK, format!("{workers} workers on {cores} cores")),
        None => Finding::good(CHECK, format!("as many as cores: {cores}")),
    }
}

fn descriptors(config: &Config) -> Option<Finding> {
    const CHECK: &str = "descriptors";
    let workers = config
        .workers
        .map_or_else(|| thread::available_parallelism().map_or(1, usize::from), usize::from);
    let attachments: usize = config.environments.iter().map(|e| e.attachments.len()).sum();
    let needed = attachments * workers + DESCRIPTORS_BASE;
    let limit = process::descriptor_limit().ok()?;
    Some(if needed as u64 > limit {
        Finding::problem(
            CHECK,
            format!("{attachments} attachments need {needed}, and the limit is {limit}"),
            "raise the hard limit: `LimitNOFILE` of the systemd unit, or `ulimit -Hn`",
        )
    } else {
        Finding::good(CHECK, format!("{needed} needed, {limit} allowed"))
    })
}

fn certificates(config: &Config) -> Vec<Finding> {
    const CHECK: &str = "certificates";
    let now = SystemTime::now();
    let mut soon = Vec::new();
    for environment in &config.environments {
        let ends = environment.credentials.not_after();
        let left = ends.duration_since(now).unwrap_or_default();
        if left < RENEW_BEFORE {
            soon.push(Finding::advice(
                CHECK,
                format!(
                    "that of environment {} ends {}",
                    environment.id,
                    weft_pki::format_utc(ends)
                ),
                format!(
                    "`weft pki issue --env {} --host {} …`, then reload the daemon",
                    environment.id, config.host
                ),
            ));
        }
    }
    if soon.is_empty() && !config.environments.is_empty() {
        let days = RENEW_BEFORE.as_secs() / 86_400;
        let count = config.environments.len();
        soon.push(Finding::good(CHECK, format!("all {count} are valid for {days} days and more")));
    }
    soon
}

fn namespaces(config: &Config) -> Vec<Finding> {
    const CHECK: &str = "namespaces";
    let attachments =
        config.environments.iter().flat_map(|e| e.attachments.iter().map(move |a| (&e.id, a)));
    let missing = attachments.filter_map(|(environment, attachment)| {
        let error = Netns::open(&attachment.netns).err()?;
        Some(Finding::advice(
            CHECK,
            format!(
                "attachment {} of environment {environment}: {}: {error}",
                attachment.name,
                attachment.netns.display()
            ),
            "it is attached when its container's namespace is there",
        ))
    });
    missing.collect()
}

/// Whether peers take TCP connections. That says nothing of UDP, which is answered by nobody who does
/// not know the sender.
fn peers(config: &Config) -> Vec<Finding> {
    const CHECK: &str = "peers";
    let mut endpoints = BTreeMap::new();
    for environment in &config.environments {
        for peer in &environment.peers {
            endpoints.entry(peer.endpoint).or_insert_with(|| peer.host.clone());
        }
    }
    let endpoints: Vec<_> = endpoints.into_iter().collect();
    let mut silent = Vec::new();
    for some in endpoints.chunks(CONNECTS_MAX) {
        let tried: Vec<_> = thread::scope(|scope| {
            let tries: Vec<_> =
                some.iter().map(|(endpoint, _)| scope.spawn(|| connect(*endpoint))).collect();
            tries.into_iter().map(|tried| tried.join()).collect()
        });
        for ((endpoint, host), tried) in some.iter().zip(tried) {
            if let Ok(Err(error)) = tried {
                silent.push(Finding::advice(
                    CHECK,
                    format!("{host} does not answer on TCP {endpoint}: {error}"),
                    "its daemon must run, and firewalls on the way let TCP and UDP to that port in, \
                     and UDP from the 512 ports behind it",
                ));
            }
        }
    }
    if silent.is_empty() && !endpoints.is_empty() {
        let count = endpoints.len();
        silent.push(Finding::good(CHECK, format!("all {count} take connections")));
    }
    silent
}

fn connect(endpoint: SocketAddr) -> io::Result<()> {
    TcpStream::connect_timeout(&endpoint, CONNECT_MAX).map(drop)
}
