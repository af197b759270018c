//! What a reload must do: the difference of two configurations as a list of commands.
//!
//! The order of the list is part of the result. Everything that takes something away comes before
//! everything that adds, in all environments, so that at no moment an address has two owners or a
//! namespace two interfaces of one name:
//!
//! ```text
//!  log, keys ▶ in each environment: remove attachments, remove or narrow peers, remove it
//!            ▶ in each environment: add it or set its share, names and credentials, add, move or
//!              widen peers, add attachments or set their shares
//! ```
//!
//! What did not change does not occur, so its sessions and packets are not touched.

use std::{
    collections::{BTreeMap, HashSet},
    fmt,
    net::{IpAddr, SocketAddr},
};

use weft_pki::{Credentials, TrustAnchor};
use weft_types::{AttachmentName, EnvironmentId, HostId, Subnet};

use crate::{
    control::{Control, Seal},
    model::{Attachment, Config, Environment, KeyLimits, LogConfig, Names, Peer, Share},
};

/// One command of a plan. Each leaves a consistent state.
#[derive(Debug, Clone)]
pub enum Change {
    /// Log like this from now on.
    SetLog(LogConfig),
    /// Change keys like this from now on.
    SetKeyLimits(KeyLimits),
    /// Remove an attachment and its interface.
    RemoveAttachment {
        /// Its environment.
        environment: EnvironmentId,
        /// Its name.
        name: AttachmentName,
    },
    /// Remove a peer, its routes and its sessions.
    RemovePeer {
        /// Its environment.
        environment: EnvironmentId,
        /// The peer.
        host: HostId,
    },
    /// Replace the addresses that live at a peer; its sessions stay. A peer that both loses and
    /// gains addresses has two of these, the first with those that it keeps.
    SetPeerAddresses {
        /// Its environment.
        environment: EnvironmentId,
        /// The peer.
        host: HostId,
        /// All addresses from now on.
        addresses: Vec<IpAddr>,
    },
    /// Remove an environment, which has no attachments and no peers any more.
    RemoveEnvironment {
        /// Its id.
        environment: EnvironmentId,
    },
    /// Add an environment, without attachments and peers; they follow one by one.
    AddEnvironment {
        /// Its id.
        environment: EnvironmentId,
        /// Its ranges.
        subnets: Vec<Subnet>,
        /// What it may send to other hosts.
        share: Share,
        /// Its authority.
        anchor: TrustAnchor,
        /// This host's certificate in it.
        credentials: Credentials,
        /// Names of its services.
        names: Names,
    },
    /// Use another authority or certificate for the next handshakes.
    ReplaceCredentials {
        /// The environment.
        environment: EnvironmentId,
        /// Its authority.
        anchor: TrustAnchor,
        /// This host's certificate in it.
        credentials: Credentials,
    },
    /// Let an environment send another share to other hosts from now on.
    SetEnvironmentShare {
        /// The environment.
        environment: EnvironmentId,
        /// Its share.
        share: Share,
    },
    /// Answer other names from now on.
    SetNames {
        /// The environment.
        environment: EnvironmentId,
        /// All names but those of attachments.
        names: Names,
    },
    /// Let an attachment send another share to other hosts from now on; its interface stays.
    SetAttachmentShare {
        /// Its environment.
        environment: EnvironmentId,
        /// Its name.
        name: AttachmentName,
        /// Its share.
        share: Share,
    },
    /// Reach a peer elsewhere.
    SetPeerEndpoints {
        /// Its environment.
        environment: EnvironmentId,
        /// The peer.
        host: HostId,
        /// Where its daemon listens from now on.
        endpoint: SocketAddr,
        /// And as well, best first.
        alternatives: Vec<SocketAddr>,
    },
    /// Ask a peer for an answer after another time without traffic.
    SetPeerKeepalive {
        /// Its environment.
        environment: EnvironmentId,
        /// The peer.
        host: HostId,
        /// Seconds; never without.
        keepalive_seconds: Option<u16>,
    },
    /// Add a peer.
    AddPeer {
        /// Its environment.
        environment: EnvironmentId,
        /// The peer.
        peer: Peer,
    },
    /// Add an attachment.
    AddAttachment {
        /// Its environment.
        environment: EnvironmentId,
        /// The attachment.
        attachment: Attachment,
    },
}

/// Fields changed that only a restart can change. Nothing of the reload is done then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestartNeeded {
    /// Each field with what runs and what the file says.
    pub fields: Vec<RestartField>,
}

/// One field that only a restart can change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestartField {
    /// Its name in the file.
    pub field: &'static str,
    /// What the daemon runs with.
    pub current: String,
    /// What the file says.
    pub desired: String,
}

impl fmt::Display for RestartNeeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, change) in self.fields.iter().enumerate() {
            let separator = if i == 0 { "" } else { "; " };
            let (field, current, desired) = (change.field, &change.current, &change.desired);
            write!(f, "{separator}{field} changed from {current} to {desired}")?;
        }
        f.write_str("; only a restart of weftd can change that")
    }
}

impl std::error::Error for RestartNeeded {}

/// What must be done, in this order, so that a daemon that runs `current` runs `desired`.
///
/// An environment whose ranges changed is removed and added, as is an attachment in which
/// anything but its share and its place in the file changed. The order of environments, attachments, peers and
/// addresses means nothing, and neither do the paths of certificates: their contents do.
///
/// # Errors
/// [`RestartNeeded`] when `host`, `user`, `listen`, `api`, `metrics`, `workers`,
/// `engine`, `placement`, `latency` or anything of `control` but its join token differ.
pub fn plan(current: &Config, desired: &Config) -> Result<Vec<Change>, RestartNeeded> {
    check_restart(current, desired)?;
    let mut removals = Vec::new();
    let mut additions = Vec::new();
    if current.log != desired.log {
        removals.push(Change::SetLog(desired.log));
    }
    if current.keys != desired.keys {
        removals.push(Change::SetKeyLimits(desired.keys));
    }
    let old = by_key(&current.environments, |e| e.id.clone());
    let new = by_key(&desired.environments, |e| e.id.clone());
    for (id, old) in &old {
        // Routes and interfaces are made for the ranges, so other ranges are another environment.
        let kept = new.get(id).filter(|new| same_set(&old.subnets, &new.subnets));
        remove_members(old, kept.copied(), &mut removals);
        if kept.is_none() {
            removals.push(Change::RemoveEnvironment { environment: id.clone() });
        }
    }
    for (id, new) in &new {
        let kept = old.get(id).filter(|old| same_set(&old.subnets, &new.subnets));
        add_environment(kept.copied(), new, &mut additions);
        add_members(kept.copied(), new, &mut additions);
    }
    removals.append(&mut additions);
    Ok(removals)
}

fn check_restart(current: &Config, desired: &Config) -> Result<(), RestartNeeded> {
    fn optional(value: Option<impl fmt::Display>) -> String {
        value.map_or("nothing".to_owned(), |value| value.to_string())
    }
    let rows = [
        ("host", current.host.to_string(), desired.host.to_string()),
        ("user", optional(current.user.as_ref()), optional(desired.user.as_ref())),
        ("listen", current.listen.to_string(), desired.listen.to_string()),
        ("api", current.api.display().to_string(), desired.api.display().to_string()),
        ("metrics", optional(current.metrics), optional(desired.metrics)),
        ("workers", optional(current.workers), optional(desired.workers)),
        ("engine", current.engine.to_string(), desired.engine.to_string()),
        ("placement", current.placement.to_string(), desired.placement.to_string()),
        ("latency", current.latency.to_string(), desired.latency.to_string()),
        ("control", control(current), control(desired)),
    ];
    let fields: Vec<_> = rows
        .into_iter()
        .filter(|(_, current, desired)| current != desired)
        .map(|(field, current, desired)| RestartField { field, current, desired })
        .collect();
    if fields.is_empty() { Ok(()) } else { Err(RestartNeeded { fields }) }
}

/// What a host follows, so that no two are written alike.
fn control(config: &Config) -> String {
    config.control.as_ref().map_or("nothing".to_owned(), |control| {
        let Control { url, join_token: _, state, seal, endpoints } = control;
        let seal = match seal {
            Seal::Disk => "disk".to_owned(),
            Seal::File(path) => path.display().to_string(),
        };
        let endpoints: Vec<_> = endpoints.iter().map(ToString::to_string).collect();
        let (state, endpoints) = (state.display(), endpoints.join(", "));
        format!("{url} (state {state}, seal {seal}, endpoints {endpoints})")
    })
}

/// Takes away what `old` has and `new` (the same environment, if it stays) has not.
fn remove_members(old: &Environment, new: Option<&Environment>, changes: &mut Vec<Change>) {
    let environment = || old.id.clone();
    let attachments = by_key(new.map_or(&[][..], |e| &e.attachments), |a| a.name.clone());
    for attachment in &old.attachments {
        let stays = attachments.get(&attachment.name);
        if !stays.is_some_and(|new| same_attachment(attachment, new)) {
            changes.push(Change::RemoveAttachment {
                environment: environment(),
                name: attachment.name.clone(),
            });
        }
    }
    let peers = by_key(new.map_or(&[][..], |e| &e.peers), |p| p.host.clone());
    for peer in &old.peers {
        let Some(new) = peers.get(&peer.host) else {
            changes
                .push(Change::RemovePeer { environment: environment(), host: peer.host.clone() });
            continue;
        };
        let kept = kept_addresses(peer, new);
        if kept.len() < peer.addresses.len() {
            changes.push(Change::SetPeerAddresses {
                environment: environment(),
                host: peer.host.clone(),
                addresses: kept,
            });
        }
    }
}

fn add_environment(old: Option<&Environment>, new: &Environment, changes: &mut Vec<Change>) {
    let environment = new.id.clone();
    let (anchor, credentials) = (new.anchor.clone(), new.credentials.clone());
    match old {
        None => changes.push(Change::AddEnvironment {
            environment,
            subnets: new.subnets.clone(),
            share: new.share,
            anchor,
            credentials,
            names: new.names.clone(),
        }),
        Some(old) => {
            if old.share != new.share {
                let environment = environment.clone();
                changes.push(Change::SetEnvironmentShare { environment, share: new.share });
            }
            if old.names != new.names {
                let (environment, names) = (environment.clone(), new.names.clone());
                changes.push(Change::SetNames { environment, names });
            }
            if !same_credentials(old, new) {
                changes.push(Change::ReplaceCredentials { environment, anchor, credentials });
            }
        }
    }
}

/// Adds what `new` has and `old` (the same environment, if it was there) had not.
fn add_members(old: Option<&Environment>, new: &Environment, changes: &mut Vec<Change>) {
    let environment = || new.id.clone();
    let peers = by_key(old.map_or(&[][..], |e| &e.peers), |p| p.host.clone());
    for peer in &new.peers {
        let Some(old) = peers.get(&peer.host) else {
            changes.push(Change::AddPeer { environment: environment(), peer: peer.clone() });
            continue;
        };
        if old.endpoint != peer.endpoint || old.alternatives != peer.alternatives {
            changes.push(Change::SetPeerEndpoints {
                environment: environment(),
                host: peer.host.clone(),
                endpoint: peer.endpoint,
                alternatives: peer.alternatives.clone(),
            });
        }
        if old.keepalive_seconds != peer.keepalive_seconds {
            changes.push(Change::SetPeerKeepalive {
                environment: environment(),
                host: peer.host.clone(),
                keepalive_seconds: peer.keepalive_seconds,
            });
        }
        if kept_addresses(old, peer).len() < peer.addresses.len() {
            changes.push(Change::SetPeerAddresses {
                environment: environment(),
                host: peer.host.clone(),
                addresses: peer.addresses.clone(),
            });
        }
    }
    let attachments = by_key(old.map_or(&[][..], |e| &e.attachments), |a| a.name.clone());
    for attachment in &new.attachments {
        match attachments.get(&attachment.name) {
            Some(old) if same_attachment(old, attachment) => {
                if old.share != attachment.share {
                    changes.push(Change::SetAttachmentShare {
                        environment: environment(),
                        name: attachment.name.clone(),
                        share: attachment.share,
                    });
                }
            }
            _ => changes.push(Change::AddAttachment {
                environment: environment(),
                attachment: attachment.clone(),
            }),
        }
    }
}

/// The addresses that a peer has before and after.
fn kept_addresses(old: &Peer, new: &Peer) -> Vec<IpAddr> {
    let new: HashSet<_> = new.addresses.iter().collect();
    old.addresses.iter().filter(|a| new.contains(a)).copied().collect()
}

/// Whether the container would see the same interface.
fn same_attachment(a: &Attachment, b: &Attachment) -> bool {
    a.name == b.name
        && a.netns == b.netns
        && a.interface == b.interface
        && same_set(&a.addresses, &b.addresses)
}

/// Whether handshakes would be the same: an authority is known by its keys and dates, a
/// certificate by its hash.
fn same_credentials(a: &Environment, b: &Environment) -> bool {
    let (x, y) = (&a.credentials, &b.credentials);
    a.anchor.tags().eq(b.anchor.tags())
        && a.anchor.not_after() == b.anchor.not_after()
        && a.anchor.environment() == b.anchor.environment()
        && x.certificate_hash() == y.certificate_hash()
        && x.chain() == y.chain()
}

/// Whether two lists without repetition hold the same things.
fn same_set<T: Eq + std::hash::Hash>(a: &[T], b: &[T]) -> bool {
    a.len() == b.len() && a.iter().collect::<HashSet<_>>() == b.iter().collect()
}

fn by_key<T, K: Ord>(items: &[T], key: impl Fn(&T) -> K) -> BTreeMap<K, &T> {
    items.iter().map(|item| (key(item), item)).collect()
}
