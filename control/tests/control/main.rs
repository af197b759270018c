//! The control plane as its callers meet it: over TLS, with certificates and tokens.
#![expect(clippy::unwrap_used, reason = "tests")]

mod audit;
mod authorities;
mod description;
mod document;
mod examples;
mod hostile;
mod hosts;
mod lost;
mod master_keys;
mod registry;
mod secrets;
mod site;
mod story;
mod strangers;
mod turns;
