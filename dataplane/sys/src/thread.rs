//! Processors: which this process may use, and pinning a worker to one.

use std::io;

use crate::syscall::{check, invalid_input};

/// Processors that the calling thread may run on, ascending. On machines with more than 1,024
/// processors, or when the kernel does not say, as many as the standard library counts.
pub fn available_cpus() -> Vec<usize> {
    let Ok(set) = current_set() else {
        let count = std::thread::available_parallelism().map_or(1, usize::from);
        return (0..count).collect();
    };
    let limit = usize::try_from(libc::CPU_SETSIZE).unwrap_or(0);
    // SAFETY: the macro reads bit `cpu` of a set that has `CPU_SETSIZE` bits.
    (0..limit).filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) }).collect()
}

/// Binds the calling thread to processor `cpu`.
///
/// # Errors
/// `InvalidInput` when there is no such processor or this process may not use it.
pub fn pin_current_thread(cpu: usize) -> io::Result<()> {
    if cpu >= usize::try_from(libc::CPU_SETSIZE).unwrap_or(0) {
        return Err(invalid_input(format!("cpu {cpu}: expected below {}", libc::CPU_SETSIZE)));
    }
    // SAFETY: plain old data for which all zeros (the empty set) is valid.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `cpu` is below the number of bits of the set, as checked above.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: pointer and length describe `set`, which the kernel only reads; 0 is this thread.
    check(unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) })?;
    Ok(())
}

fn current_set() -> io::Result<libc::cpu_set_t> {
    // SAFETY: plain old data for which all zeros (the empty set) is valid.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: pointer and length describe `set`, which the kernel fills; 0 is this thread.
    check(unsafe { libc::sched_getaffinity(0, size_of_val(&set), &raw mut set) })?;
    Ok(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_stays_where_it_was_pinned() {
        let all = available_cpus();
        assert!(!all.is_empty());
        for cpu in all {
            let pinned = std::thread::spawn(move || {
                pin_current_thread(cpu).unwrap();
                available_cpus()
            });
            assert_eq!(pinned.join().unwrap(), [cpu]);
        }
        assert_eq!(pin_current_thread(1023).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(pin_current_thread(4096).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
