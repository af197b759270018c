//! Epoll with wakers.

use std::time::Instant;

use super::*;

fn tokens(epoll: &Epoll, events: &mut Events) -> Vec<u64> {
    epoll.wait(events, Some(Duration::ZERO)).unwrap();
    let mut tokens: Vec<_> = events.iter().map(|event| event.token).collect();
    tokens.sort_unstable();
    tokens
}

#[test]
fn edges_are_reported_once_and_levels_until_drained() {
    let epoll = Epoll::new().unwrap();
    let mut events = Events::with_capacity(8);
    let (edge, level) = (Waker::new().unwrap(), Waker::new().unwrap());
    epoll.add(edge.as_fd(), 1, true).unwrap();
    epoll.add(level.as_fd(), u64::MAX, false).unwrap();
    assert_eq!(tokens(&epoll, &mut events), []);
    edge.wake();
    level.wake();
    assert_eq!(tokens(&epoll, &mut events), [1, u64::MAX]);
    assert!(events.iter().all(|event| event.readable && !event.failed));
    assert_eq!(tokens(&epoll, &mut events), [u64::MAX]);
    edge.wake();
    level.drain();
    assert_eq!(tokens(&epoll, &mut events), [1]);
    level.wake();
    epoll.remove(level.as_fd()).unwrap();
    assert_eq!(tokens(&epoll, &mut events), []);
    assert_eq!(epoll.remove(level.as_fd()).unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[test]
fn a_clone_wakes_from_another_thread() {
    let epoll = Epoll::new().unwrap();
    let waker = Waker::new().unwrap();
    epoll.add(waker.as_fd(), 7, true).unwrap();
    let remote = waker.clone();
    let thread = std::thread::spawn(move || remote.wake());
    let mut events = Events::with_capacity(1);
    assert_eq!(epoll.wait(&mut events, Some(Duration::from_secs(5))).unwrap(), 1);
    thread.join().unwrap();
    waker.drain();
    waker.drain();
}

#[test]
fn timeouts_are_kept_with_both_system_calls() {
    for nanoseconds in [true, false] {
        let epoll = Epoll::new().unwrap();
        epoll.nanoseconds.store(nanoseconds, Ordering::Relaxed);
        let mut events = Events::with_capacity(1);
        let timeout = Duration::from_micros(2_500);
        let start = Instant::now();
        assert_eq!(epoll.wait(&mut events, Some(timeout)).unwrap(), 0);
        assert!(start.elapsed() >= timeout, "{:?}", start.elapsed());
        assert!(start.elapsed() < Duration::from_secs(2));
        let waker = Waker::new().unwrap();
        epoll.add(waker.as_fd(), 1, true).unwrap();
        waker.wake();
        assert_eq!(epoll.wait(&mut events, None).unwrap(), 1);
        assert_eq!(epoll.nanoseconds.load(Ordering::Relaxed), nanoseconds);
    }
}
