//! Times in records.

use std::{
    fmt,
    str::FromStr,
    time::{Duration, SystemTime},
};

use time::{Date, Month, OffsetDateTime, Time};

use crate::text::{TextError, json_as_text};

/// A time in UTC to the microsecond, as `2026-11-30T06:48:10.123456Z` (RFC 3339): always 27 characters, so
/// that texts are ordered as times are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp(u64);

/// The end of the year 9999, microseconds after 1970.
const MICROS_MAX: u64 = 253_402_300_799_999_999;

impl Timestamp {
    /// Cuts off what is below a microsecond; before 1970 is 1970.
    #[must_use]
    pub fn of(time: SystemTime) -> Self {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_micros()).unwrap_or(MICROS_MAX).min(MICROS_MAX))
    }

    /// The same time.
    #[must_use]
    pub fn time(self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_micros(self.0)
    }

    /// Days after 1970-01-01.
    #[must_use]
    pub const fn day(self) -> u64 {
        self.0 / (86_400 * 1_000_000)
    }

    /// The date, as `2026-11-30`.
    #[must_use]
    pub fn date(self) -> String {
        self.to_string()[..10].to_owned()
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let t = OffsetDateTime::from(self.time());
        let (hour, minute, second, micro) = t.to_hms_micro();
        let (year, month, day) = (t.year(), u8::from(t.month()), t.day());
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micro:06}Z")
    }
}

impl FromStr for Timestamp {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        let wrong = TextError { what: "a time", expected: "2026-11-30T06:48:10.123456Z" };
        let found = parse(text).ok_or(wrong.clone())?;
        // Also what the parts do not show: signs, lengths, separators.
        if found.to_string() == text { Ok(found) } else { Err(wrong) }
    }
}

fn parse(text: &str) -> Option<Timestamp> {
    let part = |from: usize, to: usize| text.get(from..to);
    let small = |from, to| part(from, to)?.parse::<u8>().ok();
    let month = Month::try_from(small(5, 7)?).ok()?;
    let date = Date::from_calendar_date(part(0, 4)?.parse().ok()?, month, small(8, 10)?).ok()?;
    let micro = part(20, 26)?.parse().ok()?;
    let time = Time::from_hms_micro(small(11, 13)?, small(14, 16)?, small(17, 19)?, micro).ok()?;
    let micros = OffsetDateTime::new_utc(date, time).unix_timestamp_nanos() / 1_000;
    u64::try_from(micros).ok().map(Timestamp)
}

json_as_text!(Timestamp);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_are_utc_and_of_one_length() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_nanos(1_796_021_290_000_001_999);
        let stamp = Timestamp::of(time);
        assert_eq!(stamp.to_string(), "2026-11-30T06:48:10.000001Z");
        assert_eq!((stamp.date().as_str(), stamp.day()), ("2026-11-30", 20_787));
        let last = Timestamp(MICROS_MAX);
        assert_eq!(last.to_string(), "9999-12-31T23:59:59.999999Z");
        assert_eq!(Timestamp::of(SystemTime::UNIX_EPOCH - Duration::from_secs(1)), Timestamp(0));
        for text in [
            "",
            "2026-11-30T06:48:10Z",
            "2026-11-30 06:48:10.000001Z",
            "2026-11-30T06:48:10.000001z",
            "2026-11-31T06:48:10.000001Z",
            "+026-11-30T06:48:10.000001Z",
            "2026-11-30T06:48:60.000001Z",
            "1969-11-30T06:48:10.000001Z",
            "2026-11-30T06:48:10.000001+00:00",
        ] {
            assert!(text.parse::<Timestamp>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn times_round_trip_in_order(a in 0..=MICROS_MAX, b in 0..=MICROS_MAX) {
            let (a, b) = (Timestamp(a), Timestamp(b));
            prop_assert_eq!(a.to_string().parse::<Timestamp>(), Ok(a));
            prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
            prop_assert_eq!(Timestamp::of(a.time()), a);
        }
    }
}
