use super::*;
use crate::{VirtioHeader, virtio as v};
use etherparse::{Ipv4HeaderSlice, PacketBuilder, TcpHeaderSlice};
use proptest::prelude::*;

const SIZE: u16 = 100;

fn superpacket(payload: usize) -> (Vec<u8>, Frame, Gso) {
    let mut packet = Vec::new();
    PacketBuilder::ipv4([10, 0, 0, 2], [10, 0, 0, 3], 64)
        .tcp(1000, 2000, 0xffff_ff00, 100)
        .psh()
        .fin()
        .cwr()
        .write(&mut packet, &vec![9; payload])
        .unwrap();
    let claim = VirtioHeader {
        flags: v::NEEDS_CSUM,
        gso_type: v::GSO_TCPV4 | v::GSO_ECN,
        hdr_len: 40,
        gso_size: SIZE,
        csum_start: 20,
        csum_offset: 16,
    };
    let frame = Frame::from_container(claim, &mut packet).unwrap();
    let Offload::Gso(gso) = frame.offload else { panic!("no superpacket") };
    (packet, frame, gso)
}

proptest! {
    /// A run's header is a valid TCP packet whose every field follows from its place.
    #[test]
    fn runs_are_valid_packets(
        payload in 201usize..6400, first in 0u16..64, chunks in 1u16..64,
    ) {
        let (packet, frame, gso) = superpacket(payload);
        let count = u16::try_from(frame.segments()).unwrap();
        let first = first % count;
        let chunks = chunks.min(count - first);
        let last = first + chunks == count;
        let payload_len = if last {
            u16::try_from(payload).unwrap() - first * SIZE
        } else {
            chunks * SIZE
        };
        let run = Run { first, chunks, payload_len, last };
        let mut header = packet[..40].to_vec();
        let made = apply(&frame, &gso, &run, &mut header);

        let before = Ipv4HeaderSlice::from_slice(&packet).unwrap();
        let ip = Ipv4HeaderSlice::from_slice(&header).unwrap();
        prop_assert_eq!(ip.total_len(), 40 + payload_len);
        prop_assert_eq!(ip.identification(), before.identification().wrapping_add(first));
        prop_assert_eq!(ip.header_checksum(), ip.to_header().calc_header_checksum());
        let tcp = TcpHeaderSlice::from_slice(&header[20..]).unwrap();
        prop_assert_eq!(
            tcp.sequence_number(),
            0xffff_ff00u32.wrapping_add(u32::from(first) * u32::from(SIZE))
        );
        prop_assert_eq!((tcp.psh(), tcp.fin()), (last, last));
        prop_assert_eq!(tcp.cwr(), first == 0);
        // Only the first segment may keep CWR, so only a packet with it has the type that says so.
        let keeps_cwr = made.virtio().gso_type & v::GSO_ECN != 0;
        prop_assert_eq!(keeps_cwr, first == 0 && chunks > 1);
        // The kernel finishes the pseudo header's sum into the true checksum.
        let mut whole = header.clone();
        whole.extend(vec![9; usize::from(payload_len)]);
        let check = checksum::internet(&whole[20..]);
        let real = tcp.calc_checksum_ipv4(&ip, &whole[40..]).unwrap();
        prop_assert_eq!(check, real);
        // And what was made passes the checks again, with the same meaning.
        let again = Frame::from_container(made.virtio(), &mut whole).unwrap();
        prop_assert_eq!(again, made);
    }
}

#[test]
fn udp_runs_state_their_own_length() {
    let mut packet = Vec::new();
    PacketBuilder::ipv6([2; 16], [3; 16], 64).udp(1, 2).write(&mut packet, &[5; 350]).unwrap();
    let claim = VirtioHeader {
        flags: v::NEEDS_CSUM,
        gso_type: v::GSO_UDP_L4,
        hdr_len: 48,
        gso_size: SIZE,
        csum_start: 40,
        csum_offset: 6,
    };
    let frame = Frame::from_container(claim, &mut packet).unwrap();
    let Offload::Gso(gso) = frame.offload else { panic!("no superpacket") };
    let mut header = packet[..48].to_vec();
    let run = Run { first: 1, chunks: 3, payload_len: 250, last: true };
    let made = apply(&frame, &gso, &run, &mut header);
    assert_eq!(header[4..6], 258u16.to_be_bytes());
    assert_eq!(header[44..46], 258u16.to_be_bytes());
    header.extend([5; 250]);
    assert_eq!(Frame::from_container(made.virtio(), &mut header), Ok(made));
}
