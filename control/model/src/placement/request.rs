//! What decisions are made from.

use std::net::IpAddr;

use weft_store::Revision;
use weft_types::AttachmentName;

use crate::{
    ipam::Ledger,
    record::{Binding, Decoded, Environment, Grant, Host, Role, Share, SlotKey, Usage},
};

/// What is known of an environment.
#[derive(Debug, Clone, Copy)]
pub struct Scene<'a> {
    /// The environment.
    pub environment: &'a Decoded<Environment>,
    /// What it uses; nothing without.
    pub usage: Option<&'a Decoded<Usage>>,
    /// Its addresses that are not free. It may be behind: whatever it rests on is checked when it is committed.
    pub ledger: &'a Ledger,
    /// Its roles that somebody has. Every change of them is one of what it uses, so these are all that there are at
    /// `usage`, or nothing is committed.
    pub roles: &'a [Decoded<Role>],
    /// The store's revision at which all of this was read, or an earlier one that is not before that of `usage`.
    /// Generations and epochs are drawn from it: see [`Usage::generation`].
    pub revision: Revision,
}

/// What gives a host the right to something; which of these there is, the store says, not the host.
#[derive(Debug, Clone, Copy)]
pub enum Right<'a> {
    /// An operator's word.
    Binding(&'a Decoded<Binding>),
    /// The scheduler's leave.
    Grant(&'a Decoded<Grant>),
}

/// What an attachment is to be.
#[derive(Debug, Clone)]
pub struct AttachRequest<'a> {
    /// Its name, unique in the environment.
    pub name: AttachmentName,
    /// The slot that it fills.
    pub slot: SlotKey,
    /// Where it runs.
    pub host: &'a Decoded<Host>,
    /// What gives that host the right.
    pub right: Right<'a>,
    /// Addresses that it must have, at most one for each subnet; any without.
    pub wanted: Vec<IpAddr>,
    /// What it may send; without, what it may already, or what every attachment may.
    pub share: Option<Share>,
}
