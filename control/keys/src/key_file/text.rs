//! The text of a key file.

use std::time::SystemTime;

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::HEXLOWER;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::{KEY_FILE_LEN_MAX, MASTER_KEYS_MAX};
use crate::{
    aead::parts,
    kms::MasterKeyId,
    secret::{KEY_LEN, KeyBytes, scrub_stack},
};

const TITLE: &str = "weft master keys v1";
const REMARK: &str = "# Whoever has these keys and the keyring opens everything. Keep a copy in a safe, apart from \
                      all other backups:\n# without it nothing opens. The last key wraps, the others unwrap what is \
                      older.\n";
const LABEL_ID: &[u8] = b"weft v1 master key id";
/// Half of a hash's first half: 64 bits tell some sixteen keys apart.
const ID_BYTES: usize = 8;
const HEX_LEN: usize = 2 * KEY_LEN;
/// `2026-11-30T06:48:10Z`.
const CREATED_LEN: usize = 20;

/// One line of the file.
pub(super) struct MasterKey {
    pub(super) id: MasterKeyId,
    /// When it was made (RFC 3339), for people.
    created: String,
    pub(super) key: KeyBytes,
}

impl MasterKey {
    pub(super) fn new(now: SystemTime) -> Self {
        let t = OffsetDateTime::from(now);
        let (hour, minute, second) = t.to_hms();
        let (year, month, day) = (t.year(), u8::from(t.month()), t.day());
        let created = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z");
        let key = KeyBytes::random();
        Self { id: id_of(&key), created, key }
    }
}

fn id_of(key: &KeyBytes) -> MasterKeyId {
    let hashed = Zeroizing::new(parts(&[LABEL_ID, key.expose()]));
    let hash = digest(&SHA256, &hashed);
    scrub_stack();
    HEXLOWER.encode(&hash.as_ref()[..ID_BYTES]).parse().expect("hexadecimal digits")
}

/// The whole file.
pub(super) fn write(keys: &[MasterKey]) -> Zeroizing<Vec<u8>> {
    // All of its length at once: a buffer that grows leaves keys behind.
    let mut text = Zeroizing::new(Vec::with_capacity(KEY_FILE_LEN_MAX));
    text.extend_from_slice(format!("{TITLE}\n{REMARK}").as_bytes());
    for MasterKey { id, created, key } in keys {
        text.extend_from_slice(format!("{id} {created} ").as_bytes());
        let mut hex = Zeroizing::new([0; HEX_LEN]);
        HEXLOWER.encode_mut(key.expose(), &mut *hex);
        text.extend_from_slice(&*hex);
        text.push(b'\n');
    }
    text
}

/// The keys of a file, at least one; the error is the line, counted from 1, and what is wrong with it.
pub(super) fn parse(text: &[u8]) -> Result<Vec<MasterKey>, (usize, String)> {
    let mut keys: Vec<MasterKey> = Vec::new();
    let mut last = 0;
    for (number, line) in (1..).zip(text.split(|byte| *byte == b'\n')) {
        last = number;
        let wrong = |problem: String| (number, problem);
        if number == 1 {
            if line != TITLE.as_bytes() {
                return Err(wrong(format!("expected {TITLE:?}")));
            }
            continue;
        }
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        let key = parse_key(line).map_err(wrong)?;
        if keys.iter().any(|other| other.id == key.id) {
            return Err(wrong(format!("key {} is there twice", key.id)));
        }
        keys.push(key);
        if keys.len() > MASTER_KEYS_MAX {
            return Err(wrong(format!("too many keys; expected at most {MASTER_KEYS_MAX}")));
        }
    }
    if keys.is_empty() {
        return Err((last, "the file ends without a key".to_owned()));
    }
    Ok(keys)
}

/// `ID CREATED KEY`. What is wrong is said without the line's text: it may hold most of a key.
fn parse_key(line: &[u8]) -> Result<MasterKey, String> {
    const FORM: &str =
        "expected an id, a time and 64 hexadecimal digits, with one space between them";
    let form = || FORM.to_owned();
    let mut fields = line.split(|byte| *byte == b' ');
    let (Some(id), Some(created), Some(hex), None) =
        (fields.next(), fields.next(), fields.next(), fields.next())
    else {
        return Err(form());
    };
    let id: MasterKeyId =
        std::str::from_utf8(id).ok().and_then(|id| id.parse().ok()).ok_or_else(form)?;
    let created = std::str::from_utf8(created).map_err(|_| form())?;
    if created.len() != CREATED_LEN || hex.len() != HEX_LEN {
        return Err(form());
    }
    let mut decoded = Ok(KEY_LEN);
    let key = KeyBytes::filled(|key| {
        decoded = HEXLOWER.decode_mut(hex, key).map_err(|_| form());
    });
    decoded?;
    let found = id_of(&key);
    if found != id {
        return Err(format!("the key has id {found}, not {id}: one of them was changed"));
    }
    Ok(MasterKey { id, created: created.to_owned(), key })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> String {
        let key = |second| {
            MasterKey::new(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(second))
        };
        String::from_utf8(write(&[key(1_800_000_000), key(1_900_000_000)]).to_vec()).unwrap()
    }

    fn problem(text: &str) -> (usize, String) {
        parse(text.as_bytes()).map(|_| ()).unwrap_err()
    }

    #[test]
    fn a_file_is_read_as_it_was_written() {
        let text = file();
        let keys = parse(text.as_bytes()).unwrap();
        assert_eq!(keys.len(), 2);
        assert_eq!(keys[0].created, "2027-01-15T08:00:00Z");
        assert_eq!(write(&keys).as_slice(), text.as_bytes());
        assert!(text.len() < KEY_FILE_LEN_MAX / 8, "sixteen keys fit");
        let remarked = text.replace("v1\n", "v1\n\n# mine\n");
        assert_eq!(write(&parse(remarked.as_bytes()).unwrap()).as_slice(), text.as_bytes());
    }

    #[test]
    fn every_change_of_a_key_or_its_id_is_noticed_and_no_digit_of_it_said() {
        let text = file();
        let line = text.lines().last().unwrap();
        let start = text.len() - line.len() - 1;
        for at in (start..start + 16).chain(text.len() - 65..text.len() - 1) {
            for digit in ["0", "f", "g", "A", " "] {
                let mut changed = text.clone();
                changed.replace_range(at..=at, digit);
                if changed == text {
                    continue;
                }
                let (number, problem) = problem(&changed);
                assert_eq!(number, text.lines().count());
                assert!(!problem.contains(&line[38..50]) && !problem.contains(&line[80..]));
            }
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        let text = file();
        assert_eq!(problem(""), (1, "expected \"weft master keys v1\"".into()));
        assert_eq!(problem(&text.replace("v1", "v2")).0, 1);
        assert_eq!(
            problem("weft master keys v1\n# none\n"),
            (3, "the file ends without a key".into())
        );
        let (line, twice) = problem(&(text.clone() + text.lines().last().unwrap()));
        assert!(line == 6 && twice.ends_with("is there twice"), "{line} {twice}");
        let (line, form) = problem(&text.replace("T08", " T08"));
        assert!(line == 4 && form.starts_with("expected an id, a time"), "{line} {form}");
        let many: Vec<_> = (0..17).map(|_| MasterKey::new(SystemTime::UNIX_EPOCH)).collect();
        let (_, problem) = parse(&write(&many)).map(|_| ()).unwrap_err();
        assert_eq!(problem, "too many keys; expected at most 16");
    }
}
