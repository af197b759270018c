//! The calls on the packet path do not allocate, neither when they succeed nor when there is
//! nothing to do.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use weft_sys::VNET_HEADER_LEN;
use weft_sys::link::{LinkConfig, configure, move_to_netns};
use weft_sys::netns::Netns;
use weft_sys::poll::{Epoll, Events};
use weft_sys::ring::Ring;
use weft_sys::tun::{Tun, TunOptions};
use weft_sys::udp::{ReceiveBatch, UdpSocket, bind_group, bind_lane};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call goes to `System` unchanged; the counter does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps the contract of `GlobalAlloc::alloc`, which is System's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as above, for `GlobalAlloc::dealloc`.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Runs `work` and returns how often this thread allocated meanwhile.
fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

/// Receives until `wanted` bytes are there, which may take a while on a busy machine.
fn receive_bytes(socket: &UdpSocket, batch: &mut ReceiveBatch, wanted: usize) {
    let (mut bytes, start) = (0, Instant::now());
    while bytes < wanted && start.elapsed() < Duration::from_secs(5) {
        for index in 0..socket.receive(batch).unwrap_or(0) {
            bytes += batch.message_mut(index).data.len();
        }
    }
    assert_eq!(bytes, wanted);
}

#[test]
fn the_packet_path_does_not_allocate() {
    let container = Netns::create().unwrap();
    let lo = LinkConfig { name: "lo", addresses: &[], routes: &[] };
    configure(&container, &lo).unwrap();
    let options = TunOptions {
        name: "t0",
        queues: 1,
        mtu: 1408,
        gso_max_size: 60_500,
        gso_max_segs: 64,
        queue_len: 700,
    };
    let queue = {
        let host = Netns::create().unwrap();
        let tun = host.run(|| Tun::create(&options).unwrap()).unwrap();
        host.run(|| move_to_netns(tun.ifindex(), &container, "weft0").unwrap()).unwrap();
        tun.into_queues().remove(0)
    };
    configure(&container, &LinkConfig { name: "weft0", ..lo }).unwrap();

    let ip = IpAddr::from(Ipv4Addr::LOCALHOST);
    let (group, lane) = container
        .run(|| {
            let group = bind_group(SocketAddr::new(ip, 0), 2).unwrap();
            (group, bind_lane(ip, 20_000..=20_010).unwrap())
        })
        .unwrap();
    let to = group[0].local_addr().unwrap();
    let mut batch = ReceiveBatch::new().unwrap();
    let epoll = Epoll::new().unwrap();
    let mut events = Events::with_capacity(4);
    let data = vec![0; 60_000];
    let mut buf = vec![0; 65_536];
    let head = [&[0; VNET_HEADER_LEN][..], &[0x45; 20]].concat();

    assert!(allocations(|| drop(std::hint::black_box(Box::new(to)))) > 0, "the check must count");
    let count = allocations(|| {
        lane.send(&to, 2, 1000, &data).unwrap();
        lane.send(&to, 0, 1000, &data[..5]).unwrap();
        receive_bytes(&group[0], &mut batch, data.len() + 5);
        assert!(group[0].receive(&mut batch).is_err());
        lane.set_gso(false);
        lane.send(&to, 1, 1000, &data).unwrap();
        receive_bytes(&group[0], &mut batch, data.len());
        epoll.wait(&mut events, Some(Duration::ZERO)).unwrap();
        assert_eq!(queue.write(&head, &data[..500]).unwrap(), head.len() + 500);
        while queue.read(&mut buf).is_ok() {}
    });
    assert_eq!(count, 0);
}

#[test]
fn a_ring_does_not_allocate() {
    let namespace = Netns::create().unwrap();
    configure(&namespace, &LinkConfig { name: "lo", addresses: &[], routes: &[] }).unwrap();
    let ip = IpAddr::from(Ipv4Addr::LOCALHOST);
    let (socket, lane) = namespace
        .run(|| {
            let socket = bind_group(SocketAddr::new(ip, 0), 1).unwrap().remove(0);
            (socket, bind_lane(ip, 20_000..=20_010).unwrap())
        })
        .unwrap();
    let to = socket.local_addr().unwrap();
    let mut ring = Ring::new().unwrap();
    ring.start().unwrap();
    ring.receive(socket.as_fd(), 1).unwrap();
    let data = vec![0; 60_000];
    let count = allocations(|| {
        let (mut bytes, start) = (0, Instant::now());
        for _ in 0..50 {
            lane.send(&to, 0, 1000, &data).unwrap();
            ring.wait(Some(Duration::from_millis(100))).unwrap();
            while let Some(completion) = ring.poll_completion() {
                if let Some(mut loan) = completion.loan {
                    bytes += ring.message_mut(&mut loan).data.len();
                    ring.give_back(loan);
                }
                if !completion.more {
                    ring.receive(socket.as_fd(), 1).unwrap();
                }
            }
        }
        assert!(bytes > 0 && start.elapsed() < Duration::from_secs(10));
    });
    assert_eq!(count, 0);
}
