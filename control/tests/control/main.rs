//! The control plane as its callers meet it: over TLS, with certificates and tokens.
#![expect(clippy::unwrap_used, reason = "tests")]

mod audit;
mod description;
mod hosts;
mod site;
mod story;
mod strangers;
