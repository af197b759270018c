//! The highest rate at which nothing is lost.

use anyhow::Result;

use crate::packets::Packets;

/// Share of the offered packets that may be lost where a rate counts as one without loss.
pub const LOSS_MAX: f64 = 0.001;

/// Halves the range between nothing and `upper` (packets per second) `steps` times, beginning with
/// `upper` itself, and gives the highest rate that was really offered with less than [`LOSS_MAX`]
/// lost; 0 when every tried rate lost more.
///
/// # Errors
/// When a probe fails.
pub fn highest_without_loss(
    upper: u64,
    steps: u32,
    mut probe: impl FnMut(u64) -> Result<Packets>,
) -> Result<f64> {
    let (mut low, mut high, mut rate) = (0, upper, upper);
    let mut best = 0.0_f64;
    for _ in 0..steps {
        // A rate of 0 would be as many as possible.
        let packets = probe(rate.max(1))?;
        if packets.loss < LOSS_MAX {
            best = best.max(packets.offered);
            low = rate;
        } else {
            high = rate;
        }
        if low == upper {
            break;
        }
        rate = u64::midpoint(low, high);
    }
    Ok(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    fn lossy_above(limit: u64) -> impl FnMut(u64) -> Result<Packets> {
        move |wanted| {
            let loss = if wanted > limit { 0.5 } else { 0.0 };
            Ok(Packets { wanted, offered: wanted as f64, delivered: 0.0, loss })
        }
    }

    #[test]
    fn the_limit_is_approached_from_below() {
        for limit in [100, 1_000, 4_000, 7_999] {
            let found = highest_without_loss(8_000, 10, lossy_above(limit)).unwrap();
            let limit = f64::from(u32::try_from(limit).unwrap());
            assert!(found <= limit && found > limit - 16.0, "{found} of {limit}");
        }
    }

    #[test]
    fn nothing_lost_at_the_top_ends_the_search() {
        let mut probes = 0;
        let found = highest_without_loss(500, 10, |wanted| {
            probes += 1;
            lossy_above(u64::MAX)(wanted)
        });
        assert_eq!((found.unwrap(), probes), (500.0, 1));
    }

    #[test]
    fn loss_everywhere_is_no_rate() {
        let lossy = |wanted| Ok(Packets { wanted, offered: 1.0, delivered: 0.0, loss: 1.0 });
        assert_eq!(highest_without_loss(1_000, 5, lossy).unwrap(), 0.0);
    }
}
