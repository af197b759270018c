//! The control plane as its callers meet it: over TLS, with certificates and tokens.
#![expect(clippy::unwrap_used, reason = "tests")]

mod account;
mod audit;
mod authentication;
mod authorities;
mod clocks;
mod description;
mod document;
mod environments;
mod examples;
mod frozen;
mod held;
mod hostile;
mod hosts;
mod lasting;
mod lists;
mod lockout;
mod lost;
mod master_keys;
mod members;
mod need_to_know;
mod organisations;
mod races;
mod registry;
mod secrets;
mod site;
mod story;
mod strangers;
mod tokens;
mod turns;
mod watches;
