use super::*;
use etherparse::PacketBuilder;
use proptest::prelude::*;

fn tcp(payload: usize) -> Vec<u8> {
    let mut packet = Vec::new();
    PacketBuilder::ipv4([10, 0, 0, 2], [10, 0, 0, 3], 64)
        .tcp(1000, 2000, 77, 100)
        .write(&mut packet, &vec![9; payload])
        .unwrap();
    packet
}

fn udp6(payload: usize) -> Vec<u8> {
    let mut packet = Vec::new();
    PacketBuilder::ipv6([2; 16], [3; 16], 64)
        .udp(1000, 2000)
        .write(&mut packet, &vec![9; payload])
        .unwrap();
    packet
}

const TCP4: VirtioHeader = VirtioHeader {
    flags: virtio::NEEDS_CSUM,
    gso_type: virtio::GSO_TCPV4,
    hdr_len: 9999, // never believed
    gso_size: 1000,
    csum_start: 20,
    csum_offset: 16,
};

fn check(claim: VirtioHeader, packet: &[u8]) -> Result<Frame, FrameError> {
    Frame::from_container(claim, &mut packet.to_vec())
}

#[test]
fn an_honest_superpacket_passes() {
    let frame = check(TCP4, &tcp(2500)).unwrap();
    assert_eq!(frame.offload, Offload::Gso(Gso { size: 1000, header_len: 40, ecn: false }));
    assert_eq!(frame.segments(), 3);
    assert_eq!(frame.virtio(), VirtioHeader { hdr_len: 40, ..TCP4 });
    let udp = VirtioHeader {
        gso_type: virtio::GSO_UDP_L4,
        csum_start: 40,
        csum_offset: 6,
        gso_size: 100,
        ..TCP4
    };
    let frame = check(udp, &udp6(128 * 100)).unwrap();
    assert_eq!(frame.segments(), 128);
    assert_eq!(check(udp, &udp6(128 * 100 + 1)), Err(FrameError::Segments));
}

#[test]
fn a_single_segment_is_no_superpacket() {
    assert_eq!(check(TCP4, &tcp(1000)).unwrap().offload, Offload::Checksum);
    assert_eq!(check(TCP4, &tcp(0)), Err(FrameError::Segmentation));
}

/// The port rewrite: a checksum that would be stored on a port is made before anyone reads ports,
/// and never reaches another kernel as work to do.
#[test]
fn a_checksum_on_a_port_is_made_before_the_header_is_read() {
    let mut packet = tcp(100);
    let claim = VirtioHeader { gso_type: 0, csum_offset: 2, ..TCP4 };
    let frame = Frame::from_container(claim, &mut packet).unwrap();
    assert_eq!(frame.offload, Offload::None);
    assert_eq!(frame.virtio(), VirtioHeader::default());
    assert_ne!(packet[22..24], 2000u16.to_be_bytes());
}

#[test]
fn a_checksum_on_an_address_changes_the_address_that_is_judged() {
    let mut packet = tcp(100);
    let claim = VirtioHeader { gso_type: 0, csum_start: 0, csum_offset: 16, ..TCP4 };
    let frame = Frame::from_container(claim, &mut packet).unwrap();
    assert_eq!(frame.inner, Inner::parse(&packet).unwrap());
    assert_ne!(frame.inner.destination.to_string(), "10.0.0.3");
}

#[test]
fn false_claims_are_refused() {
    use FrameError::{Checksum, Length, Segmentation};
    let packet = tcp(2500);
    let table = [
        (VirtioHeader { flags: 4, ..TCP4 }, Checksum),
        (VirtioHeader { flags: 0, ..TCP4 }, Checksum),
        (VirtioHeader { csum_offset: 2, ..TCP4 }, Checksum),
        (VirtioHeader { csum_start: 21, ..TCP4 }, Checksum),
        (VirtioHeader { gso_type: virtio::GSO_TCPV6, ..TCP4 }, Segmentation),
        (VirtioHeader { gso_type: virtio::GSO_UDP_L4, ..TCP4 }, Segmentation),
        (VirtioHeader { gso_type: 3, ..TCP4 }, Segmentation),
        (VirtioHeader { gso_size: 0, ..TCP4 }, Segmentation),
        (VirtioHeader { gso_size: 1, ..TCP4 }, FrameError::Segments),
        (VirtioHeader { gso_type: 0, csum_start: 2539, csum_offset: 0, ..TCP4 }, Checksum),
        (VirtioHeader { gso_type: 0, csum_start: u16::MAX, csum_offset: 9, ..TCP4 }, Checksum),
    ];
    for (claim, error) in table {
        assert_eq!(check(claim, &packet), Err(error), "{claim:?}");
    }
    assert_eq!(check(TCP4, &packet[..2000]), Err(Length));
    let mut fragment = packet.clone();
    fragment[6] = 0x20;
    assert_eq!(check(TCP4, &fragment), Err(Checksum));
    let mut short_header = packet;
    short_header[32] = 0x40;
    assert_eq!(check(TCP4, &short_header), Err(Segmentation));
    let mut false_udp_len = udp6(100);
    false_udp_len[45] -= 1;
    let udp = VirtioHeader { gso_type: 0, csum_start: 40, csum_offset: 6, ..TCP4 };
    let from_peer = Metadata { virtio: VirtioHeader { hdr_len: 0, ..udp }, chunk: 0, count: 1 };
    assert_eq!(Frame::from_peer(&from_peer, &false_udp_len), Err(Checksum));
}

/// Flags, types and headers that only look right, one at a time.
#[test]
fn claims_that_almost_fit_are_refused() {
    let plain = VirtioHeader::default();
    let unknown_flag = VirtioHeader { flags: 4, ..plain };
    assert_eq!(check(unknown_flag, &tcp(10)), Err(FrameError::Checksum));
    let udp = VirtioHeader { csum_start: 40, csum_offset: 6, ..TCP4 };
    let marked = VirtioHeader { gso_type: virtio::GSO_UDP_L4 | virtio::GSO_ECN, ..udp };
    assert_eq!(check(marked, &udp6(2500)), Err(FrameError::Segmentation), "CWR on UDP");

    // What a peer may leave to do: a TCP or UDP checksum, behind a header that is all there.
    let whole = |claim| Metadata {
        virtio: VirtioHeader { gso_type: 0, hdr_len: 0, gso_size: 0, ..claim },
        chunk: 0,
        count: 1,
    };
    let from_peer = |claim, packet: &[u8]| Frame::from_peer(&whole(claim), packet);
    let mut cut_tcp = tcp(0)[..39].to_vec();
    cut_tcp[3] = 39;
    assert_eq!(from_peer(TCP4, &cut_tcp), Err(FrameError::Checksum), "19 bytes of TCP");
    let mut cut_udp = udp6(0)[..47].to_vec();
    (cut_udp[5], cut_udp[45]) = (7, 7);
    assert_eq!(from_peer(udp, &cut_udp), Err(FrameError::Checksum), "7 bytes of UDP");
    for csum_offset in [0, 6, 8, 16] {
        let mut sctp = tcp(20);
        sctp[9] = 132;
        let claim = VirtioHeader { csum_offset, ..TCP4 };
        assert_eq!(from_peer(claim, &sctp), Err(FrameError::Checksum), "SCTP at {csum_offset}");
    }
}

/// UDP over IPv6 behind destination options of `options` bytes.
fn udp_behind_options(options: u8, payload: usize) -> (VirtioHeader, Vec<u8>) {
    let mut packet = udp6(payload);
    let mut extension = vec![0; usize::from(options)];
    (extension[0], extension[1]) = (packet[6], options / 8 - 1);
    packet[6] = 60;
    packet.splice(40..40, extension);
    let length = u16::try_from(packet.len() - 40).unwrap();
    packet[4..6].copy_from_slice(&length.to_be_bytes());
    let csum_start = 40 + u16::from(options);
    let gso_type = virtio::GSO_UDP_L4;
    (VirtioHeader { gso_type, gso_size: 100, csum_start, csum_offset: 6, ..TCP4 }, packet)
}

#[test]
fn a_superpacket_s_header_has_at_most_192_bytes() {
    let (claim, packet) = udp_behind_options(144, 250);
    assert_eq!(check(claim, &packet).unwrap().virtio().hdr_len, 192);
    let (claim, packet) = udp_behind_options(152, 250);
    assert_eq!(check(claim, &packet), Err(FrameError::Segmentation));
    let metadata = Metadata { virtio: claim, chunk: 0, count: 3 };
    let chunk = Frame::from_chunk(&metadata, &packet[..200], 100);
    assert_eq!(chunk, Err(FrameError::Segmentation));
}

#[test]
fn chunks_must_have_exactly_their_length() {
    let packet = tcp(2500);
    let metadata = |chunk, count| Metadata { virtio: TCP4, chunk, count };
    let chunk = |m: Metadata, len| Frame::from_chunk(&m, &packet[..40], len);
    assert!(chunk(metadata(0, 3), 1000).is_ok());
    assert!(chunk(metadata(2, 3), 500).is_ok());
    for (chunk_index, len) in [(0, 999), (1, 1001), (2, 499), (2, 501), (2, 0)] {
        assert_eq!(chunk(metadata(chunk_index, 3), len), Err(FrameError::Length));
    }
    assert_eq!(chunk(metadata(0, 2), 1000), Err(FrameError::Segmentation));
    assert_eq!(chunk(metadata(0, 4), 1000), Err(FrameError::Segmentation));
    // A peer may not leave a checksum to do at another place than the transport header's.
    let elsewhere =
        Metadata { virtio: VirtioHeader { csum_offset: 2, ..TCP4 }, chunk: 0, count: 3 };
    assert_eq!(chunk(elsewhere, 1000), Err(FrameError::Checksum));
    // The header is exactly IP and TCP, not a byte more.
    assert_eq!(
        Frame::from_chunk(&metadata(0, 3), &packet[..41], 1000),
        Err(FrameError::Segmentation)
    );
}

proptest! {
    /// Whatever is claimed about whatever bytes: no panic, and what passes is true of the packet.
    #[test]
    fn what_passes_is_true(
        claim: [u8; 10], mut packet in proptest::collection::vec(any::<u8>(), 0..120), fix: bool,
    ) {
        if fix && packet.len() > 30 {
            packet[0] = 0x45;
            let length = u16::try_from(packet.len()).unwrap();
            packet[2..4].copy_from_slice(&length.to_be_bytes());
            packet[6..8].fill(0);
        }
        if let Ok(frame) = Frame::from_container(VirtioHeader::decode(&claim), &mut packet) {
            prop_assert_eq!(Ok(frame.inner), Inner::parse(&packet));
            prop_assert_eq!(usize::from(frame.inner.length), packet.len());
            let virtio = frame.virtio();
            if frame.offload != Offload::None {
                let end = usize::from(virtio.csum_start + virtio.csum_offset) + 2;
                prop_assert!(end <= packet.len());
            }
            // What a container may send, a peer accepts.
            if !matches!(frame.offload, Offload::Gso(_)) {
                let metadata = Metadata { virtio, chunk: 0, count: 1 };
                prop_assert_eq!(Frame::from_peer(&metadata, &packet), Ok(frame));
            }
        }
    }
}
