//! Looking up where an address lives, in tables of several sizes.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput};
use weft_benches::routes;

use crate::cpu::CpuTime;

const ROUTES: [u32; 3] = [10, 1_000, 100_000];
/// Addresses in one measurement; all of the largest table in turn, in no order.
const LOOKUPS: usize = 1_000;

pub(crate) fn measure(criterion: &mut Criterion<CpuTime>) {
    let mut group = criterion.benchmark_group("route");
    group.throughput(Throughput::Elements(LOOKUPS as u64));
    for len in ROUTES {
        let (table, order) = routes::table(len);
        let mut addresses = order.iter().cycle();
        group.bench_function(BenchmarkId::from_parameter(len), |bencher| {
            bencher.iter(|| {
                for address in addresses.by_ref().take(LOOKUPS) {
                    black_box(table.get(black_box(*address)));
                }
            });
        });
    }
    group.finish();
}
