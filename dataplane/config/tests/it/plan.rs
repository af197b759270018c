//! Plans, against a daemon that is a plain model: it does what it is told and refuses whatever
//! would leave it inconsistent.

use std::{
    collections::{BTreeMap, HashSet},
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    sync::LazyLock,
};

use proptest::{collection::vec, prelude::*};
use weft_config::{
    Attachment, Change, Config, CredentialFiles, Engine, Environment, KeyLimits, Latency,
    LogConfig, LogLevel, Names, Peer, Placement, Share, User, plan,
};
use weft_dns::{Outside, ServiceRecord};
use weft_pki::{
    Credentials, KeyKind, TrustAnchor,
    issue::{Authority, HostRequest, HostUsages, new_authority},
};
use weft_types::{AttachmentName, EnvironmentId, HostId};

use crate::fixture::{Fixture, GOOD, identity, validity};

const ENVIRONMENTS: [&str; 3] = ["acme", "globex", "initech"];
/// Addresses of an environment that something may own.
const ADDRESSES: usize = 8;
/// Attachments that an environment may have, and as many peers.
const MEMBERS: usize = 3;

type Keys = (TrustAnchor, Credentials);

/// For every environment: an authority with two certificates of this host, and another authority.
static KEYS: LazyLock<Vec<[Keys; 3]>> = LazyLock::new(|| {
    let make = |environment| {
        let (a, b) = (authority(environment), authority(environment));
        [own(&a), own(&a), own(&b)]
    };
    ENVIRONMENTS.map(make).into()
});

fn authority(environment: &str) -> Authority {
    let made = new_authority(&identity(environment), validity(), KeyKind::Ed25519).unwrap();
    Authority::from_pem(made.certificate_pem.as_bytes(), made.key_pem.as_bytes()).unwrap()
}

fn own(authority: &Authority) -> Keys {
    let request = HostRequest {
        host: HostId::new("host-a").unwrap(),
        validity: validity(),
        key_kind: KeyKind::Ed25519,
        usages: HostUsages::Both,
    };
    let made = authority.issue_host_unchecked(&request).unwrap();
    let own = Credentials::from_pem(made.certificate_pem.as_bytes(), made.key_pem.as_bytes());
    (authority.anchor().clone(), own.unwrap())
}

/// What the model knows of an environment.
#[derive(Debug, Clone, PartialEq, Default)]
struct Running {
    subnets: Vec<String>,
    share: Share,
    keys: (Vec<String>, [u8; 32]),
    names: Names,
    attachments: BTreeMap<AttachmentName, Attachment>,
    peers: BTreeMap<HostId, Peer>,
}

#[derive(Debug, Clone, PartialEq)]
struct Daemon {
    log: LogConfig,
    keys: KeyLimits,
    environments: BTreeMap<EnvironmentId, Running>,
}

fn keys(anchor: &TrustAnchor, credentials: &Credentials) -> (Vec<String>, [u8; 32]) {
    (anchor.tags().map(|tag| tag.to_string()).collect(), credentials.certificate_hash())
}

fn sorted<T: Ord + Clone>(items: &[T]) -> Vec<T> {
    let mut items = items.to_vec();
    items.sort();
    items
}

impl Daemon {
    /// The daemon that started with `config`.
    fn start(config: &Config) -> Self {
        let environment = |e: &Environment| {
            let running = Running {
                subnets: sorted(&e.subnets).iter().map(ToString::to_string).collect(),
                share: e.share,
                keys: keys(&e.anchor, &e.credentials),
                names: e.names.clone(),
                attachments: e.attachments.iter().map(|a| (a.name.clone(), normal(a))).collect(),
                peers: e.peers.iter().map(|p| (p.host.clone(), normal_peer(p))).collect(),
            };
            (e.id.clone(), running)
        };
        Self {
            log: config.log,
            keys: config.keys,
            environments: config.environments.iter().map(environment).collect(),
        }
    }

    fn environment(&mut self, id: &EnvironmentId) -> &mut Running {
        self.environments.get_mut(id).expect("a change names an environment that runs")
    }

    fn peer(&mut self, id: &EnvironmentId, host: &HostId) -> &mut Peer {
        self.environment(id).peers.get_mut(host).expect("a change names a peer that is there")
    }

    fn apply(&mut self, change: &Change) {
        match change.clone() {
            Change::SetLog(log) => self.log = log,
            Change::SetKeyLimits(keys) => self.keys = keys,
            Change::RemoveAttachment { environment, name } => {
                let gone = self.environment(&environment).attachments.remove(&name);
                assert!(gone.is_some(), "{change:?}");
            }
            Change::RemovePeer { environment, host } => {
                let gone = self.environment(&environment).peers.remove(&host);
                assert!(gone.is_some(), "{change:?}");
            }
            Change::SetPeerAddresses { environment, host, addresses } => {
                let peer = self.peer(&environment, &host);
                assert_ne!(peer.addresses, sorted(&addresses), "a change changes something");
                peer.addresses = sorted(&addresses);
            }
            Change::RemoveEnvironment { environment } => {
                let gone = self.environments.remove(&environment).expect("it runs");
                assert!(gone.attachments.is_empty() && gone.peers.is_empty());
            }
            Change::AddEnvironment { environment, subnets, share, anchor, credentials, names } => {
                let running = Running {
                    subnets: sorted(&subnets).iter().map(ToString::to_string).collect(),
                    share,
                    keys: keys(&anchor, &credentials),
                    names,
                    ..Running::default()
                };
                assert!(self.environments.insert(environment, running).is_none());
            }
            Change::ReplaceCredentials { environment, anchor, credentials } => {
                let running = self.environment(&environment);
                let new = keys(&anchor, &credentials);
                assert_ne!(running.keys, new, "a change changes something");
                running.keys = new;
            }
            Change::SetEnvironmentShare { environment, share } => {
                let running = self.environment(&environment);
                assert_ne!(running.share, share, "a change changes something");
                running.share = share;
            }
            Change::SetNames { environment, names } => {
                let running = self.environment(&environment);
                assert_ne!(running.names, names, "a change changes something");
                running.names = names;
            }
            Change::SetAttachmentShare { environment, name, share } => {
                let attachments = &mut self.environment(&environment).attachments;
                let attachment = attachments.get_mut(&name).expect("a change names what is there");
                assert_ne!(attachment.share, share, "a change changes something");
                attachment.share = share;
            }
            Change::SetPeerEndpoints { environment, host, endpoint, alternatives } => {
                let peer = self.peer(&environment, &host);
                let running = (peer.endpoint, &peer.alternatives);
                assert_ne!(running, (endpoint, &alternatives), "a change changes something");
                (peer.endpoint, peer.alternatives) = (endpoint, alternatives);
            }
            Change::SetPeerKeepalive { environment, host, keepalive_seconds } => {
                let peer = self.peer(&environment, &host);
                assert_ne!(peer.keepalive_seconds, keepalive_seconds, "a change changes something");
                peer.keepalive_seconds = keepalive_seconds;
            }
            Change::AddPeer { environment, peer } => {
                let peers = &mut self.environment(&environment).peers;
                assert!(peers.insert(peer.host.clone(), normal_peer(&peer)).is_none());
            }
            Change::AddAttachment { environment, attachment } => {
                let attachments = &mut self.environment(&environment).attachments;
                let new = normal(&attachment);
                assert!(attachments.insert(attachment.name.clone(), new).is_none());
            }
        }
        self.check_consistent();
    }

    /// No address has two owners, and no namespace two interfaces of one name.
    fn check_consistent(&self) {
        let mut interfaces = HashSet::new();
        for running in self.environments.values() {
            let mut owned = HashSet::new();
            for attachment in running.attachments.values() {
                let place = (&attachment.netns, &attachment.interface);
                assert!(interfaces.insert(place), "two interfaces at {place:?}");
                attachment.addresses.iter().for_each(|a| assert!(owned.insert(a), "{a} twice"));
            }
            for peer in running.peers.values() {
                peer.addresses.iter().for_each(|a| assert!(owned.insert(a), "{a} twice"));
            }
        }
    }
}

fn normal(attachment: &Attachment) -> Attachment {
    Attachment { addresses: sorted(&attachment.addresses), ..attachment.clone() }
}

fn normal_peer(peer: &Peer) -> Peer {
    Peer { addresses: sorted(&peer.addresses), ..peer.clone() }
}

fn share(number: u8) -> Share {
    let limit = (number > 2).then_some(number.into());
    Share { weight: 100 + u16::from(number % 2), egress_mbit_max: limit }
}

fn names(number: u8) -> Names {
    let outside = if number % 2 == 1 { Outside::Absent } else { Outside::Refuse };
    let service =
        |n| ServiceRecord { name: format!("web-{n}"), ports: Vec::new(), slots: Vec::new() };
    Names { services: (0..number / 2).map(service).collect(), outside }
}

fn address(i: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 40, 0, 10 + u8::try_from(i).unwrap()))
}

prop_compose! {
    /// An environment with up to three attachments and three peers that share eight addresses.
    fn any_environment(which: usize)(
        ranges in 0_usize..8,
        version in 0_usize..3,
        owners in vec(0..=2 * MEMBERS, ADDRESSES),
        peers in vec(prop::option::of(0_u16..3), MEMBERS),
        places in vec((0_usize..4, 0_usize..2), MEMBERS),
        shares in vec(0_u8..5, 1 + MEMBERS),
        named in 0_u8..6,
        reversed: bool,
    ) -> Environment {
        let owned = |owner| -> Vec<_> {
            let mine = (0..ADDRESSES).filter(|i| owners[*i] == owner);
            let mine: Vec<_> = mine.map(address).collect();
            if reversed { mine.into_iter().rev().collect() } else { mine }
        };
        let (anchor, credentials) = KEYS[which][version].clone();
        let attachments = places.iter().enumerate().map(|(i, (netns, interface))| Attachment {
            name: AttachmentName::new(&format!("web-{i}")).unwrap(),
            netns: PathBuf::from(format!("/run/netns/{netns}")),
            interface: format!("weft{interface}"),
            addresses: owned(1 + i),
            share: share(shares[1 + i]),
        });
        let peers = peers.iter().enumerate().filter_map(|(i, port)| port.map(|port| Peer {
            host: HostId::new(&format!("host-{i}")).unwrap(),
            endpoint: format!("192.0.2.{}:{}", 2 + i, 5820 + port).parse().unwrap(),
            alternatives: ["198.51.100.2:5820".parse().unwrap()][..usize::from(port % 2)].to_vec(),
            addresses: owned(1 + MEMBERS + i),
            keepalive_seconds: (ranges % 2 == 1).then_some(port + 1),
        }));
        let subnet = if ranges == 0 { "10.40.0.0/24" } else { "10.40.0.0/16" };
        Environment {
            id: EnvironmentId::new(ENVIRONMENTS[which]).unwrap(),
            subnets: vec![subnet.parse().unwrap()],
            share: share(shares[0]),
            files: Some(CredentialFiles {
                ca: format!("{version}/ca.pem").into(),
                cert: format!("{version}/host-a.pem").into(),
                key: format!("{version}/host-a.key").into(),
            }),
            anchor,
            credentials,
            names: names(named),
            attachments: attachments.filter(|a| !a.addresses.is_empty()).collect(),
            peers: peers.collect(),
        }
    }
}

prop_compose! {
    fn any_config()(
        environments in [any_environment(0), any_environment(1), any_environment(2)],
        present in any::<[bool; 3]>(),
        reversed: bool,
        debug: bool,
        epoch_seconds_max in 1_u64..4,
    ) -> Config {
        let mut environments: Vec<_> = environments.into();
        environments = environments.into_iter().zip(present).filter(|(_, p)| *p).map(|(e, _)| e).collect();
        if reversed { environments.reverse(); }
        let mut places = HashSet::new();
        for environment in &mut environments {
            environment.attachments.retain(|a| places.insert((a.netns.clone(), a.interface.clone())));
        }
        let level = if debug { LogLevel::Debug } else { LogLevel::Info };
        Config {
            host: HostId::new("host-a").unwrap(),
            user: None,
            listen: "192.0.2.1:5820".parse().unwrap(),
            api: "/run/weft/weftd.sock".into(),
            metrics: None,
            workers: Some(2),
            engine: Engine::Auto,
            placement: Placement::Free,
            latency: Latency::Normal,
            log: LogConfig { level, ..LogConfig::default() },
            keys: KeyLimits { epoch_seconds_max, ..KeyLimits::default() },
            control: None,
            environments,
        }
    }
}

/// The members that a change is about, so that one can say what was left alone.
fn touched(change: &Change) -> Option<(EnvironmentId, String)> {
    let (environment, member) = match change {
        Change::RemoveAttachment { environment, name } => (environment, name.to_string()),
        Change::AddAttachment { environment, attachment } => {
            (environment, attachment.name.to_string())
        }
        Change::RemovePeer { environment, host }
        | Change::SetPeerAddresses { environment, host, .. }
        | Change::SetPeerEndpoints { environment, host, .. }
        | Change::SetPeerKeepalive { environment, host, .. } => (environment, host.to_string()),
        Change::SetAttachmentShare { environment, name, .. } => (environment, name.to_string()),
        Change::AddPeer { environment, peer } => (environment, peer.host.to_string()),
        _ => return None,
    };
    Some((environment.clone(), member))
}

proptest! {
    /// Carrying out a plan leads to the desired state, through consistent states only.
    #[test]
    fn a_plan_leads_there(current in any_config(), desired in any_config()) {
        let mut daemon = Daemon::start(&current);
        for change in plan(&current, &desired).unwrap() {
            daemon.apply(&change);
        }
        prop_assert_eq!(daemon, Daemon::start(&desired));
    }

    /// What is the same is left alone, in whatever order the file has it.
    #[test]
    fn nothing_to_do_is_an_empty_plan(config in any_config()) {
        let mut shuffled = config.clone();
        shuffled.environments.reverse();
        for environment in &mut shuffled.environments {
            environment.attachments.reverse();
            environment.peers.reverse();
            environment.peers.iter_mut().for_each(|p| p.addresses.reverse());
            environment.files = None;
        }
        prop_assert!(plan(&config, &config).unwrap().is_empty());
        prop_assert!(plan(&config, &shuffled).unwrap().is_empty());
    }

    /// A member that is the same before and after does not occur in the plan.
    #[test]
    fn what_stays_is_not_touched(current in any_config(), desired in any_config()) {
        let changes = plan(&current, &desired).unwrap();
        let touched: HashSet<_> = changes.iter().filter_map(touched).collect();
        let (old, new) = (Daemon::start(&current), Daemon::start(&desired));
        for (id, old) in &old.environments {
            let Some(new) = new.environments.get(id).filter(|new| new.subnets == old.subnets) else {
                continue;
            };
            for (name, attachment) in &old.attachments {
                if new.attachments.get(name) == Some(attachment) {
                    prop_assert!(!touched.contains(&(id.clone(), name.to_string())));
                }
            }
            for (host, peer) in &old.peers {
                if new.peers.get(host) == Some(peer) {
                    prop_assert!(!touched.contains(&(id.clone(), host.to_string())));
                }
            }
        }
    }

    /// A peer that is in both is never removed, so that its session stays.
    #[test]
    fn a_peer_that_stays_is_never_removed(current in any_config(), desired in any_config()) {
        let (old, new) = (Daemon::start(&current), Daemon::start(&desired));
        for change in plan(&current, &desired).unwrap() {
            if let Change::RemovePeer { environment, host } = change {
                let (old, new) = (&old.environments[&environment], new.environments.get(&environment));
                let stays = new.is_some_and(|new| new.peers.contains_key(&host) && new.subnets == old.subnets);
                prop_assert!(!stays, "{}", host);
            }
        }
    }
}

/// Another share is no reason to take a container's interface away.
#[test]
fn another_share_is_one_change() {
    let config = Fixture::new().load(GOOD).unwrap();
    let mut other = config.clone();
    other.environments[0].share.weight = 7;
    other.environments[1].attachments[0].share.egress_mbit_max = Some(50);
    let changes = plan(&config, &other).unwrap();
    assert!(
        matches!(
            &changes[..],
            [Change::SetEnvironmentShare { environment, .. }, Change::SetAttachmentShare { name, .. }]
                if environment.as_str() == "acme" && name.as_str() == "web-1"
        ),
        "{changes:?}"
    );
}

#[test]
fn other_names_are_one_change() {
    let config = Fixture::new().load(GOOD).unwrap();
    let mut other = config.clone();
    other.environments[1].names = names(3);
    let changes = plan(&config, &other).unwrap();
    assert!(
        matches!(
            &changes[..],
            [Change::SetNames { environment, names: new }]
                if environment.as_str() == "globex" && *new == names(3)
        ),
        "{changes:?}"
    );
}

#[test]
fn restart_fields_are_named_together() {
    let config = Fixture::new().load(GOOD).unwrap();
    let mut other = config.clone();
    other.listen = "192.0.2.1:5821".parse().unwrap();
    other.workers = None;
    let error = plan(&config, &other).unwrap_err();
    assert_eq!(
        error.to_string(),
        "listen changed from 192.0.2.1:5820 to 192.0.2.1:5821; workers changed from 2 to nothing; \
         only a restart of weftd can change that"
    );
    let changes: [fn(&mut Config); 7] = [
        |c| c.host = HostId::new("host-z").unwrap(),
        |c| c.user = Some(User::Id(998)),
        |c| c.api = "/elsewhere.sock".into(),
        |c| c.metrics = None,
        |c| c.engine = Engine::Uring,
        |c| c.placement = Placement::Pinned,
        |c| c.latency = Latency::Low,
    ];
    for (change, field) in changes.into_iter().zip([
        "host",
        "user",
        "api",
        "metrics",
        "engine",
        "placement",
        "latency",
    ]) {
        let mut other = config.clone();
        change(&mut other);
        let fields = plan(&config, &other).unwrap_err().fields;
        assert_eq!(fields.iter().map(|f| f.field).collect::<Vec<_>>(), [field]);
    }
}

#[test]
fn a_renewed_certificate_is_one_change() {
    let fixture = Fixture::new();
    let current = fixture.load(GOOD).unwrap();
    let authority = fixture.authority("acme", "acme");
    fixture.issue(&authority, "acme", "host-a", validity());
    let desired = fixture.load(GOOD).unwrap();
    let changes = plan(&current, &desired).unwrap();
    assert!(
        matches!(&changes[..], [Change::ReplaceCredentials { environment, .. }] if environment.as_str() == "acme"),
        "{changes:?}"
    );
}
