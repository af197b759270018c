//! What the control plane knows and how it decides.
//!
//! ```text
//!   Store ──▶ records ──▶ ┌ access      who may do what
//!                         ├ due         when records are over, to find them by that
//!                         ├ format      which releases may work on a store
//!                         ├ ipam        which address is given to whom
//!                         ├ liveness    which hosts are not heard of any more
//!                         ├ owned       whose records are, to find them by that
//!                         ├ people      who is in an organisation, and that it always has an owner
//!                         ├ placement   what a host may have, and what a move changes
//!                         ├ policy      who may talk to whom, as rules on addresses
//!                         ├ rate        how often somebody may do something
//!                         ├ registry    services, who has which role, what is out of service
//!                         ├ reports     how much hosts say of what they have, and when it is kept
//!                         ├ rotation    how an authority gives way to its next generation
//!                         ├ second_factor  which codes are taken, and each once
//!                         ├ secret      versions of secrets, and to which hosts they are released
//!                         ├ settings    what is changed about an environment after it was made
//!                         ├ settled     by which time something may be destroyed for good
//!                         └ projection  what each host has to know, as snapshots and changes
//! ```
//!
//! Everything here is a function of records, the time and random bytes that are passed in: no store is
//! asked, no clock is read. What is decided becomes a transaction whose conditions are the records that the
//! decision rests on; if one has changed, it is decided anew. So two processes that decide at once do no harm.

pub mod access;
pub mod due;
pub mod format;
pub mod id;
pub mod ipam;
pub mod liveness;
pub mod owned;
pub mod people;
pub mod placement;
pub mod policy;
pub mod projection;
pub mod rate;
pub mod record;
pub mod registry;
pub mod reports;
pub mod rotation;
pub mod second_factor;
pub mod secret;
pub mod settings;
pub mod settled;

pub use self::{
    id::{OrganisationId, Random, SecretName, ServiceName, SlotName, TokenId, UserId},
    record::{Decoded, Record, RecordError, UnixMs},
};
