//! Queries in, answers out, for one environment.

use std::{
    collections::VecDeque,
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Instant,
};

use hickory_proto::op::ResponseCode;

use crate::{
    answer::{absent, answer},
    forward::{ForwardAnswerError, ForwardQuery, ForwardToken, Forwards, Next},
    limits::UPSTREAMS_MAX,
    message::{Contents, NoRequest, Request, Transport},
    place::Place,
    rate::{Limits, Rates},
    zone::Zone,
};

/// What is said of names that are not this environment's.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Outside {
    /// That they are not answered here: REFUSED.
    #[default]
    Refuse,
    /// That they do not exist: NXDOMAIN. For containers whose resolver takes REFUSED for silence, as musl's does.
    Absent,
    /// What the first of these servers that answers says; 1 to [`UPSTREAMS_MAX`]. They are reached through the
    /// environment's own way out, never another's.
    Forward(Vec<SocketAddr>),
}

/// Why settings are not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// Too few or too many servers.
    #[error("forward: {0} servers; expected 1 to {UPSTREAMS_MAX}")]
    Upstreams(usize),
    /// A server that is the gateway itself.
    #[error("forward: {0} is this environment's own gateway; expected a server outside")]
    Loop(SocketAddr),
    /// Another environment's zone, or subnets that changed: the gateway has to be made anew.
    #[error("zone: other subnets than before; expected the same ones")]
    Subnets,
}

/// Who asked, and how the answer goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Asker {
    /// Where the query came from.
    pub address: SocketAddr,
    /// Which address it was sent to.
    pub asked: IpAddr,
    /// How.
    pub transport: Transport,
    /// Which connection, so that no answer goes to another one with the same ports; 0 for UDP.
    pub connection: u64,
}

/// What comes of a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Handled {
    /// This answer.
    Answer(Vec<u8>),
    /// An answer later: it is asked outside.
    Later,
    /// Nothing, because it came too often, or is itself an answer or too short for one.
    Silence,
}

/// What answers one environment's queries. See the crate's text for what it shares: nothing.
pub struct Server {
    zone: Arc<Zone>,
    outside: Outside,
    rates: Rates,
    forwards: Forwards,
    to_forward: VecDeque<ForwardQuery>,
    to_tell: VecDeque<(Asker, Vec<u8>)>,
    random: Box<dyn FnMut() -> u64 + Send>,
    turn: u64,
    queries: u64,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("zone", &self.zone.serial())
            .field("outside", &self.outside)
            .field("forwards", &self.forwards.len())
            .finish_non_exhaustive()
    }
}

impl Server {
    /// Answers from `zone`. `random` gives numbers that nobody can guess.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub fn new(
        zone: Arc<Zone>,
        outside: Outside,
        limits: Limits,
        mut random: Box<dyn FnMut() -> u64 + Send>,
    ) -> Result<Self, SettingsError> {
        check(&zone, &outside)?;
        Ok(Self {
            zone,
            outside,
            rates: Rates::new(limits),
            forwards: Forwards::default(),
            to_forward: VecDeque::new(),
            to_tell: VecDeque::new(),
            turn: random(),
            random,
            queries: 0,
        })
    }

    /// The same environment's newest zone: from now on nothing of the old one is answered.
    ///
    /// # Errors
    /// [`SettingsError::Subnets`]; the old one stays.
    pub fn set_zone(&mut self, zone: Arc<Zone>) -> Result<(), SettingsError> {
        if zone.subnets() != self.zone.subnets() {
            return Err(SettingsError::Subnets);
        }
        self.zone = zone;
        Ok(())
    }

    /// Another policy. What waits for an answer from outside is told that there is none.
    ///
    /// # Errors
    /// [`SettingsError`]; the old one stays.
    pub fn set_outside(&mut self, outside: Outside, now: Instant) -> Result<(), SettingsError> {
        check(&self.zone, &outside)?;
        if outside != self.outside {
            self.outside = Outside::Refuse;
            self.to_forward.clear();
            while let Some(token) = self.forwards.first() {
                self.handle_forward_failed(token, now);
            }
            self.outside = outside;
        }
        Ok(())
    }

    /// The zone that is answered from.
    #[must_use]
    pub fn zone(&self) -> &Arc<Zone> {
        &self.zone
    }

    /// A query came.
    pub fn handle_query(&mut self, asker: Asker, bytes: &[u8], now: Instant) -> Handled {
        if !self.rates.query(asker.address.ip(), now) {
            return Handled::Silence;
        }
        self.queries += 1;
        let recurses = matches!(self.outside, Outside::Forward(_));
        let request = match Request::read(bytes, asker.transport, recurses) {
            Ok(request) => request,
            Err(NoRequest::Silence) => return Handled::Silence,
            Err(NoRequest::Reply(bytes)) => return Handled::Answer(bytes),
        };
        let place = Place::of(request.question.name(), &self.zone);
        self.turn = mixed(self.turn);
        let ours = answer(&self.zone, &request.question, &place, self.turn);
        let contents = match (ours, place, &self.outside) {
            (Some(contents), ..) => contents,
            (None, Place::Private, _) | (None, _, Outside::Absent) => absent(),
            (None, _, Outside::Refuse) => Contents::code(ResponseCode::Refused),
            (None, _, Outside::Forward(servers)) if self.forwards.has_room(&asker) => {
                let id = id_of((self.random)());
                self.to_forward.extend(self.forwards.ask(asker, request, servers, id, now));
                return Handled::Later;
            }
            // Told at once, so that it does not ask again and again.
            (None, _, Outside::Forward(_)) => Contents::code(ResponseCode::ServFail),
        };
        Handled::Answer(request.write(&contents, recurses))
    }

    /// The next query to send outside. The shell has a socket for each until its deadline.
    pub fn poll_forward(&mut self) -> Option<ForwardQuery> {
        self.to_forward.pop_front()
    }

    /// The next answer that was waited for.
    pub fn poll_answer(&mut self) -> Option<(Asker, Vec<u8>)> {
        self.to_tell.pop_front()
    }

    /// Something came on a token's socket.
    ///
    /// # Errors
    /// [`ForwardAnswerError`]: it is not the answer.
    pub fn handle_forward_answer(
        &mut self,
        token: ForwardToken,
        from: SocketAddr,
        bytes: &[u8],
    ) -> Result<(), ForwardAnswerError> {
        let servers = servers(&self.outside);
        let answer = self.forwards.answer(token, from, bytes, servers)?;
        self.to_tell.push_back(answer);
        Ok(())
    }

    /// A token's socket failed, was refused or closed without an answer.
    pub fn handle_forward_failed(&mut self, token: ForwardToken, now: Instant) {
        let id = id_of((self.random)());
        match self.forwards.failed(token, servers(&self.outside), id, now) {
            Next::Nothing => {}
            Next::Ask(query) => self.to_forward.push_back(query),
            Next::Tell(asker, bytes) => self.to_tell.push_back((asker, bytes)),
        }
    }

    /// Gives up what has waited too long.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(token) = self.forwards.overdue(now) {
            self.handle_forward_failed(token, now);
        }
    }

    /// When [`Server::handle_timeout`] has something to do.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        self.forwards.next_timeout()
    }

    /// Queries so far, within the rates.
    pub(crate) fn queries(&self) -> u64 {
        self.queries
    }

    pub(crate) fn rates(&mut self) -> &mut Rates {
        &mut self.rates
    }

    pub(crate) fn random(&mut self) -> u64 {
        (self.random)()
    }
}

fn servers(outside: &Outside) -> &[SocketAddr] {
    match outside {
        Outside::Forward(servers) => servers,
        Outside::Refuse | Outside::Absent => &[],
    }
}

fn check(zone: &Zone, outside: &Outside) -> Result<(), SettingsError> {
    let Outside::Forward(servers) = outside else { return Ok(()) };
    if servers.is_empty() || servers.len() > UPSTREAMS_MAX {
        return Err(SettingsError::Upstreams(servers.len()));
    }
    let own = |server: &&SocketAddr| zone.gateways().any(|gateway| gateway == server.ip());
    servers.iter().find(own).map_or(Ok(()), |server| Err(SettingsError::Loop(*server)))
}

fn id_of(random: u64) -> u16 {
    let [a, b, ..] = random.to_ne_bytes();
    u16::from_ne_bytes([a, b])
}

/// The next of a sequence in which every value follows one other and all bits change (SplitMix64).
fn mixed(turn: u64) -> u64 {
    let mut z = turn.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

#[cfg(test)]
mod tests;
