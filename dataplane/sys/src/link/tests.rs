//! Interfaces in private namespaces.

use std::collections::BTreeSet;

use super::{query::address_of, *};
use crate::tun::{Tun, TunOptions};

const OPTIONS: TunOptions<'_> = TunOptions {
    name: "t0",
    queues: 1,
    mtu: 1408,
    gso_max_size: 60_500,
    gso_max_segs: 64,
    queue_len: 700,
};

/// All addresses of the calling thread's namespace with their prefix lengths.
fn addresses() -> BTreeSet<(IpAddr, u8)> {
    let mut found = BTreeSet::new();
    let query = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    Connection::open()
        .unwrap()
        .dump(query, |answer| {
            if let RouteNetlinkMessage::NewAddress(message) = answer {
                let address = message.attributes.iter().find_map(address_of).unwrap();
                found.insert((address, message.header.prefix_len));
            }
        })
        .unwrap();
    found
}

fn attributes_of(index: u32) -> Vec<LinkAttribute> {
    let mut found = Vec::new();
    let query = RouteNetlinkMessage::GetLink(LinkMessage::default());
    Connection::open()
        .unwrap()
        .dump(query, |answer| {
            if let RouteNetlinkMessage::NewLink(message) = answer
                && message.header.index == index
            {
                found = message.attributes;
            }
        })
        .unwrap();
    found
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn a_moved_device_keeps_its_limits_and_gets_exactly_its_addresses() {
    let (host, container) = (Netns::create().unwrap(), Netns::create().unwrap());
    let _tun = host
        .run(|| {
            let tun = Tun::create(&OPTIONS).unwrap();
            move_to_netns(tun.ifindex(), &container, "weft0").unwrap();
            assert!(interface_index("t0").is_err());
            tun
        })
        .unwrap();
    // As a container engine leaves it.
    container
        .run(|| {
            std::fs::write("/proc/sys/net/ipv6/conf/weft0/disable_ipv6", "1").unwrap();
        })
        .unwrap();
    let wanted = [(address("10.7.0.5"), 24), (address("fd00:7::5"), 64)];
    let config = LinkConfig {
        name: "weft0",
        addresses: &wanted,
        routes: &[
            (address("10.7.0.0"), 24),
            (address("10.8.1.1"), 16),
            (address("fd00:8::"), 32),
            (address("0.0.0.0"), 0),
        ],
    };
    configure(&container, &config).unwrap();
    container
        .run(|| {
            // Any link-local address would appear within a second.
            std::thread::sleep(std::time::Duration::from_millis(300));
            assert_eq!(addresses(), BTreeSet::from(wanted), "and no link-local address");
            let attributes = attributes_of(interface_index("weft0").unwrap());
            for expected in [
                LinkAttribute::Mtu(1408),
                LinkAttribute::GsoMaxSize(60_500),
                LinkAttribute::GsoIpv4MaxSize(60_500),
                LinkAttribute::GsoMaxSegs(64),
                LinkAttribute::TxQueueLen(700),
                LinkAttribute::Qdisc("noqueue".to_owned()),
            ] {
                assert!(attributes.contains(&expected), "{expected:?}");
            }
            for reached in ["10.7.0.9:1", "10.8.200.1:1", "192.0.2.1:1", "[fd00:8::1]:1"] {
                let reached: std::net::SocketAddr = reached.parse().unwrap();
                let any = if reached.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
                let socket = std::net::UdpSocket::bind(any).unwrap();
                socket.connect(reached).unwrap();
                let source = socket.local_addr().unwrap().ip();
                assert!(wanted.iter().any(|(address, _)| *address == source), "{reached}");
            }
            let found = interface_of(address("10.7.0.5")).unwrap().unwrap();
            assert_eq!((&*found.name, found.mtu), ("weft0", 1408));
            assert_eq!(interface_named("weft0").unwrap(), Some(found));
            assert_eq!(interface_named("weft1").unwrap(), None);
            assert!(interface_of(address("fd00:7::5")).unwrap().is_some());
            assert_eq!(interface_of(address("10.7.0.6")).unwrap(), None);
            assert_eq!(interface_of(address("0.0.0.0")).unwrap(), None);
            assert_eq!(interface_of(address("::")).unwrap(), None);
        })
        .unwrap();
}

#[test]
fn errors_name_what_failed() {
    let (host, container) = (Netns::create().unwrap(), Netns::create().unwrap());
    let none = LinkConfig { name: "weft0", addresses: &[], routes: &[] };
    let error = configure(&container, &none).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
    assert!(error.to_string().contains("weft0"), "{error}");

    let _taken = container.run(|| Tun::create(&TunOptions { name: "weft0", ..OPTIONS })).unwrap();
    let _tun = host
        .run(|| {
            let tun = Tun::create(&OPTIONS).unwrap();
            let error = move_to_netns(tun.ifindex(), &container, "weft0").unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AlreadyExists, "{error}");
            assert!(move_to_netns(tun.ifindex(), &container, "a/b").is_err());
            tun
        })
        .unwrap();

    let routes = [(address("10.9.0.0"), 16)];
    let config = LinkConfig { routes: &routes, ..none };
    configure(&container, &config).unwrap();
    let error = configure(&container, &config).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    assert!(error.to_string().contains("route 10.9.0.0/16"), "{error}");
    let long = [(address("10.9.0.0"), 33)];
    let error = configure(&container, &LinkConfig { addresses: &long, ..none }).unwrap_err();
    assert!(error.to_string().contains("at most 32"), "{error}");
}

#[test]
fn networks_are_cut_at_the_prefix() {
    for (from, prefix_len, to) in [
        ("10.1.2.3", 8, "10.0.0.0"),
        ("10.1.2.3", 0, "0.0.0.0"),
        ("10.1.2.3", 32, "10.1.2.3"),
        ("fd00::1:2", 0, "::"),
        ("fd00::1:2", 112, "fd00::1:0"),
        ("fd00::1:2", 128, "fd00::1:2"),
    ] {
        assert_eq!(network_of(address(from), prefix_len), address(to));
    }
}
