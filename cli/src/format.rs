//! Quantities for people: rates in decimal bits, sizes in binary bytes, two units of time.

/// A rate of bits, for example `1.25 Gbit/s`.
pub(crate) fn bit_rate(bits_per_second: f64) -> String {
    scaled(bits_per_second, 1_000.0, &["bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s"])
}

/// A rate of packets, for example `83.3 k/s`.
pub(crate) fn packet_rate(packets_per_second: f64) -> String {
    scaled(packets_per_second, 1_000.0, &["/s", "k/s", "M/s", "G/s"])
}

/// A number of bytes, for example `1.50 GiB`.
#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
pub(crate) fn bytes(count: u64) -> String {
    scaled(count as f64, 1_024.0, &["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"])
}

/// Three significant digits, or a whole number in the first unit.
fn scaled(value: f64, base: f64, units: &[&str]) -> String {
    let mut value = value;
    let mut unit = 0;
    // 999.5 would be printed as 1000.
    while value >= 999.5 && unit + 1 < units.len() {
        value /= base;
        unit += 1;
    }
    let digits = match value {
        _ if unit == 0 => 0,
        v if v < 9.995 => 2,
        v if v < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.digits$} {}", units[unit])
}

/// A length of time in its two largest units, for example `3 h 12 min`.
pub(crate) fn duration(ms: u64) -> String {
    let s = ms / 1_000;
    let (min, h, d) = (s / 60, s / 3_600, s / 86_400);
    match s {
        0 => format!("{ms} ms"),
        1..60 => format!("{s} s"),
        60..3_600 => two(min, "min", s % 60, "s"),
        3_600..86_400 => two(h, "h", min % 60, "min"),
        _ => two(d, "d", h % 24, "h"),
    }
}

fn two(large: u64, large_unit: &str, small: u64, small_unit: &str) -> String {
    match small {
        0 => format!("{large} {large_unit}"),
        _ => format!("{large} {large_unit} {small} {small_unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_and_a_unit() {
        let rates = [0.0, 9.4, 999.4, 999.6, 1_250.0, 99_960.0, 1.25e9, 3e15];
        let shown = rates.map(bit_rate);
        let expected = [
            "0 bit/s",
            "9 bit/s",
            "999 bit/s",
            "1.00 kbit/s",
            "1.25 kbit/s",
            "100 kbit/s",
            "1.25 Gbit/s",
            "3000 Tbit/s",
        ];
        assert_eq!(shown, expected);
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1_023), "1.00 KiB");
        assert_eq!(bytes(1_536), "1.50 KiB");
        assert_eq!(bytes(u64::MAX), "16.0 EiB");
        assert_eq!(packet_rate(83_333.0), "83.3 k/s");
    }

    #[test]
    fn time_has_two_units() {
        let shown =
            [0, 999, 59_999, 60_000, 61_000, 3_600_000, 11_520_000, 86_400_000, 273_600_000];
        let expected =
            ["0 ms", "999 ms", "59 s", "1 min", "1 min 1 s", "1 h", "3 h 12 min", "1 d", "3 d 4 h"];
        assert_eq!(shown.map(duration), expected);
    }
}
