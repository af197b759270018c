//! Waiting for descriptors: one [`Epoll`] per worker, woken by others through a [`Waker`].

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::syscall::check;

/// A set of descriptors to wait for.
#[derive(Debug)]
pub struct Epoll {
    fd: OwnedFd,
    /// Whether `epoll_pwait2` (kernel 5.11) is there; it takes nanoseconds.
    nanoseconds: AtomicBool,
}

impl Epoll {
    /// An empty set.
    ///
    /// # Errors
    /// When the process is out of descriptors.
    pub fn new() -> io::Result<Self> {
        // SAFETY: `epoll_create1` has no memory preconditions.
        let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: the kernel just gave us this fd; nobody else owns it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { fd, nanoseconds: AtomicBool::new(true) })
    }

    /// Reports `token` when `fd` is readable: once per arrival if `edge`, as long as something is
    /// there otherwise.
    ///
    /// # Errors
    /// `AlreadyExists` when `fd` is in the set.
    pub fn add(&self, fd: BorrowedFd<'_>, token: u64, edge: bool) -> io::Result<()> {
        let edge = if edge { libc::EPOLLET } else { 0 };
        let mut event =
            libc::epoll_event { events: (libc::EPOLLIN | edge).cast_unsigned(), u64: token };
        self.control(libc::EPOLL_CTL_ADD, fd, &raw mut event)
    }

    /// Also reports, or no longer, that `fd`, which is in the set without `edge`, can be written to.
    ///
    /// # Errors
    /// `NotFound` when `fd` is not in the set.
    pub fn report_writable(&self, fd: BorrowedFd<'_>, token: u64, wanted: bool) -> io::Result<()> {
        let writable = if wanted { libc::EPOLLOUT } else { 0 };
        let mut event =
            libc::epoll_event { events: (libc::EPOLLIN | writable).cast_unsigned(), u64: token };
        self.control(libc::EPOLL_CTL_MOD, fd, &raw mut event)
    }

    /// Takes `fd` out. Closing a descriptor that was never duplicated does the same.
    ///
    /// # Errors
    /// `NotFound` when `fd` is not in the set.
    pub fn remove(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, fd, std::ptr::null_mut())
    }

    /// Waits until something is readable or `timeout` is over (`None`: for ever), fills `events`
    /// and returns how many there are; 0 after the timeout or a signal.
    ///
    /// # Errors
    /// Not for a valid set.
    #[inline]
    pub fn wait(&self, events: &mut Events, timeout: Option<Duration>) -> io::Result<usize> {
        events.len = 0;
        let result = if self.nanoseconds.load(Ordering::Relaxed) {
            self.wait_nanoseconds(events, timeout)
        } else {
            self.wait_milliseconds(events, timeout)
        };
        let count = match result {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            // Too old a kernel, or a seccomp profile that does not know the call.
            Err(error)
                if self.nanoseconds.load(Ordering::Relaxed)
                    && matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) =>
            {
                self.nanoseconds.store(false, Ordering::Relaxed);
                return self.wait(events, timeout);
            }
            Err(error) => return Err(error),
        };
        events.len = count.min(events.list.len());
        Ok(events.len)
    }

    fn wait_nanoseconds(
        &self,
        events: &mut Events,
        timeout: Option<Duration>,
    ) -> io::Result<usize> {
        let timeout = timeout.map(|timeout| libc::timespec {
            tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        });
        let timeout = timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: the event pointer and length describe `events.list`; the timeout is null or
        // points to a `timespec` that lives through the call; the signal mask is null.
        let count = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.fd.as_raw_fd(),
                events.list.as_mut_ptr(),
                events.capacity(),
                timeout,
                std::ptr::null::<libc::sigset_t>(),
                0_usize,
            )
        };
        usize::try_from(count).map_err(|_| io::Error::last_os_error())
    }

    fn wait_milliseconds(
        &self,
        events: &mut Events,
        timeout: Option<Duration>,
    ) -> io::Result<usize> {
        // Rounded up: waking before the time would only make the caller wait again.
        let timeout = timeout.map_or(-1, |timeout| {
            i32::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX)
        });
        // SAFETY: the event pointer and length describe `events.list`.
        let count = check(unsafe {
            libc::epoll_wait(
                self.fd.as_raw_fd(),
                events.list.as_mut_ptr(),
                events.capacity(),
                timeout,
            )
        })?;
        Ok(usize::try_from(count).unwrap_or(0))
    }

    fn control(
        &self,
        operation: libc::c_int,
        fd: BorrowedFd<'_>,
        event: *mut libc::epoll_event,
    ) -> io::Result<()> {
        // SAFETY: both descriptors are open; `event` is null (only for a removal) or points to a
        // live event of the caller.
        check(unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), operation, fd.as_raw_fd(), event) })?;
        Ok(())
    }
}

/// Room for the results of one wait.
pub struct Events {
    list: Box<[libc::epoll_event]>,
    len: usize,
}

/// One descriptor that wants attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// What it was added under.
    pub token: u64,
    /// There is something to read.
    pub readable: bool,
    /// There is room to write, if that is reported.
    pub writable: bool,
    /// It failed or the other side is gone; reading says why.
    pub failed: bool,
}

impl Events {
    /// Room for `capacity` events, at least one; more stay for the next wait.
    pub fn with_capacity(capacity: usize) -> Self {
        let none = libc::epoll_event { events: 0, u64: 0 };
        Self { list: vec![none; capacity.clamp(1, 1 << 16)].into_boxed_slice(), len: 0 }
    }

    /// The events of the last wait.
    pub fn iter(&self) -> impl Iterator<Item = Event> + '_ {
        self.list[..self.len].iter().map(|event| {
            let bits = event.events.cast_signed();
            Event {
                token: event.u64,
                readable: bits & libc::EPOLLIN != 0,
                writable: bits & libc::EPOLLOUT != 0,
                failed: bits & (libc::EPOLLERR | libc::EPOLLHUP) != 0,
            }
        })
    }

    fn capacity(&self) -> libc::c_int {
        // At most 2^16, see `with_capacity`.
        self.list.len() as libc::c_int
    }
}

/// Wakes a worker from another thread: add it to the worker's [`Epoll`], keep a clone.
#[derive(Debug, Clone)]
pub struct Waker(Arc<OwnedFd>);

impl Waker {
    /// A waker that nobody waits for yet.
    ///
    /// # Errors
    /// When the process is out of descriptors.
    pub fn new() -> io::Result<Self> {
        // SAFETY: `eventfd` has no memory preconditions.
        let fd = check(unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) })?;
        // SAFETY: the kernel just gave us this fd; nobody else owns it.
        Ok(Self(Arc::new(unsafe { OwnedFd::from_raw_fd(fd) })))
    }

    /// Makes the descriptor readable. Never blocks; wakes that meet a full counter are redundant.
    pub fn wake(&self) {
        let one = 1_u64.to_ne_bytes();
        // SAFETY: the pointer and length describe `one`, which the kernel only reads.
        unsafe { libc::write(self.0.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    /// Takes all wakes so far, before looking at what they were about.
    pub fn drain(&self) {
        let mut count = [0_u8; 8];
        // SAFETY: the pointer and length describe `count`, which is exclusively ours to write.
        unsafe { libc::read(self.0.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
    }
}

impl AsFd for Epoll {
    /// Readable while something in the set is ready: a set can be in another set.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests;
