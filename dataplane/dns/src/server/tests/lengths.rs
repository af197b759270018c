//! Questions and answers that are too long, too short, or just fit.

use super::*;
use crate::limits::ADDRESSES_ANSWERED_MAX;

#[test]
fn messages_that_are_cut_or_too_long_are_format_errors_and_answers_stay_unanswered() {
    let mut server = server();
    let bytes = query("web.internal.", RecordType::A).to_bytes().unwrap();
    let mut longer = bytes.clone();
    longer.push(0);
    for malformed in [&bytes[..bytes.len() - 1], &bytes[..12], &longer] {
        let answer = raw(&mut server, Transport::Udp, malformed).unwrap();
        assert_eq!(answer, [0x12, 0x34, 0x81, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
    }
    assert_eq!(raw(&mut server, Transport::Udp, &bytes[..11]), None);
    let mut answer = bytes;
    answer[2] |= 0x80;
    assert_eq!(raw(&mut server, Transport::Udp, &answer), None);
}

/// A query of so many bytes: padded, as RFC 7830 has it.
fn padded(len: usize) -> Vec<u8> {
    let mut bytes = query("web.internal.", RecordType::A).to_bytes().unwrap();
    bytes[11] = 1;
    let padding = u16::try_from(len - bytes.len() - 15).unwrap();
    bytes.extend([0, 0, 41, 4, 0, 0, 0, 0, 0]);
    bytes.extend((padding + 4).to_be_bytes());
    bytes.extend([0, 12]);
    bytes.extend(padding.to_be_bytes());
    bytes.resize(len, 0);
    bytes
}

#[test]
fn a_query_has_a_longest_length() {
    let mut server = server();
    for (len, code) in [(1_024, ResponseCode::NoError), (1_025, ResponseCode::FormErr)] {
        let answer = raw(&mut server, Transport::Udp, &padded(len)).unwrap();
        let answer = Message::from_vec(&answer).unwrap();
        assert_eq!(answer.metadata.response_code, code, "{len}");
    }
}

#[test]
fn answers_with_addresses_always_fit() {
    let longest = "x".repeat(63);
    let mut server = server_of(zone_of(vec![service(&longest, 300)]), Outside::Refuse);
    for kind in [RecordType::A, RecordType::AAAA] {
        let message = query(&format!("{longest}.internal."), kind);
        let bytes = raw(&mut server, Transport::Udp, &message.to_bytes().unwrap()).unwrap();
        assert!(bytes.len() <= 512);
        let answer = Message::from_vec(&bytes).unwrap();
        assert_eq!(answer.answers.len(), ADDRESSES_ANSWERED_MAX);
        assert!(!answer.metadata.truncation);
    }
}

#[test]
fn the_longest_name_has_an_answer() {
    let mut server = server();
    let longest = format!("{0}.{0}.{0}.{1}.internal.", "x".repeat(63), "y".repeat(52));
    for kind in [RecordType::A, RecordType::ANY] {
        let message = query(&longest, kind).to_bytes().unwrap();
        assert_eq!(message.len(), 12 + 255 + 4);
        let answer = raw(&mut server, Transport::Udp, &message).unwrap();
        let answer = Message::from_vec(&answer).unwrap();
        assert_eq!(text(&answer), format!("NXDomain [] {}", soa("internal.")));
    }
}

#[test]
fn what_does_not_fit_is_cut_and_whole_over_tcp() {
    let mut server = server_of(zone_of(vec![service("web", 40)]), Outside::Refuse);
    let message = query("_http._tcp.web.internal.", RecordType::SRV);
    for (payload, limit) in [(None, 512), (Some(100), 512), (Some(700), 700), (Some(9_000), 1_232)]
    {
        let message = payload.map_or(message.clone(), |len| with_payload(message.clone(), len));
        let bytes = raw(&mut server, Transport::Udp, &message.to_bytes().unwrap()).unwrap();
        assert!(bytes.len() <= limit);
        let answer = Message::from_vec(&bytes).unwrap();
        assert!(answer.metadata.truncation && answer.answers.is_empty());
        assert_eq!(answer.edns.is_some(), payload.is_some());
        assert_eq!(answer.queries, message.queries);
    }
    let bytes = raw(&mut server, Transport::Tcp, &message.to_bytes().unwrap()).unwrap();
    let answer = Message::from_vec(&bytes).unwrap();
    assert!(!answer.metadata.truncation);
    assert_eq!((answer.answers.len(), answer.additionals.len()), (40, 80));
}

#[test]
fn additional_records_are_left_out_before_anything_is_cut() {
    let mut server = server_of(zone_of(vec![service("web", 8)]), Outside::Refuse);
    let message = with_payload(query("_http._tcp.web.internal.", RecordType::SRV), 512);
    let answer = ask(&mut server, &message);
    assert!(!answer.metadata.truncation);
    assert_eq!((answer.answers.len(), answer.additionals.len()), (8, 0));
    assert_eq!(answer.edns.unwrap().max_payload(), 1_232);
}
