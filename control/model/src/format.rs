//! Which releases may work on a store.
//!
//! Documents are read strictly, so a release does not read what a later one has added to them. The number of the newest
//! format that is written is a record of its own: a release that adds something raises [`FORMAT`], the first process of it
//! raises the record before it writes anything else, and processes of earlier releases end when they see that. It is one
//! record for every kind of store; SQLite's own tables have a number besides, which its file keeps.

use weft_store::{Condition, Entry, Transaction};

use crate::record::{Decoded, Format, Record, RecordError};

/// What this release writes and reads; it reads all formats before.
pub const FORMAT: u32 = 1;

/// The store is of a later release.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the store has format {found} and this release reads {FORMAT} at most: a later release works on it; install that one"
)]
pub struct FormatError {
    /// What was found.
    pub found: u32,
}

/// What a process does before anything else, with the record as it found it: it writes this first, if that is something.
///
/// # Errors
/// [`FormatError`]: it has nothing to do with this store.
pub fn enter(found: Option<&Decoded<Format>>) -> Result<Option<Format>, FormatError> {
    match found.map(|found| found.record.format) {
        Some(found) if found > FORMAT => Err(FormatError { found }),
        Some(FORMAT) => Ok(None),
        _ => Ok(Some(Format { format: FORMAT })),
    }
}

/// That as a transaction, which rests on what was found.
///
/// # Errors
/// [`RecordError`].
pub fn write(format: &Format, found: Option<&Decoded<Format>>) -> Result<Transaction, RecordError> {
    let key = format.key()?;
    let mut transaction = Transaction::new();
    transaction.conditions.push(match found {
        Some(found) => Condition::At(key.clone(), found.modified),
        None => Condition::Absent(key.clone()),
    });
    Ok(transaction.put(key, format.encode()?))
}

/// Goes on unless this entry says that the store is of a later release. That it cannot be read is for others to say.
///
/// # Errors
/// [`FormatError`].
pub fn check(entry: &Entry) -> Result<(), FormatError> {
    if !entry.key.has_prefix(&Format::prefix("")) {
        return Ok(());
    }
    let Ok(found) = Format::decode(entry) else { return Ok(()) };
    enter(Some(&found)).map(drop)
}

#[cfg(test)]
mod tests {
    use weft_store::Revision;

    use super::*;

    fn found(format: u32) -> Decoded<Format> {
        Decoded { record: Format { format }, modified: Revision(7) }
    }

    fn entry(value: &'static str) -> Entry {
        let key = Format::key_at("this").unwrap();
        let revision = Revision(7);
        Entry { key, value: value.into(), modified: revision, created: revision, lease: None }
    }

    #[test]
    fn a_later_format_is_refused_and_an_earlier_one_is_raised() {
        assert_eq!(enter(Some(&found(FORMAT + 1))), Err(FormatError { found: FORMAT + 1 }));
        assert_eq!(enter(Some(&found(FORMAT))), Ok(None));
        for before in [None, Some(found(FORMAT - 1))] {
            let made = enter(before.as_ref()).unwrap().unwrap();
            assert_eq!(made.format, FORMAT);
            // Of two processes that do it at once, one does it.
            assert_eq!(write(&made, before.as_ref()).unwrap().conditions.len(), 1);
        }
    }

    #[test]
    fn what_a_later_release_has_added_to_it_does_not_hide_its_number() {
        let later = entry(r#"{"format":4000000000,"since":"later"}"#);
        assert_eq!(check(&later), Err(FormatError { found: 4_000_000_000 }));
        assert_eq!(check(&entry(r#"{"format":1}"#)), Ok(()));
        let elsewhere = Entry { key: "formats/this".parse().unwrap(), ..later };
        assert_eq!(check(&elsewhere), Ok(()));
    }
}
