//! What each fuzz target does with its bytes. A target must not panic, whatever they are.

use std::{
    path::Path,
    time::{Duration, SystemTime},
};

use prost::Message;
use weft_agent::Documents;
use weft_api::v1;
use weft_audit::{Cursor, Expired, Head, Line, Name, Object, Signed};
use weft_control_api::v1::WatchResponse;
use weft_keys::{Record as KeyRecord, SEALED_OVERHEAD, Sealed};
use weft_pki::{CertificateDer, SniTag, TrustAnchor, UnixTime, describe::describe, verify_peer};
use weft_proto::policy::Seen;
use weft_sim::packet::kernel_output;
use weft_store::{
    StoreUrl,
    export::{decode, encode, seal},
};
use weft_wire::{
    Ecn, Header, Inner, Kind, METADATA_LEN, Metadata,
    hello::Frame,
    icmp::{self, Cause, ICMP_ERROR_MAX},
    record::{Datagrams, Record, split_datagrams, split_record, write_records},
};

use weftd::{api::request, kept::Thing};

use super::{
    names::{dns_message, gateway_packet},
    pair::{DATAGRAM_MAX, Memory, Pair, addresses},
};

/// When certificates of the corpora are judged, seconds after 1970: their own year 2027.
pub const JUDGED_AT_SECONDS: u64 = 1_800_000_000;
/// Sequence number of the request that answers of the kernel are read for.
pub const SEQUENCE: u32 = 1;
/// Longest error of the local API in bytes: it travels in a header, of which 16 KiB are read.
const REFUSAL_LEN_MAX: usize = 2048;

/// A function that takes any bytes.
pub type Target = fn(&[u8]);

/// All targets by name.
pub const ALL: [(&str, Target); 19] = [
    ("datagram", datagram),
    ("frame_metadata", frame_metadata),
    ("container_frame", container_frame),
    ("inner_packet", inner_packet),
    ("hello", hello),
    ("record", record),
    ("config", config),
    ("helper", helper),
    ("api", api),
    ("kept", kept),
    ("pem", pem),
    ("certificate", certificate),
    ("kernel", kernel),
    ("export", export),
    ("sealed", sealed),
    ("audit", audit),
    ("told", told),
    ("dns_message", dns_message),
    ("gateway_packet", gateway_packet),
];

/// What an unauthenticated sender can do: bytes as one receive gives them. Bytes 0 and 1 are the
/// segment size, the lower bits of byte 2 the ECN bits.
pub fn datagram(data: &[u8]) {
    let Some(([high, low, ecn], data)) = data.split_first_chunk::<3>() else { return };
    let segment = usize::from(u16::from_be_bytes([*high, *low]));
    for part in data.chunks(segment.max(1)) {
        if let Ok(header) = Header::decode(part) {
            assert_eq!(header.encode(), part[..16]);
        }
    }
    let mut pair = Pair::fresh();
    let mut io = Memory::default();
    pair.server.handle_datagrams(
        pair.now,
        Pair::UNDERLAY,
        Ecn::from_bits(*ecn),
        segment,
        data,
        &mut io,
    );
    pair.server.finish_receive(&mut io);
    check_delivered(&io, 1);
}

/// What an authentic peer can do: plaintexts that it seals, each with its length in two bytes
/// before it. The upper bit of the length makes it a control message.
pub fn frame_metadata(mut data: &[u8]) {
    let mut pair = Pair::fresh();
    let mut io = Memory::default();
    while let Some(([high, low], rest)) = data.split_first_chunk::<2>() {
        let kind = if high & 0x80 == 0 { Kind::Data } else { Kind::Control };
        let len = usize::from(u16::from_be_bytes([high & 0x7f, *low])).min(rest.len());
        let (plain, rest) = rest.split_at(len);
        data = rest;
        if let Some(metadata) = plain.last_chunk::<METADATA_LEN>()
            && let Ok(decoded) = Metadata::decode(metadata)
        {
            assert_eq!(decoded.encode(), *metadata);
        }
        let datagram = pair.seal(kind, plain);
        let len = datagram.len();
        pair.server.handle_datagrams(
            pair.now,
            Pair::UNDERLAY,
            Ecn::NotEct,
            len,
            &datagram,
            &mut io,
        );
    }
    pair.server.finish_receive(&mut io);
    check_delivered(&io, 1);
}

/// What a container can do: a virtio header and a packet. What is sealed must open at the peer
/// and be a packet between the addresses that it may be between.
pub fn container_frame(data: &[u8]) {
    let mut pair = Pair::fresh();
    let mut io = Memory::default();
    pair.client.handle_packet(pair.now, Pair::ATTACHMENT, &mut data.to_vec(), &mut io);
    check_delivered(&io, 0);
    assert!(io.datagrams.iter().all(|d| d.len() <= DATAGRAM_MAX), "fits the path");
    let mut there = Memory::default();
    for datagram in &io.datagrams {
        let len = datagram.len();
        pair.server.handle_datagrams(
            pair.now,
            Pair::UNDERLAY,
            Ecn::NotEct,
            len,
            datagram,
            &mut there,
        );
    }
    pair.server.finish_receive(&mut there);
    check_delivered(&there, 1);
    let count: usize = there.delivered.iter().map(|data| kernel_output(data).len()).sum();
    assert_eq!(count, io.datagrams.len(), "everything that was sealed is delivered");
}

/// Reading IP headers, ICMP errors about them, and what policies look at.
pub fn inner_packet(data: &[u8]) {
    let Ok(inner) = Inner::parse(data) else { return };
    assert!(usize::from(inner.transport) <= data.len());
    assert!(inner.transport <= inner.length);
    // What a policy looks at, down to what an ICMP error quotes.
    let seen = Seen::of(&inner, data);
    assert_eq!(*seen.tuple(), seen.tuple().reversed().reversed());
    if icmp::may_answer(&inner, data) {
        let mut out = [0; ICMP_ERROR_MAX];
        let causes = [
            Cause::NoHost,
            Cause::TooBig(1_280),
            Cause::Prohibited,
            Cause::NoPort,
            Cause::NoProtocol,
        ];
        for (gateway, cause) in addresses(1).into_iter().flat_map(|a| causes.map(|c| (a, c))) {
            if let Some(len) = icmp::unreachable(cause, &inner, data, gateway, &mut out) {
                let error = Inner::parse(&out[..len]).expect("an ICMP error is a packet");
                assert_eq!((error.source, error.destination), (gateway, inner.source));
            }
        }
    }
}

/// Frames inside TLS.
pub fn hello(data: &[u8]) {
    let mut rest = data;
    while let Ok(Some((frame, used))) = Frame::decode(rest) {
        let mut again = Vec::new();
        frame.encode(&mut again).expect("what was read can be written");
        assert_eq!(Frame::decode(&again), Ok(Some((frame, used))));
        rest = &rest[used..];
    }
}

/// What comes on a stream: records of datagrams. None is lost, and each has the length that it says.
pub fn record(mut data: &[u8]) {
    while let Ok(Some(Record { mut body, rest })) = split_record(data) {
        while let Ok(Datagrams { segment, run, rest }) = split_datagrams(body) {
            for datagram in run.chunks(segment) {
                assert_eq!(
                    datagram[2..4],
                    u16::try_from(datagram.len()).expect("short").to_be_bytes()
                );
            }
            let mut again = Vec::new();
            write_records(segment, run, &mut again);
            // One record, or two: a shorter last datagram may be more than whoever writes puts into one.
            let (mut same, mut left) = (Vec::new(), &again[..]);
            while !left.is_empty() {
                let record = split_record(left).expect("a record").expect("a whole one");
                same.extend_from_slice(record.body);
                left = record.rest;
            }
            assert_eq!(same, run);
            assert_eq!(run.len() + rest.len(), body.len());
            body = rest;
            if body.is_empty() {
                break;
            }
        }
        data = rest;
    }
}

/// Configuration files.
pub fn config(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        let problems = weft_config::check_text(text);
        for problem in &problems {
            assert!(!problem.to_string().is_empty());
        }
        let namespaces = weft_helper::namespaces(text, Path::new("/etc/weft"));
        assert!(namespaces.is_ok() || !problems.is_empty(), "weftd takes what its helper refuses");
    }
}

/// What a daemon that somebody has taken over can ask its helper, and what it can be answered.
pub fn helper(data: &[u8]) {
    if let Ok(request) = weft_helper::Request::parse(data) {
        let again = request.encode().expect("what was read can be written");
        assert_eq!(weft_helper::Request::parse(&again).expect("and read again"), request);
    }
    // A reply may be longer in full than it was without what is optional.
    if let Ok(reply) = weft_helper::Reply::parse(data)
        && let Ok(again) = reply.encode()
    {
        assert_eq!(weft_helper::Reply::parse(&again).expect("and read again"), reply);
    }
}

/// What whoever may open the local API's socket can ask. Byte 0 is the call. Every refusal begins
/// with a field of the request, and what is taken is kept for the next daemon as it is.
pub fn api(data: &[u8]) {
    let Some((call, data)) = data.split_first() else { return };
    match call % 7 {
        0 => {
            let Ok(asked) = v1::AttachRequest::decode(data) else { return };
            let fields = ["environment", "name", "netns", "interface", "addresses", "share"];
            if let Some((environment, spec)) = taken(request::attach(asked), &fields) {
                check_kept(&Thing::Attachment(environment, spec));
            }
        }
        1 => {
            let Ok(asked) = v1::AddPeerRequest::decode(data) else { return };
            let fields = [
                "environment",
                "host",
                "endpoint",
                "alternative_endpoints",
                "addresses",
                "keepalive_seconds",
            ];
            if let Some((environment, spec)) = taken(request::add_peer(&asked), &fields) {
                check_kept(&Thing::Peer(environment, spec));
            }
        }
        2 => {
            let Ok(asked) = v1::DetachRequest::decode(data) else { return };
            taken(request::detach(&asked), &["environment", "name"]);
        }
        3 => {
            let Ok(asked) = v1::RemovePeerRequest::decode(data) else { return };
            taken(request::remove_peer(&asked), &["environment", "host"]);
        }
        4 => {
            let Ok(asked) = v1::SetRoutesRequest::decode(data) else { return };
            taken(request::set_routes(&asked), &["environment", "host", "addresses"]);
        }
        5 => {
            let Ok(asked) = v1::StatusRequest::decode(data) else { return };
            taken(request::filter(&asked.environment), &["environment"]);
        }
        _ => {
            let Ok(asked) = v1::WatchEventsRequest::decode(data) else { return };
            taken(request::filter(&asked.environment), &["environment"]);
        }
    }
}

/// What a control plane can tell a host: answers, each with its length in two bytes before it. What was understood can
/// be said again.
pub fn told(mut data: &[u8]) {
    let mut documents = Documents::default();
    while let Some(([high, low], rest)) = data.split_first_chunk::<2>() {
        let len = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
        let (answer, rest) = rest.split_at(len);
        data = rest;
        let Ok(answer) = WatchResponse::decode(answer) else { return };
        documents.take(answer);
        let mut again = Documents::default();
        assert_eq!(again.take(documents.snapshot()), Some(Vec::new()));
        assert_eq!(again.snapshot().updates, documents.snapshot().updates);
        assert_eq!(again.compiled().len(), documents.compiled().len());
    }
}

fn taken<T>(result: Result<T, tonic::Status>, fields: &[&str]) -> Option<T> {
    let refusal = match result {
        Ok(taken) => return Some(taken),
        Err(refusal) => refusal,
    };
    let message = refusal.message();
    assert_eq!(refusal.code(), tonic::Code::InvalidArgument);
    assert!(message.len() <= REFUSAL_LEN_MAX, "{} bytes", message.len());
    let field = message.split([':', '[', '.']).next().unwrap_or_default();
    assert!(fields.contains(&field), "no field is named: {message}");
    None
}

fn check_kept(thing: &Thing) {
    let (kind, bytes) = thing.encode();
    assert_eq!(Thing::parse(kind, &bytes).as_ref(), Ok(thing));
}

/// Files that daemon and helper left to their next ones. Byte 0 is the kind.
pub fn kept(data: &[u8]) {
    let Some((kind, data)) = data.split_first() else { return };
    let thing = match kind % 3 {
        0 => Thing::parse("attachment", data),
        1 => Thing::parse("peer", data),
        _ => {
            if let Ok(record) = weft_helper::Record::parse(data) {
                let again = record.encode().expect("what was read can be written");
                assert_eq!(weft_helper::Record::parse(&again).expect("and read again"), record);
            }
            return;
        }
    };
    if let Ok(thing) = thing {
        check_kept(&thing);
    }
}

/// Files with certificates and keys. A byte that no text has ends one; the first is an authority's,
/// the others a host's.
pub fn pem(data: &[u8]) {
    let mut files = data.split(|byte| *byte == 0xff);
    let [ca, chain, key] = std::array::from_fn(|_| files.next().unwrap_or_default());
    for text in [ca, chain] {
        for certificate in describe(text).into_iter().flatten() {
            let shown = [certificate.subject, certificate.issuer].concat();
            assert!(!shown.contains(char::is_control), "a terminal shows it");
        }
    }
    let anchor = TrustAnchor::from_pem(ca);
    let Ok(credentials) = weft_pki::Credentials::from_pem(chain, key) else { return };
    if let Ok(anchor) = anchor {
        let _ = credentials.check(&anchor, judged_at());
    }
}

/// What anybody can present in a handshake: a server name, then a chain of certificates in DER, the
/// authority's own first, each with its length in two bytes before it. A host that is believed is of
/// the authority's environment and valid.
pub fn certificate(data: &[u8]) {
    let _ = believed(data);
}

/// Whether the chain of an input of [`certificate`] is good.
pub fn believed(mut data: &[u8]) -> bool {
    let mut next = || {
        let ([high, low], rest) = data.split_first_chunk::<2>()?;
        let len = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
        let (part, rest) = rest.split_at(len);
        data = rest;
        Some(part)
    };
    let (Some(name), Some(authority)) = (next(), next()) else { return false };
    if let Some(tag) = std::str::from_utf8(name).ok().and_then(SniTag::from_server_name) {
        assert_eq!(tag.server_name().to_str().as_bytes(), name);
    }
    let text = ::pem::encode(&::pem::Pem::new("CERTIFICATE", authority));
    let Ok(anchor) = TrustAnchor::from_pem(text.as_bytes()) else { return false };
    let chain: Vec<_> = std::iter::from_fn(next).map(CertificateDer::from).collect();
    let Ok(peer) = verify_peer(&anchor, &chain, judged_at()) else { return false };
    assert_eq!(peer.identity.environment_identity(), *anchor.environment());
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(JUDGED_AT_SECONDS);
    assert!((peer.not_before..=peer.not_after).contains(&now));
    true
}

/// What the stores of the control plane hold: sealed data, or (after a first byte of 1) the record of a key.
pub fn sealed(data: &[u8]) {
    let Some((kind, data)) = data.split_first() else { return };
    if kind % 2 == 1 {
        if let Ok(record) = KeyRecord::parse(data) {
            let again = KeyRecord::parse(&record.encode()).expect("what was read can be written");
            assert_eq!(again, record);
        }
    } else if let Ok(sealed) = Sealed::parse(data) {
        assert_eq!(sealed.ciphertext.len() + SEALED_OVERHEAD, data.len());
        assert_eq!(sealed.encode(), data);
    }
}

/// What is found on the disk and in the store of an audit, and what a query begins at.
pub fn audit(data: &[u8]) {
    for line in data.split_inclusive(|byte| *byte == b'\n') {
        if let Ok(read) = Line::parse(line) {
            assert_eq!(read.encode(), line);
        }
    }
    if let Ok(head) = Signed::<Head>::parse(data) {
        assert_eq!(head.encode(), data);
        assert!(head.verify(&[]).is_err());
    }
    if let Ok(stub) = Signed::<Expired>::parse(data) {
        assert_eq!(stub.encode(), data);
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(cursor) = text.parse::<Cursor>() {
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
    }
    if let Ok(object) = text.parse::<Object>() {
        assert_eq!(object.as_str(), text);
        assert!(object.is_within(&object));
    }
    assert!(["_", text].contains(&Name::asked(text).as_str()));
}

fn judged_at() -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(JUDGED_AT_SECONDS))
}

/// What a kernel of any age leaves in buffers: answers about interfaces, and what a ring received.
pub fn kernel(data: &[u8]) {
    let mut answers = 0;
    let _ = weft_sys::link::read_answers(data, SEQUENCE, |_| answers += 1);
    assert!(answers <= data.len() / 16, "an answer has a header");
    let mut buffer = data.to_vec();
    let received = weft_sys::ring::read_message(&mut buffer);
    assert!(received.ecn < 4 && received.segment >= 1);
    assert!(received.segment <= received.data.len().max(1));
}

/// Whatever reaches an interface is a packet that a kernel can take, from where it may come to
/// where it may go: from the peer, or an ICMP error of the environment itself.
fn check_delivered(io: &Memory, side: usize) {
    for data in &io.delivered {
        for packet in kernel_output(data) {
            let inner = Inner::parse(&packet).expect("a packet");
            assert_eq!(usize::from(inner.length), packet.len());
            assert!(addresses(side).contains(&inner.destination));
            let from = if side == 1 { addresses(0) } else { Pair::GATEWAYS };
            let relayed_to_itself = side == 0 && addresses(0).contains(&inner.source);
            assert!(from.contains(&inner.source) || relayed_to_itself);
        }
    }
}

/// A file that is imported into a store, and where a store is. Of the file the checksum is missing, so that
/// changes of it get past that.
pub fn export(data: &[u8]) {
    let _ = decode(&data.to_vec().into());
    let file = seal(data.to_vec());
    if let Ok(entries) = decode(&file) {
        assert_eq!(encode(&entries), file, "there is one way to write it");
    }
    if let Ok(url) = String::from_utf8_lossy(data).parse::<StoreUrl>() {
        assert_eq!(url.to_string().parse::<StoreUrl>(), Ok(url));
    }
}
