//! What a question about one of our own names is answered.

use hickory_proto::{
    op::{Query, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, AAAA, HINFO, NS, PTR, SOA, SRV},
    },
};

use crate::{
    limits::{
        ADDRESS_TTL_SECONDS, ADDRESSES_ANSWERED_MAX, APEX_TTL_SECONDS, NEGATIVE_TTL_SECONDS,
        SRV_ANSWERED_MAX,
    },
    message::Contents,
    place::Place,
    zone::{Node, Reverse, Slot, Zone},
};

/// What resolvers that copy zones would use; nobody does here, the values are those of RFC 6303 section 3.
const SOA_REFRESH_SECONDS: i32 = 3_600;
const SOA_RETRY_SECONDS: i32 = 1_200;
const SOA_EXPIRE_SECONDS: i32 = 604_800;

/// The answer to a question about a place of ours; `None` about any other. `turn` says which of several
/// addresses come, and which first.
pub(crate) fn answer(zone: &Zone, question: &Query, place: &Place, turn: u64) -> Option<Contents> {
    let mut writer = Writer { zone, question, turn, contents: Contents::default() };
    match place {
        Place::Internal(labels) => {
            let labels: Vec<&[u8]> = labels.iter().map(Vec::as_slice).collect();
            writer.internal(&labels);
        }
        Place::Reverse { range, apex_labels } => {
            let apex = question.name().trim_to(*apex_labels);
            let is_apex = question.name().iter().count() == *apex_labels;
            match zone.find_reverse(range) {
                Reverse::Name(name) => writer.pointer(name, &apex),
                Reverse::Empty => writer.other(&apex, true, is_apex),
                Reverse::Absent => writer.other(&apex, is_apex, is_apex),
            }
        }
        Place::ReverseNonsense { apex_labels } => {
            let apex = question.name().trim_to(*apex_labels);
            writer.other(&apex, false, false);
        }
        Place::Private | Place::Outside => return None,
    }
    writer.contents.authoritative = true;
    Some(writer.contents)
}

/// An answer that says *there is no such name*, for names of nobody.
pub(crate) fn absent() -> Contents {
    Contents { authoritative: true, ..Contents::code(ResponseCode::NXDomain) }
}

struct Writer<'a> {
    zone: &'a Zone,
    question: &'a Query,
    turn: u64,
    contents: Contents,
}

impl Writer<'_> {
    fn internal(&mut self, labels: &[&[u8]]) {
        let apex = self.zone.apex();
        match self.zone.find(labels) {
            Node::Absent => self.other(apex, false, false),
            Node::Empty => self.other(apex, true, false),
            Node::Apex => self.apex(),
            Node::Slots(slots) => self.addresses(&slots),
            Node::Ports(port, slots) => self.ports(port, &slots),
        }
    }

    /// The zone's own name: its addresses are the gateway's.
    fn apex(&mut self) {
        let kind = self.question.query_type();
        let gateway = match kind {
            RecordType::A => self.zone.gateway(true),
            RecordType::AAAA => self.zone.gateway(false),
            _ => None,
        };
        match gateway {
            Some(gateway) => self.push(APEX_TTL_SECONDS, gateway.into()),
            None => self.other(self.zone.apex(), true, true),
        }
    }

    fn addresses(&mut self, slots: &[&Slot]) {
        let all: Vec<RData> = match self.question.query_type() {
            RecordType::A => slots.iter().flat_map(|s| &s.v4).map(|a| RData::A(A(*a))).collect(),
            RecordType::AAAA => {
                slots.iter().flat_map(|s| &s.v6).map(|a| RData::AAAA(AAAA(*a))).collect()
            }
            _ => Vec::new(),
        };
        for data in turned(&all, self.turn).take(ADDRESSES_ANSWERED_MAX) {
            self.push(ADDRESS_TTL_SECONDS, data.clone());
        }
        if all.is_empty() {
            self.other(self.zone.apex(), true, false);
        }
    }

    fn ports(&mut self, port: u16, slots: &[&Slot]) {
        if self.question.query_type() != RecordType::SRV {
            return self.other(self.zone.apex(), true, false);
        }
        let chosen: Vec<&Slot> = turned(slots, self.turn).take(SRV_ANSWERED_MAX).copied().collect();
        for slot in &chosen {
            // Equal priority and weight: any of them will do.
            self.push(ADDRESS_TTL_SECONDS, RData::SRV(SRV::new(0, 1, port, slot.name.clone())));
        }
        for slot in chosen {
            let v4 = slot.v4.iter().map(|a| RData::A(A(*a)));
            let v6 = slot.v6.iter().map(|a| RData::AAAA(AAAA(*a)));
            let records =
                v4.chain(v6).map(|a| Record::from_rdata(slot.name.clone(), ADDRESS_TTL_SECONDS, a));
            self.contents.additionals.extend(records);
        }
    }

    fn pointer(&mut self, name: &Name, apex: &Name) {
        match self.question.query_type() {
            RecordType::PTR => self.push(ADDRESS_TTL_SECONDS, RData::PTR(PTR(name.clone()))),
            _ => self.other(apex, true, false),
        }
    }

    /// Records that every zone has at its apex, what stands for *any* (RFC 8482 section 4.2), or that there is
    /// nothing, with the SOA that says for how long that may be believed (RFC 2308 section 3).
    fn other(&mut self, apex: &Name, exists: bool, is_apex: bool) {
        match self.question.query_type() {
            RecordType::SOA if is_apex => {
                let soa = self.soa();
                self.push(APEX_TTL_SECONDS, soa);
            }
            RecordType::NS if is_apex => {
                let server = self.zone.apex().clone();
                self.push(APEX_TTL_SECONDS, RData::NS(NS(server)));
            }
            RecordType::ANY if exists => {
                let hinfo = HINFO::new("RFC8482".to_owned(), String::new());
                self.push(ADDRESS_TTL_SECONDS, RData::HINFO(hinfo));
            }
            _ => {
                if !exists {
                    self.contents.code = ResponseCode::NXDomain;
                }
                let soa = Record::from_rdata(apex.clone(), NEGATIVE_TTL_SECONDS, self.soa());
                self.contents.authorities.push(soa);
            }
        }
    }

    fn soa(&self) -> RData {
        // Nobody reads mail about this zone (RFC 6303 section 3).
        let nobody = Name::from_labels(["nobody", "invalid"]).unwrap_or_default();
        RData::SOA(SOA::new(
            self.zone.apex().clone(),
            nobody,
            self.zone.serial(),
            SOA_REFRESH_SECONDS,
            SOA_RETRY_SECONDS,
            SOA_EXPIRE_SECONDS,
            NEGATIVE_TTL_SECONDS,
        ))
    }

    fn push(&mut self, ttl: u32, data: RData) {
        let name = self.question.name().clone();
        self.contents.answers.push(Record::from_rdata(name, ttl, data));
    }
}

/// All of `all`, from a place on that `turn` says.
fn turned<T>(all: &[T], turn: u64) -> impl Iterator<Item = &T> {
    let len = u64::try_from(all.len()).unwrap_or(u64::MAX).max(1);
    let start = usize::try_from(turn % len).unwrap_or_default();
    let (before, after) = all.split_at(start.min(all.len()));
    after.iter().chain(before)
}
