//! From where somebody has begun sessions. Wrong passwords are counted apart there, so who guesses elsewhere does not keep
//! them out.

use data_encoding::BASE64;
use weft_audit::Origin;
use weft_keys::{Owner, Purpose};
use weft_model::{
    Decoded, Record, UserId,
    record::{SignIn, User},
};
use weft_store::Transaction;

use super::{App, AppError, Caller, environments::rests_on, lockout::Counted};
use crate::crowd::{SOURCE_LEN, Source};

/// Sources of one person that are known at most; with another one that is forgotten which was used longest ago.
pub(super) const SOURCES_MAX: usize = 8;
/// Bytes of all of them, however many there are.
const SOURCES_LEN: usize = SOURCES_MAX * SOURCE_LEN;

/// Sources, the one that was used last at the end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Sources(Vec<Source>);

impl Sources {
    /// As they are sealed: one after the other, and then zeros, which are no source.
    fn read(bytes: &[u8]) -> Self {
        let each = bytes.as_chunks::<SOURCE_LEN>().0.iter();
        Self(each.filter(|bytes| **bytes != [0; SOURCE_LEN]).map(|b| Source::from(*b)).collect())
    }

    fn bytes(&self) -> [u8; SOURCES_LEN] {
        let mut all = [0; SOURCES_LEN];
        for (place, source) in all.as_chunks_mut::<SOURCE_LEN>().0.iter_mut().zip(&self.0) {
            *place = source.octets();
        }
        all
    }

    /// This one, if it is known.
    fn known(&self, source: Option<Source>) -> Option<Source> {
        source.filter(|source| self.0.contains(source))
    }

    /// With this one as the last.
    fn used(&self, source: Source) -> Self {
        let others = self.0.iter().copied().filter(|other| *other != source);
        let mut all: Vec<_> = others.chain([source]).collect();
        all.drain(..all.len().saturating_sub(SOURCES_MAX));
        Self(all)
    }
}

/// Whether sources of before count on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Before {
    Kept,
    Forgotten,
}

fn source(caller: &Caller) -> Option<Source> {
    match caller.call.origin() {
        Origin::Address(address) => Some((*address).into()),
        Origin::Local | Origin::Internal => None,
    }
}

impl App {
    /// With what a proof for the account with this address is counted. Who has never begun a session, or does not exist,
    /// takes as long.
    pub(super) async fn counted(
        &self,
        caller: &Caller,
        address: &str,
        user: &UserId,
    ) -> Result<Counted, AppError> {
        let found: Option<Decoded<SignIn>> = self.read(user.as_str()).await?;
        let sources = match &found {
            Some(found) => self.open_sources(&found.record).await?,
            None => {
                self.seal_sources(user, &Sources::default()).await?;
                Sources::default()
            }
        };
        let unlocks = found.map_or(0, |found| found.record.unlocks);
        let source = sources.known(source(caller));
        Ok(Counted { address: address.to_owned(), source, unlocks })
    }

    /// A transaction after which it is known from where somebody has shown who they are.
    pub(super) async fn remember_source(
        &self,
        caller: &Caller,
        user: &User,
        before: Before,
        transaction: Transaction,
    ) -> Result<Transaction, AppError> {
        let Some(source) = source(caller) else { return Ok(transaction) };
        let found: Option<Decoded<SignIn>> = self.read(user.id.as_str()).await?;
        let (known, unlocks) = match &found {
            Some(found) => (self.open_sources(&found.record).await?, found.record.unlocks),
            None => (Sources::default(), 0),
        };
        let after = match before {
            Before::Kept => known.used(source),
            Before::Forgotten => Sources::default().used(source),
        };
        if after == known {
            return Ok(transaction);
        }
        let sealed_sources = self.seal_sources(&user.id, &after).await?;
        let after = SignIn { user: user.id.clone(), sealed_sources, unlocks };
        let transaction = match &found {
            Some(found) => rests_on(transaction, found)?,
            None => transaction.absent(after.key()?),
        };
        Ok(transaction.put(after.key()?, after.encode()?))
    }

    /// A transaction after which wrong passwords of before count no more, in no process.
    pub(super) async fn unlocked(
        &self,
        user: &UserId,
        transaction: Transaction,
    ) -> Result<Transaction, AppError> {
        let found: Option<Decoded<SignIn>> = self.read(user.as_str()).await?;
        let (after, transaction) = match found {
            Some(found) => {
                let transaction = rests_on(transaction, &found)?;
                let unlocks = found.record.unlocks + 1;
                (SignIn { unlocks, ..found.record }, transaction)
            }
            None => {
                let sealed_sources = self.seal_sources(user, &Sources::default()).await?;
                let after = SignIn { user: user.clone(), sealed_sources, unlocks: 1 };
                let transaction = transaction.absent(after.key()?);
                (after, transaction)
            }
        };
        Ok(transaction.put(after.key()?, after.encode()?))
    }

    async fn open_sources(&self, of: &SignIn) -> Result<Sources, AppError> {
        let sealed = BASE64.decode(of.sealed_sources.as_bytes()).map_err(AppError::internal)?;
        let (owner, context) = (Owner::Installation, context(&of.user));
        let opened = self.keyring.open_sealed(&owner, Purpose::Identity, &context, &sealed).await;
        Ok(Sources::read(&opened.map_err(AppError::internal)?))
    }

    /// Sources, sealed for this person, base 64.
    async fn seal_sources(&self, user: &UserId, sources: &Sources) -> Result<String, AppError> {
        let (owner, context) = (Owner::Installation, context(user));
        let sealed = self.keyring.seal(&owner, Purpose::Identity, &context, &sources.bytes()).await;
        Ok(BASE64.encode(&sealed.map_err(AppError::internal)?))
    }
}

fn context(user: &UserId) -> [&[u8]; 2] {
    [b"sources", user.as_str().as_bytes()]
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn source(n: u8) -> Source {
        IpAddr::from([192, 0, 2, n]).into()
    }

    #[test]
    fn so_many_sources_are_known_and_the_one_that_was_used_longest_ago_is_forgotten() {
        let mut sources = Sources::default();
        for n in 0..8 {
            sources = sources.used(source(n));
        }
        sources = sources.used(source(0)).used(source(8));
        let known = |n| sources.known(Some(source(n))).is_some();
        assert!(known(0) && !known(1) && (2..=8).all(known) && !known(9));
        assert_eq!(sources.known(None), None);
        assert_eq!(sources.used(source(8)), sources, "it is not written again");
    }

    #[test]
    fn they_are_as_long_however_many_there_are_and_are_read_as_they_were() {
        let ipv6: Source = "2001:db8::1".parse::<IpAddr>().unwrap().into();
        for sources in [
            Sources::default(),
            Sources::default().used(ipv6),
            (0..8).fold(Sources::default(), |all, n| all.used(source(n))),
        ] {
            assert_eq!(Sources::read(&sources.bytes()), sources);
        }
        // Who has the network of an IPv6 address has them all.
        let other: Source = "2001:db8::ffff:0:0:1".parse::<IpAddr>().unwrap().into();
        assert_eq!(Sources::default().used(ipv6).known(Some(other)), Some(ipv6));
    }
}
