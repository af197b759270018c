//! The network between hosts, as this host sees it: addresses, interfaces, ports.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr, UdpSocket},
};

use weft_config::Config;
use weft_sys::{
    link::{self, Interface, offloads},
    netns::Netns,
};

use super::{Finding, host::read};

/// Shortest interface MTU over which packets of 1,280 bytes need one datagram.
const MTU_WHOLE: [u32; 2] = [1_352, 1_372];
/// Ports behind the listening port that workers send from.
const LANE_PORTS: u16 = 512;
/// What makes bulk cheap, by the kernel's names: how `ethtool` switches it on, and what it does.
const OFFLOADS: [(&str, &str, &str); 2] = [
    ("tx-generic-segmentation", "gso", "datagrams leave one by one"),
    ("rx-gro", "gro", "datagrams arrive one by one"),
];
/// Segmented sends need one of these for the family.
const CHECKSUMS: [[&str; 2]; 2] = [
    ["tx-checksum-ip-generic", "tx-checksum-ipv4"],
    ["tx-checksum-ip-generic", "tx-checksum-ipv6"],
];
/// Cuts a segmented send in the interface.
const SEGMENTATION: &str = "tx-udp-segmentation";

/// Every check of the underlay.
pub(super) fn check(config: &Config, findings: &mut Vec<Finding>) {
    let (found, interfaces) = addresses(config);
    findings.extend(found);
    for (interface, ip) in interfaces.values() {
        findings.extend(offloads(&interface.name, *ip));
    }
    findings.extend(attachments(config, interfaces.values().map(|(i, _)| i.mtu).min()));
    findings.push(reserved_ports(config));
}

/// What is found, and the interfaces that lead to other hosts with an address of each.
fn addresses(config: &Config) -> (Vec<Finding>, BTreeMap<String, (Interface, IpAddr)>) {
    const CHECK: &str = "address";
    let listen = config.listen.ip();
    let own = match listen.is_unspecified() {
        true => sources(config),
        false => vec![listen],
    };
    let mut findings = Vec::new();
    let mut interfaces = BTreeMap::new();
    if own.is_empty() {
        findings.push(Finding::good(CHECK, format!("{listen}: every interface's")));
    }
    for ip in own {
        findings.push(match link::interface_of(ip) {
            Ok(Some(interface)) => {
                let finding = mtu(ip, &interface);
                interfaces.insert(interface.name.clone(), (interface, ip));
                finding
            }
            Ok(None) => Finding::problem(
                CHECK,
                format!("no interface of this host has {ip}"),
                "correct `listen`, or give an interface the address: `ip address add`",
            ),
            Err(error) => Finding::advice(CHECK, format!("unknown: {error}"), "see `ip address`"),
        });
    }
    (findings, interfaces)
}

fn mtu(ip: IpAddr, interface: &Interface) -> Finding {
    const CHECK: &str = "address";
    let Interface { name, mtu } = interface;
    let finding = format!("{ip} is on {name} with an MTU of {mtu} bytes");
    if *mtu < MTU_WHOLE[usize::from(ip.is_ipv6())] {
        let remedy = "packets of 1,280 bytes need two datagrams each; raise the MTU if the network \
                      carries more";
        return Finding::advice(CHECK, finding, remedy);
    }
    Finding::good(CHECK, finding)
}

/// The addresses from which this host reaches its peers, each once.
fn sources(config: &Config) -> Vec<IpAddr> {
    let peers = config.environments.iter().flat_map(|e| &e.peers);
    let mut found: Vec<_> = peers.filter_map(|peer| source(peer.endpoint)).collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// Sends nothing: the kernel only chooses a route.
fn source(to: SocketAddr) -> Option<IpAddr> {
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(to).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

fn offloads(interface: &str, ip: IpAddr) -> Vec<Finding> {
    const CHECK: &str = "offloads";
    let features = match offloads::features(interface) {
        Ok(features) => features,
        Err(error) => {
            let finding = format!("{interface} does not tell: {error}");
            return vec![Finding::advice(CHECK, finding, format!("see `ethtool -k {interface}`"))];
        }
    };
    let is_on = |name: &str| features.get(name).is_some_and(|feature| feature.active);
    let mut findings = Vec::new();
    let mut advise = |what: &str, switch: &str, effect: &str| {
        findings.push(Finding::advice(
            CHECK,
            format!("{what} of {interface} is off: {effect}"),
            format!("`ethtool -K {interface} {switch} on`"),
        ));
    };
    for (name, switch, effect) in OFFLOADS {
        if features.contains_key(name) && !is_on(name) {
            advise(name, switch, effect);
        }
    }
    let checksums = CHECKSUMS[usize::from(ip.is_ipv6())];
    if !checksums.into_iter().any(is_on) {
        advise("checksumming", "tx", "datagrams leave one by one");
    } else if features.get(SEGMENTATION).is_some_and(|f| f.available && !f.active) {
        advise(SEGMENTATION, SEGMENTATION, "the interface could do the kernel's work");
    }
    if findings.is_empty() {
        let where_cut = if is_on(SEGMENTATION) { "the interface" } else { "the kernel" };
        let finding = format!("{interface}: many datagrams at once both ways, cut by {where_cut}");
        findings.push(Finding::good(CHECK, finding));
    }
    findings
}

/// Interfaces that are there already and take longer packets than the network carries.
fn attachments(config: &Config, underlay_mtu: Option<u32>) -> Vec<Finding> {
    const CHECK: &str = "mtu";
    let Some(underlay_mtu) = underlay_mtu else { return Vec::new() };
    let attachments =
        config.environments.iter().flat_map(|e| e.attachments.iter().map(move |a| (&e.id, a)));
    let too_long = attachments.filter_map(|(environment, attachment)| {
        let netns = Netns::open(&attachment.netns).ok()?;
        let found = netns.run(|| link::interface_named(&attachment.interface)).ok()?.ok()??;
        (found.mtu >= underlay_mtu).then(|| {
            let (name, mtu) = (&attachment.name, found.mtu);
            Finding::advice(
                CHECK,
                format!(
                    "attachment {name} of environment {environment} takes {mtu} bytes, the network \
                     {underlay_mtu}"
                ),
                "restart weftd: it makes interfaces for the MTU that it finds",
            )
        })
    });
    too_long.collect()
}

fn reserved_ports(config: &Config) -> Finding {
    const CHECK: &str = "reserved ports";
    let Some((first, last)) = read("/proc/sys/net/ipv4/ip_local_port_range").and_then(|text| {
        let mut numbers = text.split_whitespace().map(str::parse::<u16>);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
    }) else {
        return Finding::good(CHECK, "the kernel's");
    };
    let reserved = read("/proc/sys/net/ipv4/ip_local_reserved_ports").unwrap_or_default();
    let listen = config.listen.port();
    let mut ports = vec![listen];
    ports.extend(config.metrics.map(|metrics| metrics.port()));
    let is_given_away = |port: &u16| (first..=last).contains(port) && !lists(&reserved, *port);
    match ports.into_iter().find(is_given_away) {
        Some(port) => Finding::advice(
            CHECK,
            format!(
                "{port} is one of those that the kernel gives to any program ({first} to {last})"
            ),
            format!(
                "`sysctl net.ipv4.ip_local_reserved_ports={}`, or another port",
                match port == listen {
                    true => format!("{port}-{}", port.saturating_add(LANE_PORTS)),
                    false => port.to_string(),
                }
            ),
        ),
        None => Finding::good(CHECK, "nobody is given the daemon's by chance"),
    }
}

/// Whether a list such as `8080,9000-9100` has a port.
fn lists(list: &str, port: u16) -> bool {
    list.split(',').any(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        match (first.trim().parse::<u16>(), last.trim().parse::<u16>()) {
            (Ok(first), Ok(last)) => (first..=last).contains(&port),
            _ => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_ports_are_read() {
        for (list, is_there) in [
            ("", false),
            ("5820", true),
            ("5821", false),
            ("80,5820,9000", true),
            ("5000-6000", true),
            ("1-2,5820-6332", true),
            ("5821-6332", false),
            ("no", false),
        ] {
            assert_eq!(lists(list, 5820), is_there, "{list}");
        }
    }
}
