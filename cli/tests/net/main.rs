//! `weft net` as a person runs it, against a daemon that is not there, that refuses, and that
//! answers.

// `cfg(test)` always holds here; it tells clippy that helpers of tests may unwrap.
#[cfg(test)]
mod command;
#[cfg(test)]
mod fake;
#[cfg(test)]
mod run;
#[cfg(test)]
mod terminal;
