//! Tests of the configuration against real files and certificates.

// `cfg(test)` always holds here; it tells clippy that helpers of tests may unwrap.
#[cfg(test)]
mod certificates;
#[cfg(test)]
mod control;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod load;
#[cfg(test)]
mod names;
#[cfg(test)]
mod plan;
