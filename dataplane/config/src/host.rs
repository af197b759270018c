//! The fields that are the daemon's own: top level, `[log]` and `[keys]`.

use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    str::FromStr,
};

use weft_types::{HostId, WORKERS_MAX};

use crate::{
    account::User,
    document::Table,
    limits::{
        EPOCH_DATAGRAMS_LIMIT, EPOCH_DATAGRAMS_MIN, EPOCH_SECONDS_LIMIT, REHANDSHAKE_SECONDS_LIMIT,
        REHANDSHAKE_SECONDS_MIN, SOCKET_PATH_LEN_MAX,
    },
    model::{API_DEFAULT, Engine, KeyLimits, Latency, LogConfig, LogFormat, LogLevel, Placement},
    problem::{At, Report},
};

const USER: &str = "the name or number of a user, in quotes";
const ENDPOINT: &str = "ADDRESS:PORT or [IPv6]:PORT";

/// The top-level fields; each is `None` when it is wrong or absent.
pub(crate) struct Host {
    pub(crate) host: Option<At<HostId>>,
    pub(crate) user: Option<At<User>>,
    pub(crate) listen: Option<At<SocketAddr>>,
    pub(crate) api: Option<At<PathBuf>>,
    pub(crate) metrics: Option<At<SocketAddr>>,
    pub(crate) workers: Option<u8>,
    pub(crate) engine: Engine,
    pub(crate) placement: Placement,
    pub(crate) latency: Latency,
    pub(crate) log: LogConfig,
    pub(crate) keys: KeyLimits,
}

/// Reads everything of the root table but its environments.
pub(crate) fn read(root: &mut Table<'_>, base: &Path, report: &mut Report) -> Host {
    let host = root.text("host", "the id of this host", report, HostId::from_str);
    let user = user(root, report);
    let listen = root.text("listen", ENDPOINT, report, endpoint);
    let api = match root.has("api") {
        true => root.text("api", "the path of a socket", report, |s| path(s, base)),
        false => Some(root.here().with(API_DEFAULT.into())),
    };
    let metrics = root.text_if_any("metrics", ENDPOINT, report, endpoint);
    let workers = root.number_if_any("workers", (1, u64::from(WORKERS_MAX)), report);
    let engine =
        root.text_if_any("engine", "an engine", report, |s| one_of(Engine::ALL, Engine::as_str, s));
    let placement = root.text_if_any("placement", "a placement", report, |s| {
        one_of(Placement::ALL, Placement::as_str, s)
    });
    let latency = root.text_if_any("latency", "a kind of latency", report, |s| {
        one_of(Latency::ALL, Latency::as_str, s)
    });
    if let Some(listen) = &listen {
        check_listen(listen, metrics.as_ref(), report);
    }
    if let Some(api) = &api {
        let len = api.value.as_os_str().len();
        if len > SOCKET_PATH_LEN_MAX {
            let found = api.value.display();
            report.about(
                api,
                format_args!("{found} has {len} bytes; expected at most {SOCKET_PATH_LEN_MAX}"),
            );
        }
    }
    Host {
        host,
        user,
        listen,
        api,
        metrics,
        workers: workers.and_then(|at| u8::try_from(at.value).ok()),
        engine: engine.map(|at| at.value).unwrap_or_default(),
        placement: placement.map(|at| at.value).unwrap_or_default(),
        latency: latency.map(|at| at.value).unwrap_or_default(),
        log: root.table_if_any("log", report).map(|table| log(table, report)).unwrap_or_default(),
        keys: root
            .table_if_any("keys", report)
            .map(|table| keys(table, report))
            .unwrap_or_default(),
    }
}

/// The field `user`.
pub(crate) fn user(root: &mut Table<'_>, report: &mut Report) -> Option<At<User>> {
    root.text_if_any("user", USER, report, User::from_str)
}

fn check_listen(listen: &At<SocketAddr>, metrics: Option<&At<SocketAddr>>, report: &mut Report) {
    if let Some(metrics) = metrics {
        let (a, b) = (metrics.value, listen.value);
        let all = a.ip().is_unspecified() || b.ip().is_unspecified();
        if a.port() == b.port() && (all || a.ip() == b.ip()) {
            report.about(
                metrics,
                format_args!("{a} overlaps listen = \"{b}\"; expected another port or address"),
            );
        }
    }
}

fn log(mut table: Table<'_>, report: &mut Report) -> LogConfig {
    let level = table
        .text_if_any("level", "a level", report, |s| one_of(LogLevel::ALL, LogLevel::as_str, s));
    let format = table.text_if_any("format", "a format", report, |s| {
        one_of(LogFormat::ALL, LogFormat::as_str, s)
    });
    table.finish(report);
    LogConfig {
        level: level.map(|at| at.value).unwrap_or_default(),
        format: format.map(|at| at.value).unwrap_or_default(),
    }
}

fn keys(mut table: Table<'_>, report: &mut Report) -> KeyLimits {
    let defaults = KeyLimits::default();
    let mut number = |name, limits, default| {
        table.number_if_any(name, limits, report).map_or(default, |at| at.value)
    };
    let limits = KeyLimits {
        epoch_datagrams_max: number(
            "epoch_datagrams_max",
            (EPOCH_DATAGRAMS_MIN, EPOCH_DATAGRAMS_LIMIT),
            defaults.epoch_datagrams_max,
        ),
        epoch_seconds_max: number(
            "epoch_seconds_max",
            (1, EPOCH_SECONDS_LIMIT),
            defaults.epoch_seconds_max,
        ),
        rehandshake_seconds: number(
            "rehandshake_seconds",
            (REHANDSHAKE_SECONDS_MIN, REHANDSHAKE_SECONDS_LIMIT),
            defaults.rehandshake_seconds,
        ),
    };
    table.finish(report);
    limits
}

pub(crate) fn one_of<T: Copy>(
    all: &[T],
    word: fn(T) -> &'static str,
    text: &str,
) -> Result<T, String> {
    let found = all.iter().copied().find(|value| word(*value) == text);
    found.ok_or_else(|| {
        let words: Vec<_> = all.iter().map(|value| word(*value)).collect();
        format!("expected one of {}", words.join(", "))
    })
}

/// An address and port that something can listen on.
pub(crate) fn endpoint(text: &str) -> Result<SocketAddr, String> {
    let endpoint: SocketAddr = text.parse().map_err(|_| format!("expected {ENDPOINT}"))?;
    if endpoint.port() == 0 {
        return Err("port 0 is not usable; expected 1 to 65535".to_owned());
    }
    let ip = endpoint.ip();
    if ip.is_multicast() || ip == IpAddr::V4(std::net::Ipv4Addr::BROADCAST) {
        return Err(format!("{ip} is no single host; expected a unicast address"));
    }
    Ok(endpoint)
}

/// A path, relative to the file that names it.
pub(crate) fn path(text: &str, base: &Path) -> Result<PathBuf, &'static str> {
    if text.is_empty() {
        return Err("is empty; expected a path");
    }
    if text.contains(char::is_control) {
        return Err("has a line break or another control character; expected the path of a file");
    }
    Ok(base.join(text))
}
