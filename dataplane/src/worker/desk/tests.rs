//! Commands reach the engine.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc,
        mpsc::{SyncSender, sync_channel},
    },
};

use weft_proto::{
    DropReason, EnvironmentCounters, EnvironmentSlot, Event, NewAttachment, NewEnvironment,
    RouteTable, Share, Target,
    policy::{Guard, Rules, Verdict},
};
use weft_sys::{poll::Waker, udp};
use weft_types::WorkerId;

use super::*;
use crate::gateway::Inlet;
use crate::worker::{WorkerCounters, streams::Streams};

const ENVIRONMENT: EnvironmentSlot = EnvironmentSlot(0);
const WEB: AttachmentSlot = AttachmentSlot(0);
const DB: AttachmentSlot = AttachmentSlot(1);

/// There are no queues here.
struct Nothing;

impl Watch for Nothing {
    fn watch(&mut self, _: AttachmentSlot, _: &TunQueue) -> io::Result<()> {
        Ok(())
    }

    fn unwatch(&mut self, _: AttachmentSlot, _: &TunQueue) {}
}

fn address(slot: AttachmentSlot) -> Ipv4Addr {
    Ipv4Addr::from(0x0a28_0002 + slot.0)
}

/// A desk with two attachments of one environment, which have no interfaces.
struct Office {
    desk: Desk,
    engine: Engine,
    commands: SyncSender<Command>,
    counters: Arc<EnvironmentCounters>,
    now: Instant,
}

impl Office {
    fn new() -> Self {
        let lane = udp::bind_lane(IpAddr::V4(Ipv4Addr::LOCALHOST), 0..=0).unwrap();
        let listen = lane.try_clone().unwrap();
        let streams = Streams::new(0).unwrap();
        let io = PacketIo::new(lane, listen, streams, Arc::<WorkerCounters>::default());
        let (commands, inbox) = sync_channel(16);
        let desk = Desk::new(io, Inbox { inbox, waker: Waker::new().unwrap() });
        let mut engine = Engine::new(WorkerId::new(0).unwrap(), Arc::default());
        let counters = Arc::<EnvironmentCounters>::default();
        for slot in [WEB, DB] {
            let new = NewAttachment {
                environment: ENVIRONMENT,
                addresses: vec![address(slot).into()],
                uso: true,
                share: Share::default(),
                counters: Arc::default(),
            };
            engine.add_attachment(slot, new);
        }
        let mut office = Self { desk, engine, commands, counters, now: Instant::now() };
        let new = NewEnvironment {
            gateway: None,
            gateway6: None,
            share: Share::default(),
            counters: Arc::clone(&office.counters),
        };
        office.obey(Command::AddEnvironment(ENVIRONMENT, new, Inlet::closed()));
        let routes: RouteTable =
            [WEB, DB].map(|slot| (address(slot).into(), Target::Local(slot))).into_iter().collect();
        office.obey(Command::SetRoutes(ENVIRONMENT, Arc::new(routes)));
        office
    }

    fn obey(&mut self, command: Command) {
        self.commands.send(command).unwrap();
        assert!(self.desk.obey(self.now, &mut self.engine, &mut Nothing));
    }

    /// A datagram of 28 bytes from one to the other.
    fn send(&mut self) {
        let mut packet = [0; weft_sys::VNET_HEADER_LEN + 28];
        let ip = &mut packet[weft_sys::VNET_HEADER_LEN..];
        (ip[0], ip[3], ip[8], ip[9]) = (0x45, 28, 64, 17);
        ip[12..16].copy_from_slice(&address(WEB).octets());
        ip[16..20].copy_from_slice(&address(DB).octets());
        ip[20..26].copy_from_slice(&[0, 1, 0, 53, 0, 8]);
        assert!(self.engine.handle_packet(self.now, WEB, &mut packet, &mut self.desk.io));
    }

    fn drops(&self, reason: DropReason) -> u64 {
        self.counters.drops[reason as usize].get()
    }
}

#[test]
fn a_policy_holds_from_the_command_that_sets_it_to_the_one_that_takes_it_away() {
    let mut office = Office::new();
    office.send();
    // It got as far as the interface that is not there.
    assert_eq!(office.drops(DropReason::Undeliverable), 1);
    let policy = Rules { default: Verdict::Deny, rules: vec![] }.compile().unwrap();
    let guard = Arc::new(Guard::new(office.now, policy, 1, 7));
    office.obey(Command::SetPolicy(ENVIRONMENT, Some(guard)));
    office.send();
    assert_eq!(office.drops(DropReason::Policy), 1);
    assert!(matches!(office.engine.poll_event(), Some(Event::Denied(_))));
    office.obey(Command::SetPolicy(ENVIRONMENT, None));
    office.send();
    assert_eq!(office.drops(DropReason::Undeliverable), 2);
}
