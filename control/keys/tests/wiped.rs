//! Key bytes are gone from memory once nobody holds them. A process of its own: it searches all of it.
#![expect(clippy::unwrap_used, reason = "a test")]

#[path = "it/memory.rs"]
#[expect(dead_code, reason = "only a part is used here")]
mod memory;

use std::{
    fs::{self, File},
    hint::black_box,
    os::unix::fs::FileExt as _,
    sync::Arc,
    time::SystemTime,
};

use weft_keys::{KeyBytes, KeyFile, Keyring, Owner, Purpose};
use zeroize::Zeroizing;

/// How often the bytes whose complement is given are in the writable memory of this process.
fn occurrences(complement: &[u8]) -> usize {
    let memory = File::open("/proc/self/mem").unwrap();
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let (mut found, mut buffer) = (0, vec![0; 1 << 20]);
    let own = buffer.as_ptr().addr() as u64..buffer.as_ptr().addr() as u64 + buffer.len() as u64;
    for line in maps.lines() {
        let mut fields = line.split_whitespace();
        let (start, end) = fields.next().unwrap().split_once('-').unwrap();
        if !fields.next().unwrap().starts_with("rw") {
            continue;
        }
        let [mut at, end] = [start, end].map(|text| u64::from_str_radix(text, 16).unwrap());
        while at < end {
            let wanted = usize::try_from(end - at).unwrap().min(buffer.len());
            let Ok(read @ 1..) = memory.read_at(&mut buffer[..wanted], at) else { break };
            for (offset, window) in buffer[..read].windows(complement.len()).enumerate() {
                let same = window.iter().zip(complement).all(|(byte, other)| *byte == !other);
                found += usize::from(same && !own.contains(&(at + offset as u64)));
            }
            if read <= complement.len() {
                break;
            }
            at += (read - complement.len() + 1) as u64;
        }
    }
    buffer.fill(0);
    found
}

fn complement(key: &KeyBytes) -> Vec<u8> {
    key.expose().iter().map(|byte| !byte).collect()
}

#[test]
fn a_dropped_key_is_not_in_memory() {
    let key = KeyBytes::random();
    let wanted = complement(&key);
    assert_eq!(occurrences(&wanted), 1, "the search finds what is there");
    drop(black_box(key));
    assert_eq!(occurrences(&wanted), 0);

    // All the way: from the file to a purpose's key, used, withdrawn, dropped.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("master.key");
    let store = memory::Memory::default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let derived = runtime.block_on(async {
        KeyFile::init(&path, SystemTime::UNIX_EPOCH).unwrap();
        let kms = Arc::new(KeyFile::open(&path).unwrap());
        let keyring = Keyring::open(Arc::new(store), kms).await.unwrap();
        let key = keyring.create(&Owner::Installation, SystemTime::UNIX_EPOCH).await.unwrap();
        let sealed = key.seal(Purpose::Secret, &[b"x"], b"a secret that is not short").unwrap();
        drop(key.open(Purpose::Secret, &[b"x"], &sealed).unwrap());
        let volume = key.derive(Purpose::Volume, &[b"v"]).unwrap();
        let derived = complement(&volume);
        assert!(occurrences(&derived) >= 1);
        keyring.destroy(&Owner::Installation, SystemTime::UNIX_EPOCH).await.unwrap();
        derived
    });
    assert_eq!(occurrences(&derived), 0, "a derived key");
    let secret: Vec<u8> = b"a secret that is not short".iter().map(|byte| !byte).collect();
    // The text itself is in the binary's constants, which are not writable.
    assert_eq!(occurrences(&secret), 0, "a plaintext");
    let text = Zeroizing::new(fs::read(&path).unwrap());
    let line = text.split(|byte| *byte == b'\n').rfind(|line| !line.is_empty()).unwrap();
    let hex = &line[line.len() - 64..];
    let as_text: Vec<u8> = hex.iter().map(|byte| !byte).collect();
    let master = KeyBytes::filled(|key| {
        data_encoding::HEXLOWER.decode_mut(hex, key).unwrap();
    });
    let as_key = complement(&master);
    assert!(occurrences(&as_text) >= 1 && occurrences(&as_key) >= 1);
    drop((text, master));
    assert_eq!(occurrences(&as_text), 0, "the master key as text");
    assert_eq!(occurrences(&as_key), 0, "the master key");
}
