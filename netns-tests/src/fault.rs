//! Rows of the fault catalogue (docs/faults.md): tests with a figure each.
//!
//! `make test-faults` runs them at full extent and makes a table of what they print; everywhere else
//! they run at a reduced extent.

use std::fmt::Display;
use std::time::Duration;

/// Asks for the full extent.
pub const FULL_VARIABLE: &str = "WEFT_FAULTS";
/// Begins a line that belongs into the table.
pub const MARK: &str = "fault:";

/// How much: `full` when the whole catalogue is run, else `reduced`.
#[must_use]
pub fn extent<T>(reduced: T, full: T) -> T {
    if std::env::var_os(FULL_VARIABLE).is_some_and(|value| value == "full") {
        full
    } else {
        reduced
    }
}

/// Says what came of a row. To be called when it holds; a row that does not fails its test, or says
/// *missed* where it is a ratio that the build profile and the machine decide.
pub fn row(fault: &str, must_hold: &str, figure: impl Display) {
    println!("{MARK} {fault} | {must_hold} | {figure}");
}

/// The value below which 99 of 100 are; the greatest when there are fewer.
#[must_use]
pub fn p99(times: &[Duration]) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let at = (sorted.len() * 99).div_ceil(100).saturating_sub(1);
    sorted.get(at).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_a_hundred_may_be_worse() {
        let ms = |n| Duration::from_millis(n);
        let hundred: Vec<_> = (1..=100).map(ms).collect();
        assert_eq!(p99(&hundred), ms(99));
        assert_eq!(p99(&hundred[..10]), ms(10));
        assert_eq!(p99(&[]), Duration::ZERO);
    }
}
