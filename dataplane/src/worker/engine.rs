//! Which driver the workers of this daemon use.

use std::fmt;

use anyhow::Context as _;
use weft_config::Engine;
use weft_proto::aead::{Suite, provider};
use weft_sys::ring::Ring;

/// A kind of driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineKind {
    /// epoll and a system call for every step.
    Epoll,
    /// io_uring for everything that comes in.
    Uring,
}

impl EngineKind {
    /// Its name in configuration, status and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Epoll => "epoll",
            Self::Uring => "uring",
        }
    }
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A driver, and why it is this one.
#[derive(Debug, Clone, Copy)]
pub struct EngineChoice {
    /// The driver.
    pub engine: EngineKind,
    /// For the log.
    why: &'static str,
}

impl EngineChoice {
    /// Writes which engine moves packets and why. A log may block, so not before signals are
    /// handled.
    pub fn log(self) {
        let Self { engine, why } = self;
        let aead = provider(Suite::Aes256Gcm);
        tracing::info!(%engine, why, aead, "the engine of all workers is chosen");
    }
}

/// The driver for what the configuration asks.
///
/// # Errors
/// When it asks for io_uring and there is none here; the message says why.
pub fn choose_engine(wanted: Engine) -> anyhow::Result<EngineChoice> {
    let (engine, why) = match wanted {
        Engine::Epoll => (EngineKind::Epoll, "configured"),
        Engine::Uring => {
            Ring::probe().context("engine: \"uring\" is not possible")?;
            (EngineKind::Uring, "configured")
        }
        // Figures: docs/decisions.md, *Engine*.
        Engine::Auto => (EngineKind::Epoll, "auto: it needs less CPU time in bulk"),
    };
    Ok(EngineChoice { engine, why })
}
