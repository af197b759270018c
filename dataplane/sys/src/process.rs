//! The process as a whole: no core dumps, no swapping, descriptors, how much memory it holds.

use std::io;

use crate::syscall::check;

/// Forbids core dumps and reading by debuggers of the same user, since memory holds keys.
///
/// # Errors
/// Not on Linux.
pub fn set_nondumpable() -> io::Result<()> {
    // SAFETY: PR_SET_DUMPABLE takes its argument by value.
    check(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) })?;
    Ok(())
}

/// Keeps all memory, also future, out of swap. Pages count only once they are touched.
///
/// # Errors
/// `EPERM` or `ENOMEM` when the limit on locked memory is too small and the process is not
/// privileged.
pub fn lock_memory() -> io::Result<()> {
    let flags = libc::MCL_CURRENT | libc::MCL_FUTURE | libc::MCL_ONFAULT;
    // SAFETY: `mlockall` changes no contents.
    check(unsafe { libc::mlockall(flags) })?;
    Ok(())
}

/// Makes the setup of io_uring fail with `errno` in the calling thread and all that it starts, for
/// good, as the seccomp profiles of container engines do. For tests.
///
/// # Errors
/// When the kernel has no seccomp filters.
pub fn forbid_io_uring(errno: i32) -> io::Result<()> {
    let filter = |code: u32, otherwise: u8, value: u32| libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf: otherwise,
        k: value,
    };
    // The same number on every architecture.
    let setup = libc::SYS_io_uring_setup as u32;
    let errno = libc::SECCOMP_RET_ERRNO | (errno.cast_unsigned() & libc::SECCOMP_RET_DATA);
    let mut program = [
        // The number of the call is the first word of what a filter sees.
        filter(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0),
        filter(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, setup),
        filter(libc::BPF_RET | libc::BPF_K, 0, errno),
        filter(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let description = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the first call takes its arguments by value; the second reads one `sock_fprog`,
    // whose pointer and length describe `program`, and the kernel copies both.
    unsafe {
        check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
        let mode = libc::SECCOMP_MODE_FILTER;
        check(libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const description))?;
    }
    Ok(())
}

/// Asks for a command of bpf(2) without saying what it is about. For tests.
///
/// # Errors
/// `EPERM` when this process may not use the command at all, otherwise that something is missing.
pub fn probe_bpf(command: u32) -> io::Result<()> {
    let nothing = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: a null pointer with a length of 0 is not read.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, nothing, 0_u32) };
    check(i32::try_from(result).unwrap_or(-1))?;
    Ok(())
}

/// Lets the process open as many descriptors as it may ever (`RLIMIT_NOFILE`: the soft limit becomes
/// the hard one), and gives that number. An attachment takes one for each worker, and the usual soft
/// limit is 1,024.
///
/// # Errors
/// Not on Linux.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a live `rlimit` that only this call writes.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: the pointer is to a live `rlimit` that the kernel only reads.
    check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) })?;
    Ok(limit.rlim_cur)
}

/// How many descriptors the process may ever have open: the hard limit.
///
/// # Errors
/// Not on Linux.
pub fn descriptor_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a live `rlimit` that only this call writes.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
    Ok(limit.rlim_max)
}

/// Whether the system's clock follows others (adjtimex(2)): an NTP client keeps it.
///
/// # Errors
/// Not on Linux.
pub fn clock_is_synchronised() -> io::Result<bool> {
    // SAFETY: plain old data for which all zeros is valid; no mode is set, so it is only read.
    let mut clock: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live `timex` that only this call writes.
    let state = check(unsafe { libc::adjtimex(&raw mut clock) })?;
    Ok(state != libc::TIME_ERROR && clock.status & libc::STA_UNSYNC == 0)
}

/// The version of Landlock in this kernel (`landlock_create_ruleset(2)`), at least 1.
///
/// # Errors
/// `ENOSYS` where it is not built in, `EOPNOTSUPP` where it is switched off at boot.
pub fn landlock_version() -> io::Result<u32> {
    const VERSION: libc::c_uint = 1;
    let none = std::ptr::null::<libc::c_void>();
    // SAFETY: with this flag the call takes no ruleset: a null pointer and a length of 0.
    let version =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, none, 0_usize, VERSION) };
    let version = check(i32::try_from(version).unwrap_or(-1))?;
    Ok(version.unsigned_abs())
}

/// Bytes of memory that the process holds now (resident set).
///
/// # Errors
/// When `/proc` is not there.
pub fn resident_bytes() -> io::Result<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    let pages: u64 = statm
        .split_whitespace()
        .nth(1)
        .and_then(|field| field.parse().ok())
        .ok_or_else(|| io::Error::other("/proc/self/statm: expected a second number"))?;
    // SAFETY: `sysconf` has no memory preconditions.
    let page_bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    Ok(pages * u64::try_from(page_bytes).unwrap_or(4096))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_can_be_hardened() {
        set_nondumpable().unwrap();
        // SAFETY: PR_GET_DUMPABLE takes no argument.
        assert_eq!(unsafe { libc::prctl(libc::PR_GET_DUMPABLE, 0, 0, 0, 0) }, 0);
        lock_memory().unwrap();
    }

    #[test]
    fn descriptors_are_limited_by_the_hard_limit_only() {
        let raised = raise_descriptor_limit().unwrap();
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: the pointer is to a live `rlimit`.
        assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) }, 0);
        assert_eq!((limit.rlim_cur, limit.rlim_max), (raised, raised));
        assert_eq!(descriptor_limit().unwrap(), raised);
    }

    #[test]
    fn landlock_is_there() {
        assert!(landlock_version().unwrap() >= 1);
    }

    #[test]
    fn the_clock_can_be_asked() {
        clock_is_synchronised().unwrap();
    }

    #[test]
    fn resident_bytes_grow_with_use() {
        let before = resident_bytes().unwrap();
        assert!(before > 100_000);
        let block = std::hint::black_box(vec![1_u8; 64 << 20]);
        assert!(resident_bytes().unwrap() >= before + (32 << 20));
        drop(block);
    }
}
