//! Sections `[[environment.attachment]]` and `[[environment.peer]]`.

use std::{
    collections::HashMap,
    hash::Hash,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    str::FromStr,
};

use weft_types::{AttachmentName, HostId};

use crate::{
    context::Context,
    document::Table,
    host::{endpoint, path},
    limits::{
        ADDRESSES_PER_PEER_MAX, ALTERNATIVES_MAX, EGRESS_MBIT_LIMIT, INTERFACE_LEN_MAX,
        KEEPALIVE_SECONDS_LIMITS, WEIGHT_DEFAULT, WEIGHT_MAX,
    },
    model::{self, Share},
    problem::{At, Report},
    space::Space,
};

/// Names that the kernel or its sysctl folders use for something else.
const INTERFACES_RESERVED: [&str; 5] = ["lo", "all", "default", ".", ".."];

/// An attachment as far as it could be read.
pub(crate) struct Attachment {
    name: Option<At<AttachmentName>>,
    netns: Option<PathBuf>,
    interface: Option<String>,
    addresses: Option<Vec<IpAddr>>,
    share: Share,
}

/// A peer as far as it could be read.
pub(crate) struct Peer {
    host: Option<At<HostId>>,
    endpoint: Option<At<SocketAddr>>,
    alternatives: Vec<At<SocketAddr>>,
    addresses: Vec<Option<IpAddr>>,
    keepalive_seconds: Option<u16>,
}

impl Attachment {
    /// The attachment; `None` when anything in it is wrong.
    pub(crate) fn finish(self) -> Option<model::Attachment> {
        Some(model::Attachment {
            name: self.name?.value,
            netns: self.netns?,
            interface: self.interface?,
            addresses: self.addresses?,
            share: self.share,
        })
    }
}

impl Peer {
    /// The peer; `None` when anything in it is wrong.
    pub(crate) fn finish(self) -> Option<model::Peer> {
        Some(model::Peer {
            host: self.host?.value,
            endpoint: self.endpoint?.value,
            alternatives: self.alternatives.into_iter().map(|at| at.value).collect(),
            addresses: self.addresses.into_iter().collect::<Option<_>>()?,
            keepalive_seconds: self.keepalive_seconds,
        })
    }
}

/// Reads one attachment.
pub(crate) fn attachment(
    mut table: Table<'_>,
    context: &mut Context<'_>,
    space: &mut Space,
    report: &mut Report,
) -> Attachment {
    let name = table.text("name", "a name", report, AttachmentName::from_str);
    let netns =
        table.text("netns", "the path of a network namespace", report, |s| path(s, context.base));
    let interface = if table.has("interface") {
        table.text_if_any("interface", "an interface name", report, interface)
    } else {
        Some(table.here().with(model::INTERFACE_DEFAULT.to_owned()))
    };
    if let (Some(netns), Some(interface)) = (&netns, &interface) {
        let place = (netns.value.clone(), interface.value.clone());
        if let Some(first) = context.interfaces.get(&place) {
            report.about(
                interface,
                format_args!(
                    "{first} already makes {} in {}; expected one interface of a name in a namespace",
                    place.1,
                    place.0.display()
                ),
            );
        } else {
            let owner = table.here().field;
            context.interfaces.insert(place, owner);
        }
    }
    let addresses = attachment_addresses(&mut table, space, report);
    let share = share(&mut table, report);
    table.finish(report);
    Attachment {
        name,
        netns: netns.map(|at| at.value),
        interface: interface.map(|at| at.value),
        addresses,
        share,
    }
}

/// Reads what an environment or an attachment may send. What is wrong is reported and reads as if
/// it were not there.
pub(crate) fn share(table: &mut Table<'_>, report: &mut Report) -> Share {
    let weight = table.number_if_any("weight", (1, WEIGHT_MAX), report);
    let limit = table.number_if_any("egress_mbit_max", (1, EGRESS_MBIT_LIMIT), report);
    Share {
        weight: weight.and_then(|at| at.value.try_into().ok()).unwrap_or(WEIGHT_DEFAULT),
        egress_mbit_max: limit.and_then(|at| at.value.try_into().ok()),
    }
}

/// The addresses of an attachment; `None` when one is wrong or there is none.
fn attachment_addresses(
    table: &mut Table<'_>,
    space: &mut Space,
    report: &mut Report,
) -> Option<Vec<IpAddr>> {
    let given = [table.has("address"), table.has("address6")];
    let v4 = table.text_if_any("address", "an IPv4 address", report, |s| {
        Ipv4Addr::from_str(s).map_err(|_| "expected an IPv4 address")
    });
    let v6 = table.text_if_any("address6", "an IPv6 address", report, |s| {
        Ipv6Addr::from_str(s).map_err(|_| "expected an IPv6 address")
    });
    let found =
        [v4.map(|at| at.with(IpAddr::V4(at.value))), v6.map(|at| at.with(IpAddr::V6(at.value)))];
    if given == [false, false] && !report.ignore_missing {
        let field = table.path("address");
        report.add(&field, &table.here().span, "is missing; expected address, address6 or both");
    }
    let wanted = given.iter().filter(|given| **given).count();
    let taken: Vec<_> =
        found.iter().flatten().filter_map(|address| space.take(address, report)).collect();
    (wanted > 0 && taken.len() == wanted).then_some(taken)
}

/// Whether the kernel takes a name for an interface, and it is one plain path component.
///
/// # Errors
/// What is wrong with it, and what was expected.
pub fn check_interface(name: &str) -> Result<(), String> {
    interface(name).map(drop)
}

fn interface(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > INTERFACE_LEN_MAX {
        return Err(format!("has {} bytes; expected 1 to {INTERFACE_LEN_MAX}", text.len()));
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if let Some(c) = text.chars().find(|c| !plain(*c)) {
        return Err(format!("{c:?} is not allowed; expected letters, digits, '-', '_' and '.'"));
    }
    if INTERFACES_RESERVED.contains(&text) {
        return Err("is reserved; expected another name".to_owned());
    }
    Ok(text.to_owned())
}

/// Reads one peer.
pub(crate) fn peer(
    mut table: Table<'_>,
    context: &Context<'_>,
    space: &mut Space,
    report: &mut Report,
) -> Peer {
    let host = table.text("host", "the peer's host id", report, HostId::from_str);
    if let (Some(host), Some(own)) = (&host, &context.host.host)
        && host.value == own.value
    {
        report.about(host, format_args!("{} is this host; expected another one", host.value));
    }
    let expected = "an array of ADDRESS:PORT or [IPv6]:PORT";
    let alternatives = match table.has("alternative_endpoints") {
        true => table.texts("alternative_endpoints", expected, ALTERNATIVES_MAX, report, endpoint),
        false => Vec::new(),
    };
    let endpoint = table.text("endpoint", "ADDRESS:PORT or [IPv6]:PORT", report, endpoint);
    for place in endpoint.iter().chain(&alternatives) {
        check_endpoint(place, context.host.listen.as_ref(), report);
    }
    let expected = "an array of overlay addresses";
    let addresses = table
        .texts("addresses", expected, ADDRESSES_PER_PEER_MAX, report, |s| {
            IpAddr::from_str(s).map_err(|_| "expected an IPv4 or IPv6 address")
        })
        .iter()
        .map(|address| space.take(address, report))
        .collect();
    let keepalive = table.number_if_any("keepalive_seconds", KEEPALIVE_SECONDS_LIMITS, report);
    let keepalive_seconds = keepalive.and_then(|at| at.value.try_into().ok());
    table.finish(report);
    Peer { host, endpoint, alternatives, addresses, keepalive_seconds }
}

fn check_endpoint(endpoint: &At<SocketAddr>, listen: Option<&At<SocketAddr>>, report: &mut Report) {
    let to = endpoint.value;
    if to.ip().is_unspecified() {
        report.about(
            endpoint,
            format_args!("{} names no host; expected an address of the peer", to.ip()),
        );
    }
    let Some(listen) = listen.map(|at| at.value) else {
        return;
    };
    if to == listen {
        report.about(
            endpoint,
            format_args!("{to} is where this host listens; expected an address of the peer"),
        );
    } else if to.is_ipv4() != listen.is_ipv4() {
        let family = if listen.is_ipv4() { "IPv4" } else { "IPv6" };
        report.about(
            endpoint,
            format_args!("{to} cannot be reached from listen = \"{listen}\"; expected {family}"),
        );
    }
}

/// Reports every attachment name that an earlier attachment has.
pub(crate) fn check_unique_names(attachments: &[Attachment], report: &mut Report) {
    let names = attachments.iter().filter_map(|a| a.name.as_ref());
    check_unique(names, "attachment name", report);
}

/// Reports every host and every endpoint that an earlier peer has.
pub(crate) fn check_unique_hosts(peers: &[Peer], report: &mut Report) {
    check_unique(peers.iter().filter_map(|p| p.host.as_ref()), "peer", report);
    let endpoints = peers.iter().flat_map(|p| p.endpoint.iter().chain(&p.alternatives));
    check_unique(endpoints, "endpoint", report);
}

/// Reports every value that was there before.
pub(crate) fn check_unique<'a, T: Eq + Hash + std::fmt::Display + 'a>(
    values: impl Iterator<Item = &'a At<T>>,
    what: &str,
    report: &mut Report,
) {
    let mut first: HashMap<&T, &str> = HashMap::new();
    for at in values {
        if let Some(field) = first.get(&at.value) {
            report.about(
                at,
                format_args!("{} is already {field}; expected each {what} once", at.value),
            );
        } else {
            first.insert(&at.value, &at.field);
        }
    }
}
