//! The control plane as its callers meet it: over TLS, with certificates and tokens.
#![expect(clippy::unwrap_used, reason = "tests")]

mod account;
mod audit;
mod authentication;
mod authorities;
mod description;
mod document;
mod examples;
mod held;
mod hostile;
mod hosts;
mod lasting;
mod lists;
mod lockout;
mod lost;
mod master_keys;
mod members;
mod organisations;
mod purges;
mod races;
mod registry;
mod secrets;
mod site;
mod story;
mod strangers;
mod tokens;
mod turns;
mod watches;
