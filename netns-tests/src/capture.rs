//! `tcpdump` on an interface, and what it caught.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use memchr::memmem;
use nix::sys::signal::Signal;

use crate::namespace::Namespace;
use crate::process::{Process, wait_for};

const START_LIMIT: Duration = Duration::from_secs(10);
/// Kernel buffer of the capture, KiB: a burst must not be lost, since a test proves absence.
const BUFFER_KIB: u32 = 128 << 10;
/// Time for the last packets to reach the file: tcpdump is handed them once a second.
const DRAIN: Duration = Duration::from_millis(1_200);
const FILE_HEADER: usize = 24;
const RECORD_HEADER: usize = 16;
/// Link type "Ethernet" of a capture file.
const ETHERNET: u32 = 1;
const ETHERNET_HEADER: usize = 14;
const PROTOCOL_UDP: u8 = 17;

/// A capture that is running. Dropping it ends it.
#[derive(Debug)]
pub struct Capture {
    process: Process,
    file: PathBuf,
}

impl Capture {
    /// Starts `tcpdump` with a filter (empty for everything) and waits until it listens. Files go
    /// into `dir` under `name`.
    ///
    /// # Errors
    /// When `tcpdump` is missing or refuses the filter.
    pub fn start(
        ns: &Namespace,
        interface: &str,
        filter: &str,
        dir: &Path,
        name: &str,
    ) -> Result<Self> {
        let file = dir.join(format!("{name}.pcap"));
        let mut command = ns.command("tcpdump");
        command.args(["-i", interface, "-n", "-s", "0", "-Z", "root", "-w"]).arg(&file);
        command.args(["-B", &BUFFER_KIB.to_string()]).args(filter.split_whitespace());
        let mut process = Process::start(&mut command, Some(&dir.join(format!("{name}.log"))))?;
        wait_for("tcpdump listens", START_LIMIT, || {
            if let Some(status) = process.ended()? {
                bail!("tcpdump ended: {status}: {}", process.log());
            }
            Ok(process.log().contains("listening on").then_some(()))
        })?;
        Ok(Self { process, file })
    }

    /// Ends it and gives what it caught.
    ///
    /// # Errors
    /// When it lost packets, or its file is no capture.
    pub fn finish(mut self) -> Result<Caught> {
        std::thread::sleep(DRAIN);
        self.process.stop(Signal::SIGINT, START_LIMIT)?;
        let log = self.process.log();
        let complete = log.lines().any(|line| line.trim() == "0 packets dropped by kernel");
        ensure!(complete, "the capture is not complete: {log}");
        Caught::parse(std::fs::read(&self.file)?)
    }
}

/// Packets of a finished capture.
#[derive(Debug, Clone)]
pub struct Caught {
    bytes: Vec<u8>,
    /// Where each packet is in `bytes`.
    packets: Vec<std::ops::Range<usize>>,
    ethernet: bool,
}

/// A UDP datagram of a capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// Sender.
    pub from: SocketAddr,
    /// Receiver.
    pub to: SocketAddr,
    /// Payload.
    pub payload: &'a [u8],
}

impl Caught {
    fn parse(bytes: Vec<u8>) -> Result<Self> {
        let word = |at: usize| -> Option<u32> {
            Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
        };
        let magic = word(0).context("an empty capture file")?;
        ensure!(matches!(magic, 0xa1b2_c3d4 | 0xa1b2_3c4d), "magic number {magic:08x}");
        let ethernet = word(20) == Some(ETHERNET);
        let mut packets = Vec::new();
        let mut at = FILE_HEADER;
        while let Some(len) = word(at + 8) {
            let start = at + RECORD_HEADER;
            let end = start + len as usize;
            if end > bytes.len() {
                break;
            }
            packets.push(start..end);
            at = end;
        }
        Ok(Self { bytes, packets, ethernet })
    }

    /// The packets, with their link header.
    pub fn packets(&self) -> impl Iterator<Item = &[u8]> {
        self.packets.iter().map(|range| &self.bytes[range.clone()])
    }

    /// How many.
    #[must_use]
    pub fn count(&self) -> usize {
        self.packets.len()
    }

    /// Packets in which `needle` occurs.
    #[must_use]
    pub fn containing(&self, needle: &[u8]) -> usize {
        let finder = memmem::Finder::new(needle);
        self.packets().filter(|packet| finder.find(packet).is_some()).count()
    }

    /// The UDP datagrams, without fragments.
    pub fn datagrams(&self) -> impl Iterator<Item = Datagram<'_>> {
        let link = if self.ethernet { ETHERNET_HEADER } else { 0 };
        self.packets().filter_map(move |packet| datagram(packet.get(link..)?))
    }
}

fn datagram(ip: &[u8]) -> Option<Datagram<'_>> {
    let (header, from, to): (usize, IpAddr, IpAddr) = match ip.first()? >> 4 {
        4 if ip.get(9) == Some(&PROTOCOL_UDP) && ip[6] & 0x3f == 0 && ip[7] == 0 => {
            let address = |at: usize| -> Option<IpAddr> {
                let bytes: [u8; 4] = ip.get(at..at + 4)?.try_into().ok()?;
                Some(Ipv4Addr::from(bytes).into())
            };
            (usize::from(ip[0] & 15) * 4, address(12)?, address(16)?)
        }
        6 if ip.get(6) == Some(&PROTOCOL_UDP) => {
            let address = |at: usize| -> Option<IpAddr> {
                let bytes: [u8; 16] = ip.get(at..at + 16)?.try_into().ok()?;
                Some(Ipv6Addr::from(bytes).into())
            };
            (40, address(8)?, address(24)?)
        }
        _ => return None,
    };
    let udp = ip.get(header..)?;
    let word = |at: usize| Some(u16::from_be_bytes(udp.get(at..at + 2)?.try_into().ok()?));
    // The length is 0 in a superpacket beyond 64 KiB; then the payload reaches to the end.
    let length = usize::from(word(4)?);
    let payload = if length < 8 { udp.get(8..)? } else { udp.get(8..length)? };
    let (from, to) = (SocketAddr::new(from, word(0)?), SocketAddr::new(to, word(2)?));
    Some(Datagram { from, to, payload })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_datagrams() {
        let mut ip = vec![0x45, 0, 0, 31, 0, 0, 0x40, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2];
        ip.extend([0x16, 0xbc, 0x16, 0xbd, 0, 11, 0, 0, b'a', b'b', b'c']);
        let found = datagram(&ip).unwrap();
        assert_eq!(found.from, "192.0.2.1:5820".parse().unwrap());
        assert_eq!(found.to, "192.0.2.2:5821".parse().unwrap());
        assert_eq!(found.payload, b"abc");
        ip[9] = 6;
        assert!(datagram(&ip).is_none());
    }

    #[test]
    fn cut_files_are_read_as_far_as_they_go() {
        let mut file = vec![0xd4, 0xc3, 0xb2, 0xa1];
        file.resize(20, 0);
        file.extend([1, 0, 0, 0]);
        file.extend([0; 8]);
        file.extend([3, 0, 0, 0, 3, 0, 0, 0]);
        file.extend(b"abc");
        file.extend([0; 12]);
        let caught = Caught::parse(file).unwrap();
        assert_eq!(caught.count(), 1);
        assert_eq!((caught.containing(b"bc"), caught.containing(b"cd")), (1, 0));
        assert!(Caught::parse(vec![1, 2, 3, 4]).is_err());
    }
}
