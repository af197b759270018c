//! Fuzz targets of the dataplane.
//!
//! Run one with `cargo +nightly fuzz run TARGET` in `dataplane/`. The same functions run over the
//! committed corpora and seeded changes of them in every `cargo test -p weft-sim`.

pub mod pair;
pub mod targets;
