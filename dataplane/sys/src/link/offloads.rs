//! What an interface does itself, and what is switched on (`ethtool -k`, `SIOCETHTOOL`).

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;

use crate::syscall::{check, interface_name, invalid_input};

const GET_STRINGS: u32 = 0x1b;
const GET_SET_INFO: u32 = 0x37;
const GET_FEATURES: u32 = 0x3a;
/// `ETH_SS_FEATURES`, the set of strings that names features.
const FEATURES: u32 = 4;
/// `ETH_GSTRING_LEN`, bytes, closing zeros included.
const NAME_LEN: usize = 32;
const NAME_WORDS: usize = NAME_LEN / size_of::<u32>();
/// Kernels have some 64.
const FEATURES_MAX: u32 = 256;
/// Words of a block of 32 features: available, requested, active, never changed.
const BLOCK_WORDS: usize = 4;

/// One feature of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Feature {
    /// Whether it could be switched on.
    pub available: bool,
    /// Whether it is on.
    pub active: bool,
}

/// The features of an interface of the calling thread's namespace by the names that `ethtool` and the
/// kernel give them, such as `tx-udp-segmentation`.
///
/// # Errors
/// `ENODEV` when there is no such interface; `EOPNOTSUPP` when it does not tell.
pub fn features(interface: &str) -> io::Result<BTreeMap<String, Feature>> {
    // Any socket leads to the interfaces of its namespace.
    let socket = UnixDatagram::unbound()?;
    let ask = |request: &mut [u32]| ask(&socket, interface, request);
    // Command, reserved, a set of 64 bits, one number for each member of it.
    let mut info = [GET_SET_INFO, 0, 1 << FEATURES, 0, 0];
    ask(&mut info)?;
    let count = info[4];
    if count > FEATURES_MAX {
        return Err(invalid_input(format!("{count} features; expected at most {FEATURES_MAX}")));
    }
    let count = count as usize;
    let mut strings = vec![0; 3 + count * NAME_WORDS];
    strings[..3].copy_from_slice(&[GET_STRINGS, FEATURES, count as u32]);
    ask(&mut strings)?;
    let blocks = count.div_ceil(u32::BITS as usize);
    let mut states = vec![0; 2 + blocks * BLOCK_WORDS];
    states[..2].copy_from_slice(&[GET_FEATURES, blocks as u32]);
    ask(&mut states)?;
    let bytes: Vec<u8> = strings[3..].iter().flat_map(|word| word.to_ne_bytes()).collect();
    let feature = |(number, name): (usize, &[u8])| {
        let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
        let block = 2 + number / 32 * BLOCK_WORDS;
        let is_set = |word: usize| states[block + word] >> (number % 32) & 1 == 1;
        let name = String::from_utf8_lossy(&name[..end]).into_owned();
        (name, Feature { available: is_set(0), active: is_set(2) })
    };
    Ok(bytes.chunks_exact(NAME_LEN).enumerate().map(feature).collect())
}

/// Sends a request, whose answer takes its place.
fn ask(socket: &UnixDatagram, interface: &str, request: &mut [u32]) -> io::Result<()> {
    let name = interface_name(interface)?;
    let room = match *request {
        [GET_SET_INFO, ..] => 5,
        [GET_STRINGS, FEATURES, count, ..] => 3 + count as usize * NAME_WORDS,
        [GET_FEATURES, blocks, ..] => 2 + blocks as usize * BLOCK_WORDS,
        _ => usize::MAX,
    };
    if request.len() < room {
        return Err(invalid_input(format!("{} words; expected {room}", request.len())));
    }
    // SAFETY: `ifreq` is plain old data for which all zeros is a valid value.
    let mut envelope: libc::ifreq = unsafe { std::mem::zeroed() };
    // `interface_name` admits at most 15 bytes, so a terminating zero stays.
    for (slot, byte) in envelope.ifr_name[..libc::IFNAMSIZ - 1].iter_mut().zip(name.to_bytes()) {
        *slot = *byte as libc::c_char;
    }
    envelope.ifr_ifru.ifru_data = request.as_mut_ptr().cast();
    // SAFETY: SIOCETHTOOL reads and writes one `ifreq` and what it points to: the words of `request`, of
    // which there are as many as its command takes. How many features have names is the kernel's
    // constant, which it told before.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut envelope) })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netns::Netns;

    #[test]
    fn loopback_tells_its_features() {
        let found = Netns::create().unwrap().run(|| features("lo")).unwrap().unwrap();
        assert!(found["tx-checksum-ip-generic"].active);
        assert_eq!(found["vlan-challenged"], Feature { available: false, active: true });
        assert_eq!(found["tx-udp-segmentation"], Feature { available: true, active: true });
        assert!(found.contains_key("rx-gro"));
        let error = features("weft-none").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
    }

    #[test]
    fn an_answer_has_room() {
        let socket = UnixDatagram::unbound().unwrap();
        for request in [&mut [GET_SET_INFO, 0, 0, 0][..], &mut [GET_STRINGS, FEATURES, 1], &mut []]
        {
            let error = ask(&socket, "lo", request).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        }
    }
}
