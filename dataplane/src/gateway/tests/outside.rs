//! Servers outside, on loopback.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
};

use hickory_proto::rr::{RData, Record, rdata::A};
use weft_dns::{Asker, ForwardQuery, Handled, Server, Transport};

use super::{
    super::ask::{Asking, Came},
    *,
};

/// An answer to this question: one address.
fn answer_to(question: &[u8], address: [u8; 4]) -> Message {
    let asked = Message::from_vec(question).unwrap();
    let mut answer = Message::new(asked.id, MessageType::Response, OpCode::Query);
    let name = asked.queries[0].name().clone();
    answer.add_query(asked.queries[0].clone());
    answer.add_answer(Record::from_rdata(name, 300, RData::A(A(Ipv4Addr::from(address)))));
    answer
}

/// A server on a thread that answers one question with what `answers` makes of it.
fn server(
    answers: impl FnOnce(&[u8]) -> Vec<Message> + Send + 'static,
) -> (SocketAddr, thread::JoinHandle<()>) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    let address = socket.local_addr().unwrap();
    let serve = move || {
        let mut buffer = [0; 2_000];
        let (len, from) = socket.recv_from(&mut buffer).unwrap();
        for answer in answers(&buffer[..len]) {
            socket.send_to(&answer.to_vec().unwrap(), from).unwrap();
        }
    };
    (address, thread::spawn(serve))
}

/// A port of loopback at which nobody is.
fn nobody() -> SocketAddr {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[test]
fn another_name_is_what_a_server_outside_says() {
    let (address, serving) = server(|question| vec![answer_to(question, [192, 0, 2, 80])]);
    let gateways = started();
    let acme = Environment::open(&gateways, "10.40.0.7", Outside::Forward(vec![address]));
    assert_eq!(acme.address(5, "example.com."), "192.0.2.80");
    serving.join().unwrap();
    // Ours never go there: nobody would answer.
    assert_eq!(acme.address(6, "web.internal."), "10.40.0.7");
    acme.ask(7, "absent.internal.").unwrap();
    assert_eq!(acme.answer().response_code, ResponseCode::NXDomain);
    assert_eq!(acme.answering.status().forwarded, 1);
}

#[test]
fn a_server_that_is_not_there_gives_way_to_the_next() {
    let (address, serving) = server(|question| vec![answer_to(question, [192, 0, 2, 80])]);
    let gateways = started();
    let servers = Outside::Forward(vec![nobody(), address]);
    let acme = Environment::open(&gateways, "10.40.0.7", servers);
    let begun = Instant::now();
    assert_eq!(acme.address(5, "example.com."), "192.0.2.80");
    assert!(begun.elapsed() < LIMIT);
    serving.join().unwrap();
    let none = Environment::open(&gateways, "10.40.0.7", Outside::Forward(vec![nobody()]));
    none.ask(6, "example.com.").unwrap();
    assert_eq!(none.answer().response_code, ResponseCode::ServFail);
}

#[test]
fn the_right_answer_is_waited_for_behind_false_ones() {
    let (address, serving) = server(|question| {
        let right = answer_to(question, [192, 0, 2, 80]);
        let mut other_id = answer_to(question, [192, 0, 2, 66]);
        other_id.metadata.id ^= 1;
        let mut other_name = answer_to(question, [192, 0, 2, 67]);
        other_name.queries[0] =
            Query::query(Name::from_ascii("example.org.").unwrap(), RecordType::A);
        vec![other_id, other_name, right]
    });
    let gateways = started();
    let acme = Environment::open(&gateways, "10.40.0.7", Outside::Forward(vec![address]));
    assert_eq!(acme.address(5, "example.com."), "192.0.2.80");
    serving.join().unwrap();
}

#[test]
fn a_server_that_is_silent_holds_up_nobody_else() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let servers = Outside::Forward(vec![silent.local_addr().unwrap()]);
    let gateways = started();
    let acme = Environment::open(&gateways, "10.40.0.7", servers);
    acme.ask(5, "example.com.").unwrap();
    // Of the same container, while it waits.
    assert_eq!(acme.address(6, "web.internal."), "10.40.0.7");
    let last = acme.answer();
    assert_eq!((last.id, last.response_code), (5, ResponseCode::ServFail));
}

#[test]
fn another_policy_loses_no_query() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    silent.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
    let servers = Outside::Forward(vec![silent.local_addr().unwrap()]);
    let gateways = started();
    let acme = Environment::open(&gateways, "10.40.0.7", Outside::Refuse);
    acme.answering.set_outside(servers);
    let mut id = 1;
    acme.ask(id, "example.com.").unwrap();
    eventually(|| {
        // The thread hears of it by itself: what is asked in between is refused.
        if acme.out.try_recv().is_ok() {
            id += 1;
            acme.ask(id, "example.com.").unwrap();
        }
        silent.recv(&mut [0; 2_000]).is_ok()
    });
    let (address, serving) = server(|question| vec![answer_to(question, [192, 0, 2, 80])]);
    acme.answering.set_outside(Outside::Forward(vec![address]));
    // What waited is told that there is no answer.
    let told = acme.answer();
    assert_eq!((told.id, told.response_code), (id, ResponseCode::ServFail));
    assert_eq!(acme.address(id + 1, "example.com."), "192.0.2.80");
    assert_eq!(acme.address(id + 2, "web.internal."), "10.40.0.7");
    serving.join().unwrap();
}

/// A query that came over TCP is asked over TCP.
fn tcp_query(server: SocketAddr) -> ForwardQuery {
    let random = Box::new(|| 7);
    let outside = Outside::Forward(vec![server]);
    let mut asked = Server::new(zone(1, "10.40.0.7"), outside, Limits::default(), random).unwrap();
    let asker = Asker {
        address: SocketAddr::new(IpAddr::from(CONTAINER), 4_000),
        asked: IpAddr::from(GATEWAY),
        transport: Transport::Tcp,
        connection: 1,
    };
    let mut message = Message::new(9, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii("example.com.").unwrap(), RecordType::A));
    let handled = asked.handle_query(asker, &message.to_vec().unwrap(), Instant::now());
    assert_eq!(handled, Handled::Later);
    asked.poll_forward().unwrap()
}

/// What comes of a query whose server answers with these bytes.
fn over_tcp(says: impl FnOnce(&[u8]) -> Vec<u8> + Send + 'static) -> Vec<Option<Vec<u8>>> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let query = tcp_query(listener.local_addr().unwrap());
    let serving = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut len = [0; 2];
        stream.read_exact(&mut len).unwrap();
        let mut question = vec![0; usize::from(u16::from_be_bytes(len))];
        stream.read_exact(&mut question).unwrap();
        stream.write_all(&says(&question)).unwrap();
    });
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let came = runtime.block_on(async {
        let mut asking = Asking::new();
        asking.open(query);
        let mut all = Vec::new();
        loop {
            match asking.came().await.unwrap() {
                Came::Answer { message, .. } => all.push(Some(message)),
                Came::Over(_) => return all,
            }
        }
    });
    serving.join().unwrap();
    came
}

#[test]
fn one_message_is_read_over_tcp() {
    let framed = |message: &[u8]| {
        let len = u16::try_from(message.len()).unwrap().to_be_bytes();
        [&len[..], message].concat()
    };
    let came = over_tcp(move |question| {
        assert_eq!(Message::from_vec(question).unwrap().queries.len(), 1);
        framed(b"whatever it is, the gateway decides")
    });
    assert_eq!(came, [Some(b"whatever it is, the gateway decides".to_vec())]);
    // Longer than any answer, and one that ends too soon.
    assert_eq!(over_tcp(|_| vec![0xff, 0xff, 0, 0]), []);
    assert_eq!(over_tcp(|_| vec![0, 9, 1]), []);
}
