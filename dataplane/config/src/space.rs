//! The address space of one environment: its ranges, and every address that is taken.

use std::{collections::HashMap, net::IpAddr, str::FromStr};

use weft_types::Subnet;

use crate::{
    document::Table,
    limits::{SUBNET_PREFIX_MAX, SUBNET6_PREFIX_MAX},
    problem::{At, Report},
};

/// Ranges that a host uses for itself or that name no single host; a container that gets an
/// address there cannot work.
const RESERVED: [(&str, &str); 9] = [
    ("0.0.0.0/8", "this network"),
    ("127.0.0.0/8", "loopback"),
    ("169.254.0.0/16", "link-local"),
    ("224.0.0.0/4", "multicast"),
    ("240.0.0.0/4", "reserved"),
    ("::/127", "unspecified and loopback"),
    ("::ffff:0:0/96", "IPv4-mapped"),
    ("fe80::/10", "link-local"),
    ("ff00::/8", "multicast"),
];

/// Ranges and addresses of one environment.
pub(crate) struct Space {
    /// The ranges; `None` when a range is wrong, so that nothing can be said of any address.
    subnets: Option<Vec<Subnet>>,
    owners: HashMap<IpAddr, String>,
}

impl Space {
    /// A space in which nothing is taken yet.
    pub(crate) fn new(subnets: Option<Vec<Subnet>>) -> Self {
        Self { subnets, owners: HashMap::new() }
    }

    /// Checks one overlay address and takes it; reports who has it already.
    pub(crate) fn take(&mut self, address: &At<IpAddr>, report: &mut Report) -> Option<IpAddr> {
        let ip = address.value;
        if let Some(subnets) = &self.subnets {
            let Some(subnet) = subnets.iter().find(|s| s.contains(ip)) else {
                let ranges: Vec<_> = subnets.iter().map(Subnet::to_string).collect();
                let ranges = ranges.join(" or ");
                report.about(address, format_args!("{ip} is outside; expected one of {ranges}"));
                return None;
            };
            let special = if ip == subnet.address() {
                "network"
            } else if ip == subnet.gateway() {
                "gateway"
            } else if Some(ip) == subnet.broadcast() {
                "broadcast"
            } else {
                ""
            };
            if !special.is_empty() {
                report.about(
                    address,
                    format_args!("{ip} is the {special} address of {subnet}; expected another"),
                );
                return None;
            }
        }
        if let Some(owner) = self.owners.get(&ip) {
            report.about(
                address,
                format_args!("{ip} is already {owner}; expected each address in one place"),
            );
            return None;
        }
        self.owners.insert(ip, address.field.clone());
        Some(ip)
    }
}

/// The ranges of an environment; `None` when one is wrong or there is none.
pub(crate) fn subnets(table: &mut Table<'_>, report: &mut Report) -> Option<Vec<Subnet>> {
    let v4 = table.text_if_any("subnet", "an IPv4 subnet", report, |s| {
        subnet(s, IpAddr::is_ipv4, SUBNET_PREFIX_MAX, "IPv4, for example 10.40.0.0/16")
    });
    let v6 = table.text_if_any("subnet6", "an IPv6 subnet", report, |s| {
        subnet(s, IpAddr::is_ipv6, SUBNET6_PREFIX_MAX, "IPv6, for example fd40::/64")
    });
    let wrong = (table.has("subnet") && v4.is_none()) || (table.has("subnet6") && v6.is_none());
    let found: Vec<_> = v4.into_iter().chain(v6).map(|at| at.value).collect();
    if !wrong && found.is_empty() && !report.ignore_missing {
        let field = table.path("subnet");
        report.add(&field, &table.here().span, "is missing; expected subnet, subnet6 or both");
    }
    (!wrong && !found.is_empty()).then_some(found)
}

fn subnet(
    text: &str,
    family: fn(&IpAddr) -> bool,
    prefix_max: u8,
    expected: &str,
) -> Result<Subnet, String> {
    let subnet = Subnet::from_str(text).map_err(|e| e.to_string())?;
    if !family(&subnet.address()) {
        return Err(format!("is of the other family; expected {expected}"));
    }
    if subnet.prefix_len() > prefix_max {
        return Err(format!("leaves no room; expected a prefix of at most {prefix_max} bits"));
    }
    for (range, name) in RESERVED {
        let range: Subnet = range.parse().map_err(|_| "a reserved range is wrong")?;
        if range.contains(subnet.address()) || subnet.contains(range.address()) {
            return Err(format!("overlaps {range} ({name}); expected a range of its own"));
        }
    }
    Ok(subnet)
}
