//! The system calls that a program needs; every other one fails with `EPERM` (`seccomp(2)`).

use std::{collections::BTreeMap, error::Error, io};

use libc::{c_int, c_long};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

/// What every program does: descriptors, memory, threads of its own, time.
const EVERYBODY: &[c_long] = &[
    // Descriptors.
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_close,
    libc::SYS_lseek,
    libc::SYS_fcntl,
    libc::SYS_ppoll,
    // Files.
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
const OLDER: &[c_long] = &[
    libc::SYS_open,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_readlink,
    libc::SYS_mkdir,
    libc::SYS_rmdir,
    libc::SYS_unlink,
    libc::SYS_rename,
    libc::SYS_poll,
    libc::SYS_getrlimit,
];
#[cfg(not(target_arch = "x86_64"))]
const OLDER: &[c_long] = &[];

/// For names of threads and of memory.
const PROCESS_CONTROLS: [c_int; 2] = [libc::PR_SET_NAME, PR_SET_VMA];
const PR_SET_VMA: c_int = 0x53_56_4d_41;
/// The part of a socket's type that is the type.
const TYPE_MASK: u64 = 0xf;

/// A list of calls that are allowed.
#[derive(Debug)]
pub struct Calls {
    rules: BTreeMap<i64, Vec<SeccompRule>>,
}

impl Calls {
    /// What every program of ours needs.
    ///
    /// # Errors
    /// Not for constants that are right, here as in all that follows.
    pub fn of_everybody() -> io::Result<Self> {
        let mut calls = Self { rules: BTreeMap::new() };
        calls.allow(EVERYBODY);
        calls.allow(OLDER);
        calls.allow_if(libc::SYS_prctl, 0, &PROCESS_CONTROLS)?;
        // A thread of this process, and nothing that the host would call another process.
        let thread = SeccompCmpOp::MaskedEq(libc::CLONE_THREAD as u64);
        calls.add(libc::SYS_clone, vec![compare(0, thread, libc::CLONE_THREAD)?])?;
        // Its own end, after a panic.
        let own = c_int::try_from(std::process::id()).map_err(io::Error::other)?;
        calls.allow_if(libc::SYS_tgkill, 0, &[own])?;
        // Limits are read, not set.
        let reads = SeccompCondition::new(2, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, 0);
        calls.add(libc::SYS_prlimit64, vec![reads.map_err(io::Error::other)?])?;
        // The other filter decides: of two answers the more severe one counts.
        calls.allow(&[libc::SYS_clone3]);
        Ok(calls)
    }

    /// Allows these calls with any arguments.
    pub fn allow(&mut self, calls: &[c_long]) {
        self.rules.extend(calls.iter().map(|call| (*call, Vec::new())));
    }

    /// Allows a call when its argument of this number is one of `values`.
    ///
    /// # Errors
    /// When a value is no 32-bit number.
    pub fn allow_if<T>(&mut self, call: c_long, argument: u8, values: &[T]) -> io::Result<()>
    where
        T: TryInto<u32> + Copy,
    {
        for value in values {
            self.add(call, vec![compare(argument, SeccompCmpOp::Eq, *value)?])?;
        }
        Ok(())
    }

    /// Allows sockets of this family and these types, of all protocols or of this one.
    ///
    /// # Errors
    /// When a constant is below 0.
    pub fn allow_sockets(
        &mut self,
        family: c_int,
        types: &[c_int],
        protocol: Option<c_int>,
    ) -> io::Result<()> {
        for kind in types {
            let kind = compare(1, SeccompCmpOp::MaskedEq(TYPE_MASK), *kind)?;
            let mut conditions = vec![compare(0, SeccompCmpOp::Eq, family)?, kind];
            if let Some(protocol) = protocol {
                conditions.push(compare(2, SeccompCmpOp::Eq, protocol)?);
            }
            self.add(libc::SYS_socket, conditions)?;
        }
        Ok(())
    }

    /// Restricts the calling thread and all that it starts.
    ///
    /// # Errors
    /// When the kernel refuses, for example without `no_new_privs`.
    pub fn restrict(self) -> io::Result<()> {
        let refused = SeccompAction::Errno(libc::EPERM.cast_unsigned());
        let filter = compile(self.rules, refused, SeccompAction::Allow)?;
        // After the second one no more can be added.
        for filter in [without_clone3()?, filter] {
            seccompiler::apply_filter(&filter).map_err(io::Error::other)?;
        }
        Ok(())
    }

    fn add(&mut self, call: c_long, conditions: Vec<SeccompCondition>) -> io::Result<()> {
        let rule = SeccompRule::new(conditions).map_err(io::Error::other)?;
        self.rules.entry(call).or_default().push(rule);
        Ok(())
    }
}

/// Its arguments are in memory, where no filter sees them. The C library takes `clone` when it is
/// told that there is none.
fn without_clone3() -> io::Result<BpfProgram> {
    let rules = [(libc::SYS_clone3, Vec::new())].into();
    compile(rules, SeccompAction::Allow, SeccompAction::Errno(libc::ENOSYS.cast_unsigned()))
}

fn compile(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    otherwise: SeccompAction,
    on_match: SeccompAction,
) -> io::Result<BpfProgram> {
    let architecture = std::env::consts::ARCH.try_into().map_err(io::Error::other)?;
    let filter = SeccompFilter::new(rules, otherwise, on_match, architecture);
    filter.and_then(TryInto::try_into).map_err(other)
}

fn compare(
    argument: u8,
    how: SeccompCmpOp,
    value: impl TryInto<u32>,
) -> io::Result<SeccompCondition> {
    let value = value.try_into().map_err(|_| io::Error::other("expected a number of 32 bits"))?;
    let length = SeccompCmpArgLen::Dword;
    SeccompCondition::new(argument, length, how, value.into()).map_err(io::Error::other)
}

fn other(error: impl Error + Send + Sync + 'static) -> io::Error {
    io::Error::other(error)
}
