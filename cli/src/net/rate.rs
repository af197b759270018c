//! What two answers of the daemon, taken one after the other, say about the time between them.

use weft_api::v1::{DropCount, EnvironmentStatus, StatusResponse, Traffic};

/// Rates of both directions per second.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Rates {
    pub(crate) rx_bits: f64,
    pub(crate) rx_packets: f64,
    pub(crate) tx_bits: f64,
    pub(crate) tx_packets: f64,
}

/// A pair of answers of the same daemon.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Between<'a> {
    old: &'a StatusResponse,
    seconds: f64,
}

impl<'a> Between<'a> {
    /// The time from `old` to `new`; `None` when the daemon was started again in between or no
    /// time passed.
    #[expect(clippy::cast_precision_loss, reason = "intervals are seconds")]
    pub(crate) fn new(old: &'a StatusResponse, new: &StatusResponse) -> Option<Self> {
        let ms = new.sampled_at_ms.checked_sub(old.sampled_at_ms)?;
        (ms > 0 && old.pid == new.pid).then_some(Self { old, seconds: ms as f64 / 1_000.0 })
    }

    fn environment(&self, id: &str) -> Option<&'a EnvironmentStatus> {
        self.old.environments.iter().find(|e| e.id == id)
    }

    /// Rates of a peer; `None` when it is new.
    pub(crate) fn peer(
        &self,
        environment: &str,
        host: &str,
        now: Option<&Traffic>,
    ) -> Option<Rates> {
        let peers = &self.environment(environment)?.peers;
        let old = peers.iter().find(|p| p.host == host)?;
        Some(self.rates(old.traffic.as_ref(), now))
    }

    /// Rates of an attachment; `None` when it is new.
    pub(crate) fn attachment(
        &self,
        environment: &str,
        name: &str,
        now: Option<&Traffic>,
    ) -> Option<Rates> {
        let attachments = &self.environment(environment)?.attachments;
        let old = attachments.iter().find(|a| a.name == name)?;
        Some(self.rates(old.traffic.as_ref(), now))
    }

    /// Packets dropped per second in an environment; `None` when it is new.
    pub(crate) fn drops(&self, now: &EnvironmentStatus) -> Option<f64> {
        let old = self.environment(&now.id)?;
        Some(self.per_second(total(&old.drops), total(&now.drops)))
    }

    fn rates(&self, old: Option<&Traffic>, new: Option<&Traffic>) -> Rates {
        let (old, new) = (old.copied().unwrap_or_default(), new.copied().unwrap_or_default());
        Rates {
            rx_bits: 8.0 * self.per_second(old.rx_bytes, new.rx_bytes),
            rx_packets: self.per_second(old.rx_packets, new.rx_packets),
            tx_bits: 8.0 * self.per_second(old.tx_bytes, new.tx_bytes),
            tx_packets: self.per_second(old.tx_packets, new.tx_packets),
        }
    }

    /// A counter's growth. One that went back belongs to something that was made anew.
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    fn per_second(&self, old: u64, new: u64) -> f64 {
        new.saturating_sub(old) as f64 / self.seconds
    }
}

impl std::ops::Add for Rates {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            rx_bits: self.rx_bits + other.rx_bits,
            rx_packets: self.rx_packets + other.rx_packets,
            tx_bits: self.tx_bits + other.tx_bits,
            tx_packets: self.tx_packets + other.tx_packets,
        }
    }
}

/// Packets of all causes.
pub(crate) fn total(drops: &[DropCount]) -> u64 {
    drops.iter().fold(0, |sum, drop| sum.saturating_add(drop.packets))
}

#[cfg(test)]
mod tests {
    use weft_api::v1::PeerStatus;

    use super::*;

    fn sample(at_ms: u64, pid: u32, bytes: u64) -> StatusResponse {
        let traffic = Traffic { rx_bytes: bytes, rx_packets: 1, tx_bytes: 0, tx_packets: bytes };
        let peer = PeerStatus {
            host: "host-b".to_owned(),
            traffic: Some(traffic),
            ..PeerStatus::default()
        };
        let environment = EnvironmentStatus {
            id: "acme".to_owned(),
            peers: vec![peer],
            drops: vec![DropCount { cause: "replay".to_owned(), packets: bytes }],
            ..EnvironmentStatus::default()
        };
        StatusResponse {
            sampled_at_ms: at_ms,
            pid,
            environments: vec![environment],
            ..StatusResponse::default()
        }
    }

    fn peer_rates(old: &StatusResponse, new: &StatusResponse, host: &str) -> Option<Rates> {
        let traffic = new.environments[0].peers[0].traffic.as_ref();
        Between::new(old, new)?.peer("acme", host, traffic)
    }

    #[test]
    fn growth_over_time() {
        let (old, new) = (sample(1_000, 1, 100), sample(1_500, 1, 600));
        let rates = peer_rates(&old, &new, "host-b").unwrap();
        assert_eq!((rates.rx_bits, rates.rx_packets), (8_000.0, 0.0));
        assert_eq!((rates.tx_bits, rates.tx_packets), (0.0, 1_000.0));
        let between = Between::new(&old, &new).unwrap();
        assert_eq!(between.drops(&new.environments[0]), Some(1_000.0));
        assert_eq!(peer_rates(&old, &new, "host-c"), None, "it is new");
    }

    #[test]
    fn a_restart_gives_no_rates() {
        assert_eq!(peer_rates(&sample(1_000, 1, 0), &sample(1_500, 2, 0), "host-b"), None);
        assert_eq!(peer_rates(&sample(1_000, 1, 0), &sample(500, 1, 0), "host-b"), None);
        assert_eq!(peer_rates(&sample(1_000, 1, 0), &sample(1_000, 1, 0), "host-b"), None);
    }

    #[test]
    fn a_counter_that_went_back_gives_zero() {
        let rates = peer_rates(&sample(0, 1, 600), &sample(1_000, 1, 100), "host-b").unwrap();
        assert_eq!(rates, Rates::default());
    }
}
