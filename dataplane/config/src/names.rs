//! Names of an environment: sections `[[environment.service]]`, and what is said of all other names.

use std::{
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use weft_dns::{
    ADDRESSES_PER_SLOT_MAX, Health, Outside, PORTS_PER_SERVICE_MAX, PortRecord, Protocol,
    ROLES_PER_SLOT_MAX, SERVICES_MAX, SLOTS_MAX, ServiceRecord, SlotRecord, UPSTREAMS_MAX, Zone,
    ZoneRecords, check_label, check_port_name, check_word,
};
use weft_types::Subnet;

use crate::{
    document::Table,
    host::{endpoint, one_of},
    member::check_unique,
    model::Names,
    problem::{At, Report},
    space::Space,
};

const SERVERS: &str = "an array of ADDRESS, ADDRESS:PORT or [IPv6]:PORT";
/// The port of name servers unless the file says otherwise (RFC 1035 section 4.2).
const DNS_PORT: u16 = 53;

/// What is said of names that are not the environment's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Others {
    /// That they are not answered here.
    #[default]
    Refuse,
    /// That they do not exist.
    Absent,
    /// What a server outside says.
    Forward,
}

impl Others {
    const ALL: &[Self] = &[Self::Refuse, Self::Absent, Self::Forward];

    fn as_str(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::Absent => "absent",
            Self::Forward => "forward",
        }
    }
}

/// Reads the names of an environment with these ranges. What is wrong is reported and left out.
pub(crate) fn read(
    table: &mut Table<'_>,
    subnets: Option<&[Subnet]>,
    report: &mut Report,
) -> Names {
    let outside = outside(table, subnets.unwrap_or_default(), report);
    // Addresses of slots live at attachments and peers: only among slots each is there once.
    let mut space = Space::new(subnets.map(<[Subnet]>::to_vec));
    let mut names = Vec::new();
    let mut services = Vec::new();
    for mut table in table.tables("service", SERVICES_MAX, report) {
        let name = table.text("name", "a name", report, |s| label(s, check_label));
        let here = table.here();
        let service = service(table, name.as_ref(), &mut space, report);
        names.extend(name);
        // What its parts do not say by themselves: what could be read in two ways.
        if let Some(subnets) = subnets {
            let subnets = subnets.to_vec();
            let services = vec![service.clone()];
            let whole = ZoneRecords { subnets, services, ..ZoneRecords::default() };
            if let Err(error) = Zone::new(whole)
                && !service.name.is_empty()
            {
                report.about(&here, error);
            }
        }
        services.push(service);
    }
    check_unique(names.iter(), "service", report);
    let slots: usize = services.iter().map(|service| service.slots.len()).sum();
    if slots > SLOTS_MAX {
        let message =
            format_args!("has {slots} slots in its services; expected at most {SLOTS_MAX}");
        report.about(&table.here(), message);
    }
    Names { services, outside }
}

/// One service; without a name it has been reported already.
fn service(
    mut table: Table<'_>,
    name: Option<&At<String>>,
    space: &mut Space,
    report: &mut Report,
) -> ServiceRecord {
    let ports = table.tables("port", PORTS_PER_SERVICE_MAX, report);
    let ports = ports.into_iter().filter_map(|table| port(table, report)).collect();
    let slots = table.tables("slot", SLOTS_MAX, report);
    let slots = slots.into_iter().filter_map(|table| slot(table, space, report)).collect();
    table.finish(report);
    ServiceRecord { name: name.map(|at| at.value.clone()).unwrap_or_default(), ports, slots }
}

fn port(mut table: Table<'_>, report: &mut Report) -> Option<PortRecord> {
    let name = table.text("name", "a name", report, |s| label(s, check_port_name));
    let protocol = table.text("protocol", "tcp or udp", report, |text| match text {
        "tcp" => Ok(Protocol::Tcp),
        "udp" => Ok(Protocol::Udp),
        _ => Err("expected tcp or udp"),
    });
    let port = table.number("port", (1, u16::MAX.into()), report);
    table.finish(report);
    let port = u16::try_from(port?.value).ok()?;
    Some(PortRecord { name: name?.value, protocol: protocol?.value, port })
}

fn slot(mut table: Table<'_>, space: &mut Space, report: &mut Report) -> Option<SlotRecord> {
    let index = table.number("index", (0, u32::MAX.into()), report);
    let name = table.text_if_any("name", "a name", report, |s| label(s, check_word));
    let expected = "an array of overlay addresses";
    let addresses = table
        .texts("addresses", expected, ADDRESSES_PER_SLOT_MAX, report, |s| {
            IpAddr::from_str(s).map_err(|_| "expected an IPv4 or IPv6 address")
        })
        .iter()
        .filter_map(|address| space.take(address, report))
        .collect();
    let roles = match table.has("roles") {
        true => table.texts("roles", "an array of names", ROLES_PER_SLOT_MAX, report, |s| {
            label(s, check_word)
        }),
        false => Vec::new(),
    };
    table.finish(report);
    Some(SlotRecord {
        index: u32::try_from(index?.value).ok()?,
        name: name.map(|at| at.value),
        addresses,
        // Nobody checks it, and whoever wrote it wants it to be found.
        health: Health::Healthy,
        roles: roles.into_iter().map(|at| at.value).collect(),
    })
}

fn label<E>(text: &str, check: fn(&str) -> Result<(), E>) -> Result<String, E> {
    check(text).map(|()| text.to_owned())
}

fn outside(table: &mut Table<'_>, subnets: &[Subnet], report: &mut Report) -> Outside {
    let other = table.text_if_any("other_names", "refuse, absent or forward", report, |s| {
        one_of(Others::ALL, Others::as_str, s)
    });
    let problems = report.len();
    let servers = match table.has("name_servers") {
        true => table.texts("name_servers", SERVERS, UPSTREAMS_MAX, report, name_server),
        false => Vec::new(),
    };
    for server in &servers {
        let ip = server.value.ip();
        if subnets.iter().any(|subnet| subnet.gateway() == ip) {
            let message = format_args!("{ip} is the gateway that asks; expected a server outside");
            report.about(server, message);
        }
    }
    let other = other.map(|at| at.value).unwrap_or_default();
    let wrong = match (other, table.has("name_servers")) {
        (Others::Forward, false) if report.ignore_missing => None,
        (Others::Forward, false) => Some("is missing; expected 1 to 4 servers to forward to"),
        (Others::Forward, true) if servers.is_empty() && report.len() == problems => {
            Some("is empty; expected 1 to 4 servers to forward to")
        }
        (Others::Refuse | Others::Absent, true) => {
            Some("is asked by nobody; expected it with other_names = \"forward\" only")
        }
        _ => None,
    };
    if let Some(message) = wrong {
        let (field, span) = (table.path("name_servers"), table.here().span);
        report.add(&field, &span, message);
    }
    match other {
        Others::Refuse => Outside::Refuse,
        Others::Absent => Outside::Absent,
        Others::Forward => Outside::Forward(servers.into_iter().map(|at| at.value).collect()),
    }
}

const _: () = assert!(UPSTREAMS_MAX == 4, "as the messages say");

fn name_server(text: &str) -> Result<SocketAddr, String> {
    let server = match text.parse::<IpAddr>() {
        Ok(ip) => endpoint(&SocketAddr::new(ip, DNS_PORT).to_string())?,
        Err(_) => endpoint(text)?,
    };
    if server.ip().is_unspecified() {
        return Err(format!("{} names no host; expected a server's address", server.ip()));
    }
    Ok(server)
}
