//! Times as text. Always UTC: two hosts and their operators may be anywhere.

use std::time::SystemTime;

use time::OffsetDateTime;

/// A time as `2026-01-31 12:00:00 UTC`, for people.
#[must_use]
pub fn format_utc(time: SystemTime) -> String {
    let (date, clock) = parts(time);
    format!("{date} {clock} UTC")
}

/// A time as `2026-01-31T12:00:00Z` (RFC 3339), for programs.
#[must_use]
pub fn format_rfc3339(time: SystemTime) -> String {
    let (date, clock) = parts(time);
    format!("{date}T{clock}Z")
}

fn parts(time: SystemTime) -> (String, String) {
    let t = OffsetDateTime::from(time);
    let (hour, minute, second) = t.to_hms();
    (
        format!("{:04}-{:02}-{:02}", t.year(), u8::from(t.month()), t.day()),
        format!("{hour:02}:{minute:02}:{second:02}"),
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_are_utc() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_599);
        assert_eq!(format_utc(time), "2025-12-31 23:59:59 UTC");
        assert_eq!(format_rfc3339(time), "2025-12-31T23:59:59Z");
    }
}
