//! The system calls that the daemon needs; every other one fails with `EPERM` (`seccomp(2)`).
//!
//! Among those that are missing: starting programs, entering namespaces, mounting, tracing, raw and
//! netlink sockets, new rings of io_uring, other users and signals to other processes.

use std::collections::BTreeMap;

use anyhow::Context as _;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

/// With any arguments.
const ALWAYS: &[libc::c_long] = &[
    // Descriptors.
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_close,
    libc::SYS_lseek,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_pipe2,
    libc::SYS_eventfd2,
    libc::SYS_ppoll,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_fcntl,
    // Rings that are there already.
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    // Files, as far as Landlock lets them.
    libc::SYS_openat,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_getdents64,
    libc::SYS_readlinkat,
    libc::SYS_mkdirat,
    libc::SYS_unlinkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_fsync,
    libc::SYS_ftruncate,
    // Sockets of the kinds below.
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_listen,
    libc::SYS_accept4,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_setsockopt,
    libc::SYS_getsockopt,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_recvmmsg,
    libc::SYS_shutdown,
    // Memory.
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    // Threads of this process.
    libc::SYS_futex,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_rseq,
    libc::SYS_set_robust_list,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_setaffinity,
    libc::SYS_membarrier,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    // Time and chance.
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_getrandom,
    libc::SYS_getcpu,
    libc::SYS_sysinfo,
    libc::SYS_uname,
    libc::SYS_geteuid,
    libc::SYS_getuid,
];

/// Older forms of some of these, which only this architecture has and its C library may use.
#[cfg(target_arch = "x86_64")]
const OLDER: &[libc::c_long] = &[
    libc::SYS_open,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_readlink,
    libc::SYS_mkdir,
    libc::SYS_rmdir,
    libc::SYS_unlink,
    libc::SYS_rename,
    libc::SYS_poll,
    libc::SYS_epoll_wait,
    libc::SYS_getrlimit,
];
#[cfg(not(target_arch = "x86_64"))]
const OLDER: &[libc::c_long] = &[];

/// Kinds of sockets: the local API and the helper, handshakes and metrics.
const FAMILIES: [libc::c_int; 3] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6];
const TYPES: [libc::c_int; 3] = [libc::SOCK_STREAM, libc::SOCK_DGRAM, libc::SOCK_SEQPACKET];
/// The part of a socket's type that is the type.
const TYPE_MASK: u64 = 0xf;

/// Requests to queues of interfaces and to sockets.
const CONTROLS: [libc::Ioctl; 9] = [
    libc::TUNGETIFF,
    libc::TUNSETVNETHDRSZ,
    libc::TUNSETVNETLE,
    libc::TUNSETOFFLOAD,
    libc::FIONBIO,
    libc::FIOCLEX,
    libc::FIONREAD,
    libc::TIOCOUTQ,
    // Whether the log is a terminal.
    libc::TCGETS,
];

/// For names of threads and of memory.
const PROCESS_CONTROLS: [libc::c_int; 2] = [libc::PR_SET_NAME, PR_SET_VMA];
const PR_SET_VMA: libc::c_int = 0x53_56_4d_41;

/// Restricts this thread and all that it starts.
pub(super) fn restrict() -> anyhow::Result<()> {
    // After the second one no more can be added.
    for filter in [without_clone3()?, filter()?] {
        seccompiler::apply_filter(&filter).context("seccomp")?;
    }
    Ok(())
}

fn filter() -> anyhow::Result<BpfProgram> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        ALWAYS.iter().chain(OLDER).map(|call| (*call, Vec::new())).collect();
    let mut sockets = Vec::new();
    for family in FAMILIES {
        for kind in TYPES {
            let masked = SeccompCmpOp::MaskedEq(TYPE_MASK);
            sockets.push(SeccompRule::new(vec![equal(0, family)?, compare(1, masked, kind)?])?);
        }
    }
    rules.insert(libc::SYS_socket, sockets);
    let pair = SeccompRule::new(vec![equal(0, libc::AF_UNIX)?])?;
    rules.insert(libc::SYS_socketpair, vec![pair]);
    let mut controls = Vec::new();
    for request in CONTROLS {
        controls.push(SeccompRule::new(vec![equal(1, u32::try_from(request)?)?])?);
    }
    rules.insert(libc::SYS_ioctl, controls);
    let mut process = Vec::new();
    for option in PROCESS_CONTROLS {
        process.push(SeccompRule::new(vec![equal(0, option)?])?);
    }
    rules.insert(libc::SYS_prctl, process);
    // A thread of this process, and nothing that the host would call another process.
    let thread = SeccompCmpOp::MaskedEq(libc::CLONE_THREAD as u64);
    let clone = SeccompRule::new(vec![compare(0, thread, libc::CLONE_THREAD)?])?;
    rules.insert(libc::SYS_clone, vec![clone]);
    // Its own end, after a panic.
    let own = equal(0, libc::c_int::try_from(std::process::id())?)?;
    rules.insert(libc::SYS_tgkill, vec![SeccompRule::new(vec![own])?]);
    // Limits are read, not set.
    let reads = SeccompCondition::new(2, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, 0)?;
    rules.insert(libc::SYS_prlimit64, vec![SeccompRule::new(vec![reads])?]);
    // The other filter decides: of two answers the more severe one counts.
    rules.insert(libc::SYS_clone3, Vec::new());
    compile(rules, SeccompAction::Errno(libc::EPERM.cast_unsigned()), SeccompAction::Allow)
}

/// Its arguments are in memory, where no filter sees them. The C library takes `clone` when it is
/// told that there is none.
fn without_clone3() -> anyhow::Result<BpfProgram> {
    let rules = [(libc::SYS_clone3, Vec::new())].into();
    compile(rules, SeccompAction::Allow, SeccompAction::Errno(libc::ENOSYS.cast_unsigned()))
}

fn compile(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    otherwise: SeccompAction,
    on_match: SeccompAction,
) -> anyhow::Result<BpfProgram> {
    let architecture = std::env::consts::ARCH.try_into()?;
    Ok(SeccompFilter::new(rules, otherwise, on_match, architecture)?.try_into()?)
}

fn equal(argument: u8, value: impl TryInto<u32>) -> anyhow::Result<SeccompCondition> {
    compare(argument, SeccompCmpOp::Eq, value)
}

fn compare(
    argument: u8,
    how: SeccompCmpOp,
    value: impl TryInto<u32>,
) -> anyhow::Result<SeccompCondition> {
    let value = value.try_into().map_err(|_| anyhow::anyhow!("a constant below 0"))?;
    Ok(SeccompCondition::new(argument, SeccompCmpArgLen::Dword, how, value.into())?)
}
