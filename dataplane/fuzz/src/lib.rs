//! Fuzz targets of the dataplane.
//!
//! `make fuzz` runs all of them, `scripts/fuzz.sh SECONDS TARGET` one.
//! The same functions run over the committed corpora and seeded changes of them in every
//! `cargo test -p weft-sim`.

pub mod names;
pub mod pair;
pub mod targets;
