//! The control plane as its callers meet it: over TLS, with certificates and tokens.
#![expect(clippy::unwrap_used, reason = "tests")]

mod account;
mod audit;
mod authentication;
mod description;
mod document;
mod examples;
mod hostile;
mod hosts;
mod members;
mod organisations;
mod registry;
mod secrets;
mod site;
mod story;
mod strangers;
mod tokens;
