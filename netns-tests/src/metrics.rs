//! Prometheus text, as scraped from a daemon.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::namespace::Namespace;

/// One line: a name, labels, a value.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Metric name.
    pub name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Value.
    pub value: f64,
}

/// All samples of one scrape.
#[derive(Debug, Clone, Default)]
pub struct Metrics(pub Vec<Sample>);

impl Metrics {
    /// Scrapes `http://address/metrics` from inside a namespace.
    ///
    /// # Errors
    /// When nothing answers there, or with something else than status 200.
    pub fn scrape(ns: &Namespace, address: SocketAddr) -> Result<Self> {
        let answer = ns.enter(|| {
            let limit = Duration::from_secs(3);
            let mut stream = TcpStream::connect_timeout(&address, limit)?;
            stream.set_read_timeout(Some(limit))?;
            write!(stream, "GET /metrics HTTP/1.1\r\nHost: weftd\r\nConnection: close\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        })?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
        ensure!(head.contains(" 200 "), "metrics: {}", head.lines().next().unwrap_or_default());
        Ok(Self::parse(body))
    }

    /// Parses the text format; lines that it does not know are left out.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        Self(lines.filter_map(parse_line).collect())
    }

    /// Sum of the samples whose name contains `part` and whose labels contain all of `labels`.
    #[must_use]
    pub fn sum(&self, part: &str, labels: &[(&str, &str)]) -> f64 {
        let wanted = |sample: &&Sample| {
            sample.name.contains(part)
                && labels.iter().all(|(k, v)| sample.labels.get(*k).is_some_and(|have| have == v))
        };
        self.0.iter().filter(wanted).map(|sample| sample.value).sum()
    }
}

fn parse_line(line: &str) -> Option<Sample> {
    let (head, value) = line.trim().rsplit_once(' ')?;
    let value = value.parse().ok()?;
    let (name, labels) = match head.split_once('{') {
        Some((name, labels)) => (name, labels.strip_suffix('}')?),
        None => (head, ""),
    };
    // Our label values hold neither commas nor escaped quotes.
    let labels = labels.split(',').filter(|label| !label.is_empty()).map(|label| {
        let (key, value) = label.split_once('=')?;
        Some((key.trim().to_owned(), value.trim_matches('"').to_owned()))
    });
    Some(Sample { name: name.to_owned(), labels: labels.collect::<Option<_>>()?, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_sums() {
        let text = "# HELP weft_drops_total dropped\n\
                    weft_drops_total{environment=\"acme\",cause=\"replayed\"} 3\n\
                    weft_drops_total{environment=\"beta\",cause=\"replayed\"} 4\n\
                    weft_up 1\n";
        let metrics = Metrics::parse(text);
        assert_eq!(metrics.0.len(), 3);
        assert!((metrics.sum("drops", &[]) - 7.0).abs() < f64::EPSILON);
        let acme = [("environment", "acme"), ("cause", "replayed")];
        assert!((metrics.sum("drops", &acme) - 3.0).abs() < f64::EPSILON);
    }
}
