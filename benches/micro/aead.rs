//! Sealing and opening, for each AEAD and provider.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput};
use weft_proto::aead::{KEY_LEN, Key, NONCE_LEN, Suite, aws, provider, ring_provider};
use weft_wire::{HEADER_LEN, METADATA_LEN, TAG_LEN};

use crate::cpu::CpuTime;

/// Bytes of inner packets: small, on a path of 1500, on a jumbo path.
const PACKETS: [usize; 3] = [64, 1_408, 8_900];
/// Inner packets are cut behind their header (IPv4 and TCP), so that it is sealed as tail.
const INNER_HEADER: usize = 52;

const SUITES: [(&str, Suite); 2] =
    [("AES-256-GCM", Suite::Aes256Gcm), ("ChaCha20-Poly1305", Suite::ChaCha20Poly1305)];
const KEY: [u8; KEY_LEN] = [9; KEY_LEN];
const NONCE: [u8; NONCE_LEN] = [7; NONCE_LEN];
const AAD: [u8; HEADER_LEN] = [1; HEADER_LEN];

pub(crate) fn measure(criterion: &mut Criterion<CpuTime>) {
    measure_aws(criterion, &SUITES);
    measure_ring(criterion, &SUITES);
    // The daemon's choice, where it is none of these.
    if provider(Suite::Aes256Gcm) == IPSEC_MB {
        measure_ipsec_mb(criterion, &SUITES[..1]);
    }
}

const IPSEC_MB: &str = "intel-ipsec-mb";

macro_rules! provider {
    ($function:ident, $name:expr, $key:path) => {
        fn $function(criterion: &mut Criterion<CpuTime>, suites: &[(&str, Suite)]) {
            for (suite_name, suite) in suites {
                let key = <$key>::new(*suite, &KEY);
                let mut group = criterion.benchmark_group(format!("{suite_name}/{}", $name));
                for len in PACKETS {
                    let payload = vec![5; len - INNER_HEADER];
                    let tail = [6; INNER_HEADER + METADATA_LEN];
                    let mut sealed = vec![0; payload.len() + tail.len() + TAG_LEN];
                    let mut opened = vec![0; payload.len() + tail.len()];
                    group.throughput(Throughput::Bytes(len as u64));
                    group.bench_function(BenchmarkId::new("seal", len), |bencher| {
                        bencher.iter(|| {
                            let nonce = black_box(NONCE);
                            key.seal(nonce, &AAD, &payload, &tail, black_box(&mut sealed));
                        });
                    });
                    let whole = [&payload[..], &tail].concat();
                    group.bench_function(BenchmarkId::new("seal one piece", len), |bencher| {
                        bencher.iter(|| {
                            let nonce = black_box(NONCE);
                            key.seal(nonce, &AAD, &whole, &[], black_box(&mut sealed));
                        });
                    });
                    // When only this one is selected, the one before has sealed nothing.
                    key.seal(NONCE, &AAD, &payload, &tail, &mut sealed);
                    group.bench_function(BenchmarkId::new("open", len), |bencher| {
                        bencher.iter(|| {
                            let nonce = black_box(NONCE);
                            key.open(nonce, &AAD, &sealed, black_box(&mut opened))
                                .expect("sealed above")
                        });
                    });
                }
                group.finish();
            }
        }
    };
}

provider!(measure_aws, "aws-lc-rs", aws::Key);
provider!(measure_ring, "ring", ring_provider::Key);
provider!(measure_ipsec_mb, IPSEC_MB, Key);
