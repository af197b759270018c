//! Names, asked by a container of the daemon that gave it its interface.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpStream, UdpSocket},
};

use hickory_proto::{
    op::{Message, MessageType, OpCode, Query, ResponseCode},
    rr::{Name, RecordType},
};
use nix::sys::signal::Signal;
use weft_sys::netns::Netns;

use crate::{
    answers::attach_request,
    daemon::{LIMIT, Lab, wait_until},
};

const GATEWAY: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 40, 0, 1), 53);

fn question(name: &str, kind: RecordType) -> Vec<u8> {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message.to_vec().unwrap()
}

fn read(answer: &[u8]) -> (ResponseCode, Vec<String>) {
    let message = Message::from_vec(answer).unwrap();
    let data = message.answers.iter().map(|record| record.data.to_string()).collect();
    (message.response_code, data)
}

/// Asks from inside the container over UDP.
fn ask(container: &Netns, name: &str, kind: RecordType) -> (ResponseCode, Vec<String>) {
    let socket = container.run(|| UdpSocket::bind("0.0.0.0:0")).unwrap().unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    socket.connect(GATEWAY).unwrap();
    socket.send(&question(name, kind)).unwrap();
    let mut buffer = [0; 2_000];
    let len = socket.recv(&mut buffer).unwrap();
    read(&buffer[..len])
}

/// And over TCP.
fn ask_tcp(container: &Netns, name: &str, kind: RecordType) -> (ResponseCode, Vec<String>) {
    let mut stream = container.run(|| TcpStream::connect(GATEWAY)).unwrap().unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let question = question(name, kind);
    let len = u16::try_from(question.len()).unwrap().to_be_bytes();
    stream.write_all(&[&len[..], &question].concat()).unwrap();
    let mut len = [0; 2];
    stream.read_exact(&mut len).unwrap();
    let mut answer = vec![0; usize::from(u16::from_be_bytes(len))];
    stream.read_exact(&mut answer).unwrap();
    read(&answer)
}

#[tokio::test]
async fn a_container_asks_for_names_and_gets_those_of_its_environment() {
    let lab = Lab::new();
    let config = lab.configure(1, 1);
    let daemon = lab.start(1);
    let container = Netns::create().unwrap();
    let request = attach_request(&container, "10.40.0.9");
    daemon.register(&request.name, &container);
    daemon.client().await.attach(request).await.unwrap();
    let found = |text: &str| (ResponseCode::NoError, vec![text.to_owned()]);
    wait_until("its own name", || {
        ask(&container, "web-1.internal.", RecordType::A) == found("10.40.0.9")
    });
    assert_eq!(ask_tcp(&container, "0.web-1.internal.", RecordType::A), found("10.40.0.9"));
    let reverse = "9.0.40.10.in-addr.arpa.";
    assert_eq!(ask(&container, reverse, RecordType::PTR), found("web-1.internal."));
    let none = (ResponseCode::NXDomain, Vec::new());
    assert_eq!(ask(&container, "db.internal.", RecordType::A), none);
    let refused = (ResponseCode::Refused, Vec::new());
    assert_eq!(ask(&container, "example.com.", RecordType::A), refused);

    // A service comes with the configuration, and other names are absent from now on.
    let more = "other_names = \"absent\"\n[[environment.service]]\nname = \"db\"\n\
                [[environment.service.slot]]\nindex = 0\naddresses = [\"10.40.0.77\"]\n";
    let text = std::fs::read_to_string(&config).unwrap();
    let at = text.find("[[environment]]\nid = \"globex\"").unwrap();
    std::fs::write(&config, format!("{}{more}{}", &text[..at], &text[at..])).unwrap();
    daemon.signal(Signal::SIGHUP);
    wait_until("the new service", || {
        ask(&container, "db.internal.", RecordType::A) == found("10.40.0.77")
    });
    assert_eq!(ask(&container, "web-1.internal.", RecordType::A), found("10.40.0.9"));
    assert_eq!(ask(&container, "example.com.", RecordType::A), none);

    let (_, metrics) = lab.http(1, "GET", "/metrics");
    let line = |name: &str| {
        let labels = format!("{name}{{environment=\"acme\"}} ");
        let line = metrics.lines().find_map(|line| line.strip_prefix(&labels)).unwrap();
        line.parse::<u64>().unwrap()
    };
    assert!(line("weft_gateway_queries_total") >= 8);
    assert!(line("weft_gateway_sent_packets_total") > line("weft_gateway_queries_total"));
    assert_eq!(line("weft_gateway_unsent_packets_total"), 0);
    daemon.stop();
}
