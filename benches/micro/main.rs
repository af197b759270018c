//! Micro-benchmarks: what single steps of the data path and a handshake cost, through the crates'
//! own interfaces. `make bench-micro`, or `make bench-micro BENCH=replay` for some of them.

mod aead;
mod cpu;
mod framing;
mod handshake;
mod keys;
mod policy;
mod replay;
mod route;

use std::time::Duration;

use criterion::Criterion;
use weft_sys::alloc::WipingAllocator;

use crate::cpu::CpuTime;

/// The daemon's: what it wipes is part of what a handshake and an epoch cost.
#[global_allocator]
static ALLOCATOR: WipingAllocator = WipingAllocator;

const WARM_UP: Duration = Duration::from_millis(500);
const MEASUREMENT: Duration = Duration::from_secs(2);

fn main() {
    let mut criterion = Criterion::default()
        .with_measurement(CpuTime)
        .warm_up_time(WARM_UP)
        .measurement_time(MEASUREMENT)
        .configure_from_args();
    aead::measure(&mut criterion);
    replay::measure(&mut criterion);
    route::measure(&mut criterion);
    policy::measure(&mut criterion);
    framing::measure(&mut criterion);
    keys::measure(&mut criterion);
    handshake::measure(&mut criterion);
    criterion.final_summary();
}
