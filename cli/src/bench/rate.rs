//! A rate in bits per second, as people write it.

use std::str::FromStr;

use crate::format::bit_rate;

/// Highest rate that may be asked for: 1 Tbit/s.
const RATE_MAX: f64 = 1e12;
/// Lowest rate that may be asked for: 1 kbit/s.
const RATE_MIN: f64 = 1e3;

/// Bits per second, 1,000 to 10^12.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Rate(pub(crate) f64);

impl FromStr for Rate {
    type Err = String;

    /// A number with an optional decimal prefix and an optional `bps`, `bit/s` or `bit`.
    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || "expected a rate from 1kbps to 1Tbps, as 1Gbps or 250Mbit/s".to_owned();
        let at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(at);
        let factor =
            match unit.trim_end_matches("bps").trim_end_matches("bit/s").trim_end_matches("bit") {
                "" => 1.0,
                "k" | "K" => 1e3,
                "M" => 1e6,
                "G" => 1e9,
                "T" => 1e12,
                _ => return Err(expected()),
            };
        let value = number.parse::<f64>().map_err(|_| expected())? * factor;
        if (RATE_MIN..=RATE_MAX).contains(&value) { Ok(Self(value)) } else { Err(expected()) }
    }
}

impl std::fmt::Display for Rate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&bit_rate(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_as_people_write_them() {
        for text in ["1Gbps", "1Gbit/s", "1Gbit", "1G", "1000M", "1000000kbps", "1000000000"] {
            assert_eq!(text.parse(), Ok(Rate(1e9)), "{text}");
        }
        assert_eq!("2.5Gbps".parse(), Ok(Rate(2.5e9)));
        for wrong in ["", "fast", "1", "2T", "1GB", "-1G", "1..5G", "1e9"] {
            assert!(wrong.parse::<Rate>().is_err(), "{wrong}");
        }
        assert_eq!(Rate(1e9).to_string(), "1.00 Gbit/s");
    }
}
