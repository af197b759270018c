//! What every load balancer does.

use std::net::SocketAddr;

use super::{assert_absent, assert_invalid, name};
use crate::balancer::{BalancerProtocol, BalancerSpec, Listener, LoadBalancer};

fn listener(port: u16, targets: &[&str]) -> Listener {
    let target = |text: &&str| text.parse::<SocketAddr>().expect("an address");
    Listener {
        protocol: BalancerProtocol::Tcp,
        port,
        targets: targets.iter().map(target).collect(),
        proxy_protocol: false,
    }
}

/// Tries all of it on `balancer`, which is empty.
///
/// # Panics
/// When it does anything else.
pub async fn load_balancer(balancer: &dyn LoadBalancer) {
    let (a, b) = (name("a"), name("b"));
    assert_absent(balancer.describe(&a).await);
    balancer.delete(&a).await.expect("deleting what is not there is no error");

    let spec = BalancerSpec { listeners: vec![listener(443, &["10.0.0.2:443", "10.0.0.3:443"])] };
    let made = balancer.apply(&a, &spec).await.expect("made");
    assert_eq!((&made.name, &made.spec), (&a, &spec));
    let again = balancer.apply(&a, &spec).await.expect("twice is once");
    assert_eq!(again, made);
    let changed = BalancerSpec { listeners: vec![listener(444, &[])] };
    let described = balancer.apply(&a, &changed).await.expect("changed");
    assert_eq!(described.spec, changed, "all of it is replaced");
    assert_eq!(described.addresses, made.addresses, "addresses stay");
    assert_eq!(balancer.describe(&a).await.expect("there"), described);

    let twice = BalancerSpec { listeners: vec![listener(1, &[]), listener(1, &[])] };
    let zero = BalancerSpec { listeners: vec![listener(0, &[])] };
    let target = BalancerSpec { listeners: vec![listener(1, &["10.0.0.2:0"])] };
    let mut udp = listener(1, &[]);
    (udp.protocol, udp.proxy_protocol) = (BalancerProtocol::Udp, true);
    let udp = BalancerSpec { listeners: vec![udp] };
    let many = BalancerSpec { listeners: (1..=31).map(|port| listener(port, &[])).collect() };
    let targets: Vec<_> = (1..=501).map(|port| format!("10.0.0.2:{port}")).collect();
    let targets: Vec<_> = targets.iter().map(String::as_str).collect();
    let crowded = BalancerSpec { listeners: vec![listener(1, &targets)] };
    for refused in [twice, zero, target, udp, many, crowded] {
        assert_invalid(balancer.apply(&b, &refused).await);
    }
    assert_absent(balancer.describe(&b).await);

    balancer.apply(&b, &spec).await.expect("another one");
    let page = balancer.list(None, 1).await.expect("a list");
    assert_eq!((&page.entries[0].name, page.entries.len(), page.more), (&a, 1, true));
    let page = balancer.list(Some(&a), 10).await.expect("a list");
    assert_eq!((&page.entries[0].name, page.entries.len(), page.more), (&b, 1, false));
    balancer.delete(&a).await.expect("deleted");
    assert_absent(balancer.describe(&a).await);
    balancer.delete(&b).await.expect("deleted");
    assert!(balancer.list(None, 10).await.expect("a list").entries.is_empty());
}
