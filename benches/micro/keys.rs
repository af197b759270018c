//! The key schedule: the next epoch's secret, and its key and IV.

use criterion::Criterion;
use weft_proto::aead::Suite;
use weft_proto::keys::{Role, SECRET_LEN, Secret};
use weft_types::LaneId;

use crate::cpu::CpuTime;

pub(crate) fn measure(criterion: &mut Criterion<CpuTime>) {
    let exported = Secret::exported(&[7; SECRET_LEN]);
    let mut secret = exported.lane(Role::Client, LaneId::new(0).expect("a lane"));
    criterion.bench_function("keys/next epoch", |bencher| {
        bencher.iter(|| {
            secret = secret.next();
            secret.key(Suite::Aes256Gcm)
        });
    });
}
