//! Sessions as a worker sees them: one sending lane, some receiving lanes.

use std::time::{Duration, Instant};

use weft_types::{Epoch, ReceiverIndex};
use weft_wire::{CONTROL_LEN, Control, DATAGRAM_MAX, Ecn, Kind};

use super::{Engine, Event, Io, LinkSlot, TICK, pieces::Pieces};
use crate::{
    DropReason,
    keys::{Role, scrub_stack},
    lane::{Damage, ReceiveLane, Rekey, SendLane, SendRefusal},
    way::{Source, Via, Way},
};

/// First pause before a `Confirm` is repeated; it doubles up to [`CONFIRM_PAUSE_MAX`].
const CONFIRM_PAUSE: Duration = Duration::from_millis(20);
const CONFIRM_PAUSE_MAX: Duration = Duration::from_secs(5);

/// Bytes of a datagram with a control message and no padding.
const CONTROL_DATAGRAM_LEN: usize = SendLane::datagram_len(0, CONTROL_LEN);
/// What probes are padded with.
static ZEROS: [u8; DATAGRAM_MAX] = [0; DATAGRAM_MAX];

/// A session of this daemon, never given out twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub u64);

/// A session to install on one worker.
pub struct NewSession {
    /// Its id, the same on all workers.
    pub id: SessionId,
    /// The link it belongs to.
    pub link: LinkSlot,
    /// Which end of the TLS connection this host was.
    pub role: Role,
    /// Largest datagram in bytes that both ends take.
    pub datagram_max: usize,
    /// This worker's sending lane.
    pub send: SendLane,
    /// The lanes that this worker receives, in the order of their numbers.
    pub receive: Vec<(ReceiverIndex, ReceiveLane)>,
    /// Whether this worker asks the peer to confirm the session: one worker of the TLS client.
    pub confirms: bool,
}

/// A worker's view of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionStatus {
    /// Epoch of the sending lane.
    pub epoch: Epoch,
    /// When the sending key was first used.
    pub key_used_since: Option<Instant>,
}

pub(super) struct Session {
    pub(super) link: LinkSlot,
    pub(super) datagram_max: usize,
    pub(super) send: SendLane,
    indices: Vec<ReceiverIndex>,
    confirm: Option<(Instant, Duration)>,
    said_rekey: bool,
}

pub(super) struct Receiver {
    pub(super) session: SessionId,
    pub(super) link: LinkSlot,
    /// The first lane of those that come to this worker.
    pub(super) is_home: bool,
    pub(super) lane: Box<ReceiveLane>,
    pub(super) pieces: Pieces,
}

impl Engine {
    /// Makes a session receive, and send control messages; data goes on it after
    /// [`Engine::activate`].
    pub fn install_session(&mut self, now: Instant, new: NewSession) {
        let indices = new.receive.iter().map(|(index, _)| *index).collect();
        for (number, (index, lane)) in new.receive.into_iter().enumerate() {
            let (is_home, lane, pieces) = (number == 0, Box::new(lane), Pieces::default());
            let receiver = Receiver { session: new.id, link: new.link, is_home, lane, pieces };
            self.receivers.insert(index, receiver);
        }
        let mut send = new.send;
        send.carry_datagrams_of(new.datagram_max);
        let session = Session {
            link: new.link,
            datagram_max: new.datagram_max,
            send,
            indices,
            confirm: new.confirms.then_some((now, CONFIRM_PAUSE)),
            said_rekey: false,
        };
        self.sessions.insert(new.id, session);
        scrub_stack();
        let wanted = if new.confirms { now } else { now + TICK };
        self.next_tick = Some(self.next_tick.map_or(wanted, |at| at.min(wanted)));
    }

    /// Sends data of its link on this session from now on, first what waited for one.
    pub fn activate(&mut self, now: Instant, id: SessionId, io: &mut impl Io) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        session.confirm = None;
        let Some(link) = self.links.get_mut(session.link) else {
            return;
        };
        link.active = Some(id);
        link.path.set_limit(u16::try_from(session.datagram_max).unwrap_or(u16::MAX));
        link.counters.datagram_max.set(link.path.current().into());
        let environment = link.environment;
        let given_up = link.pending.expire(now);
        let waiting = link.pending.take();
        self.count_drops(environment, DropReason::NoSession, given_up);
        for packet in waiting {
            self.handle_waiting(now, environment, packet, io);
        }
    }

    /// Forgets a session and its keys; with `say_so` the peer is told.
    pub fn remove_session(&mut self, now: Instant, id: SessionId, say_so: bool, io: &mut impl Io) {
        if say_so {
            self.send_control(now, id, Control::Close, io);
        }
        let Some(session) = self.sessions.remove(&id) else {
            return;
        };
        for index in session.indices {
            self.receivers.remove(&index);
        }
        if let Some(link) = self.links.get_mut(session.link)
            && link.active == Some(id)
        {
            link.active = None;
        }
    }

    /// This worker's view of a session.
    #[must_use]
    pub fn session_status(&self, id: SessionId) -> Option<SessionStatus> {
        self.sessions.get(&id).map(|s| SessionStatus {
            epoch: s.send.epoch(),
            key_used_since: s.send.key_used_since(),
        })
    }

    /// Looks after what time brings: repeats confirmations, ends epochs of idle lanes, wipes keys
    /// of past epochs.
    pub fn handle_timeout(&mut self, now: Instant, io: &mut impl Io) {
        self.send_backlog(now, io);
        if self.next_tick.is_none_or(|at| now < at) {
            return;
        }
        let mut damaged = Vec::new();
        for receiver in self.receivers.values_mut() {
            receiver.lane.handle_timeout(now);
            damaged.extend(receiver.lane.look_for_damage(now).map(|d| (receiver.session, d)));
            let given_up = receiver.pieces.expire(now);
            if let Some(link) = self.links.get(receiver.link)
                && let Some(environment) = self.environments.get(link.environment)
            {
                environment.counters.dropped_many(DropReason::Incomplete, given_up);
            }
            if receiver.lane.wants_rekey() {
                Self::push_event(&mut self.events, Event::RekeySoon(receiver.session));
            }
        }
        for (id, Damage { refused, sent }) in damaged {
            self.send_control(now, id, Control::Damaged { refused, sent }, io);
        }
        let mut next = now + TICK;
        let ids: Vec<SessionId> = self.sessions.keys().copied().collect();
        for id in &ids {
            if let Some(at) = self.tend_session(now, *id, io) {
                next = next.min(at);
            }
        }
        self.next_tick = (!ids.is_empty()).then_some(next);
    }

    fn tend_session(&mut self, now: Instant, id: SessionId, io: &mut impl Io) -> Option<Instant> {
        let session = self.sessions.get_mut(&id)?;
        // An event can be lost on its way; while there is cause it is repeated.
        session.said_rekey = false;
        let mut next = None;
        let mut due = None;
        if let Some((at, pause)) = session.confirm {
            if now >= at {
                session.confirm = Some((now + pause, (pause * 2).min(CONFIRM_PAUSE_MAX)));
                due = Some(Control::Confirm);
            }
            next = session.confirm.map(|(at, _)| at);
        }
        if session.send.wants_new_epoch(now) {
            due = due.or(Some(Control::Epoch));
        }
        if let Some(link) = self.links.get(session.link)
            && link.active == Some(id)
        {
            link.counters.epoch.set(session.send.epoch().0.into());
            let since = session.send.key_used_since();
            let age = since.map_or(0, |s| now.saturating_duration_since(s).as_secs());
            link.counters.key_age_seconds.set(age);
        }
        if let Some(control) = due {
            self.send_control(now, id, control, io);
        }
        self.probe_path(now, id, io);
        sooner(&mut next, self.path_timeout(id));
        next
    }

    /// Asks whether the path of the session that carries data carries so much, if it is time to.
    fn probe_path(&mut self, now: Instant, id: SessionId, io: &mut impl Io) {
        while let Some(link) = self.link_of_active(id) {
            let wanted = link.path.poll_probe(now);
            link.counters.datagram_max.set(link.path.current().into());
            let Some(len) = wanted else { break };
            self.send_padded(now, id, None, Control::Probe, len.into(), io);
        }
    }

    fn path_timeout(&mut self, id: SessionId) -> Option<Instant> {
        self.link_of_active(id).and_then(|link| link.path.poll_timeout())
    }

    /// The link of a session, if that is the one that carries its data.
    fn link_of_active(&mut self, id: SessionId) -> Option<&mut super::Link> {
        let link = self.links.get_mut(self.sessions.get(&id)?.link)?;
        (link.active == Some(id)).then_some(link)
    }

    /// Asks whether the peer of a session is where this way leads.
    pub fn challenge(
        &mut self,
        now: Instant,
        id: SessionId,
        way: Way,
        number: u64,
        io: &mut impl Io,
    ) {
        let control = Control::Challenge(number);
        self.send_padded(now, id, Some(way), control, CONTROL_DATAGRAM_LEN, io);
    }

    /// Asks for confirmations at once that are not there yet: there is a way now that there was not.
    pub(super) fn confirm_now(&mut self, now: Instant, link: LinkSlot) {
        for session in self.sessions.values_mut().filter(|s| s.link == link) {
            if session.confirm.is_some() {
                session.confirm = Some((now, CONFIRM_PAUSE));
                sooner(&mut self.next_tick, Some(now));
            }
        }
    }

    /// Asks the peer for an answer on a session.
    pub fn ask(&mut self, now: Instant, id: SessionId, io: &mut impl Io) {
        self.send_control(now, id, Control::Probe, io);
    }

    /// Answers where datagrams go, and where the question came from if that is somewhere else: the peer
    /// asks because one of its ways may be no good, and so may be one of ours (RFC 9000 section 8.2.2).
    fn answer_challenge(
        &mut self,
        now: Instant,
        source: &Source,
        id: SessionId,
        number: u64,
        io: &mut impl Io,
    ) {
        let answer = Control::Answer(number);
        self.send_control(now, id, answer, io);
        let usual = self.sessions.get(&id).and_then(|s| self.links.get(s.link)).map(|l| l.way);
        if let (Some(usual), Source::Udp(back)) = (usual, *source)
            && (usual.to.ip() != back.to.ip() || matches!(usual.via, Via::Stream(_)))
        {
            self.send_padded(now, id, Some(back), answer, CONTROL_DATAGRAM_LEN, io);
        }
    }

    pub(super) fn send_control(
        &mut self,
        now: Instant,
        id: SessionId,
        control: Control,
        io: &mut impl Io,
    ) {
        self.send_padded(now, id, None, control, CONTROL_DATAGRAM_LEN, io);
    }

    /// A datagram of `len` bytes, that goes the usual way if no other is given.
    fn send_padded(
        &mut self,
        now: Instant,
        id: SessionId,
        way: Option<Way>,
        control: Control,
        len: usize,
        io: &mut impl Io,
    ) {
        let Some(padding) = len.checked_sub(CONTROL_DATAGRAM_LEN).and_then(|n| ZEROS.get(..n))
        else {
            return;
        };
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        let Some(link) = self.links.get(session.link) else {
            return;
        };
        if session.prepare(now, 1, id, &mut self.events).is_err() {
            return;
        }
        let out = io.datagram(&way.unwrap_or(link.way), Ecn::NotEct, len);
        session.send.seal(Kind::Control, padding, &control.encode(), out);
        link.counters.sent_datagrams.add(1);
        link.counters.sent_bytes.add(len as u64);
    }

    /// `len` is that of the datagram.
    pub(super) fn handle_control(
        &mut self,
        now: Instant,
        source: &Source,
        id: SessionId,
        control: Control,
        len: u16,
        io: &mut impl Io,
    ) {
        match control {
            Control::Confirm => self.send_control(now, id, Control::Confirmed, io),
            Control::Confirmed => {
                if let Some(session) = self.sessions.get_mut(&id) {
                    session.confirm = None;
                }
            }
            Control::Epoch => {}
            Control::Close => Self::push_event(&mut self.events, Event::Closed(id)),
            Control::Challenge(number) => {
                Self::push_event(&mut self.events, Event::Challenged(id));
                self.answer_challenge(now, source, id, number, io);
            }
            Control::Answer(number) => {
                Self::push_event(&mut self.events, Event::Answered(id, number));
            }
            Control::Damaged { refused, sent } => {
                Self::push_event(&mut self.events, Event::Damaged { session: id, refused, sent });
            }
            Control::Probe => self.send_control(now, id, Control::Arrived(len), io),
            Control::Arrived(len) => {
                let Some(link) = self.link_of_active(id) else { return };
                if link.path.handle_answer(now, len) {
                    link.counters.datagram_max.set(link.path.current().into());
                    let due = link.path.poll_timeout();
                    sooner(&mut self.next_tick, due);
                }
            }
        }
    }
}

/// Makes `at` the earlier of both.
pub(super) fn sooner(at: &mut Option<Instant>, other: Option<Instant>) {
    *at = at.iter().copied().chain(other).min();
}

impl Session {
    /// [`SendLane::prepare`], and says once per tick when a new handshake is due.
    #[inline]
    pub(super) fn prepare(
        &mut self,
        now: Instant,
        datagrams: u64,
        id: SessionId,
        events: &mut std::collections::VecDeque<Event>,
    ) -> Result<(), SendRefusal> {
        let rekey = self.send.prepare(now, datagrams);
        if rekey != Ok(Rekey::NotYet) && !self.said_rekey {
            self.said_rekey = true;
            Engine::push_event(events, Event::RekeySoon(id));
        }
        rekey.map(|_| ())
    }
}
