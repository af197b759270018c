//! The test vectors in `docs/vectors`: what this implementation does is what is written there, so
//! that another one can be made from `docs/protocol.md` and checked against the same files.
//!
//! `WEFT_VECTORS_WRITE=1 cargo test -p weft-proto vectors` writes them anew.

use std::path::PathBuf;

use serde_json::{Value, json};
use weft_wire::{
    Control,
    hello::{Frame, Hello},
};

use super::*;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn unhex(text: &Value) -> Vec<u8> {
    let text = text.as_str().unwrap();
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

/// Compares with the committed file.
fn check(name: &str, made: &Value) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/vectors");
    let path = folder.join(name);
    if std::env::var_os("WEFT_VECTORS_WRITE").is_some() {
        std::fs::write(&path, format!("{made:#}\n")).unwrap();
    }
    let committed: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(&committed, made, "{name} is not what this implementation does");
}

/// 0, 1, 2, …: nobody takes it for a secret.
fn exported() -> [u8; 32] {
    std::array::from_fn(|i| u8::try_from(i).unwrap())
}

fn secret() -> Secret {
    Secret::exported(&exported())
}

#[test]
fn keys() {
    let mut lanes = Vec::new();
    for (name, role) in [("client", Role::Client), ("server", Role::Server)] {
        for lane in [0, 1, 63] {
            let mut secret = secret().lane(role, LaneId::new(lane).unwrap());
            let mut epochs = Vec::new();
            for epoch in 0..3 {
                let (bytes, key, iv) = secret.material();
                epochs.push(json!({
                    "epoch": epoch, "secret": hex(&bytes), "key": hex(&key), "iv": hex(&iv),
                }));
                secret = secret.next();
            }
            lanes.push(json!({ "sender": name, "lane": lane, "epochs": epochs }));
        }
    }
    check("keys.json", &json!({ "exported": hex(&exported()), "lanes": lanes }));
}

const RECEIVER: ReceiverIndex = ReceiverIndex(0x00ab_cdef);

/// A pair of which side A sends on lane 0 with the exported secret of the vectors.
fn pair(suite: Suite, role: Role) -> Pair {
    let mut pair = Pair::without_sessions();
    let now = pair.a.now;
    let limits = Limits { epoch_datagrams_max: 3, ..Limits::default() };
    let expires = now + Duration::from_secs(7200);
    let lane = LaneId::new(0).unwrap();
    for (i, side) in [&mut pair.a, &mut pair.b].into_iter().enumerate() {
        let mut new = session(now, i, SESSION, LINK, limits);
        if i == 0 {
            new.send = SendLane::new(RECEIVER, suite, secret().lane(role, lane), limits, expires);
            new.confirms = false;
        } else {
            new.receive = vec![(RECEIVER, ReceiveLane::new(suite, &secret().lane(role, lane)))];
        }
        side.engine.install_session(now, new);
        side.engine.activate(now, SESSION, &mut side.io);
    }
    pair
}

/// A packet as a TUN of a little-endian machine has it, so that the file is the same everywhere.
fn tun(data: &[u8]) -> Value {
    let mut head = data[..10].to_vec();
    if cfg!(target_endian = "big") {
        head[2..].as_chunks_mut::<2>().0.iter_mut().for_each(|pair| pair.reverse());
    }
    json!({ "virtio_net_hdr": hex(&head), "packet": hex(&data[10..]) })
}

/// One packet from A's container to B's, and the datagrams between.
fn passage(name: &str, pair: &mut Pair, packet: &[u8]) -> Value {
    pair.a.send(WEB, packet);
    let sent = pair.a.take_sent();
    pair.b.receive(&sent);
    assert_eq!(pair.b.take_delivered(), [(DB, packet.to_vec())]);
    datagrams(name, tun(packet), &sent)
}

fn datagrams(name: &str, of: Value, sent: &[Sent]) -> Value {
    let one = |datagram: &Sent| {
        let header = header(datagram);
        json!({
            "epoch": header.epoch.0,
            "counter": header.counter.0,
            "ecn": datagram.ecn as u8,
            "bytes": hex(&datagram.bytes),
        })
    };
    json!({ "name": name, "of": of, "datagrams": sent.iter().map(one).collect::<Vec<_>>() })
}

fn passages(suite: Suite, role: Role) -> Vec<Value> {
    let mut pair = pair(suite, role);
    let mut marked = tcp_packet(forth(6), 250);
    marked.ecn = 2;
    let mut all = vec![
        passage(
            "a whole packet without offloads",
            &mut pair,
            &Packet::new(forth(4), Transport::Echo, bytes(8)).complete(),
        ),
        passage(
            "a whole packet whose checksum is left to do",
            &mut pair,
            &udp_packet(forth(6), 12).unfinished(),
        ),
        passage(
            "a TCP superpacket of three chunks, in the next epoch",
            &mut pair,
            &tcp_packet(forth(4), 250).superpacket(100),
        ),
        passage(
            "a TCP superpacket over IPv6, marked ECT(0), in the epoch after it",
            &mut pair,
            &marked.superpacket(100),
        ),
        passage(
            "a UDP superpacket of two chunks",
            &mut pair,
            &udp_packet(forth(4), 70).superpacket(40),
        ),
    ];
    let messages = [
        ("confirm", Control::Confirm),
        ("confirmed", Control::Confirmed),
        ("epoch", Control::Epoch),
        ("probe, not padded", Control::Probe),
        ("arrived", Control::Arrived(1_472)),
        ("close", Control::Close),
        ("challenge", Control::Challenge(0x0123_4567_89ab_cdef)),
        ("answer", Control::Answer(0x0123_4567_89ab_cdef)),
        ("damaged", Control::Damaged { refused: 50, sent: 1_000 }),
    ];
    for (name, control) in messages {
        let now = pair.a.now;
        pair.a.engine.send_control(now, SESSION, control, &mut pair.a.io);
        let sent = pair.a.take_sent();
        pair.b.receive(&sent);
        all.push(datagrams(name, json!({ "control": hex(&control.encode()) }), &sent));
    }
    assert_eq!(pair.b.drops_of_all_kinds(), 0);
    all
}

#[test]
fn datagrams_of_packets_and_messages() {
    let mut sessions = Vec::new();
    for (suite_name, suite) in
        [("AES-256-GCM", Suite::Aes256Gcm), ("ChaCha20-Poly1305", Suite::ChaCha20Poly1305)]
    {
        for (role_name, role) in [("client", Role::Client), ("server", Role::Server)] {
            sessions.push(json!({
                "exported": hex(&exported()),
                "suite": suite_name,
                "sender": role_name,
                "lane": 0,
                "receiver_index": hex(&RECEIVER.0.to_be_bytes()),
                "datagrams_per_epoch": 3,
                "passages": passages(suite, role),
            }));
        }
    }
    check("datagrams.json", &json!({ "sessions": sessions }));
}

/// The committed datagrams open without anything of the side that made them.
#[test]
fn committed_datagrams_open() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/vectors");
    let file = std::fs::read(folder.join("datagrams.json")).unwrap();
    let file: Value = serde_json::from_slice(&file).unwrap();
    for session in file["sessions"].as_array().unwrap() {
        let suite = match session["suite"].as_str().unwrap() {
            "AES-256-GCM" => Suite::Aes256Gcm,
            _ => Suite::ChaCha20Poly1305,
        };
        let role = if session["sender"] == "client" { Role::Client } else { Role::Server };
        let mut pair = pair(suite, role);
        for passage in session["passages"].as_array().unwrap() {
            let sent: Vec<_> = passage["datagrams"]
                .as_array()
                .unwrap()
                .iter()
                .map(|d| {
                    let ecn = Ecn::from_bits(u8::try_from(d["ecn"].as_u64().unwrap()).unwrap());
                    Sent { way: Way::direct(endpoint(1, 0)), ecn, bytes: unhex(&d["bytes"]) }
                })
                .collect();
            pair.b.receive(&sent);
            let delivered: Vec<_> = pair.b.take_delivered().iter().map(|(_, d)| tun(d)).collect();
            let of = &passage["of"];
            if of["control"].is_null() {
                assert_eq!(delivered, std::slice::from_ref(of), "{}", passage["name"]);
            } else {
                assert_eq!(delivered, [] as [Value; 0]);
            }
        }
        assert_eq!(pair.b.drops_of_all_kinds(), 0);
        assert!(pair.b.events().contains(&Event::Closed(SESSION)));
    }
}

#[test]
fn hello_frames() {
    let hello = Hello {
        lanes: 2,
        uso: true,
        datagram_max: 1472,
        instance: std::array::from_fn(|i| u8::try_from(i).unwrap()),
        generation: 7,
        no_aes: false,
    };
    let indices = vec![RECEIVER, ReceiverIndex(0x0112_3456)];
    let frames = [
        ("two lanes, USO", Frame::Hello(hello)),
        ("64 lanes, no USO, no AES", {
            let datagram_max = 1232;
            Frame::Hello(Hello { lanes: 64, uso: false, no_aes: true, datagram_max, ..hello })
        }),
        ("indices for two lanes", Frame::Indices(indices)),
        ("ready", Frame::Ready),
        ("stream 1", Frame::Stream(1)),
    ];
    let frames = frames.map(|(name, frame)| {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes).unwrap();
        assert_eq!(Frame::decode(&bytes), Ok(Some((frame, bytes.len()))));
        json!({ "name": name, "bytes": hex(&bytes) })
    });
    check("hello.json", &json!({ "frames": frames }));
}
