//! A "host" where a device is made, and a "container" that gets it.

use std::net::Ipv4Addr;

use super::{Tun, TunOptions, TunQueue};
use crate::link::{LinkConfig, configure, move_to_netns};
use crate::netns::Netns;

pub(crate) const OPTIONS: TunOptions<'_> = TunOptions {
    name: "weft-test",
    queues: 1,
    mtu: 1408,
    gso_max_size: 60_500,
    gso_max_segs: 64,
    queue_len: 700,
};

pub(crate) const INNER: Ipv4Addr = Ipv4Addr::new(10, 7, 0, 1);

/// A container with `weft0` up, 10.7.0.1/32 and a route to 10.7.0.0/16, and the device's queues.
pub(crate) fn container(queues: u8) -> (Netns, Vec<TunQueue>) {
    let host = Netns::create().unwrap();
    let container = Netns::create().unwrap();
    let tun = host
        .run(|| {
            let tun = Tun::create(&TunOptions { queues, ..OPTIONS }).unwrap();
            move_to_netns(tun.ifindex(), &container, "weft0").unwrap();
            tun
        })
        .unwrap();
    assert!(tun.uso() && tun.steering());
    let config = LinkConfig {
        name: "weft0",
        addresses: &[(INNER.into(), 32)],
        routes: &[(Ipv4Addr::new(10, 7, 0, 0).into(), 16)],
    };
    configure(&container, &config).unwrap();
    (container, tun.into_queues())
}
