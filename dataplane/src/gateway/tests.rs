//! The thread with real queues, clocks and sockets; containers and workers are channels.

mod outside;

use std::{
    net::IpAddr,
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, channel},
    },
    time::Duration,
};

use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
use hickory_proto::{
    op::{Message, MessageType, OpCode, Query, ResponseCode},
    rr::{Name, RecordType},
};
use weft_dns::{AliasRecord, ZoneRecords};

use super::*;

/// What may take so long at most; the machine may be busy.
const LIMIT: Duration = Duration::from_secs(10);
const CONTAINER: [u8; 4] = [10, 40, 0, 2];
const GATEWAY: [u8; 4] = [10, 40, 0, 1];

/// One environment with what its gateway sends.
struct Environment {
    answering: Answering,
    inlet: Inlet,
    out: Receiver<Vec<u8>>,
}

fn zone(serial: u32, web: &str) -> Arc<Zone> {
    let alias = AliasRecord { name: "web".to_owned(), addresses: vec![web.parse().unwrap()] };
    let subnets = vec!["10.40.0.0/16".parse().unwrap()];
    let records = ZoneRecords { serial, subnets, aliases: vec![alias], ..ZoneRecords::default() };
    Arc::new(Zone::new(records).unwrap())
}

fn started() -> Gateways {
    let mut gateways = Gateways::prepare().unwrap();
    gateways.start().unwrap();
    gateways
}

impl Environment {
    /// In which `web.internal` has this address.
    fn open(gateways: &Gateways, web: &str, outside: Outside) -> Self {
        let (sender, out) = channel();
        let outlet = Box::new(move |packet| sender.send(packet).is_ok());
        let settings = Settings { zone: zone(1, web), outside };
        let (answering, inlet) = gateways.open(settings, outlet).unwrap();
        Self { answering, inlet, out }
    }

    /// The container asks for an address.
    fn ask(&self, id: u16, name: &str) -> Result<(), Unanswered> {
        ask(&self.inlet, id, name)
    }

    /// The next answer to the container.
    fn answer(&self) -> Message {
        let packet = self.out.recv_timeout(LIMIT).unwrap();
        let sliced = SlicedPacket::from_ip(&packet).unwrap();
        let Some(NetSlice::Ipv4(ip)) = sliced.net else { panic!("of IPv4") };
        assert_eq!((ip.header().source(), ip.header().destination()), (GATEWAY, CONTAINER));
        let Some(TransportSlice::Udp(udp)) = sliced.transport else { panic!("UDP") };
        let message = Message::from_vec(udp.payload()).unwrap();
        assert_eq!((udp.source_port(), udp.destination_port()), (53, 4_000 + message.id % 1_000));
        message
    }

    /// The address that is answered.
    fn address(&self, id: u16, name: &str) -> String {
        self.ask(id, name).unwrap();
        let answer = self.answer();
        assert_eq!(answer.id, id);
        addresses(&answer)
    }
}

fn ask(inlet: &Inlet, id: u16, name: &str) -> Result<(), Unanswered> {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
    let mut packet = Vec::new();
    let builder = PacketBuilder::ipv4(CONTAINER, GATEWAY, 64).udp(4_000 + id % 1_000, 53);
    builder.write(&mut packet, &message.to_vec().unwrap()).unwrap();
    // As a worker has it: in two parts.
    let (header, payload) = packet.split_at(28);
    inlet.put(header, payload)
}

fn addresses(answer: &Message) -> String {
    let texts: Vec<_> = answer.answers.iter().map(|record| record.data.to_string()).collect();
    texts.join(" ")
}

fn closed(answering: Answering) {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(answering.close());
}

#[test]
fn environments_answer_from_their_own_names() {
    let gateways = started();
    let acme = Environment::open(&gateways, "10.40.0.7", Outside::Refuse);
    let beta = Environment::open(&gateways, "10.40.0.8", Outside::Absent);
    assert_eq!(acme.address(1, "web.internal."), "10.40.0.7");
    assert_eq!(beta.address(2, "web.internal."), "10.40.0.8");
    for (environment, code) in [(&acme, ResponseCode::Refused), (&beta, ResponseCode::NXDomain)] {
        environment.ask(3, "example.com.").unwrap();
        assert_eq!(environment.answer().response_code, code);
    }
    let status = acme.answering.status();
    assert_eq!((status.received, status.queries, status.forwarded), (2, 2, 0));
}

#[test]
fn what_comes_to_nothing_is_counted() {
    let gateways = started();
    let acme = Environment::open(&gateways, "10.40.0.7", Outside::Refuse);
    acme.inlet.put(&[0x45, 0], &[]).unwrap();
    acme.address(1, "web.internal.");
    // What is sent is counted when it is on its way.
    eventually(|| acme.answering.status().sent == 1);
    let status = acme.answering.status();
    assert_eq!((status.received, status.unsent), (2, 0));
    assert!(status.drops.contains(&(DropReason::Malformed, 1)), "{status:?}");
    // No worker takes it.
    let Environment { answering, inlet, out } = acme;
    drop(out);
    let acme = Environment { answering, inlet, out: channel().1 };
    acme.ask(2, "web.internal.").unwrap();
    eventually(|| acme.answering.status().unsent == 1);
}

#[test]
fn a_new_zone_and_another_policy_hold_at_once() {
    let gateways = started();
    let acme = Environment::open(&gateways, "10.40.0.7", Outside::Refuse);
    assert_eq!(acme.address(1, "web.internal."), "10.40.0.7");
    acme.answering.set_zone(zone(2, "10.40.0.9"));
    acme.answering.set_outside(Outside::Absent);
    // The thread hears of each change by itself: what is asked in between is answered from before.
    let mut id = 1;
    eventually(|| {
        id += 1;
        acme.address(id, "web.internal.") == "10.40.0.9"
    });
    eventually(|| {
        acme.ask(99, "example.com.").unwrap();
        acme.answer().response_code == ResponseCode::NXDomain
    });
}

#[test]
fn a_flood_in_one_environment_stops_no_other() {
    let gateways = started();
    let noisy = Environment::open(&gateways, "10.40.0.7", Outside::Refuse);
    let quiet = Environment::open(&gateways, "10.40.0.8", Outside::Refuse);
    let is_over = AtomicBool::new(false);
    let inlet = &noisy.inlet;
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                // It is full most of the time.
                let _ = ask(inlet, 5, "web.internal.");
            }
        });
        for id in 0..20 {
            assert_eq!(quiet.address(id, "web.internal."), "10.40.0.8");
        }
        is_over.store(true, Ordering::Relaxed);
    });
    // What is sent is counted when it is on its way.
    eventually(|| quiet.answering.status().sent == 20);
    assert_eq!(quiet.answering.status().received, 20);
    let noisy = noisy.answering.status();
    let refused = noisy.drops.iter().find(|(reason, _)| *reason == DropReason::Query);
    assert!(refused.is_some_and(|(_, count)| *count > 0), "{noisy:?}");
}

/// A queue holds so much and no more, and gives way when it is taken from.
#[test]
fn what_finds_no_room_is_refused_at_once() {
    // Nobody takes anything before the thread runs.
    let mut gateways = Gateways::prepare().unwrap();
    let acme = Environment::open(&gateways, "10.40.0.7", Outside::Refuse);
    let taken = (0..1_000).filter(|id| acme.ask(*id, "web.internal.").is_ok()).count();
    assert_eq!(taken, PACKETS_MAX);
    gateways.start().unwrap();
    eventually(|| acme.ask(7, "web.internal.").is_ok());
}

#[test]
fn after_its_end_nothing_comes_of_an_environment() {
    let gateways = started();
    let Environment { answering, inlet, out } =
        Environment::open(&gateways, "10.40.0.7", Outside::Refuse);
    closed(answering);
    assert_eq!(inlet.put(&[0x45], &[]), Err(Unanswered));
    let rest: Vec<_> = std::iter::from_fn(|| out.recv_timeout(LIMIT).ok()).collect();
    assert!(rest.is_empty());
    assert_eq!(out.recv_timeout(LIMIT), Err(RecvTimeoutError::Disconnected), "the outlet is gone");
}

#[test]
fn the_thread_ends_with_all_that_runs_there() {
    let mut gateways = started();
    let acme = Environment::open(&gateways, "10.40.0.7", Outside::Refuse);
    gateways.stop();
    assert_eq!(acme.ask(1, "web.internal."), Err(Unanswered));
    assert_eq!(acme.out.recv_timeout(LIMIT), Err(RecvTimeoutError::Disconnected));
    // One that was never started is no obstacle inside of another runtime.
    let runtime = Builder::new_current_thread().build().unwrap();
    runtime.block_on(async { drop(Gateways::prepare().unwrap()) });
}

fn eventually(mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !is_so() {
        assert!(Instant::now() < deadline);
        thread::sleep(Duration::from_millis(5));
    }
}
