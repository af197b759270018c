//! What is counted, and how many times it is done for it.
//!
//! Everything that an operation needs is made before the first one, and the same amount of it
//! whatever the number of operations, so that it cancels out. Packets are on the heap, where they
//! begin at the same place every time: how much a copy takes depends on that a little.

use std::hint::black_box;
use std::time::Instant;

use weft_benches::baseline::Counts;
use weft_benches::pair::{DATAGRAM_LEN, SEGMENT_LEN, SEGMENTS, Sink, TAIL_LEN, lanes, pair};
use weft_benches::routes;
use weft_proto::replay::Window;
use weft_wire::{HEADER_LEN, Header, Kind};

/// Routes in the table.
const ROUTES: u32 = 1_000;
/// Datagrams arrive in blocks of this many, each block backwards.
const REORDERED: u64 = 4;

/// An operation that can be repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Work {
    /// A superpacket from one container to the other, through two engines
    Superpacket,
    /// A datagram of it sealed by a lane
    Seal,
    /// A datagram of it opened by a lane
    Open,
    /// A counter checked and marked
    Replay,
    /// An address looked up
    Route,
}

impl Work {
    /// Operations of the shorter of two runs; the longer one does twice as many. Enough of them
    /// that what happens now and then, such as a new word in the replay window, has its share.
    pub(crate) const fn repetitions(self) -> u32 {
        match self {
            Self::Superpacket => 10,
            Self::Seal | Self::Open => 400,
            Self::Replay => 64_000,
            Self::Route => 10 * ROUTES,
        }
    }

    /// Does it `times` times, at most twice [`Work::repetitions`].
    pub(crate) fn run(self, times: u32) {
        match self {
            Self::Superpacket => superpacket(times),
            Self::Seal => seal(times),
            Self::Open => open(times as usize, 2 * self.repetitions() as usize),
            Self::Replay => replay(times),
            Self::Route => route(times),
        }
    }
}

/// The committed figures, by what `count` says of each work: instructions of one operation.
///
/// `framing` is all that the engines do for a superpacket besides sealing and opening its
/// datagrams: judge, route, cut, join, count. That is 4 % of the instructions: if the rest
/// was not taken away, it could treble before anybody noticed.
pub(crate) fn figures<E>(mut count: impl FnMut(Work) -> Result<f64, E>) -> Result<Counts, E> {
    let (seal, open) = (count(Work::Seal)?, count(Work::Open)?);
    #[expect(clippy::cast_precision_loss, reason = "44")]
    let lanes = SEGMENTS as f64 * (seal + open);
    let figures = [
        ("framing", count(Work::Superpacket)? - lanes),
        ("seal", seal),
        ("open", open),
        ("replay", count(Work::Replay)?),
        ("route", count(Work::Route)?),
    ];
    Ok(figures.map(|(name, figure)| (name.to_owned(), tenths(figure))).into())
}

/// More digits would only make the file longer.
fn tenths(figure: f64) -> f64 {
    (figure * 10.0).round() / 10.0
}

fn superpacket(times: u32) {
    let (mut sender, mut receiver) = pair();
    let (mut wire, mut interface) = (Sink::default(), Sink::default());
    for _ in 0..times {
        wire.clear();
        sender.send(&mut wire);
        receiver.receive(wire.datagrams(), &mut interface);
    }
    black_box(interface.delivered);
}

fn seal(times: u32) {
    let now = Instant::now();
    let (mut lane, _) = lanes(now);
    let (payload, tail) = (vec![5; SEGMENT_LEN], vec![6; TAIL_LEN]);
    let mut datagram = vec![0; DATAGRAM_LEN];
    lane.prepare(now, times.into()).expect("a fresh key");
    for _ in 0..times {
        lane.seal(Kind::Data, &payload, &tail, black_box(&mut datagram));
    }
}

fn open(times: usize, prepared: usize) {
    let now = Instant::now();
    let (mut sender, mut lane) = lanes(now);
    let mut datagrams = vec![[0; DATAGRAM_LEN]; prepared];
    for datagram in &mut datagrams {
        sender.seal(Kind::Data, &[5; SEGMENT_LEN], &[6; TAIL_LEN], datagram);
    }
    let mut out = vec![0; DATAGRAM_LEN];
    for datagram in &datagrams[..times] {
        let header = Header::decode(datagram).expect("sealed above");
        let (clear, sealed) = datagram.split_first_chunk::<HEADER_LEN>().expect("longer");
        lane.open(now, &header, clear, sealed, black_box(&mut out)).expect("sealed above");
    }
}

fn replay(times: u32) {
    let mut window = Window::default();
    for n in 0..u64::from(times) {
        let counter = black_box(n ^ (REORDERED - 1));
        if window.check(counter).is_ok() {
            window.mark(counter);
        }
    }
    black_box(&window);
}

fn route(times: u32) {
    let (table, order) = routes::table(ROUTES);
    for address in order.iter().cycle().take(times as usize) {
        black_box(table.get(black_box(*address)));
    }
}
