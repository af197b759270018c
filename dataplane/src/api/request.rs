//! From what is asked to what the node understands. Whether it makes sense on this host is the
//! node's to say; here it only has to be readable. A refusal begins with the name of its field.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use tonic::Status;
use weft_agent::NewAttachment;
use weft_api::v1;
use weft_config::{
    ALTERNATIVES_MAX, EGRESS_MBIT_LIMIT, INTERFACE_DEFAULT, KEEPALIVE_SECONDS_LIMITS, Share,
    WEIGHT_DEFAULT, WEIGHT_MAX,
};
use weft_types::{AttachmentName, EnvironmentId, HostId, NameError};

use crate::model::{AttachSpec, PeerSpec};

/// Longest path of a namespace in bytes: `PATH_MAX` less the closing zero.
const NETNS_LEN_MAX: usize = 4095;
/// Longest name of an interface in bytes: `IFNAMSIZ` less the closing zero.
const INTERFACE_LEN_MAX: usize = 15;
/// Characters of a wrong value that an error repeats.
const SHOWN_MAX: usize = 64;

/// An attachment to make, and the environment that it belongs to.
///
/// # Errors
/// `INVALID_ARGUMENT`, which names the field.
pub fn attach(request: v1::AttachRequest) -> Result<(EnvironmentId, AttachSpec), Status> {
    let v1::AttachRequest { environment, name: id, netns, interface, addresses, share } = request;
    if !netns.starts_with('/') || netns.len() > NETNS_LEN_MAX {
        let expected = "expected an absolute path, for example /run/netns/web1";
        return Err(wrong("netns", &netns, expected));
    }
    if interface.len() > INTERFACE_LEN_MAX {
        let expected = format!("expected at most {INTERFACE_LEN_MAX} bytes");
        return Err(wrong("interface", &interface, expected));
    }
    let interface = if interface.is_empty() { INTERFACE_DEFAULT.to_owned() } else { interface };
    let mut addresses = self::addresses(&addresses)?;
    // Asked again in another order it is the same attachment: IPv4 comes first.
    addresses.sort_unstable();
    let spec = AttachSpec {
        name: name("name", &id)?,
        netns: PathBuf::from(netns),
        interface,
        addresses,
        share: self::share(share.unwrap_or_default())?,
    };
    Ok((name("environment", &environment)?, spec))
}

/// What a host that follows a control plane may say of an attachment.
///
/// # Errors
/// `INVALID_ARGUMENT`: its share is not this host's to say.
pub fn managed(environment: EnvironmentId, spec: AttachSpec) -> Result<NewAttachment, Status> {
    let AttachSpec { name, netns, interface, addresses, share } = spec;
    if share != Share::default() {
        return Err(Status::invalid_argument(
            "share: the control plane decides what an attachment may send; expected none",
        ));
    }
    Ok(NewAttachment { environment, name, netns, interface, addresses })
}

/// A zero is what was not given.
fn share(share: v1::Share) -> Result<Share, Status> {
    let weight = match u16::try_from(share.weight) {
        Ok(0) => WEIGHT_DEFAULT,
        Ok(weight) if u64::from(weight) <= WEIGHT_MAX => weight,
        _ => {
            let expected = format!("expected 1 to {WEIGHT_MAX}, or 0 for {WEIGHT_DEFAULT}");
            return Err(wrong("share.weight", &share.weight.to_string(), expected));
        }
    };
    let limit = share.egress_mbit_max;
    if u64::from(limit) > EGRESS_MBIT_LIMIT {
        let expected = format!("expected 1 to {EGRESS_MBIT_LIMIT}, or 0 for no limit");
        return Err(wrong("share.egress_mbit_max", &limit.to_string(), expected));
    }
    Ok(Share { weight, egress_mbit_max: (limit > 0).then_some(limit) })
}

/// The attachment to remove.
///
/// # Errors
/// `INVALID_ARGUMENT`, which names the field.
pub fn detach(request: &v1::DetachRequest) -> Result<(EnvironmentId, AttachmentName), Status> {
    Ok((name("environment", &request.environment)?, name("name", &request.name)?))
}

/// A peer to know, and the environment that it belongs to.
///
/// # Errors
/// `INVALID_ARGUMENT`, which names the field.
pub fn add_peer(request: &v1::AddPeerRequest) -> Result<(EnvironmentId, PeerSpec), Status> {
    let others = &request.alternative_endpoints;
    if others.len() > ALTERNATIVES_MAX {
        let expected = format!("expected at most {ALTERNATIVES_MAX}");
        return Err(wrong("alternative_endpoints", &others.len().to_string(), expected));
    }
    let others = others.iter().map(|text| endpoint("alternative_endpoints", text));
    let spec = PeerSpec {
        host: name("host", &request.host)?,
        endpoint: endpoint("endpoint", &request.endpoint)?,
        alternatives: others.collect::<Result<_, _>>()?,
        addresses: addresses(&request.addresses)?,
        keepalive: keepalive(request.keepalive_seconds)?,
    };
    Ok((name("environment", &request.environment)?, spec))
}

fn endpoint(field: &str, text: &str) -> Result<SocketAddr, Status> {
    text.parse().map_err(|_| wrong(field, text, "expected ADDRESS:PORT or [ADDRESS]:PORT"))
}

fn keepalive(seconds: u32) -> Result<Option<Duration>, Status> {
    let (min, max) = KEEPALIVE_SECONDS_LIMITS;
    match u64::from(seconds) {
        0 => Ok(None),
        seconds if (min..=max).contains(&seconds) => Ok(Some(Duration::from_secs(seconds))),
        seconds => {
            let expected = format!("expected {min} to {max}, or 0 for never");
            Err(wrong("keepalive_seconds", &seconds.to_string(), expected))
        }
    }
}

/// The peer to forget.
///
/// # Errors
/// `INVALID_ARGUMENT`, which names the field.
pub fn remove_peer(request: &v1::RemovePeerRequest) -> Result<(EnvironmentId, HostId), Status> {
    Ok((name("environment", &request.environment)?, name("host", &request.host)?))
}

/// The peer, and the addresses that live there from now on.
///
/// # Errors
/// `INVALID_ARGUMENT`, which names the field.
pub fn set_routes(
    request: &v1::SetRoutesRequest,
) -> Result<(EnvironmentId, HostId, Vec<IpAddr>), Status> {
    let environment = name("environment", &request.environment)?;
    Ok((environment, name("host", &request.host)?, addresses(&request.addresses)?))
}

/// One environment, or all when nothing is named.
///
/// # Errors
/// `INVALID_ARGUMENT`, which names the field.
pub fn filter(environment: &str) -> Result<Option<EnvironmentId>, Status> {
    match environment {
        "" => Ok(None),
        id => name("environment", id).map(Some),
    }
}

fn name<T: FromStr<Err = NameError>>(field: &str, text: &str) -> Result<T, Status> {
    text.parse().map_err(|error| Status::invalid_argument(format!("{field}: {error}")))
}

fn addresses(texts: &[String]) -> Result<Vec<IpAddr>, Status> {
    let address = |(i, text): (usize, &String)| {
        text.parse().map_err(|_| {
            wrong(&format!("addresses[{i}]"), text, "expected an IPv4 or IPv6 address")
        })
    };
    texts.iter().enumerate().map(address).collect()
}

fn wrong(field: &str, value: &str, expected: impl AsRef<str>) -> Status {
    let expected = expected.as_ref();
    let shown: String = value.chars().take(SHOWN_MAX).collect();
    let more = if shown.len() < value.len() { "…" } else { "" };
    Status::invalid_argument(format!("{field}: {shown:?}{more}: {expected}"))
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    fn attach_request() -> v1::AttachRequest {
        v1::AttachRequest {
            environment: "acme".into(),
            name: "web-1".into(),
            netns: "/run/netns/web1".into(),
            interface: String::new(),
            addresses: vec!["fd40::2".into(), "10.40.0.2".into()],
            share: None,
        }
    }

    fn refused<T>(result: Result<T, Status>) -> String {
        let status = result.err().unwrap();
        assert_eq!(status.code(), Code::InvalidArgument);
        // It travels in a header, of which 16 KiB are read.
        assert!(status.message().len() < 1024);
        status.message().to_owned()
    }

    #[test]
    fn an_attachment_is_read_with_its_defaults() {
        let (environment, spec) = attach(attach_request()).unwrap();
        assert_eq!(environment.as_str(), "acme");
        assert_eq!((spec.name.as_str(), spec.interface.as_str()), ("web-1", "weft0"));
        assert_eq!(spec.netns, PathBuf::from("/run/netns/web1"));
        let v4_first: [IpAddr; 2] = ["10.40.0.2".parse().unwrap(), "fd40::2".parse().unwrap()];
        assert_eq!(spec.addresses, v4_first);
        let named = v1::AttachRequest { interface: "eth7".into(), ..attach_request() };
        assert_eq!(attach(named).unwrap().1.interface, "eth7");
        assert_eq!(spec.share, Share { weight: 100, egress_mbit_max: None });
        let share = Some(v1::Share { weight: 10_000, egress_mbit_max: 1_000_000 });
        let given = attach(v1::AttachRequest { share, ..attach_request() }).unwrap().1.share;
        assert_eq!(given, Share { weight: 10_000, egress_mbit_max: Some(1_000_000) });
    }

    #[test]
    fn a_wrong_attachment_is_refused_by_its_field() {
        type Spoil = fn(&mut v1::AttachRequest);
        let cases: [(Spoil, &str); 10] = [
            (|r| r.environment.clear(), "environment: is empty"),
            (|r| r.environment = "Acme".into(), "environment: 'A' is not allowed"),
            (|r| r.name = "x".repeat(1 << 20), "name: has 1048576 characters"),
            (|r| r.netns.clear(), "netns: \"\": expected an absolute path"),
            (|r| r.netns = "run/netns/web1".into(), "netns: \"run/netns/web1\": expected an"),
            (|r| r.netns = "/x".repeat(1 << 20), "netns: \"/x/x"),
            (|r| r.interface = "x".repeat(16), "interface: \"xxxxxxxxxxxxxxxx\": expected at"),
            (
                |r| r.addresses[1] = "10.40.0.2/16".into(),
                "addresses[1]: \"10.40.0.2/16\": expected",
            ),
            (
                |r| r.share = Some(v1::Share { weight: 10_001, egress_mbit_max: 0 }),
                "share.weight: \"10001\": expected 1 to 10000",
            ),
            (
                |r| r.share = Some(v1::Share { weight: 1, egress_mbit_max: 1_000_001 }),
                "share.egress_mbit_max: \"1000001\": expected 1 to 1000000",
            ),
        ];
        for (spoil, expected) in cases {
            let mut request = attach_request();
            spoil(&mut request);
            let message = refused(attach(request));
            assert!(message.starts_with(expected), "{message}");
        }
    }

    #[test]
    fn where_a_control_plane_decides_no_share_is_taken() {
        let (environment, spec) = attach(attach_request()).unwrap();
        let wanted = managed(environment.clone(), spec.clone()).unwrap();
        assert_eq!((wanted.environment.as_str(), wanted.addresses.len()), ("acme", 2));
        let share = Share { weight: 200, egress_mbit_max: None };
        assert!(refused(managed(environment, AttachSpec { share, ..spec })).starts_with("share: "));
    }

    #[test]
    fn peers_and_routes_are_read() {
        let request = v1::AddPeerRequest {
            environment: "acme".into(),
            host: "host-b".into(),
            endpoint: "[2001:db8::2]:5820".into(),
            addresses: vec!["10.40.0.3".into()],
            keepalive_seconds: 25,
            alternative_endpoints: vec!["[2001:db8::3]:5821".into()],
        };
        let (environment, spec) = add_peer(&request).unwrap();
        assert_eq!((environment.as_str(), spec.host.as_str()), ("acme", "host-b"));
        assert_eq!(spec.endpoint, "[2001:db8::2]:5820".parse().unwrap());
        assert_eq!(spec.alternatives, ["[2001:db8::3]:5821".parse().unwrap()]);
        let wrong =
            |alternative_endpoints| v1::AddPeerRequest { alternative_endpoints, ..request.clone() };
        let refusal = refused(add_peer(&wrong(vec!["host-c".into()])));
        assert!(refusal.starts_with("alternative_endpoints: \"host-c\": expected"), "{refusal}");
        let refusal = refused(add_peer(&wrong(vec!["192.0.2.9:1".into(); 8])));
        assert!(
            refusal.starts_with("alternative_endpoints: \"8\": expected at most 7"),
            "{refusal}"
        );
        for endpoint in ["", "host-b:5820", "192.0.2.2", "2001:db8::2:5820"] {
            let wrong = v1::AddPeerRequest { endpoint: endpoint.into(), ..request.clone() };
            assert!(refused(add_peer(&wrong)).contains("expected ADDRESS:PORT"));
        }
        assert_eq!(spec.keepalive, Some(Duration::from_secs(25)));
        let never = v1::AddPeerRequest { keepalive_seconds: 0, ..request.clone() };
        assert_eq!(add_peer(&never).unwrap().1.keepalive, None);
        let rarely = v1::AddPeerRequest { keepalive_seconds: 3_601, ..request.clone() };
        assert!(refused(add_peer(&rarely)).starts_with("keepalive_seconds: \"3601\": expected 1"));
        let nobody = v1::AddPeerRequest { host: String::new(), ..request };
        assert!(refused(add_peer(&nobody)).starts_with("host: is empty"));
        let routes = v1::SetRoutesRequest {
            environment: "acme".into(),
            host: "host-b".into(),
            addresses: vec!["fd40::3".into()],
        };
        let (_, host, addresses) = set_routes(&routes).unwrap();
        assert_eq!((host.as_str(), addresses.len()), ("host-b", 1));
    }

    #[test]
    fn an_empty_filter_means_all() {
        assert_eq!(filter("").unwrap(), None);
        assert_eq!(filter("acme").unwrap().unwrap().as_str(), "acme");
        refused(filter("no such"));
    }

    #[test]
    fn errors_repeat_only_the_beginning_of_a_value() {
        let message = refused(addresses(&["é".repeat(1 << 20)]));
        assert!(message.ends_with("é\"…: expected an IPv4 or IPv6 address"), "{message}");
    }
}
