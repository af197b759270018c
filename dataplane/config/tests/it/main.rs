//! Tests of the configuration against real files and certificates.

// `cfg(test)` always holds here; it tells clippy that helpers of tests may unwrap.
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod load;
#[cfg(test)]
mod plan;
