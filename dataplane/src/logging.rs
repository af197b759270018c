//! Logs, as text or JSON, to standard error.

use std::sync::OnceLock;

use tracing_subscriber::{
    Layer as _, filter::LevelFilter, fmt, layer::SubscriberExt as _, reload,
    util::SubscriberInitExt as _,
};
use weft_config::{LogConfig, LogFormat, LogLevel};

type SetLevel = Box<dyn Fn(LevelFilter) + Send + Sync>;

static SET_LEVEL: OnceLock<SetLevel> = OnceLock::new();

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

/// Starts logging. Only the first call has an effect.
pub fn start(config: LogConfig) {
    let (level, handle) = reload::Layer::new(filter(config.level));
    let output = fmt::layer().with_writer(std::io::stderr).with_target(false);
    let output = match config.format {
        LogFormat::Text => output.with_ansi(false).boxed(),
        LogFormat::Json => output.json().boxed(),
    };
    if tracing_subscriber::registry().with(level).with(output).try_init().is_ok() {
        let set = move |level| {
            // The subscriber lives as long as the process.
            let _ = handle.reload(level);
        };
        let _ = SET_LEVEL.set(Box::new(set));
    }
}

/// Changes the level while running. The format stays.
pub fn set_level(level: LogLevel) {
    if let Some(set) = SET_LEVEL.get() {
        set(filter(level));
    }
}
