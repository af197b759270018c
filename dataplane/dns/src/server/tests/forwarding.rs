//! Questions that others answer.

use super::*;

const FIRST: &str = "192.0.2.1:53";
const SECOND: &str = "192.0.2.2:53";

fn forwarding() -> Server {
    let servers = [FIRST, SECOND].map(|s| s.parse().unwrap()).to_vec();
    server_of(zone_of(vec![service("web", 3)]), Outside::Forward(servers))
}

fn from(n: u8) -> Asker {
    let mut asker = asker(Transport::Udp);
    asker.address.set_ip([10, 40, 1, n].into());
    asker
}

fn handle(server: &mut Server, asker: Asker, message: &Message, now: Instant) -> Handled {
    server.handle_query(asker, &message.to_bytes().unwrap(), now)
}

/// An answer of a server to what it was asked.
fn answer_to(query: &ForwardQuery) -> Message {
    let mut answer = Message::from_vec(&query.message).unwrap();
    answer.metadata.message_type = MessageType::Response;
    answer.metadata.recursion_available = true;
    let name = answer.queries[0].name().clone();
    answer.add_answer(hickory_proto::rr::Record::from_rdata(
        name,
        300,
        RData::A(A::new(192, 0, 2, 80)),
    ));
    answer
}

#[test]
fn what_goes_out_has_nothing_of_the_asker_but_the_question() {
    let now = Instant::now();
    let mut server = forwarding();
    let mut message = with_payload(query("wWw.example.com.", RecordType::A), 4_096);
    message.metadata.checking_disabled = true;
    assert_eq!(handle(&mut server, from(9), &message, now), Handled::Later);
    let asked = server.poll_forward().unwrap();
    assert_eq!((asked.server, asked.transport), (FIRST.parse().unwrap(), Transport::Udp));
    assert_eq!(asked.deadline, now + FORWARD_TIMEOUT);
    let sent = Message::from_vec(&asked.message).unwrap();
    assert_eq!(sent.queries, message.queries);
    assert_ne!(sent.metadata.id, 0x1234);
    assert!(sent.metadata.recursion_desired && !sent.metadata.checking_disabled);
    assert_eq!(sent.edns.as_ref().unwrap().max_payload(), 1_232);
    assert!(sent.edns.unwrap().options().as_ref().is_empty());
    assert_eq!(server.poll_forward(), None);

    let answer = answer_to(&asked).to_bytes().unwrap();
    server.handle_forward_answer(asked.token, asked.server, &answer).unwrap();
    let (to, bytes) = server.poll_answer().unwrap();
    assert_eq!(to, from(9));
    let told = Message::from_vec(&bytes).unwrap();
    assert_eq!(told.metadata.id, 0x1234);
    assert!(told.metadata.recursion_available && told.metadata.checking_disabled);
    assert!(!told.metadata.authoritative && !told.metadata.authentic_data);
    assert_eq!(text(&told), "NoError [wWw.example.com. 300 192.0.2.80] []");
    let again = server.handle_forward_answer(asked.token, asked.server, &answer);
    assert_eq!(again, Err(ForwardAnswerError::Unknown), "an answer serves once");
}

#[test]
fn only_the_answer_is_taken() {
    let now = Instant::now();
    let mut server = forwarding();
    handle(&mut server, from(9), &query("www.example.com.", RecordType::A), now);
    let asked = server.poll_forward().unwrap();
    let mut judge = |change: &dyn Fn(&mut Message), source: &str| {
        let mut answer = answer_to(&asked);
        change(&mut answer);
        let bytes = answer.to_bytes().unwrap();
        server.handle_forward_answer(asked.token, source.parse().unwrap(), &bytes)
    };
    let name = |text: &'static str| {
        move |m: &mut Message| {
            m.queries[0].set_name(Name::from_ascii(text).unwrap());
        }
    };
    use ForwardAnswerError::{Id, Question, Source};
    assert_eq!(judge(&|_| {}, SECOND), Err(Source));
    assert_eq!(judge(&|_| {}, "192.0.2.1:54"), Err(Source));
    assert_eq!(judge(&|m| m.metadata.id ^= 1, FIRST), Err(Id));
    assert_eq!(judge(&|m| m.metadata.message_type = MessageType::Query, FIRST), Err(Id));
    assert_eq!(judge(&|m| m.metadata.op_code = OpCode::Status, FIRST), Err(Id));
    assert_eq!(judge(&name("www.example.org."), FIRST), Err(Question));
    assert_eq!(judge(&name("WWW.example.com."), FIRST), Err(Question), "letter by letter");
    assert_eq!(judge(&|m| m.queries.clear(), FIRST), Err(Question));
    let other_kind = |m: &mut Message| {
        m.queries[0].set_query_type(RecordType::AAAA);
    };
    assert_eq!(judge(&other_kind, FIRST), Err(Question));
    assert_eq!(judge(&|_| {}, FIRST), Ok(()), "and the right one still is");
}

#[test]
fn garbage_is_not_an_answer() {
    let mut server = forwarding();
    handle(&mut server, from(9), &query("www.example.com.", RecordType::A), Instant::now());
    let asked = server.poll_forward().unwrap();
    let mut bytes = answer_to(&asked).to_bytes().unwrap();
    let garbage = server.handle_forward_answer(asked.token, asked.server, &bytes[..5]);
    assert_eq!(garbage, Err(ForwardAnswerError::Malformed));
    let cut = bytes.len() - 20;
    bytes.truncate(cut);
    let cut = server.handle_forward_answer(asked.token, asked.server, &bytes);
    assert_eq!(cut, Err(ForwardAnswerError::Malformed));
}

#[test]
fn names_of_ours_are_never_asked_outside() {
    let mut server = forwarding();
    for name in [
        "nope.internal.",
        "internal.",
        "web.",
        "localhost.",
        "printer.local.",
        "9.9.40.10.in-addr.arpa.",
        "1.0.168.192.in-addr.arpa.",
        "a.d.f.ip6.arpa.",
    ] {
        let handled = handle(&mut server, from(1), &query(name, RecordType::A), Instant::now());
        assert!(matches!(handled, Handled::Answer(_)), "{name}");
    }
    assert_eq!(server.poll_forward(), None);
    let answer = ask(&mut server, &query("web.internal.", RecordType::A));
    assert!(answer.metadata.recursion_available);
}

#[test]
fn the_next_server_is_asked_and_then_the_asker_told() {
    let begun = Instant::now();
    let mut server = forwarding();
    handle(&mut server, from(9), &query("www.example.com.", RecordType::A), begun);
    let first = server.poll_forward().unwrap();
    assert_eq!(server.next_timeout(), Some(first.deadline));
    server.handle_timeout(first.deadline - Duration::from_millis(1));
    assert_eq!(server.poll_forward(), None);
    server.handle_timeout(first.deadline);
    let second = server.poll_forward().unwrap();
    assert_eq!(second.server, SECOND.parse().unwrap());
    assert_ne!(second.message[..2], first.message[..2], "another id");
    let late = answer_to(&first).to_bytes().unwrap();
    let late = server.handle_forward_answer(first.token, first.server, &late);
    assert_eq!(late, Err(ForwardAnswerError::Unknown));
    server.handle_forward_failed(second.token, first.deadline);
    let (_, bytes) = server.poll_answer().unwrap();
    let told = Message::from_vec(&bytes).unwrap();
    assert_eq!(told.metadata.response_code, ResponseCode::ServFail);
    assert_eq!(server.next_timeout(), None);
    assert!(
        begun + FORWARD_TIMEOUT * 2 <= begun + Duration::from_secs(5),
        "before anybody gives up"
    );
}

#[test]
fn so_many_wait_and_no_source_takes_all_places() {
    let now = Instant::now();
    let mut server = forwarding();
    let message = query("www.example.com.", RecordType::A);
    let waiting = |server: &mut Server, n: u8| {
        (0..60).filter(|_| handle(server, from(n), &message, now) == Handled::Later).count()
    };
    assert_eq!(waiting(&mut server, 1), FORWARDS_PER_SOURCE_MAX);
    let told = handle(&mut server, from(1), &message, now);
    let Handled::Answer(bytes) = told else { panic!("{told:?}") };
    let told = Message::from_vec(&bytes).unwrap();
    assert_eq!(told.metadata.response_code, ResponseCode::ServFail);
    let others: usize = (2..20).map(|n| waiting(&mut server, n)).sum();
    assert_eq!(others, FORWARDS_MAX - FORWARDS_PER_SOURCE_MAX);
}

#[test]
fn what_waits_is_told_when_the_policy_changes() {
    let now = Instant::now();
    let mut server = forwarding();
    handle(&mut server, from(9), &query("www.example.com.", RecordType::A), now);
    server.set_outside(Outside::Refuse, now).unwrap();
    assert_eq!(server.poll_forward(), None);
    let (_, bytes) = server.poll_answer().unwrap();
    let told = Message::from_vec(&bytes).unwrap();
    assert_eq!(told.metadata.response_code, ResponseCode::ServFail);
}

#[test]
fn what_a_server_cut_is_told_to_be_cut_where_the_asker_can_ask_again() {
    for (transport, cut) in [(Transport::Udp, true), (Transport::Tcp, false)] {
        let mut server = forwarding();
        let message = query("www.example.com.", RecordType::A);
        handle(&mut server, asker(transport), &message, Instant::now());
        let asked = server.poll_forward().unwrap();
        let mut answer = answer_to(&asked);
        answer.metadata.truncation = true;
        let answer = answer.to_bytes().unwrap();
        server.handle_forward_answer(asked.token, asked.server, &answer).unwrap();
        let (_, bytes) = server.poll_answer().unwrap();
        assert_eq!(Message::from_vec(&bytes).unwrap().metadata.truncation, cut);
    }
}

#[test]
fn servers_are_checked() {
    let with = |servers: &[&str]| {
        let servers = servers.iter().map(|s| s.parse().unwrap()).collect();
        let zone = zone_of(vec![]);
        let limits = Limits::default();
        Server::new(zone, Outside::Forward(servers), limits, counting()).err()
    };
    assert_eq!(with(&[]), Some(SettingsError::Upstreams(0)));
    assert_eq!(with(&[FIRST; 5]), Some(SettingsError::Upstreams(5)));
    let own = "10.40.0.1:53";
    assert_eq!(with(&[FIRST, own]), Some(SettingsError::Loop(own.parse().unwrap())));
    assert_eq!(with(&[FIRST]), None);
}

#[test]
fn a_long_answer_is_cut_for_udp_and_its_opt_is_not_handed_on() {
    let now = Instant::now();
    for (transport, count, cut) in
        [(Transport::Udp, 100, true), (Transport::Tcp, 100, false), (Transport::Tcp, 3, false)]
    {
        let mut server = forwarding();
        let message = query("www.example.com.", RecordType::A);
        handle(&mut server, asker(transport), &message, now);
        let asked = server.poll_forward().unwrap();
        assert_eq!(asked.transport, transport);
        let mut answer = answer_to(&asked);
        for n in 1..count {
            let mut record = answer.answers[0].clone();
            record.data = RData::A(A::new(192, 0, 2, n));
            answer.add_answer(record);
        }
        let answer = answer.to_bytes().unwrap();
        server.handle_forward_answer(asked.token, asked.server, &answer).unwrap();
        let (_, bytes) = server.poll_answer().unwrap();
        let told = Message::from_vec(&bytes).unwrap();
        assert_eq!(told.metadata.truncation, cut);
        assert_eq!(told.answers.len(), if cut { 0 } else { usize::from(count) });
        assert_eq!(told.edns, None, "none was asked for");
    }
}
