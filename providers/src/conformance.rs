//! One suite for each trait. An implementation passes it on something empty; a rule that is broken is a panic that
//! says which.

mod balancers;
mod blobs;
mod instances;
mod volumes;

pub use self::{
    balancers::load_balancer,
    blobs::blob_store,
    instances::{Images, instance},
    volumes::block_volume,
};

use crate::{ProviderError, ResourceName};

fn name(text: &str) -> ResourceName {
    ResourceName::new(text).expect("a name")
}

#[track_caller]
fn assert_absent<T: std::fmt::Debug>(result: Result<T, ProviderError>) {
    assert!(matches!(result, Err(ProviderError::Absent(_))), "expected absent: {result:?}");
}

#[track_caller]
fn assert_conflict<T: std::fmt::Debug>(result: Result<T, ProviderError>) {
    assert!(matches!(result, Err(ProviderError::Conflict(_))), "expected a conflict: {result:?}");
}

#[track_caller]
fn assert_invalid<T: std::fmt::Debug>(result: Result<T, ProviderError>) {
    assert!(matches!(result, Err(ProviderError::Invalid(_))), "expected a refusal: {result:?}");
}
