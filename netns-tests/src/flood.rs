//! Strangers who connect from thousands of addresses, thousands of times a second.
//!
//! Each connection is a whole one: SYN, its answer, ACK, the first bytes of something, reset. Nobody waits for
//! an answer, so what the victim cannot take does not slow them down.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::IpBindAddressNoPort;
use socket2::{Domain, Socket, Type};

use crate::namespace::Namespace;
use crate::topology::{Family, Host};

/// Connections between two looks at the clock.
const PACE: u64 = 32;
/// Threads that connect.
const THREADS: u64 = 2;
/// Connections of one thread that were begun and are to say something.
const OPEN_MAX: usize = 64;
/// Most sources of a flood.
pub const SOURCES_MAX: u32 = 1 << 16;

/// Where strangers come from: a /16, or 2^16 networks of IPv6.
fn source(family: Family, number: u32) -> IpAddr {
    let [_, _, high, low] = number.to_be_bytes();
    match family {
        Family::V4 => Ipv4Addr::new(10, 9, high, low).into(),
        Family::V6 => {
            let network = u16::from_be_bytes([high, low]);
            Ipv6Addr::new(0x2001, 0xdb8, 9, network, 0, 0, 0, 1).into()
        }
    }
}

/// Lets `evil` have all these addresses, and `victim` answer them.
///
/// # Errors
/// When the kernel refuses.
pub fn prepare(evil: &Host, victim: &Host) -> Result<()> {
    evil.ns.sysctl("net/ipv6/ip_nonlocal_bind", "1")?;
    evil.ns.ip("route add local 10.9.0.0/16 dev lo")?;
    evil.ns.ip("-6 route add local 2001:db8:9::/48 dev lo")?;
    victim.ns.ip(&format!("route add 10.9.0.0/16 via {}", evil.v4))?;
    victim.ns.ip(&format!("-6 route add 2001:db8:9::/48 via {}", evil.v6)).map(drop)
}

/// One connection from address `number`, to be called inside a namespace that was [`prepare`]d.
///
/// # Errors
/// When it is not made within `limit`.
pub fn connect_from(number: u32, to: SocketAddr, limit: Duration) -> Result<TcpStream> {
    let family = if to.is_ipv4() { Family::V4 } else { Family::V6 };
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    setsockopt(&socket, IpBindAddressNoPort, &true)?;
    socket.bind(&SocketAddr::new(source(family, number), 0).into())?;
    socket.connect_timeout(&to.into(), limit)?;
    Ok(socket.into())
}

/// What to do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Whom to connect to.
    pub to: SocketAddr,
    /// How many addresses to use, at most [`SOURCES_MAX`].
    pub sources: u32,
    /// Connections per second.
    pub rate: u64,
    /// What each says.
    pub says: Arc<[u8]>,
}

#[derive(Debug, Default)]
struct Counts {
    stop: AtomicBool,
    made: AtomicU64,
    tried: AtomicU64,
}

/// A flood that runs. Dropping it ends it.
#[derive(Debug)]
pub struct Flood {
    counts: Arc<Counts>,
    begun: Instant,
    threads: Vec<JoinHandle<Result<()>>>,
}

/// What was done.
#[derive(Debug, Clone, Copy)]
pub struct Tally {
    /// Connections tried.
    pub tried: u64,
    /// Connections that came to be.
    pub made: u64,
    /// For how long.
    pub elapsed: Duration,
}

impl Tally {
    /// Tries per second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a rate to show")]
        let tried = self.tried as f64;
        tried / self.elapsed.as_secs_f64()
    }
}

impl Flood {
    /// Begins from inside a namespace that was [`prepare`]d.
    ///
    /// # Errors
    /// When there are too many sources.
    pub fn start(ns: &Namespace, plan: &Plan) -> Result<Self> {
        ensure!((1..=SOURCES_MAX).contains(&plan.sources), "{} sources", plan.sources);
        let counts = Arc::new(Counts::default());
        let threads = (0..THREADS).map(|first| {
            let (ns, plan, counts) = (ns.clone(), plan.clone(), Arc::clone(&counts));
            std::thread::spawn(move || ns.enter(|| pour(&plan, first, &counts)))
        });
        let threads = threads.collect();
        Ok(Self { counts, begun: Instant::now(), threads })
    }

    /// Ends it.
    ///
    /// # Errors
    /// When a source address could not be had.
    pub fn stop(mut self) -> Result<Tally> {
        let tally = Tally {
            tried: self.counts.tried.load(Ordering::Relaxed),
            made: self.counts.made.load(Ordering::Relaxed),
            elapsed: self.begun.elapsed(),
        };
        self.end().into_iter().collect::<Result<()>>()?;
        Ok(tally)
    }

    fn end(&mut self) -> Vec<Result<()>> {
        self.counts.stop.store(true, Ordering::Relaxed);
        let joined = self.threads.drain(..).map(JoinHandle::join);
        // A panic was printed already.
        joined.map(|ended| ended.unwrap_or_else(|_| Err(anyhow!("a thread panicked")))).collect()
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.end();
    }
}

/// Connections of every [`THREADS`]th number from `first` on.
fn pour(plan: &Plan, first: u64, counts: &Counts) -> Result<()> {
    let family = if plan.to.is_ipv4() { Family::V4 } else { Family::V6 };
    let begun = Instant::now();
    let mut number = first;
    let mut open = VecDeque::with_capacity(OPEN_MAX);
    while !counts.stop.load(Ordering::Relaxed) {
        let due = begun + Duration::from_nanos(number * 1_000_000_000 / plan.rate.max(1));
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        for _ in 0..PACE {
            if open.len() == OPEN_MAX {
                let socket: Option<Socket> = open.pop_front();
                // Without a connection by now, or reset: nothing can be said.
                let said = socket.is_some_and(|socket| socket.send(&plan.says).is_ok());
                counts.made.fetch_add(said.into(), Ordering::Relaxed);
            }
            let from = source(family, u32::try_from(number % u64::from(plan.sources))?);
            open.push_back(connect(from, plan.to)?);
            counts.tried.fetch_add(1, Ordering::Relaxed);
            number += THREADS;
        }
    }
    Ok(())
}

/// Begins one connection.
fn connect(from: IpAddr, to: SocketAddr) -> Result<Socket> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    // A reset: nothing of it stays, here or there.
    socket.set_linger(Some(Duration::ZERO))?;
    socket.set_nonblocking(true)?;
    setsockopt(&socket, IpBindAddressNoPort, &true)?;
    let from = SocketAddr::new(from, 0);
    socket.bind(&from.into()).with_context(|| format!("bind {from}"))?;
    // In progress, or refused: sending will tell.
    let _ = socket.connect(&to.into());
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_of_one_network_each() {
        assert_eq!(source(Family::V4, 0x1234).to_string(), "10.9.18.52");
        assert_eq!(source(Family::V6, 0x1234).to_string(), "2001:db8:9:1234::1");
    }
}
