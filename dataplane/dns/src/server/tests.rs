//! What is answered to which message.

use std::time::Duration;

use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query},
    rr::{DNSClass, Name, RData, RecordType, rdata::A},
    serialize::binary::BinEncodable,
};
use proptest::prelude::*;

use super::*;
use crate::{
    limits::{FORWARD_TIMEOUT, FORWARDS_MAX, FORWARDS_PER_SOURCE_MAX},
    zone::{Health, PortRecord, Protocol, ServiceRecord, SlotRecord, ZoneRecords},
};

mod forwarding;
mod lengths;

fn zone_of(services: Vec<ServiceRecord>) -> Arc<Zone> {
    let subnets = ["10.40.0.0/16", "fd40::/64"].map(|s| s.parse().unwrap()).to_vec();
    Arc::new(
        Zone::new(ZoneRecords { serial: 7, subnets, services, ..ZoneRecords::default() }).unwrap(),
    )
}

fn service(name: &str, slots: u32) -> ServiceRecord {
    let slot = |index: u32| SlotRecord {
        index,
        name: None,
        addresses: vec![
            format!("10.40.{}.{}", 1 + index / 200, 2 + index % 200).parse().unwrap(),
            format!("fd40::{:x}", 0x100 + index).parse().unwrap(),
        ],
        health: Health::Healthy,
        roles: Vec::new(),
    };
    let port = PortRecord { name: "http".to_owned(), protocol: Protocol::Tcp, port: 80 };
    ServiceRecord {
        name: name.to_owned(),
        ports: vec![port],
        slots: (0..slots).map(slot).collect(),
    }
}

/// Not random at all, so that a failure can be repeated.
fn counting() -> Box<dyn FnMut() -> u64 + Send> {
    let mut next = 0;
    Box::new(move || {
        next += 1;
        next
    })
}

fn server_of(zone: Arc<Zone>, outside: Outside) -> Server {
    let plenty = crate::rate::Rate { per_second: 1_000_000, burst: 1_000_000 };
    let limits = Limits { queries_together: plenty, ..Limits::default() };
    Server::new(zone, outside, limits, counting()).unwrap()
}

fn server() -> Server {
    server_of(zone_of(vec![service("web", 3)]), Outside::Refuse)
}

fn asker(transport: Transport) -> Asker {
    let connection = u64::from(transport == Transport::Tcp);
    Asker {
        address: "10.40.1.2:4000".parse().unwrap(),
        asked: "10.40.0.1".parse().unwrap(),
        transport,
        connection,
    }
}

fn query(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(0x1234, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

fn raw(server: &mut Server, transport: Transport, bytes: &[u8]) -> Option<Vec<u8>> {
    // A new source each time, so that rates do not matter.
    let mut asker = asker(transport);
    server.turn = server.turn.wrapping_add(1);
    let [.., c, d] = server.turn.to_be_bytes();
    asker.address.set_ip([10, 40, c, d].into());
    match server.handle_query(asker, bytes, Instant::now()) {
        Handled::Answer(bytes) => Some(bytes),
        Handled::Later => panic!("asked outside"),
        Handled::Silence => None,
    }
}

fn with_payload(mut message: Message, len: u16) -> Message {
    let mut edns = Edns::new();
    edns.set_max_payload(len);
    message.edns = Some(edns);
    message
}

fn ask(server: &mut Server, message: &Message) -> Message {
    let bytes = raw(server, Transport::Udp, &message.to_bytes().unwrap()).expect("an answer");
    let answer = Message::from_vec(&bytes).unwrap();
    assert_eq!(answer.metadata.id, 0x1234);
    assert_eq!(answer.metadata.message_type, MessageType::Response);
    assert!(answer.metadata.recursion_desired);
    answer
}

fn ask_for(server: &mut Server, name: &str, kind: RecordType) -> Message {
    let answer = ask(server, &query(name, kind));
    assert_eq!(answer.queries[0], *query(name, kind).queries.first().unwrap());
    answer
}

/// `CODE answers / authorities`, sorted.
fn text(answer: &Message) -> String {
    let records = |records: &[hickory_proto::rr::Record]| {
        let mut texts: Vec<_> = records
            .iter()
            .map(|record| format!("{} {} {}", record.name, record.ttl, record.data))
            .collect();
        texts.sort();
        texts.join(", ")
    };
    format!(
        "{:?} [{}] [{}]",
        answer.metadata.response_code,
        records(&answer.answers),
        records(&answer.authorities)
    )
}

fn soa(apex: &str) -> String {
    format!("[{apex} 2 internal. nobody.invalid. 7 3600 1200 604800 2]")
}

#[test]
fn addresses_by_name() {
    let mut server = server_of(zone_of(vec![service("web", 2)]), Outside::Refuse);
    for (name, kind, expected) in [
        (
            "web.internal.",
            RecordType::A,
            "NoError [web.internal. 5 10.40.1.2, web.internal. 5 10.40.1.3] []".to_owned(),
        ),
        (
            "1.web.internal.",
            RecordType::AAAA,
            "NoError [1.web.internal. 5 fd40::101] []".to_owned(),
        ),
        ("web.internal.", RecordType::TXT, format!("NoError [] {}", soa("internal."))),
        ("nope.internal.", RecordType::A, format!("NXDomain [] {}", soa("internal."))),
        ("7.web.internal.", RecordType::A, format!("NXDomain [] {}", soa("internal."))),
        ("_tcp.web.internal.", RecordType::A, format!("NoError [] {}", soa("internal."))),
        ("_udp.web.internal.", RecordType::A, format!("NXDomain [] {}", soa("internal."))),
        ("_http._tcp.web.internal.", RecordType::A, format!("NoError [] {}", soa("internal."))),
        (
            "_http._tcp.web.internal.",
            RecordType::SRV,
            "NoError [_http._tcp.web.internal. 5 0 1 80 0.web.internal., \
             _http._tcp.web.internal. 5 0 1 80 1.web.internal.] []"
                .to_owned(),
        ),
        ("internal.", RecordType::A, "NoError [internal. 60 10.40.0.1] []".to_owned()),
        ("internal.", RecordType::AAAA, "NoError [internal. 60 fd40::1] []".to_owned()),
        ("internal.", RecordType::NS, "NoError [internal. 60 internal.] []".to_owned()),
        (
            "internal.",
            RecordType::SOA,
            "NoError [internal. 60 internal. nobody.invalid. 7 3600 1200 604800 2] []".to_owned(),
        ),
        ("internal.", RecordType::MX, format!("NoError [] {}", soa("internal."))),
        (
            "3.1.40.10.in-addr.arpa.",
            RecordType::PTR,
            "NoError [3.1.40.10.in-addr.arpa. 5 1.web.internal.] []".to_owned(),
        ),
        (
            "3.1.40.10.in-addr.arpa.",
            RecordType::A,
            format!("NoError [] {}", soa("40.10.in-addr.arpa.")),
        ),
        (
            "9.1.40.10.in-addr.arpa.",
            RecordType::PTR,
            format!("NXDomain [] {}", soa("40.10.in-addr.arpa.")),
        ),
        (
            "1.40.10.in-addr.arpa.",
            RecordType::PTR,
            format!("NoError [] {}", soa("40.10.in-addr.arpa.")),
        ),
        (
            "9.40.10.in-addr.arpa.",
            RecordType::PTR,
            format!("NXDomain [] {}", soa("40.10.in-addr.arpa.")),
        ),
        (
            "x.9.40.10.in-addr.arpa.",
            RecordType::PTR,
            format!("NXDomain [] {}", soa("40.10.in-addr.arpa.")),
        ),
        (
            "1.1.168.192.in-addr.arpa.",
            RecordType::PTR,
            format!("NXDomain [] {}", soa("168.192.in-addr.arpa.")),
        ),
        (
            "168.192.in-addr.arpa.",
            RecordType::PTR,
            format!("NoError [] {}", soa("168.192.in-addr.arpa.")),
        ),
    ] {
        let answer = ask_for(&mut server, name, kind);
        assert_eq!(text(&answer), expected, "{name} {kind}");
        assert!(answer.metadata.authoritative && !answer.metadata.truncation);
        assert!(!answer.metadata.recursion_available);
        assert_eq!(answer.edns, None);
    }
}

#[test]
fn ports_come_with_their_addresses() {
    let mut server = server_of(zone_of(vec![service("web", 1)]), Outside::Refuse);
    let answer = ask_for(&mut server, "_http._tcp.web.internal.", RecordType::SRV);
    let found: Vec<_> =
        answer.additionals.iter().map(|r| format!("{} {}", r.name, r.data)).collect();
    assert_eq!(found, ["0.web.internal. 10.40.1.2", "0.web.internal. fd40::100"]);
}

#[test]
fn case_is_kept_and_does_not_matter() {
    let mut server = server();
    let answer = ask_for(&mut server, "2.wEb.InTeRnAl.", RecordType::A);
    assert_eq!(answer.queries[0].name().to_ascii(), "2.wEb.InTeRnAl.");
    assert_eq!(answer.answers[0].name.to_ascii(), "2.wEb.InTeRnAl.");
    let answer = ask_for(&mut server, "4.1.40.10.IN-addr.ARPA.", RecordType::PTR);
    assert_eq!(text(&answer), "NoError [4.1.40.10.IN-addr.ARPA. 5 2.web.internal.] []");
}

#[test]
fn any_gets_one_small_record() {
    let mut server = server();
    for name in ["web.internal.", "internal.", "_tcp.web.internal.", "2.1.40.10.in-addr.arpa."] {
        let answer = ask_for(&mut server, name, RecordType::ANY);
        assert_eq!(text(&answer), format!("NoError [{name} 5 RFC8482 ] []"));
    }
    let answer = ask_for(&mut server, "nope.internal.", RecordType::ANY);
    assert_eq!(text(&answer), format!("NXDomain [] {}", soa("internal.")));
}

#[test]
fn names_of_others_are_refused_or_absent_and_never_ours() {
    let mut refusing = server();
    let answer = ask_for(&mut refusing, "example.com.", RecordType::A);
    assert_eq!(text(&answer), "Refused [] []");
    assert!(!answer.metadata.authoritative);
    let mut absent = server_of(zone_of(vec![]), Outside::Absent);
    assert_eq!(text(&ask_for(&mut absent, "example.com.", RecordType::A)), "NXDomain [] []");
    for server in [&mut refusing, &mut absent] {
        for private in ["web.", "localhost.", "x.local."] {
            assert_eq!(text(&ask_for(server, private, RecordType::A)), "NXDomain [] []");
        }
    }
}

#[test]
fn a_new_zone_is_all_that_is_answered() {
    let mut server = server();
    server.set_zone(zone_of(vec![service("api", 1)])).unwrap();
    let code =
        |server: &mut Server, name| ask_for(server, name, RecordType::A).metadata.response_code;
    assert_eq!(code(&mut server, "web.internal."), ResponseCode::NXDomain);
    assert_eq!(code(&mut server, "api.internal."), ResponseCode::NoError);
    let other =
        ZoneRecords { subnets: vec!["10.41.0.0/16".parse().unwrap()], ..ZoneRecords::default() };
    let other = Arc::new(Zone::new(other).unwrap());
    assert_eq!(server.set_zone(other), Err(SettingsError::Subnets));
    assert_eq!(code(&mut server, "api.internal."), ResponseCode::NoError);
}

#[test]
fn codes_for_what_is_no_question_of_ours() {
    const FORMAT_ERROR: u16 = 1;
    const NOT_IMPLEMENTED: u16 = 4;
    const REFUSED: u16 = 5;
    const BAD_VERSION: u16 = 16;
    let mut server = server();
    let mut code = |change: &dyn Fn(&mut Message)| {
        let mut message = query("web.internal.", RecordType::A);
        change(&mut message);
        let answer = ask(&mut server, &message);
        assert!(answer.answers.is_empty() && answer.authorities.is_empty());
        u16::from(answer.metadata.response_code)
    };
    let set_kind = |kind: u16| {
        move |m: &mut Message| {
            m.queries[0].set_query_type(kind.into());
        }
    };
    let class = |class| {
        move |m: &mut Message| {
            m.queries[0].set_query_class(class);
        }
    };
    assert_eq!(code(&|m| m.metadata.op_code = OpCode::Notify), NOT_IMPLEMENTED);
    assert_eq!(code(&|m| m.metadata.op_code = OpCode::Update), NOT_IMPLEMENTED);
    assert_eq!(code(&|m| m.metadata.op_code = OpCode::Status), NOT_IMPLEMENTED);
    assert_eq!(code(&class(DNSClass::CH)), REFUSED);
    assert_eq!(code(&class(DNSClass::ANY)), REFUSED);
    assert_eq!(code(&set_kind(252)), REFUSED, "AXFR");
    assert_eq!(code(&set_kind(251)), REFUSED, "IXFR");
    assert_eq!(code(&set_kind(249)), NOT_IMPLEMENTED, "TKEY");
    assert_eq!(code(&set_kind(253)), NOT_IMPLEMENTED, "MAILB");
    assert_eq!(code(&set_kind(0)), FORMAT_ERROR);
    assert_eq!(code(&set_kind(41)), FORMAT_ERROR, "OPT");
    assert_eq!(code(&|m| m.queries.clear()), FORMAT_ERROR);
    assert_eq!(code(&|m| m.queries.push(m.queries[0].clone())), FORMAT_ERROR);
    let answer = |m: &mut Message| {
        let name = Name::from_ascii("x.internal.").unwrap();
        m.add_answer(hickory_proto::rr::Record::from_rdata(name, 1, RData::A(A::new(1, 2, 3, 4))));
    };
    assert_eq!(code(&answer), FORMAT_ERROR);
    let future = |m: &mut Message| {
        let mut edns = Edns::new();
        edns.set_version(1);
        m.edns = Some(edns);
    };
    assert_eq!(code(&future), BAD_VERSION);
}

#[test]
fn every_address_has_its_turn() {
    let mut server = server_of(zone_of(vec![service("web", 20)]), Outside::Refuse);
    let mut first = std::collections::BTreeMap::<String, u32>::new();
    for _ in 0..2_000 {
        let answer = ask_for(&mut server, "web.internal.", RecordType::A);
        *first.entry(answer.answers[0].data.to_string()).or_default() += 1;
        // Whoever asks for both families turns no slower.
        ask_for(&mut server, "web.internal.", RecordType::AAAA);
    }
    assert_eq!(first.len(), 20);
    assert!(first.values().all(|count| (50..200).contains(count)), "{first:?}");
}

/// What is said of a name of another environment is, but for the name, what is said of a name that nobody has:
/// the bytes are the same, and so is what was read and compared to find them.
#[test]
fn a_foreign_name_looks_as_an_absent_one() {
    let mut ours = server_of(zone_of(vec![service("web", 3)]), Outside::Refuse);
    let mut theirs = server_of(zone_of(vec![service("api", 3)]), Outside::Refuse);
    assert_eq!(ask_for(&mut theirs, "api.internal.", RecordType::A).answers.len(), 3);
    let steps = |server: &Server, name: &str| {
        let place = Place::of(&Name::from_ascii(name).unwrap(), server.zone());
        let Place::Internal(labels) = place else { panic!("not internal") };
        let labels: Vec<&[u8]> = labels.iter().map(Vec::as_slice).collect();
        format!("{:?}", server.zone().find(&labels))
    };
    for (foreign, absent) in [
        ("api.internal.", "abi.internal."),
        ("0.api.internal.", "0.abi.internal."),
        ("_http._tcp.api.internal.", "_http._tcp.abi.internal."),
    ] {
        assert_eq!(steps(&ours, foreign), steps(&ours, absent));
        for kind in [RecordType::A, RecordType::AAAA, RecordType::SRV, RecordType::ANY] {
            let mut bytes = |name: &str| {
                let message = query(name, kind).to_bytes().unwrap();
                raw(&mut ours, Transport::Udp, &message).unwrap()
            };
            let (foreign, mut absent) = (bytes(foreign), bytes(absent));
            let differs: Vec<_> =
                (0..foreign.len()).filter(|at| foreign[*at] != absent[*at]).collect();
            assert_eq!(differs.len(), 1, "the letter that the names differ by");
            absent[differs[0]] = foreign[differs[0]];
            assert_eq!(foreign, absent);
        }
    }
}

/// One environment's questions change nothing of what another is answered, not even the order of addresses.
#[test]
fn environments_share_no_turn_and_no_rate() {
    let answers = |busy: bool| {
        let mut other = server();
        let mut ours = server();
        let mut answers = Vec::new();
        for _ in 0..50 {
            if busy {
                for _ in 0..200 {
                    let bytes = query("web.internal.", RecordType::A).to_bytes().unwrap();
                    other.handle_query(asker(Transport::Udp), &bytes, Instant::now());
                }
            }
            let bytes = query("web.internal.", RecordType::A).to_bytes().unwrap();
            answers.push(raw(&mut ours, Transport::Udp, &bytes));
        }
        answers
    };
    assert_eq!(answers(false), answers(true));
}

proptest! {
    /// Whatever comes, an answer is an answer to it and no longer than may be.
    #[test]
    fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut server = server();
        if let Some(answer) = raw(&mut server, Transport::Udp, &bytes) {
            prop_assert_eq!(&answer[..2], &bytes[..2]);
            prop_assert!(answer.len() <= 1_232 && answer[2] & 0x80 != 0);
        }
    }

    /// A message with one byte changed is still answered in order.
    #[test]
    fn almost_messages_are_survived(at in 0usize..42, value in any::<u8>(), tcp in any::<bool>()) {
        let mut server = server();
        let mut bytes = with_payload(query("_http._tcp.web.internal.", RecordType::SRV), 4_096)
            .to_bytes()
            .unwrap();
        let at = at % bytes.len();
        bytes[at] = value;
        let transport = if tcp { Transport::Tcp } else { Transport::Udp };
        if let Some(answer) = raw(&mut server, transport, &bytes) {
            prop_assert!(Message::from_vec(&answer).is_ok());
        }
    }
}
