//! The replay window: check and mark one counter after the other.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use weft_proto::replay::Window;

use crate::cpu::CpuTime;

/// Counters in one measurement.
const COUNTERS: u64 = 1024;
/// Reordered counters come in blocks of this many, each block backwards; a power of two.
const BLOCK: u64 = 32;

pub(crate) fn measure(criterion: &mut Criterion<CpuTime>) {
    let mut group = criterion.benchmark_group("replay");
    group.throughput(Throughput::Elements(COUNTERS));
    for (name, order) in [("in order", 0), ("reordered", BLOCK - 1)] {
        let mut window = Window::default();
        let mut next = 0;
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                for n in next..next + COUNTERS {
                    let counter = black_box(n ^ order);
                    window.check(counter).expect("a new counter");
                    window.mark(counter);
                }
                next += COUNTERS;
            });
        });
    }
    group.finish();
}
