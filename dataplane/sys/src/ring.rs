//! io_uring: reads and receives that the kernel carries out by itself, into buffers of the ring.
//!
//! ```text
//!               ┌ submission queue ┐        ┌ kernel ─────────────────────────────┐
//!  receive() ──▶│ arm: recvmsg     │        │ multishot: one request, a completion │
//!  read()    ──▶│ arm: read        ├─enter─▶│ for each message, each in a buffer   │
//!  watch()   ──▶│ arm: poll        │        │ that was offered                     │
//!               └──────────────────┘        └──────────────────┬───────────────────┘
//!       ┌── give_back() ◀── Loan ◀── next() ◀── completion queue┘
//!       ▼
//!  datagrams: 32 × 64 KiB │ packets: 8 × 64 KiB, shared by all queues of the worker
//! ```
//!
//! All memory that the kernel writes to belongs to the ring, and stays until no request is left:
//! dropping the ring cancels what runs and waits for it. A filled buffer is lent out as a [`Loan`]
//! and its content can be reached through the ring only.
//!
//! A ring belongs to one thread, the one that calls [`Ring::start`]. The kernel does its part only
//! inside [`Ring::wait`] of that thread (`DEFER_TASKRUN`), so nothing interrupts the program, and
//! a turn brings at most as many messages as buffers were offered.
//!
//! Requests name descriptors by number. Who armed one keeps its descriptor open until the request
//! ended ([`Completion::more`] is false) or [`Ring::stop_reading`] returned.

mod enter;
mod message;
mod pool;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use io_uring::register::Restriction;
use io_uring::types::{CancelBuilder, Fd};
use io_uring::{IoUring, Probe, cqueue, opcode, squeue};

use crate::VNET_HEADER_LEN;
use crate::udp::Received;
use enter::Handle;
use pool::Pool;

pub use message::read_message;
pub use pool::Loan;

/// Buffers for datagrams: 32 × 66 KiB = 2.1 MiB of address space for each ring, of which what was
/// used stays resident.
pub const DATAGRAM_BUFFERS: u16 = 32;
/// Buffers for packets: 8 × 66 KiB = 0.5 MiB. They are few, because a queue with more packets than
/// that is better read by [`crate::tun::TunQueue::read`]; see [`is_exhausted`].
pub const PACKET_BUFFERS: u16 = 8;

/// Requests that can be armed between two waits; more are submitted at once.
const SUBMISSIONS: u32 = 64;
/// Completions that fit the queue: every buffer of both pools, and the ends of requests of a few
/// hundred interfaces. More are kept by the kernel until there is room.
const COMPLETIONS: u32 = 1024;
/// How often a cancelled request is waited for, [`CANCEL_WAIT`] each: it is done at the first.
const CANCEL_ROUNDS_MAX: u32 = 200;
const CANCEL_WAIT: Duration = Duration::from_millis(5);

/// A superpacket of the largest size with its virtio header.
const PACKET_LEN_MAX: usize = 65_536 + VNET_HEADER_LEN;
/// Distance of two buffers in bytes: 33 cache lines more than 64 KiB, so that the headers of many
/// small packets do not all fall into one cache set, and enough for either kind.
const STRIDE: usize = 65_536 + 33 * 64;
const _: () = assert!(message::MESSAGE_LEN_MAX <= STRIDE && PACKET_LEN_MAX <= STRIDE);

/// Groups of buffers, which are also the upper two bits of a request's number.
const DATAGRAMS: u16 = 0;
const PACKETS: u16 = 1;
/// Requests without buffers.
const NONE: u16 = 2;
const GROUP_SHIFT: u32 = 62;
/// Tokens are below this.
pub const TOKEN_LIMIT: u64 = 1 << GROUP_SHIFT;

/// One ring. See the module documentation.
pub struct Ring {
    /// First, so that it is closed before the memory below goes.
    uring: IoUring,
    handle: Handle,
    datagrams: Pool,
    packets: Pool,
    /// Sizes of the parts of a received message; the kernel copies it when a receive is submitted.
    header: Box<MessageHeader>,
    /// Requests that were armed and have not ended.
    running: usize,
    /// Completions that arrived while something was cancelled.
    early: VecDeque<Completion>,
}

struct MessageHeader(libc::msghdr);

// SAFETY: the header holds lengths and null pointers only.
unsafe impl Send for MessageHeader {}

/// What happened to a request.
#[derive(Debug)]
pub struct Completion {
    /// What the request was armed under.
    pub token: u64,
    /// Bytes, or the bits of a poll; or why the request ended.
    pub result: io::Result<usize>,
    /// The buffer with what was read or received.
    pub loan: Option<Loan>,
    /// Whether the request goes on. If not, and more is wanted, it has to be armed again.
    pub more: bool,
}

impl Ring {
    /// A ring with its buffers. It does nothing before [`Ring::start`], and never anything but what
    /// this module asks for, whoever holds its descriptor: seccomp filters do not see what a ring does.
    ///
    /// # Errors
    /// `Unsupported` where io_uring is forbidden, missing or older than Linux 6.7, with a sentence
    /// that says which.
    pub fn new() -> io::Result<Self> {
        let uring = IoUring::builder()
            .setup_r_disabled()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_coop_taskrun()
            .setup_submit_all()
            .setup_cqsize(COMPLETIONS)
            .build(SUBMISSIONS)
            .map_err(unavailable)?;
        check_operations(&uring)?;
        let datagrams = Pool::new(DATAGRAMS, DATAGRAM_BUFFERS, message::MESSAGE_LEN_MAX, STRIDE)?;
        let packets = Pool::new(PACKETS, PACKET_BUFFERS, PACKET_LEN_MAX, STRIDE)?;
        datagrams.register(&uring).map_err(unavailable)?;
        packets.register(&uring).map_err(unavailable)?;
        restrict(&uring).map_err(unavailable)?;
        // SAFETY: plain old data for which all zeros (null pointers of no length) is valid.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_namelen = message::NAME_LEN as libc::socklen_t;
        header.msg_controllen = message::CONTROL_LEN;
        let handle = Handle::Descriptor(uring.as_raw_fd());
        let header = Box::new(MessageHeader(header));
        let early = VecDeque::new();
        Ok(Self { uring, handle, datagrams, packets, header, running: 0, early })
    }

    /// Whether this process may use such a ring: makes one, starts it and lets it do nothing.
    ///
    /// # Errors
    /// As [`Ring::new`].
    pub fn probe() -> io::Result<()> {
        let ring = Self::new()?;
        ring.uring.submitter().register_enable_rings().map_err(unavailable)?;
        ring.handle.enter(0, 0, Some(Duration::ZERO)).map_err(unavailable)?;
        Ok(())
    }

    /// Makes the ring the calling thread's. Everything else must be called from that thread.
    ///
    /// # Errors
    /// When it was started before.
    pub fn start(&mut self) -> io::Result<()> {
        self.uring.submitter().register_enable_rings()?;
        self.handle = Handle::register(&self.uring);
        Ok(())
    }

    /// Receives from a socket until further notice; see [`Ring::message_mut`].
    ///
    /// # Errors
    /// When the kernel takes no more requests.
    pub fn receive(&mut self, socket: BorrowedFd<'_>, token: u64) -> io::Result<()> {
        let header: *const libc::msghdr = &raw const self.header.0;
        let entry = opcode::RecvMsgMulti::new(Fd(socket.as_raw_fd()), header, DATAGRAMS);
        self.push(entry.build(), DATAGRAMS, token)
    }

    /// Reads packets from a TUN queue until further notice; see [`Ring::packet_mut`].
    ///
    /// # Errors
    /// When the kernel takes no more requests.
    pub fn read(&mut self, queue: BorrowedFd<'_>, token: u64) -> io::Result<()> {
        // A length of 0 is that of the buffer.
        let entry = opcode::ReadMulti::new(Fd(queue.as_raw_fd()), 0, PACKETS);
        self.push(entry.build(), PACKETS, token)
    }

    /// Reports whenever `fd` becomes readable, until further notice.
    ///
    /// # Errors
    /// When the kernel takes no more requests.
    pub fn watch(&mut self, fd: BorrowedFd<'_>, token: u64) -> io::Result<()> {
        let readable = libc::POLLIN.cast_unsigned().into();
        let entry = opcode::PollAdd::new(Fd(fd.as_raw_fd()), readable).multi(true);
        self.push(entry.build(), NONE, token)
    }

    /// Offers buffers, submits what was armed and waits until something completed or `timeout` is
    /// over (`None`: for ever).
    ///
    /// # Errors
    /// When the ring is not this thread's.
    #[inline]
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.datagrams.offer();
        self.packets.offer();
        let ready = !self.early.is_empty() || !self.uring.completion().is_empty();
        self.enter(u32::from(!ready), timeout)
    }

    /// The next thing that happened, if any.
    #[inline]
    pub fn poll_completion(&mut self) -> Option<Completion> {
        if !self.early.is_empty() {
            return self.early.pop_front();
        }
        self.take_completion()
    }

    /// What a [`Ring::receive`] brought.
    ///
    /// # Panics
    /// When the loan is of a [`Ring::read`].
    #[inline]
    pub fn message_mut<'a>(&'a mut self, loan: &mut Loan) -> Received<'a> {
        read_message(self.datagrams.content(loan))
    }

    /// What a [`Ring::read`] brought.
    ///
    /// # Panics
    /// When the loan is of a [`Ring::receive`].
    #[inline]
    pub fn packet_mut(&mut self, loan: &mut Loan) -> &mut [u8] {
        self.packets.content(loan)
    }

    /// Takes a buffer back.
    #[inline]
    pub fn give_back(&mut self, loan: Loan) {
        match loan.group {
            DATAGRAMS => self.datagrams.give_back(loan),
            _ => self.packets.give_back(loan),
        }
    }

    /// Ends the [`Ring::read`] of `token`, which is running, and returns when the kernel holds
    /// nothing of it any more. What it brought meanwhile, and its end, come from
    /// [`Ring::poll_completion`] as always.
    ///
    /// # Errors
    /// `TimedOut` when it did not end within a second.
    pub fn stop_reading(&mut self, token: u64) -> io::Result<()> {
        // It may still be in the submission queue, where nothing can be cancelled.
        self.enter(0, None)?;
        let is_end = |c: &Completion| c.token == token && !c.more;
        for _ in 0..CANCEL_ROUNDS_MAX {
            self.take_early();
            // Nobody saw this end yet, so nobody armed the read again: it is the last.
            if self.early.iter().any(is_end) {
                return Ok(());
            }
            // Not found: it has ended by itself, and its completion is about to come.
            let number = user_data(PACKETS, token);
            let _ =
                self.uring.submitter().register_sync_cancel(None, CancelBuilder::user_data(number));
            self.enter(1, Some(CANCEL_WAIT))?;
        }
        Err(io::ErrorKind::TimedOut.into())
    }

    /// Empties the completion queue, so that the kernel can go on.
    fn take_early(&mut self) {
        while let Some(completion) = self.take_completion() {
            self.early.push_back(completion);
        }
    }

    #[inline]
    fn take_completion(&mut self) -> Option<Completion> {
        let entry = self.uring.completion().next()?;
        let more = cqueue::more(entry.flags());
        if !more {
            self.running = self.running.saturating_sub(1);
        }
        let result = match entry.result() {
            error @ ..0 => Err(io::Error::from_raw_os_error(-error)),
            len => Ok(usize::try_from(len).unwrap_or(0)),
        };
        let len = *result.as_ref().unwrap_or(&0);
        let is_datagram = entry.user_data() >> GROUP_SHIFT == u64::from(DATAGRAMS);
        let pool = if is_datagram { &mut self.datagrams } else { &mut self.packets };
        let loan = cqueue::buffer_select(entry.flags()).map(|buffer| pool.taken(buffer, len));
        let token = entry.user_data() & (TOKEN_LIMIT - 1);
        Some(Completion { token, result, loan, more })
    }

    fn push(&mut self, entry: squeue::Entry, group: u16, token: u64) -> io::Result<()> {
        assert!(token < TOKEN_LIMIT, "token {token}: expected below 2^62");
        let entry = entry.user_data(user_data(group, token));
        if self.uring.submission().is_full() {
            self.enter(0, None)?;
        }
        // SAFETY: what the entry points to (the message header) lives as long as the ring, and the
        // buffers that it selects belong to pools that live until every request has ended.
        let pushed = unsafe { self.uring.submission().push(&entry) };
        pushed.map_err(|_| io::Error::from_raw_os_error(libc::EBUSY))?;
        self.running += 1;
        Ok(())
    }

    #[inline]
    fn enter(&mut self, want: u32, timeout: Option<Duration>) -> io::Result<()> {
        let submit = u32::try_from(self.uring.submission().len()).unwrap_or(u32::MAX);
        match self.handle.enter(submit, want, timeout) {
            Ok(_) => Ok(()),
            // A signal; the end of the timeout; completions that have to be taken first.
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::EINTR | libc::ETIME | libc::EBUSY | libc::EAGAIN)
                ) =>
            {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

impl Drop for Ring {
    /// Cancels everything and waits until the kernel is done with the buffers.
    fn drop(&mut self) {
        for _ in 0..CANCEL_ROUNDS_MAX {
            while self.take_completion().is_some() {}
            if self.running == 0 {
                return;
            }
            let _ = self.uring.submitter().register_sync_cancel(None, CancelBuilder::any());
            if self.enter(1, Some(CANCEL_WAIT)).is_err() {
                break;
            }
        }
        // Not ours to free as long as the kernel may write there.
        self.datagrams.leak();
        self.packets.leak();
    }
}

/// Whether a request ended only because all offered buffers were used: there is more to read.
#[must_use]
pub fn is_exhausted(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENOBUFS)
}

fn user_data(group: u16, token: u64) -> u64 {
    u64::from(group) << GROUP_SHIFT | token
}

/// The operations that this module uses; a kernel that has the last of them has everything else.
fn check_operations(uring: &IoUring) -> io::Result<()> {
    let mut probe = Probe::new();
    uring.submitter().register_probe(&mut probe).map_err(unavailable)?;
    match OPERATIONS.iter().all(|code| probe.is_supported(*code)) {
        true => Ok(()),
        false => Err(unavailable(io::Error::from_raw_os_error(libc::EINVAL))),
    }
}

/// What this module asks of a ring.
const OPERATIONS: [u8; 3] =
    [opcode::PollAdd::CODE, opcode::RecvMsgMulti::CODE, opcode::ReadMulti::CODE];
/// `IORING_REGISTER_RING_FDS` and `IORING_REGISTER_SYNC_CANCEL`.
const REGISTRATIONS: [u8; 2] = [enter::REGISTER_RING_FDS as u8, 24];
/// `IOSQE_BUFFER_SELECT`.
const BUFFER_SELECT: u8 = 1 << 5;

/// Lets the ring do nothing else, from its start on (`io_uring_register(2)`).
fn restrict(uring: &IoUring) -> io::Result<()> {
    let operations = OPERATIONS.into_iter().map(Restriction::sqe_op);
    let registrations = REGISTRATIONS.into_iter().map(Restriction::register_op);
    let flags = [Restriction::sqe_flags_allowed(BUFFER_SELECT)];
    let mut all: Vec<_> = operations.chain(registrations).chain(flags).collect();
    uring.submitter().register_restrictions(&mut all)
}

/// Why there is no ring.
#[cold]
fn unavailable(error: io::Error) -> io::Error {
    let why = match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            "forbidden here (kernel.io_uring_disabled, seccomp or a security module)"
        }
        Some(libc::ENOSYS) => "not in this kernel, or hidden by seccomp",
        Some(libc::EINVAL) => "too old in this kernel; expected Linux 6.7 or newer",
        _ => "not to be had",
    };
    io::Error::new(io::ErrorKind::Unsupported, format!("io_uring is {why}: {error}"))
}
