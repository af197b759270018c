use proptest::{collection::vec, prelude::*};

use super::*;

fn some() -> Vec<(Key, Bytes)> {
    let entry = |n: u8| (Key::new(&format!("a/{n}")).unwrap(), Bytes::from(vec![n; n.into()]));
    (0..5).map(entry).collect()
}

#[test]
fn every_flipped_bit_and_every_cut_is_noticed() {
    let file = encode(&some());
    for at in 0..file.len() {
        for bit in 0..8 {
            let mut changed = file.to_vec();
            changed[at] ^= 1 << bit;
            decode(&changed.into()).unwrap_err();
        }
        decode(&file.slice(..at)).unwrap_err();
    }
    let more = [&file[..], b"x"].concat();
    decode(&more.into()).unwrap_err();
    assert_eq!(decode(&file).unwrap(), some());
}

#[test]
fn a_newer_version_and_other_files_are_refused_by_name() {
    let newer = [NAME, b"17\n anything"].concat();
    assert_eq!(decode(&newer.into()), Err(FormatError::NewerVersion(17)));
    for other in [
        &b""[..],
        b"SQLite format 3\0",
        b"weft-store-export x\n",
        b"weft-store-export 0\n",
        b"weft-store-export +1\n",
        b"weft-store-export 01\n",
    ] {
        assert_eq!(decode(&Bytes::copy_from_slice(other)), Err(FormatError::NotAnExport));
    }
}

#[test]
fn what_no_store_writes_is_refused_though_its_checksum_fits() {
    let damaged = |file: Bytes| match decode(&file) {
        Err(FormatError::Damaged(what)) => what,
        other => panic!("{other:?}"),
    };
    let (_, head) = Encoder::begin();
    let len = |len: usize| u32::try_from(len).unwrap().to_be_bytes();
    let key = |key: &[u8]| [&len(key.len())[..], &[0; 4], key].concat();
    let end = |count: u64| [&[0; 4][..], &count.to_be_bytes()].concat();
    let file = |parts: &[Vec<u8>]| seal([head.clone(), parts.concat()].concat());
    assert!(damaged(file(&[key(b"a b"), end(1)])).contains("not allowed in a key"));
    assert!(damaged(file(&[key(b"\xff"), end(1)])).contains("utf-8"));
    assert!(damaged(file(&[key(b"b"), key(b"a"), end(2)])).contains("a is out of order"));
    assert!(damaged(file(&[key(b"a"), key(b"a"), end(2)])).contains("a is out of order"));
    assert!(damaged(file(&[key(b"a"), end(2)])).contains("another number"));
    assert!(damaged(file(&[key(b"a")])).contains("no end"));
    assert!(damaged(file(&[vec![0, 0, 0, 9, 0, 0, 0, 9, 1]])).contains("cut off"));
    assert!(damaged(file(&[vec![0xff; 8]])).contains("cut off"));
    let large = [&1_u32.to_be_bytes()[..], &len(VALUE_LEN_MAX + 1), b"a"].concat();
    let large = file(&[large, vec![0; VALUE_LEN_MAX + 1], end(1)]);
    assert!(damaged(large).contains("a value of 262145 bytes"));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_written_is_read(entries in prop::collection::btree_map("[!-~]{1,20}", vec(any::<u8>(), 0..50), 0..20)) {
        let entries: Vec<_> = entries
            .into_iter()
            .map(|(key, value)| (Key::new(&key).unwrap(), Bytes::from(value)))
            .collect();
        prop_assert_eq!(decode(&encode(&entries)).unwrap(), entries);
    }

    #[test]
    fn no_bytes_make_it_panic(body in vec(any::<u8>(), 0..200)) {
        let (_, head) = Encoder::begin();
        let _ = decode(&body.clone().into());
        let _ = decode(&seal([head, body].concat()));
    }
}
