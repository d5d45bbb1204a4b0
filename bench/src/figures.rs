//! Percentiles of what was measured.

use std::time::Duration;

/// Lengths of time, in the order of their length.
#[derive(Debug, Clone, Default)]
pub struct Sorted(Vec<Duration>);

impl Sorted {
    /// Sorts what was measured.
    pub fn new(mut lengths: Vec<Duration>) -> Self {
        lengths.sort_unstable();
        Self(lengths)
    }

    /// The length that this share, from 0 to 1, does not exceed; zero if nothing was measured.
    pub fn at(&self, share: f64) -> Duration {
        let rank = (self.0.len() as f64 * share).ceil() as usize;
        self.0.get(rank.saturating_sub(1)).or(self.0.last()).copied().unwrap_or_default()
    }

    /// The longest.
    pub fn max(&self) -> Duration {
        self.at(1.0)
    }
}

/// The value in the middle; the lower of two. Nothing if there is none.
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied()
}

/// A length in milliseconds, three digits after the point.
pub fn ms(length: Duration) -> String {
    format!("{:.3}", length.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_one_of_the_values() {
        let sorted = Sorted::new((1..=100).rev().map(Duration::from_millis).collect());
        assert_eq!(sorted.at(0.5), Duration::from_millis(50));
        assert_eq!(sorted.at(0.99), Duration::from_millis(99));
        assert_eq!(sorted.at(0.999), Duration::from_millis(100));
        assert_eq!(sorted.at(0.0), Duration::from_millis(1));
        assert_eq!(sorted.max(), Duration::from_millis(100));
        assert_eq!(Sorted::default().at(0.5), Duration::ZERO);
    }

    #[test]
    fn the_median_is_the_one_in_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([4.0, 1.0]), Some(1.0));
        assert_eq!(median([]), None);
    }
}
