//! How often somebody may change something. What is done is recorded, also where it changes nothing, in two records of
//! some 400 bytes that are on the disk before it is answered; so whoever does it without end would fill the disk, and
//! then everybody is refused.

use std::{net::IpAddr, time::Duration};

use weft_audit::{Actor as Who, Event, Origin};
use weft_model::{OrganisationId, rate::Rate};

use crate::crowd::Source;

/// A person, a token or a host. A deployment of 300 instances is some 1,000 calls: two of them at once, and seven an hour
/// from then on. A host that starts anew with 1,000 containers of 100 environments makes 1,101. 138 MB a day at most.
pub const ACTOR_RATE: Rate = Rate { burst: 2_000, interval: Duration::from_millis(500) };
/// All people of an organisation and all tokens of its environments, in it. 690 MB a day at most.
pub const ORGANISATION_RATE: Rate = Rate { burst: 10_000, interval: Duration::from_millis(100) };
/// A part of the platform, or an operator, for all organisations: an installation of 1,024 environments on 1,000 hosts is
/// some 10,000 calls of whoever sets it up. 6.9 GB a day at most.
pub const PART_RATE: Rate = Rate { burst: 20_000, interval: Duration::from_millis(10) };
/// Whoever shows a good secret and no more (logs in, enrols), by address; of IPv6, by /64: all hosts of an
/// installation may be behind one. 69 MB a day at most.
pub const ADDRESS_RATE: Rate = Rate { burst: 4_000, interval: Duration::from_secs(1) };

/// On whose account something is done.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Payer {
    Actor(Who),
    Address(Source),
    Organisation(OrganisationId),
}

/// What whoever calls is, beside who.
#[derive(Debug, Clone, Default)]
pub struct Standing {
    /// It runs the installation.
    pub is_operator: bool,
    /// It is of the organisation in which it does something, which is this one.
    pub own: Option<OrganisationId>,
}

/// Who pays for what a caller does.
pub(super) fn payers(event: &Event, standing: Standing) -> Vec<(Payer, Rate)> {
    let first = match (&event.who, &event.from) {
        (Who::Anonymous, Origin::Address(address)) => {
            (Payer::Address(IpAddr::into(*address)), ADDRESS_RATE)
        }
        (who @ Who::Service(_), _) => (Payer::Actor(who.clone()), PART_RATE),
        (who, _) if standing.is_operator => (Payer::Actor(who.clone()), PART_RATE),
        (who, _) => (Payer::Actor(who.clone()), ACTOR_RATE),
    };
    let organisation = standing.own.map(|own| (Payer::Organisation(own), ORGANISATION_RATE));
    [first].into_iter().chain(organisation).collect()
}
