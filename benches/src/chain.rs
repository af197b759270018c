//! A chain of four wake-ups: the least that a round trip through two userspace daemons costs.
//!
//! ```text
//!  driver ─eventfd▶ 1 ─eventfd▶ 2 ─eventfd▶ 3 ─eventfd▶ 4: clock
//!           epoll       epoll       epoll       epoll
//! ```
//! An echo request wakes the daemon here and the daemon there, the answer both again. The four
//! threads do nothing but that, at a rate at which the cores fall idle in between, and run where the
//! kernel puts them, as the daemons' workers do.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};

/// Wake-ups of one round.
pub const LINKS: usize = 4;
/// How often a waiting thread looks whether to stop, milliseconds.
const STOP_POLL_MS: u16 = 100;
/// A round that takes longer is a mistake.
const ROUND_LIMIT: Duration = Duration::from_secs(5);

/// Times of `rounds` rounds, one per `interval`, microseconds.
///
/// # Errors
/// When the kernel refuses an eventfd or an epoll.
pub fn measure(rounds: usize, interval: Duration) -> Result<Vec<f64>> {
    let events = (0..LINKS)
        .map(|_| EventFd::from_flags(EfdFlags::EFD_NONBLOCK))
        .collect::<nix::Result<Vec<_>>>()?;
    let start = Instant::now();
    let sent = AtomicU64::new(0);
    let (done, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let links: Vec<_> = (0..LINKS)
            .map(|n| {
                let (events, sent, done, stop) = (&events, &sent, &done, &stop);
                scope.spawn(move || -> Result<Vec<f64>> {
                    let next = events.get(n + 1);
                    let mut times = Vec::with_capacity(if next.is_some() { 0 } else { rounds });
                    wait(&events[n], stop, || {
                        if let Some(next) = next {
                            next.write(1)?;
                        } else {
                            let now = nanoseconds(start);
                            times.push(elapsed_us(sent.load(Ordering::Acquire), now));
                            done.fetch_add(1, Ordering::Release);
                        }
                        Ok(())
                    })?;
                    Ok(times)
                })
            })
            .collect();
        let driven = (1..=rounds).try_for_each(|round| -> Result<()> {
            std::thread::sleep(interval);
            sent.store(nanoseconds(start), Ordering::Release);
            events[0].write(1)?;
            // A slow round ends before the next begins; one that was lost would never end.
            let end = Instant::now() + ROUND_LIMIT;
            while done.load(Ordering::Acquire) < round {
                ensure!(Instant::now() < end, "round {round} did not end");
                std::thread::sleep(interval);
            }
            Ok(())
        });
        stop.store(true, Ordering::Release);
        let mut times = Vec::new();
        for link in links {
            times.extend(link.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
        }
        driven.map(|()| times)
    })
}

fn wait(event: &EventFd, stop: &AtomicBool, mut woken: impl FnMut() -> Result<()>) -> Result<()> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    epoll.add(event.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, 0))?;
    let mut found = [EpollEvent::empty()];
    while !stop.load(Ordering::Acquire) {
        if epoll.wait(&mut found, EpollTimeout::from(STOP_POLL_MS))? == 1 {
            event.read()?;
            woken()?;
        }
    }
    Ok(())
}

fn nanoseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "a round takes far less than 2^53 ns")]
fn elapsed_us(from: u64, to: u64) -> f64 {
    to.saturating_sub(from) as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_round_is_timed() {
        let times = measure(50, Duration::from_millis(1)).unwrap();
        assert_eq!(times.len(), 50);
        assert!(times.iter().all(|t| (1.0..1e6).contains(t)), "{times:?}");
    }
}
