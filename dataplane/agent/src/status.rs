//! How it stands with the control plane.

use std::time::{Duration, SystemTime};

/// How long a host goes on without its control plane before it says so as an error: half of what certificates that last
/// a day have left at least.
pub const ALERT_AFTER: Duration = Duration::from_secs(6 * 3_600);

/// How it stands with the control plane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlStatus {
    /// Where it is.
    pub url: String,
    /// Whether it is heard now.
    pub is_connected: bool,
    /// When it was heard of last; never without.
    pub contact: Option<SystemTime>,
    /// What the host has of what there is to know; 0 for nothing.
    pub revision: u64,
    /// When the first certificate of this host ends.
    pub first_end: Option<SystemTime>,
    /// What went wrong last; empty when nothing did.
    pub error: String,
}

impl ControlStatus {
    /// Whether it has been away for so long that somebody should look.
    #[must_use]
    pub fn is_alarming(&self, now: SystemTime) -> bool {
        let away = |contact: SystemTime| now.duration_since(contact).unwrap_or_default();
        !self.is_connected && self.contact.is_some_and(|contact| away(contact) >= ALERT_AFTER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn six_hours_without_the_control_plane_are_said() {
        let now = SystemTime::now();
        let status = ControlStatus {
            url: "https://control.example:7443".to_owned(),
            is_connected: false,
            contact: Some(now),
            revision: 1,
            first_end: None,
            error: String::new(),
        };
        assert!(!status.is_alarming(now + ALERT_AFTER - Duration::from_secs(1)));
        assert!(status.is_alarming(now + ALERT_AFTER));
        let connected = ControlStatus { is_connected: true, ..status.clone() };
        assert!(!connected.is_alarming(now + ALERT_AFTER));
        assert!(!ControlStatus { contact: None, ..status }.is_alarming(now + ALERT_AFTER));
    }
}
