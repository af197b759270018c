//! The memory of a process as who seizes the machine sees it: where certain bytes are, and which AES keys.
//!
//! A key that is ready for use is expanded: 240 bytes of which all but the first 32 follow from what is
//! before them. So keys are found without being known ("cold boot" attacks work that way).

use std::collections::BTreeSet;
use std::fs::File;
use std::io::BufRead;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result};
use memchr::memmem;

/// Bytes of an AES-256 key.
pub const KEY_LEN: usize = 32;
/// Bytes of its round keys.
const SCHEDULE_LEN: usize = 240;
/// Read at a time; neighbours overlap, so that nothing is cut.
const BLOCK: usize = 1 << 20;
const OVERLAP: usize = 256;

/// How often each of these is in the memory of a process.
///
/// # Errors
/// When the process is gone or may not be read.
pub fn occurrences(pid: i32, needles: &[&[u8]]) -> Result<Vec<usize>> {
    let finders: Vec<_> = needles.iter().map(|needle| memmem::Finder::new(*needle)).collect();
    let mut found = vec![0; needles.len()];
    each_block(pid, |block, own| {
        for (finder, found) in finders.iter().zip(&mut found) {
            *found += finder.find_iter(block).filter(|at| *at < own).count();
        }
    })?;
    Ok(found)
}

/// The AES-256 keys that are expanded in the memory of a process.
///
/// # Errors
/// When the process is gone or may not be read.
pub fn aes_keys(pid: i32) -> Result<BTreeSet<[u8; KEY_LEN]>> {
    let mut keys = BTreeSet::new();
    let sbox = sbox();
    each_block(pid, |block, _| {
        // Whatever expands keys aligns them.
        for at in (0..block.len().saturating_sub(SCHEDULE_LEN)).step_by(8) {
            if is_schedule(&block[at..at + SCHEDULE_LEN], &sbox) {
                keys.extend(<[u8; KEY_LEN]>::try_from(&block[at..at + KEY_LEN]));
            }
        }
    })?;
    Ok(keys)
}

/// Calls `look` with every block and how many of its bytes are no other block's.
fn each_block(pid: i32, mut look: impl FnMut(&[u8], usize)) -> Result<()> {
    let maps = File::open(format!("/proc/{pid}/maps")).context("maps")?;
    let memory = File::open(format!("/proc/{pid}/mem")).context("memory")?;
    let mut block = vec![0; BLOCK + OVERLAP];
    for line in std::io::BufReader::new(maps).lines() {
        let line = line?;
        let (range, rest) = line.split_once(' ').context("a line of maps")?;
        if !rest.starts_with('r') || rest.ends_with("[vvar]") || rest.ends_with("[vsyscall]") {
            continue;
        }
        let (start, end) = range.split_once('-').context("a range of maps")?;
        let (start, end) = (u64::from_str_radix(start, 16)?, u64::from_str_radix(end, 16)?);
        for at in (start..end).step_by(BLOCK) {
            let len = usize::try_from(end - at)?.min(block.len());
            // Pages of devices cannot be read; nor can those that went meanwhile.
            if memory.read_exact_at(&mut block[..len], at).is_err() {
                continue;
            }
            if block[..len].iter().any(|byte| *byte != 0) {
                look(&block[..len], BLOCK.min(len));
            }
        }
    }
    Ok(())
}

/// FIPS 197, section 5.2, for eight words of key: whether all others follow from them.
fn is_schedule(bytes: &[u8], sbox: &[u8; 256]) -> bool {
    let word = |i: usize| -> [u8; 4] { [0, 1, 2, 3].map(|byte| bytes[4 * i + byte]) };
    let substituted = |word: [u8; 4]| word.map(|byte| sbox[usize::from(byte)]);
    let mut round = 1;
    for i in 8..SCHEDULE_LEN / 4 {
        let mut word_before = word(i - 1);
        if i.is_multiple_of(8) {
            word_before.rotate_left(1);
            word_before = substituted(word_before);
            word_before[0] ^= round;
            round <<= 1;
        } else if i % 8 == 4 {
            word_before = substituted(word_before);
        }
        let (first, expected) = (word(i - 8), word(i));
        if (0..4).any(|byte| first[byte] ^ word_before[byte] != expected[byte]) {
            return false;
        }
    }
    true
}

/// FIPS 197, section 5.1.1: the inverse in GF(2⁸), then an affine map.
fn sbox() -> [u8; 256] {
    let mut sbox = [0; 256];
    let (mut p, mut q) = (1_u8, 1_u8);
    loop {
        // p runs through the field by 3, q by its inverse.
        p ^= (p << 1) ^ if p & 0x80 == 0 { 0 } else { 0x1b };
        q ^= q << 1;
        q ^= q << 2;
        q ^= q << 4;
        q ^= if q & 0x80 == 0 { 0 } else { 0x09 };
        let affine = q ^ q.rotate_left(1) ^ q.rotate_left(2) ^ q.rotate_left(3) ^ q.rotate_left(4);
        sbox[usize::from(p)] = affine ^ 0x63;
        if p == 1 {
            sbox[0] = 0x63;
            return sbox;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FIPS 197, appendix A.3.
    const KEY: [u8; KEY_LEN] = [
        0x60, 0x3d, 0xeb, 0x10, 0x15, 0xca, 0x71, 0xbe, 0x2b, 0x73, 0xae, 0xf0, 0x85, 0x7d, 0x77,
        0x81, 0x1f, 0x35, 0x2c, 0x07, 0x3b, 0x61, 0x08, 0xd7, 0x2d, 0x98, 0x10, 0xa3, 0x09, 0x14,
        0xdf, 0xf4,
    ];

    fn expanded(key: &[u8; KEY_LEN]) -> Vec<u8> {
        let sbox = sbox();
        let mut out = key.to_vec();
        let mut round = 1;
        while out.len() < SCHEDULE_LEN {
            let i = out.len() / 4;
            let mut word: [u8; 4] = out[out.len() - 4..].try_into().unwrap();
            if i.is_multiple_of(8) {
                word.rotate_left(1);
            }
            if i.is_multiple_of(4) {
                word = word.map(|byte| sbox[usize::from(byte)]);
            }
            if i.is_multiple_of(8) {
                word[0] ^= round;
                round <<= 1;
            }
            for (byte, before) in word.into_iter().zip(out[out.len() - 32..].to_vec()) {
                out.push(byte ^ before);
            }
        }
        out
    }

    #[test]
    fn the_published_schedule_is_known_as_one() {
        let schedule = expanded(&KEY);
        assert_eq!(schedule[32..36], [0x9b, 0xa3, 0x54, 0x11]);
        assert_eq!(schedule[236..], [0x70, 0x6c, 0x63, 0x1e]);
        assert!(is_schedule(&schedule, &sbox()));
        for byte in [0, 100, 239] {
            let mut other = schedule.clone();
            other[byte] ^= 1;
            assert!(!is_schedule(&other, &sbox()));
        }
    }

    #[test]
    fn keys_of_this_process_are_found() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let mut key = KEY;
        key[0] ^= 0x55;
        let schedule = expanded(&key);
        assert!(aes_keys(pid).unwrap().contains(&key));
        let found = occurrences(pid, &[&key, &schedule[200..]]).unwrap();
        assert!(found[0] >= 1 && found[1] >= 1, "{found:?}");
        drop(schedule);
    }
}
