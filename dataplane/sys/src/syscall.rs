//! The calling conventions of system calls: results, integer options, names, busy retries.

use std::ffi::{CString, c_int};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

/// How often a busy port or device is tried again: after a kill it can stay busy briefly.
const BUSY_RETRIES_MAX: u32 = 20;
/// Pause between two such tries; 20 × 50 ms = 1 s in all.
const BUSY_PAUSE: Duration = Duration::from_millis(50);

/// The result of a call that returns −1 on error.
pub(crate) fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The result of a call that returns a length, or −1 on error.
pub(crate) fn check_len(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// Sets a socket option whose value is an `int`.
pub(crate) fn set_option(
    fd: BorrowedFd<'_>,
    level: c_int,
    name: c_int,
    value: c_int,
) -> io::Result<()> {
    // SAFETY: the value pointer and length describe one live `c_int`, which the kernel only reads.
    check(unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<c_int>() as libc::socklen_t,
        )
    })?;
    Ok(())
}

/// Grows a socket buffer past the system limit where we may, up to the limit otherwise.
pub(crate) fn set_buffer(
    fd: BorrowedFd<'_>,
    force: c_int,
    plain: c_int,
    bytes: c_int,
) -> io::Result<()> {
    set_option(fd, libc::SOL_SOCKET, force, bytes)
        .or_else(|_| set_option(fd, libc::SOL_SOCKET, plain, bytes))
}

/// Tries again while a port or device is busy, for about a second.
pub(crate) fn retry_busy<T>(mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    for _ in 0..BUSY_RETRIES_MAX {
        match attempt() {
            Err(error) if is_busy(&error) => std::thread::sleep(BUSY_PAUSE),
            other => return other,
        }
    }
    attempt()
}

fn is_busy(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EBUSY | libc::EADDRINUSE))
}

/// An [`io::ErrorKind::InvalidInput`] error.
pub(crate) fn invalid_input(message: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message.into())
}

/// An interface name as a C string: 1 to 15 bytes, printable ASCII, none of `/ : %`, not `.` or
/// `..` (the kernel takes `%` as a template and the name becomes a path component in `/proc/sys`).
pub(crate) fn interface_name(name: &str) -> io::Result<CString> {
    let valid = (1..libc::IFNAMSIZ).contains(&name.len())
        && name != "."
        && name != ".."
        && name.bytes().all(|byte| byte.is_ascii_graphic() && !b"/:%".contains(&byte));
    if !valid {
        return Err(invalid_input(format!(
            "interface name {name:?}: expected 1 to 15 printable ASCII characters without / : %"
        )));
    }
    CString::new(name).map_err(io::Error::other)
}

/// The index of an interface in the calling thread's network namespace.
pub(crate) fn interface_index(name: &str) -> io::Result<u32> {
    let name_c = interface_name(name)?;
    // SAFETY: the pointer is a NUL-terminated string that lives through the call.
    match unsafe { libc::if_nametoindex(name_c.as_ptr()) } {
        0 => {
            let error = io::Error::last_os_error();
            let missing = error.raw_os_error() == Some(libc::ENODEV);
            let kind = if missing { io::ErrorKind::NotFound } else { error.kind() };
            Err(io::Error::new(kind, format!("interface {name}: {error}")))
        }
        index => Ok(index),
    }
}

/// The present name of an interface in the calling thread's network namespace.
pub(crate) fn interface_name_of(index: u32) -> io::Result<String> {
    let mut name = [0; libc::IFNAMSIZ];
    // SAFETY: the pointer is to `IFNAMSIZ` writable bytes, which live through the call.
    if unsafe { libc::if_indextoname(index, name.as_mut_ptr()) }.is_null() {
        let error = io::Error::last_os_error();
        let missing = error.raw_os_error() == Some(libc::ENXIO);
        let kind = if missing { io::ErrorKind::NotFound } else { error.kind() };
        return Err(io::Error::new(kind, format!("interface with index {index}: {error}")));
    }
    let bytes = name.iter().take_while(|byte| **byte != 0).map(|byte| *byte as u8).collect();
    String::from_utf8(bytes).map_err(|_| invalid_input(format!("the name of interface {index}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_names_are_checked() {
        for good in ["weft0", "w", "abcdefghijklmno", "eth0.5"] {
            assert!(interface_name(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "abcdefghijklmnop", "a/b", "a:1", "w%d", "a b", "a\0", "é"] {
            assert!(interface_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn busy_is_tried_again_and_other_errors_are_not() {
        let mut calls = 0;
        let result = retry_busy(|| {
            calls += 1;
            let code = if calls < 3 { libc::EADDRINUSE } else { libc::EPERM };
            Err::<(), _>(io::Error::from_raw_os_error(code))
        });
        assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EPERM));
        assert_eq!(calls, 3);
    }
}
