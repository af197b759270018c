//! In which order the processes of a control plane are called, and for how long each may be silent.
//!
//! ```text
//!  a  ├── TCP, TLS … silent ──────────┤ 3 s
//!  b      ├── TCP, TLS … refused ┤         1 s after a, which goes on
//!  c                             ├── TCP, TLS ──▶ this one, and the others are dropped
//! ```
//!
//! As RFC 8305 (Happy Eyeballs) has it, but with TLS in each attempt: the kernel accepts connections for a process that
//! stands still.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    net::lookup_host,
    task::JoinSet,
    time::{sleep, timeout},
};
use weft_config::ControlUrl;

/// Addresses that are called in one attempt.
const ADDRESSES_MAX: usize = 8;
/// How long its name may take when it is known where it was before: a server of names that is gone keeps no host from
/// its control plane.
const NAME_MAX: Duration = Duration::from_secs(2);
/// How long one address may take, TLS included.
const ADDRESS_MAX: Duration = Duration::from_secs(3);
/// How soon the next address is called while one is silent. RFC 8305 section 5 has 250 ms for TCP alone; a process that
/// is called by all of its hosts at once takes longer for TLS, and is not to be called twice for it.
const NEXT_AFTER: Duration = Duration::from_secs(1);

/// Where the processes of a control plane are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Lookup {
    /// Wherever the name in its URL says, which is looked up for every attempt; where it said before, while that fails.
    /// Whoever is there has to show in any case that it is the control plane.
    #[default]
    Name,
    /// At these addresses, whatever the name says.
    Fixed(Vec<SocketAddr>),
}

impl Lookup {
    async fn addresses(&self, url: &ControlUrl) -> io::Result<Vec<SocketAddr>> {
        match self {
            Self::Name => Ok(lookup_host(url.address()).await?.collect()),
            Self::Fixed(addresses) => Ok(addresses.clone()),
        }
    }
}

/// Why no address answers: each with its reason.
#[derive(Debug)]
pub(crate) struct Unreached(Vec<(SocketAddr, io::Error)>);

impl std::fmt::Display for Unreached {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0[..] {
            [] => f.write_str("its name has no address"),
            [(_, error)] => write!(f, "{error}"),
            [first, others @ ..] => {
                write!(f, "{}: {}", first.0, first.1)?;
                others.iter().try_for_each(|(address, error)| write!(f, "; {address}: {error}"))
            }
        }
    }
}

impl std::error::Error for Unreached {}

/// The addresses of a control plane, with what was seen of them before. Clones share that.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ways {
    lookup: Lookup,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Debug, Default)]
struct Seen {
    /// What its name said last.
    known: Vec<SocketAddr>,
    /// The one that was called last is the last.
    called: Vec<SocketAddr>,
}

impl Ways {
    pub(crate) fn new(lookup: Lookup) -> Self {
        Self { lookup, seen: Arc::default() }
    }

    /// Calls one address after the other until one answers. The address of the connection of before comes last: a
    /// process that has just fallen silent keeps nobody from the others.
    pub(crate) async fn reach<T, F>(
        &self,
        url: &ControlUrl,
        mut call: impl FnMut(SocketAddr) -> F,
    ) -> io::Result<T>
    where
        T: Send + 'static,
        F: Future<Output = io::Result<T>> + Send + 'static,
    {
        let mut next = self.in_turn(self.addresses(self.lookup.addresses(url)).await?).into_iter();
        let (mut running, mut failed) = (JoinSet::new(), Vec::new());
        loop {
            if let Some(address) = next.next() {
                self.is_called(address);
                let answer = call(address);
                running.spawn(async move { (address, within(ADDRESS_MAX, answer).await) });
            }
            tokio::select! {
                ended = running.join_next() => match ended {
                    Some(Ok((_, Ok(reached)))) => return Ok(reached),
                    Some(Ok((address, Err(error)))) => failed.push((address, error)),
                    Some(Err(error)) => return Err(io::Error::other(error)),
                    None => return Err(io::Error::other(Unreached(failed))),
                },
                () = sleep(NEXT_AFTER), if next.len() > 0 => {}
            }
        }
    }

    /// What its name says now, or said before if it says nothing now.
    async fn addresses(
        &self,
        found: impl Future<Output = io::Result<Vec<SocketAddr>>>,
    ) -> io::Result<Vec<SocketAddr>> {
        let known = self.seen().known.clone();
        if known.is_empty() {
            let found = found.await?;
            self.seen().known.clone_from(&found);
            return Ok(found);
        }
        match within(NAME_MAX, found).await {
            Ok(found) if !found.is_empty() => {
                self.seen().known.clone_from(&found);
                Ok(found)
            }
            found => {
                let problem =
                    found.err().map_or_else(|| "no address".to_owned(), |e| e.to_string());
                tracing::warn!(
                    problem,
                    "the control plane's name is not found: it is called where it was before"
                );
                Ok(known)
            }
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those that were not called for the longest time come first; others as their name has them.
    fn in_turn(&self, mut addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
        let Seen { called, .. } = &mut *self.seen();
        // Names change: what is nobody's address any more is forgotten.
        called.retain(|address| addresses.contains(address));
        addresses.sort_by_key(|address| called.iter().position(|other| other == address));
        addresses.truncate(ADDRESSES_MAX);
        addresses
    }

    fn is_called(&self, address: SocketAddr) {
        let mut seen = self.seen();
        seen.called.retain(|other| *other != address);
        seen.called.push(address);
    }
}

/// The answer, if it comes in time.
pub(super) async fn within<T>(
    longest: Duration,
    answer: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    timeout(longest, answer).await.unwrap_or_else(|_| {
        let error = format!("no answer in {} s", longest.as_secs());
        Err(io::Error::new(io::ErrorKind::TimedOut, error))
    })
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::time::Instant;

    use super::*;

    fn address(n: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, n], 7443))
    }

    fn ways(count: u8) -> Ways {
        Ways::new(Lookup::Fixed((1..=count).map(address).collect()))
    }

    /// What each address does.
    #[derive(Clone, Copy, PartialEq)]
    enum Does {
        Answer,
        Refuse,
        StandStill,
    }

    /// Calls, and says who answered, after how long, and who was called in which order.
    async fn reach(ways: &Ways, does: &[Does]) -> (io::Result<u8>, Duration, Vec<u8>) {
        let (began, url) = (Instant::now(), "https://control.example:7443".parse().unwrap());
        let called = Arc::new(Mutex::new(Vec::new()));
        let reached = ways.reach(&url, |address| {
            let SocketAddr::V4(v4) = address else { unreachable!("{address}") };
            let n = v4.ip().octets()[3];
            called.lock().unwrap().push(n);
            let does = does[usize::from(n) - 1];
            async move {
                match does {
                    Does::Answer => Ok(n),
                    Does::Refuse => Err(io::ErrorKind::ConnectionRefused.into()),
                    Does::StandStill => pending().await,
                }
            }
        });
        let reached = reached.await;
        let called = called.lock().unwrap().clone();
        (reached, began.elapsed(), called)
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_stands_still_does_not_keep_a_host_from_the_others() {
        let does = [Does::StandStill, Does::StandStill, Does::Answer];
        let (reached, took, _) = reach(&ways(3), &does).await;
        assert_eq!((reached.unwrap(), took), (3, NEXT_AFTER * 2));
        let does = [Does::Refuse, Does::Refuse, Does::Answer];
        let (reached, took, _) = reach(&ways(3), &does).await;
        assert_eq!((reached.unwrap(), took), (3, Duration::ZERO), "who refuses takes no time");
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_attempt_begins_with_another() {
        let ways = ways(3);
        for first in [1, 2, 3, 1, 2] {
            let (reached, _, called) = reach(&ways, &[Does::Answer; 3]).await;
            assert_eq!((reached.unwrap(), called), (first, vec![first]));
        }
        // One and two were called last.
        let (_, _, called) = reach(&ways, &[Does::Refuse; 3]).await;
        assert_eq!(called, [3, 1, 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn where_nobody_answers_everybody_s_reason_is_said_in_time() {
        let does = [Does::StandStill, Does::Refuse];
        let (reached, took, _) = reach(&ways(2), &does).await;
        let error = reached.unwrap_err().to_string();
        let expected = "192.0.2.2:7443: connection refused; 192.0.2.1:7443: no answer in 3 s";
        assert_eq!((error.as_str(), took), (expected, ADDRESS_MAX));
        let (reached, _, _) = reach(&ways(1), &[Does::StandStill]).await;
        assert_eq!(reached.unwrap_err().to_string(), "no answer in 3 s");
        let (reached, _, _) = reach(&ways(0), &[]).await;
        assert_eq!(reached.unwrap_err().to_string(), "its name has no address");
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_that_is_not_found_any_more_says_what_it_said_before() {
        let ways = Ways::default();
        let found = |n: u8| async move { Ok(vec![address(n)]) };
        let nothing = || async { Err(io::ErrorKind::NotFound.into()) };
        ways.addresses(nothing()).await.unwrap_err();
        assert_eq!(ways.addresses(found(1)).await.unwrap(), [address(1)]);
        assert_eq!(ways.addresses(nothing()).await.unwrap(), [address(1)]);
        assert_eq!(ways.addresses(async { Ok(Vec::new()) }).await.unwrap(), [address(1)]);
        // It may move.
        assert_eq!(ways.addresses(found(2)).await.unwrap(), [address(2)]);
        let began = Instant::now();
        assert_eq!(ways.addresses(pending()).await.unwrap(), [address(2)]);
        assert_eq!(began.elapsed(), NAME_MAX, "and the addresses have the time that is left");
    }

    #[tokio::test(start_paused = true)]
    async fn of_many_addresses_so_many_are_called_and_the_others_have_their_turn() {
        let ways = ways(20);
        let mut all = Vec::new();
        for _ in 0..3 {
            let (_, _, called) = reach(&ways, &[Does::Refuse; 20]).await;
            assert_eq!(called.len(), ADDRESSES_MAX);
            all.extend(called);
        }
        all.truncate(20);
        assert_eq!(all, (1..=20).collect::<Vec<_>>());
    }
}
