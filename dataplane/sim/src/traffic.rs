//! What containers send: flows, and packets of which no two segments are equal.

use crate::{
    host::{ATTACHMENTS, Plan, overlay},
    model::Place,
    packet::{Flow, Packet, Transport, tcp},
    rng::Rng,
};

/// A flow of packets from one attachment to another.
#[derive(Debug, Clone)]
pub struct FlowPlan {
    /// Its number.
    pub number: usize,
    /// Environment of both ends.
    pub environment: usize,
    /// Where it begins.
    pub from: Place,
    /// Where it ends.
    pub to: Place,
    flow: Flow,
    transport: Transport,
}

/// Flows between random attachments, in every environment the same addresses and ports.
#[must_use]
pub fn flows(plan: &Plan, rng: &mut Rng) -> Vec<FlowPlan> {
    let mut flows = Vec::new();
    let hosts = plan.workers.len();
    for _ in 0..rng.between(3, 8) {
        let (from, to) = (rng.below(hosts), rng.below(hosts));
        let (k, l) = (rng.below(ATTACHMENTS), rng.below(ATTACHMENTS));
        if (from, k) == (to, l) {
            continue;
        }
        let six = rng.chance(500);
        let transport = match rng.below(5) {
            0 | 1 => Transport::Tcp {
                sequence: u32::try_from(rng.bits() >> 32).expect("32 bits"),
                flags: tcp::ACK,
                options: rng.pick(&[0, 12]),
            },
            2 | 3 => Transport::Udp,
            _ => rng.pick(&[Transport::Echo, Transport::Other(50), Transport::Other(132)]),
        };
        let port = u16::try_from(1000 + flows.len()).expect("few");
        for environment in 0..plan.environments {
            let slot = |k| crate::host::attachment_slot(environment, k).0;
            flows.push(FlowPlan {
                number: flows.len(),
                environment,
                from: Place { host: from, slot: slot(k) },
                to: Place { host: to, slot: slot(l) },
                flow: Flow {
                    source: overlay(from, k, six),
                    destination: overlay(to, l, six),
                    ports: (port, 443),
                },
                transport,
            });
        }
    }
    flows
}

impl FlowPlan {
    /// The next packet, as a TUN gives it. `serial` makes every segment unique.
    pub fn next(&mut self, serial: &mut u64, rng: &mut Rng) -> Vec<u8> {
        let can_segment = matches!(self.transport, Transport::Tcp { .. } | Transport::Udp);
        let segments = match rng.below(10) {
            _ if !can_segment => 1,
            0..=3 => 1,
            9 if rng.chance(150) => rng.between(65, 128),
            _ => rng.between(2, 12),
        };
        let size = rng.between(16, if segments > 12 { 40 } else { 150 });
        // The last segment has at least a serial number too.
        let len = (segments - 1) * size + rng.between(8, size);
        let mut payload = Vec::with_capacity(len);
        while payload.len() < len {
            *serial += 1;
            let end = (payload.len() + size).min(len);
            payload.extend_from_slice(&serial.to_be_bytes());
            payload.resize(end, u8::try_from(rng.below(256)).expect("a byte"));
        }
        if let Transport::Tcp { sequence, flags, .. } = &mut self.transport {
            *sequence = sequence.wrapping_add(u32::try_from(len).expect("short"));
            let psh = if rng.chance(300) { tcp::PSH } else { 0 };
            let cwr = if rng.chance(100) { tcp::CWR } else { 0 };
            *flags = tcp::ACK | psh | cwr;
        }
        let mut packet = Packet::new(self.flow, self.transport, payload);
        packet.id = u16::try_from(*serial & 0xffff).expect("16 bits");
        packet.ecn = u8::try_from(rng.pick(&[0, 2, 2, 1, 3])).expect("two bits");
        packet.dont_fragment = !rng.chance(100);
        if segments > 1 {
            packet.superpacket(u16::try_from(size).expect("small"))
        } else if can_segment && rng.chance(700) {
            packet.unfinished()
        } else {
            packet.complete()
        }
    }
}
