//! The agent with a control plane in the same process and a data plane that only remembers.
#![expect(clippy::unwrap_used, reason = "tests")]

mod again;
mod follow;
mod held;
mod join;
mod lost;
mod reach;
mod relay;
mod renewal;
mod restored;
mod site;
