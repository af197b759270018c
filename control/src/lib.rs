//! The control plane of Weft: who exists, who may join what, and where everything is.
//!
//! ```text
//!   people, scheduler, hosts ──TLS──▶ api ──▶ app ──▶ weft-model decides ──▶ Store
//!                                      │       ▲                              │
//!                                      │       └────────── View ◀─────────────┘ watch
//!                                      └── who is it? may it? (Gate)
//! ```
//!
//! This crate is the shell: sockets, TLS, tasks. What is decided is decided in `weft-model`, what is kept is kept in
//! `weft-store`, keys are in `weft-keys`. Handlers of calls convert, call [`App`], convert back.

pub mod api;
pub mod app;
pub mod audit;
pub mod background;
pub mod backup;
pub mod clock;
pub mod config;
mod crowd;
pub mod error;
pub mod init;
pub mod master_key;
pub mod secret;
pub mod serve;
pub mod ssh;
pub mod totp;
pub mod transfer;
pub mod view;

pub use self::{app::App, clock::Clock, config::Config, error::AppError, view::View};
