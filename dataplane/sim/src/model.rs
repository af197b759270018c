//! What must be true of every delivery: a set of packets that were sent, and where each belongs.

use std::collections::HashMap;

use crate::packet::{forget_meaningless_id, kernel_output};

/// An attachment of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place {
    /// Host number.
    pub host: usize,
    /// The attachment's slot there.
    pub slot: u32,
}

struct Sent {
    to: Place,
    flow: usize,
    number: u64,
    is_delivered: bool,
}

/// Packets as a network would see them: cut, with checksums, without congestion marks (the
/// network may add those) and without identifications that mean nothing.
#[derive(Default)]
pub struct Model {
    sent: HashMap<Vec<u8>, Sent>,
    newest: HashMap<usize, u64>,
    /// Whether packets of one flow must be delivered in the order in which they were sent.
    pub keeps_order: bool,
    delivered: usize,
    next: u64,
}

fn canonical(mut packet: Vec<u8>) -> Vec<u8> {
    if packet[0] >> 4 == 4 {
        packet[1] &= !3;
        let len = usize::from(packet[0] & 0x0f) * 4;
        packet[10..12].fill(0);
        let check = crate::packet::checksum(&packet[..len]);
        packet[10..12].copy_from_slice(&check.to_be_bytes());
    } else {
        packet[1] &= !0x30;
    }
    forget_meaningless_id(&mut packet);
    packet
}

impl Model {
    /// A model of a network that keeps the order, or does not.
    #[must_use]
    pub fn new(keeps_order: bool) -> Self {
        Self { keeps_order, ..Self::default() }
    }

    /// A container sends `data` (a virtio header and a packet) to `to`. Each of its segments must
    /// be different from all others.
    ///
    /// # Panics
    /// When a segment is not unique: a mistake of the simulation.
    pub fn send(&mut self, to: Place, flow: usize, data: &[u8]) {
        for packet in kernel_output(data) {
            self.next += 1;
            let sent = Sent { to, flow, number: self.next, is_delivered: false };
            let before = self.sent.insert(canonical(packet), sent);
            assert!(before.is_none(), "packets of the simulation are unique");
        }
    }

    /// The daemon of `at.host` writes `data` to the interface `at.slot`.
    ///
    /// # Errors
    /// A sentence about what is wrong with it.
    pub fn deliver(&mut self, at: Place, data: &[u8]) -> Result<(), String> {
        for packet in kernel_output(data) {
            let packet = canonical(packet);
            let Some(sent) = self.sent.get_mut(&packet) else {
                return Err(format!("{at:?} was given a packet that nobody sent: {packet:02x?}"));
            };
            if sent.to != at {
                return Err(format!("a packet for {:?} was given to {at:?}", sent.to));
            }
            if std::mem::replace(&mut sent.is_delivered, true) {
                return Err(format!("packet {} was delivered twice", sent.number));
            }
            let newest = self.newest.entry(sent.flow).or_default();
            if self.keeps_order && *newest > sent.number {
                return Err(format!(
                    "flow {}: packet {} was delivered after {newest}",
                    sent.flow, sent.number
                ));
            }
            *newest = sent.number.max(*newest);
            self.delivered += 1;
        }
        Ok(())
    }

    /// How many packets were sent and delivered.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        (self.sent.len(), self.delivered)
    }

    /// Checks that everything that was sent has been delivered.
    ///
    /// # Errors
    /// A sentence that names a packet that was not.
    pub fn check_complete(&self) -> Result<(), String> {
        let missing = self.sent.values().filter(|s| !s.is_delivered).min_by_key(|s| s.number);
        match missing {
            None => Ok(()),
            Some(sent) => Err(format!(
                "packet {} of flow {} to {:?} is missing ({} of {} arrived)",
                sent.number,
                sent.flow,
                sent.to,
                self.delivered,
                self.sent.len()
            )),
        }
    }

    /// Forgets everything so far, for a new phase.
    pub fn clear(&mut self) {
        self.sent.clear();
        self.delivered = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{Flow, Packet, Transport};

    fn packet(number: u8) -> Vec<u8> {
        let flow = Flow {
            source: "10.0.0.1".parse().unwrap(),
            destination: "10.0.0.2".parse().unwrap(),
            ports: (1, 2),
        };
        Packet::new(flow, Transport::Udp, vec![number; 30]).superpacket(10)
    }

    const HERE: Place = Place { host: 0, slot: 0 };
    const THERE: Place = Place { host: 1, slot: 0 };

    fn model() -> Model {
        let mut model = Model::new(true);
        let mut data = packet(1);
        for (i, byte) in data[38..].iter_mut().enumerate() {
            *byte = u8::try_from(i).unwrap();
        }
        model.send(THERE, 7, &data);
        model
    }

    fn sent() -> Vec<u8> {
        let mut data = packet(1);
        for (i, byte) in data[38..].iter_mut().enumerate() {
            *byte = u8::try_from(i).unwrap();
        }
        data
    }

    /// A model that never complains proves nothing.
    #[test]
    fn notices_every_kind_of_mistake() {
        assert!(model().deliver(THERE, &sent()).is_ok());
        assert!(model().deliver(HERE, &sent()).is_err(), "another place");
        let mut twice = model();
        twice.deliver(THERE, &sent()).unwrap();
        assert!(twice.deliver(THERE, &sent()).is_err(), "twice");
        let mut changed = sent();
        changed[50] ^= 1;
        assert!(model().deliver(THERE, &changed).is_err(), "changed");
        assert!(model().check_complete().is_err(), "missing");
        let mut marked = sent();
        marked[11] = 3;
        assert!(model().deliver(THERE, &marked).is_ok(), "marks are the network's");

        let segments = kernel_output(&sent());
        let whole = |packet: &[u8]| [&[0; 10][..], packet].concat();
        let mut reordered = model();
        reordered.deliver(THERE, &whole(&segments[1])).unwrap();
        assert!(reordered.deliver(THERE, &whole(&segments[0])).is_err(), "order");
    }
}
