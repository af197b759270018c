//! One suite, run against every store: what a caller may rely on, whatever is behind the interface.
#![expect(clippy::unwrap_used, reason = "a test")]

#[cfg(feature = "etcd")]
mod clusters;
#[cfg(all(feature = "etcd", feature = "sqlite"))]
mod exports;
mod grounds;
#[cfg(feature = "etcd")]
mod linearizability;
mod model;
#[cfg(feature = "etcd")]
mod servers;
mod suite;

use std::sync::Arc;

use weft_store::Store;

/// Where a store is made for one test; what it needs goes with it.
trait Ground: Sized {
    /// A place for empty stores.
    fn prepare() -> Self;

    /// An empty store.
    async fn store(&self) -> Arc<dyn Store>;

    /// Cases of the property test: a case of a store on a disk costs its syncs.
    const CASES: u32;
}

macro_rules! conformance {
    ($name:ident, $ground:ty, [$($case:ident: $threads:literal),* $(,)?]) => {
        mod $name {
            use super::*;

            $(#[tokio::test(flavor = "multi_thread", worker_threads = $threads)]
            async fn $case() {
                let ground = <$ground>::prepare();
                suite::$case(ground.store().await).await;
            })*

            #[test]
            fn any_transactions_end_as_in_the_model() {
                model::any_transactions_end_as_in_the_model::<$ground>();
            }
        }
    };
}

macro_rules! against {
    ($name:ident, $ground:ty) => {
        conformance!($name, $ground, [
            conditions_decide: 1,
            a_failed_condition_changes_nothing_and_is_named: 1,
            writes_that_change_nothing_make_no_revision: 1,
            entries_know_when_they_were_made: 1,
            pages_join_to_the_whole: 1,
            a_page_is_bounded_in_bytes: 1,
            every_bound_is_the_same: 1,
            a_watch_tells_everything_after_a_revision: 1,
            a_watch_that_waits_is_woken_and_may_be_dropped: 1,
            a_watch_from_the_future_has_to_begin_anew: 1,
            of_many_writers_each_wins_as_often_as_it_was_told: 2,
            a_lease_ends_and_its_keys_go: 1,
            a_lease_is_renewed_and_revoked: 1,
            a_lease_that_is_gone_refuses_writes: 1,
            history_reaches_back_far_enough: 2,
        ]);
    };
}

against!(memory, grounds::InMemory);
#[cfg(feature = "sqlite")]
against!(sqlite, grounds::OnDisk);

#[cfg(feature = "sqlite")]
#[test]
fn what_is_told_from_the_file_is_as_in_the_model() {
    model::any_transactions_end_as_in_the_model::<grounds::Reopened>();
}

#[cfg(feature = "etcd")]
against!(etcd, grounds::Server);
