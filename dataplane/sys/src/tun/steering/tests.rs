//! The kernel's choice of queue against [`flow_hash`], through a real device.

use std::time::Duration;

use super::*;
use crate::VNET_HEADER_LEN;
use crate::packet::PacketSocket;
use crate::syscall::interface_index;
use crate::tun::TunQueue;
use crate::tun::test_container::container;

const QUEUES: u8 = 4;
const FLOWS: u32 = 64;

/// A small deterministic generator (xorshift).
struct Random(u32);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0
    }
}

#[derive(Clone, Copy)]
struct Flow {
    addresses: [[u8; 16]; 2],
    ports: [u16; 2],
}

impl Flow {
    fn random(random: &mut Random) -> Self {
        let mut address = || {
            let mut bytes = [0; 16];
            bytes.as_chunks_mut::<4>().0.fill_with(|| random.next().to_be_bytes());
            bytes
        };
        let addresses = [address(), address()];
        let ports = random.next();
        Self { addresses, ports: [ports as u16, (ports >> 16) as u16] }
    }

    fn reversed(self) -> Self {
        let ([a, b], [c, d]) = (self.addresses, self.ports);
        Self { addresses: [b, a], ports: [d, c] }
    }

    fn ipv4(&self, protocol: u8, options: usize, fragment: u16, payload: usize) -> Vec<u8> {
        let len = 20 + options + payload;
        let mut packet = vec![0; 20 + options];
        packet[0] = 0x40 | (5 + options / 4) as u8;
        packet[2..4].copy_from_slice(&(len as u16).to_be_bytes());
        packet[6..8].copy_from_slice(&fragment.to_be_bytes());
        packet[8] = 64;
        packet[9] = protocol;
        packet[12..16].copy_from_slice(&self.addresses[0][..4]);
        packet[16..20].copy_from_slice(&self.addresses[1][..4]);
        self.add_payload(packet, payload)
    }

    fn ipv6(&self, next_header: u8, payload: usize) -> Vec<u8> {
        let mut packet = vec![0; 40];
        packet[0] = 0x60;
        packet[4..6].copy_from_slice(&(payload as u16).to_be_bytes());
        packet[6] = next_header;
        packet[7] = 64;
        packet[8..24].copy_from_slice(&self.addresses[0]);
        packet[24..40].copy_from_slice(&self.addresses[1]);
        self.add_payload(packet, payload)
    }

    fn add_payload(&self, mut packet: Vec<u8>, len: usize) -> Vec<u8> {
        let mut payload = vec![0xa5; len.max(4)];
        payload[..2].copy_from_slice(&self.ports[0].to_be_bytes());
        payload[2..4].copy_from_slice(&self.ports[1].to_be_bytes());
        packet.extend(&payload[..len]);
        packet
    }

    /// Every shape that the hash distinguishes.
    fn packets(&self) -> Vec<Vec<u8>> {
        vec![
            self.ipv4(TCP, 0, 0, 40),
            self.ipv4(UDP, 0, 0x4000, 8), // don't fragment
            self.ipv4(UDP, 12, 0, 8),
            self.ipv4(TCP, 40, 0, 4),
            self.ipv4(1, 0, 0, 8),
            self.ipv4(132, 0, 0, 16),
            self.ipv4(UDP, 0, 0x2000, 16), // first fragment
            self.ipv4(UDP, 0, 0x0010, 16), // later fragment
            self.ipv4(UDP, 0, 0, 3),       // ports cut off
            self.ipv4(UDP, 0, 0, 0),
            self.ipv6(TCP, 20),
            self.ipv6(UDP, 8),
            self.ipv6(58, 8),
            self.ipv6(0, 16), // extension header
            self.ipv6(44, 16),
            self.ipv6(TCP, 2),
        ]
    }
}

/// The queue on which `packet` arrives within a second (another processor may be sending it);
/// others that the kernel sent by itself are thrown away.
fn queue_of(queues: &[TunQueue], packet: &[u8]) -> usize {
    let mut buf = [0; 2048];
    for _ in 0..1000 {
        for (number, queue) in queues.iter().enumerate() {
            while let Ok(len) = queue.read(&mut buf) {
                if buf[VNET_HEADER_LEN..len] == *packet {
                    return number;
                }
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("the packet came out of no queue: {packet:02x?}");
}

#[test]
fn the_kernel_takes_the_queue_of_the_hash() {
    let (container, queues) = container(QUEUES);
    let raw = container
        .run(|| PacketSocket::open(interface_index("weft0").unwrap(), false).unwrap())
        .unwrap();
    let mut random = Random(0x5eed);
    let mut seen = [0; QUEUES as usize];
    for _ in 0..FLOWS {
        let flow = Flow::random(&mut random);
        for (packet, back) in flow.packets().iter().zip(flow.reversed().packets()) {
            let hash = flow_hash(packet);
            assert!(hash < 1 << 16);
            assert_eq!(flow_hash(&back), hash, "{packet:02x?}");
            let expected = hash as usize % queues.len();
            seen[expected] += 1;
            raw.send(packet).unwrap();
            assert_eq!(queue_of(&queues, packet), expected, "{packet:02x?}");
            raw.send(&back).unwrap();
            assert_eq!(queue_of(&queues, &back), expected, "{back:02x?}");
        }
    }
    // 1,024 packets, 256 to a queue if evenly spread.
    assert!(seen.iter().all(|count| *count > 180), "{seen:?}");

    let short_ipv6 = &Flow::random(&mut random).ipv6(TCP, 20)[..30];
    for other in [&[0x45; 10][..], &[0x75; 60], short_ipv6] {
        assert_eq!(flow_hash(other), 0);
        raw.send(other).unwrap();
        assert_eq!(queue_of(&queues, other), 0);
    }
}

#[test]
fn the_hash_is_fixed() {
    // The wire does not carry it, but both files that compute it must agree for ever.
    let address = |last| [10, 7, 0, last, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let flow = Flow { addresses: [address(1), address(2)], ports: [0x1234, 443] };
    let key = 3 ^ 0x1234 ^ 443 ^ u32::from(TCP);
    assert_eq!(flow_hash(&flow.ipv4(TCP, 0, 0, 20)), key.wrapping_mul(0x9E37_79B1) >> 16);
    assert_eq!(flow_hash(&flow.ipv6(TCP, 20)), key.wrapping_mul(0x9E37_79B1) >> 16);
}
