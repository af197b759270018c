//! Network namespaces: open, make, and run a piece of work inside one.
//!
//! No call here changes the namespace of the calling thread: work runs on a thread of its own.

use std::ffi::c_int;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::thread;

use crate::syscall::{check, invalid_input};

const THREAD_NAMESPACE: &str = "/proc/thread-self/ns/net";

/// An open network namespace, which lives at least as long as this value.
#[derive(Debug)]
pub struct Netns(OwnedFd);

impl Netns {
    /// Opens the namespace at `path`, such as `/proc/42/ns/net` or `/run/netns/web`.
    ///
    /// # Errors
    /// `InvalidInput` when the path is something else than a network namespace.
    pub fn open(path: &Path) -> io::Result<Self> {
        // O_NONBLOCK: a FIFO under this path must not hang us.
        let file: OwnedFd =
            OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?.into();
        if !is_network_namespace(file.as_fd())? {
            return Err(invalid_input(format!("{}: expected a network namespace", path.display())));
        }
        Ok(Self(file))
    }

    /// The calling thread's namespace.
    ///
    /// # Errors
    /// When `/proc` is not there.
    pub fn current() -> io::Result<Self> {
        Self::open(Path::new(THREAD_NAMESPACE))
    }

    /// Makes a new, empty namespace, which ends with its last user.
    ///
    /// # Errors
    /// `PermissionDenied` without `CAP_SYS_ADMIN`.
    pub fn create() -> io::Result<Self> {
        on_own_thread(|| {
            // SAFETY: only this fresh thread, which ends with the closure, changes its namespace.
            check(unsafe { libc::unshare(libc::CLONE_NEWNET) })?;
            Self::current()
        })?
    }

    /// The inode that names this namespace on this host, as in `net:[4026531840]`.
    ///
    /// # Errors
    /// Not for an open namespace.
    pub fn inode(&self) -> io::Result<u64> {
        Ok(File::from(self.0.try_clone()?).metadata()?.ino())
    }

    /// A number that no other namespace has or had since the host was started (`SO_NETNS_COOKIE`,
    /// `socket(7)`), unlike the inode, which goes to a later one.
    ///
    /// # Errors
    /// `ENOPROTOOPT` before Linux 5.14.
    pub fn cookie(&self) -> io::Result<u64> {
        self.run(|| {
            let socket = UnixDatagram::unbound()?;
            let mut cookie = 0_u64;
            let mut len = size_of::<u64>() as libc::socklen_t;
            // SAFETY: both pointers are to live values of the sizes that the request has.
            check(unsafe {
                libc::getsockopt(
                    socket.as_raw_fd(),
                    libc::SOL_SOCKET,
                    libc::SO_NETNS_COOKIE,
                    (&raw mut cookie).cast(),
                    &raw mut len,
                )
            })?;
            Ok(cookie)
        })?
    }

    /// Runs `work` in this namespace on a thread of its own and waits for it. A panic in `work`
    /// goes on in the caller.
    ///
    /// # Errors
    /// When the thread cannot start or may not enter the namespace; then `work` did not run.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        on_own_thread(|| {
            // SAFETY: the fd is an open network namespace; only this fresh thread, which ends with
            // the closure, changes its namespace.
            check(unsafe { libc::setns(self.0.as_raw_fd(), libc::CLONE_NEWNET) })?;
            Ok(work())
        })?
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn on_own_thread<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let worker = thread::Builder::new().name("weft-netns".into()).spawn_scoped(scope, work)?;
        match worker.join() {
            Ok(value) => Ok(value),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

fn is_network_namespace(fd: BorrowedFd<'_>) -> io::Result<bool> {
    // SAFETY: `statfs` is plain old data for which all zeros is a valid value.
    let mut status: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to one live `statfs` that the kernel fills.
    check(unsafe { libc::fstatfs(fd.as_raw_fd(), &raw mut status) })?;
    // Ask what it is only where the request is known to mean that.
    if status.f_type != libc::NSFS_MAGIC {
        return Ok(false);
    }
    // SAFETY: NS_GET_NSTYPE takes no argument.
    let kind: c_int = check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::NS_GET_NSTYPE) })?;
    Ok(kind == libc::CLONE_NEWNET)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_runs_inside_and_the_caller_stays_outside() {
        let before = Netns::current().unwrap().inode().unwrap();
        let other = Netns::create().unwrap();
        let inside = other.run(|| Netns::current().unwrap().inode().unwrap()).unwrap();
        assert_eq!(inside, other.inode().unwrap());
        assert_ne!(inside, before);
        assert_eq!(Netns::current().unwrap().inode().unwrap(), before);
    }

    #[test]
    fn no_two_namespaces_have_one_cookie() {
        let (one, other) = (Netns::create().unwrap(), Netns::create().unwrap());
        assert_eq!(one.cookie().unwrap(), one.cookie().unwrap());
        assert_ne!(one.cookie().unwrap(), other.cookie().unwrap());
    }

    #[test]
    fn only_a_network_namespace_opens() {
        for path in ["/proc/self/ns/mnt", "/etc/hostname", "/dev/null", "/proc/self/status"] {
            let error = Netns::open(Path::new(path)).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{path}: {error}");
        }
        let missing = Netns::open(Path::new("/run/netns/none")).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    #[should_panic(expected = "from inside")]
    fn a_panic_reaches_the_caller() {
        let namespace = Netns::create().unwrap();
        let _ = namespace.run(|| panic!("from inside"));
    }
}
