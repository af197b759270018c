//! The first inputs of targets that take packets and frames.

use std::collections::BTreeMap;

use weft_sim::packet::{Flow, Packet, Sum, Transport, tcp};
use weft_types::ReceiverIndex;
use weft_wire::{
    Control, Kind, Metadata, VirtioHeader,
    hello::{Frame, Hello},
    record::write_records,
};

use crate::{
    control_seeds, dns_seeds,
    pair::{Memory, Pair, addresses},
};

fn flow(side: usize, six: bool) -> Flow {
    let family = usize::from(six);
    Flow {
        source: addresses(side)[family],
        destination: addresses(1 - side)[family],
        ports: (40_000, 443),
    }
}

fn packets() -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    for (family, six) in [("4", false), ("6", true)] {
        let stream = Transport::Tcp { sequence: 9, flags: tcp::ACK | tcp::PSH, options: 12 };
        let with = |transport, len| Packet::new(flow(0, six), transport, vec![7; len]);
        let mut add = |name: &str, data| all.insert(format!("{name}{family}"), data);
        add("tcp-superpacket", with(stream, 250).superpacket(100));
        add("tcp", with(stream, 20).unfinished());
        add("udp-superpacket", with(Transport::Udp, 70).superpacket(40));
        add("udp-65-segments", with(Transport::Udp, 65 * 3).superpacket(3));
        add("udp", with(Transport::Udp, 20).unfinished());
        add("echo", with(Transport::Echo, 20).complete());
        add("esp", with(Transport::Other(50), 20).complete());
        let mut nowhere = with(Transport::Udp, 20);
        nowhere.flow.destination = Pair::GATEWAYS[usize::from(six)];
        add("nowhere", nowhere.unfinished());
        // A tunnel in the container: the checksum to make is not the outer one.
        let mut elsewhere = with(Transport::Udp, 60).unfinished();
        elsewhere[6..8].copy_from_slice(&60u16.to_ne_bytes());
        add("checksum-elsewhere", elsewhere);
    }
    all
}

fn extensions() -> Vec<u8> {
    let inner = Packet::new(flow(0, true), Transport::Udp, vec![7; 20]).bytes(Sum::Full);
    let mut packet = inner[..40].to_vec();
    packet[4..6].copy_from_slice(&52u16.to_be_bytes());
    packet[6] = 0;
    packet.extend([60, 0, 1, 4, 0, 0, 0, 0]);
    packet.extend([44, 0, 1, 4, 0, 0, 0, 0]);
    packet.extend([17, 0, 0, 1, 0, 0, 0, 9]);
    packet.extend_from_slice(&inner[40..]);
    packet
}

/// Plaintexts of three chunks of a TCP superpacket.
fn chunks() -> Vec<Vec<u8>> {
    let stream = Transport::Tcp { sequence: 9, flags: tcp::ACK, options: 0 };
    let bytes = Packet::new(flow(0, false), stream, vec![7; 250]).bytes(Sum::Pseudo);
    let (header, payload) = bytes.split_at(40);
    let virtio = VirtioHeader {
        flags: 1,
        gso_type: 1,
        hdr_len: 40,
        gso_size: 100,
        csum_start: 20,
        csum_offset: 16,
    };
    let plain = |(chunk, part): (u8, &[u8])| {
        [part, header, &Metadata { virtio, chunk, count: 3 }.encode()].concat()
    };
    (0..).zip(payload.chunks(100)).map(plain).collect()
}

fn listed(plains: &[(Kind, Vec<u8>)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (kind, plain) in plains {
        let flag = if *kind == Kind::Control { 0x8000 } else { 0 };
        let len = u16::try_from(plain.len()).expect("short") | flag;
        out.extend(len.to_be_bytes());
        out.extend_from_slice(plain);
    }
    out
}

pub(crate) fn seeds(target: &str) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    match target {
        "container_frame" => all = packets(),
        "inner_packet" => {
            all = packets().into_iter().map(|(name, data)| (name, data[10..].to_vec())).collect();
            all.insert("extensions".into(), extensions());
        }
        "datagram" => {
            let mut pair = Pair::fresh();
            for (name, mut data) in packets() {
                let mut io = Memory::default();
                pair.client.handle_packet(pair.now, Pair::ATTACHMENT, &mut data, &mut io);
                let Some(first) = io.datagrams.first() else { continue };
                let segment = u16::try_from(first.len()).expect("short");
                let mut input = segment.to_be_bytes().to_vec();
                input.push(2);
                input.extend(io.datagrams.iter().take(4).flatten());
                all.insert(name, input);
            }
        }
        "frame_metadata" => {
            let data = |plain: &Vec<u8>| (Kind::Data, plain.clone());
            let chunks: Vec<_> = chunks().iter().map(data).collect();
            all.insert("chunks".into(), listed(&chunks));
            all.insert("gap".into(), listed(&[chunks[0].clone(), chunks[2].clone()]));
            let mut mixed = chunks;
            mixed.insert(1, (Kind::Control, Control::Confirm.encode().to_vec()));
            let udp = Packet::new(flow(0, true), Transport::Udp, vec![7; 20]).bytes(Sum::Pseudo);
            let virtio =
                VirtioHeader { flags: 1, csum_start: 40, csum_offset: 6, ..Default::default() };
            let metadata = Metadata { virtio, chunk: 0, count: 1 }.encode();
            let whole = (Kind::Data, [&udp[..], &metadata].concat());
            mixed.extend([whole.clone(), whole.clone()]);
            all.insert("mixed".into(), listed(&mixed));
            all.insert("whole".into(), listed(&[whole]));
        }
        "hello" => {
            let hello = Hello {
                lanes: 2,
                uso: true,
                datagram_max: 1472,
                instance: [7; 16],
                generation: 3,
                no_aes: false,
            };
            let indices = (0..64).map(|i| ReceiverIndex(i << 24 | 77)).collect();
            let frames = [
                ("hello", Frame::Hello(hello)),
                ("indices", Frame::Indices(indices)),
                ("ready", Frame::Ready),
                ("stream", Frame::Stream(63)),
            ];
            let mut together = Vec::new();
            for (name, frame) in frames {
                let mut bytes = Vec::new();
                frame.encode(&mut bytes).expect("valid");
                together.extend_from_slice(&bytes);
                all.insert(name.into(), bytes);
            }
            all.insert("all".into(), together);
        }
        "record" => {
            let mut together = Vec::new();
            for (name, mut data) in packets() {
                let (mut pair, mut io) = (Pair::fresh(), Memory::default());
                pair.client.handle_packet(pair.now, Pair::ATTACHMENT, &mut data, &mut io);
                let Some(first) = io.datagrams.first() else { continue };
                let mut records = Vec::new();
                write_records(first.len(), &io.datagrams.concat(), &mut records);
                together.extend_from_slice(&records);
                all.insert(name, records);
            }
            all.insert("all".into(), together);
        }
        "dns_message" | "gateway_packet" => all = dns_seeds::seeds(target),
        _ => all = control_seeds::seeds(target),
    }
    all
}
