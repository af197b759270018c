//! Whole handshakes; see [`weft_benches::handshake`].

use std::time::Duration;

use criterion::{Criterion, Throughput};
use weft_benches::handshake::{Bench, Group};

use crate::cpu::CpuTime;

pub(crate) fn measure(criterion: &mut Criterion<CpuTime>) {
    let bench = Bench::new();
    both_sides(criterion, &bench);
    server(criterion, &bench);
}

fn both_sides(criterion: &mut Criterion<CpuTime>, bench: &Bench) {
    let mut group = criterion.benchmark_group("handshake/both sides");
    group.throughput(Throughput::Elements(1));
    group.bench_function("X25519MLKEM768/weft", |bencher| bencher.iter(|| bench.both_weft()));
    for exchange in Group::ALL {
        group.bench_function(format!("{}/rustls", exchange.name()), |bencher| {
            bencher.iter(|| bench.both_rustls(exchange));
        });
    }
    group.finish();
}

fn server(criterion: &mut Criterion<CpuTime>, bench: &Bench) {
    let mut group = criterion.benchmark_group("handshake/server");
    group.throughput(Throughput::Elements(1));
    for exchange in Group::ALL {
        let name = exchange.name();
        group.bench_function(format!("{name}/weft"), |bencher| {
            bencher.iter_custom(|count| total(count, || bench.server_weft(exchange)));
        });
        group.bench_function(format!("{name}/rustls"), |bencher| {
            bencher.iter_custom(|count| total(count, || bench.server_rustls(exchange)));
        });
    }
    group.finish();
}

fn total(count: u64, mut one: impl FnMut() -> Duration) -> Duration {
    (0..count).map(|_| one()).sum()
}
