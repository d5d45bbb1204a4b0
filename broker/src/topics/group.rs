//! What a broker knows about a consumer group.

use std::time::Duration;

use access::GroupName;
use serde::{Deserialize, Serialize};

/// How often a message is delivered before it is a dead letter, unless configured: RocketMQ's 16 retries.
pub const DEFAULT_MAX_ATTEMPTS: u32 = 17;

/// A consumer group as it is kept and registered.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupConfig {
    /// Its name.
    pub name: GroupName,
    /// Whether it may consume at all.
    pub consume_enabled: bool,
    /// Whether messages of one message group are delivered strictly one after the other.
    pub ordered: bool,
    /// Deliveries before the dead letter topic.
    pub max_attempts: u32,
    /// How long a message stays away after a failed delivery.
    pub backoff: Backoff,
    /// Who manages it; empty: nobody.
    pub owner: String,
}

impl GroupConfig {
    /// What a group gets that nobody has configured.
    #[must_use]
    pub fn new(name: GroupName, max_attempts: u32) -> Self {
        let owner = String::new();
        Self { name, consume_enabled: true, ordered: false, max_attempts, backoff: Backoff::default(), owner }
    }
}

/// How long a message stays away after delivery attempt n failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Backoff {
    /// Growing by a factor, up to a maximum.
    #[serde(rename_all = "camelCase")]
    Exponential {
        /// After the first attempt.
        initial_ms: u64,
        /// Never more.
        max_ms: u64,
        /// From one attempt to the next.
        multiplier: f64,
    },
    /// One delay an attempt, the last one repeats.
    #[serde(rename_all = "camelCase")]
    Custom {
        /// At least one.
        delays_ms: Vec<u64>,
    },
}

impl Default for Backoff {
    /// RocketMQ's eighteen steps.
    fn default() -> Self {
        const SECOND: u64 = 1000;
        const MINUTE: u64 = 60 * SECOND;
        let minutes = (1..=10).chain([20, 30, 60, 120]).map(|n| n * MINUTE);
        let delays_ms = [1, 5, 10, 30].map(|n| n * SECOND).into_iter().chain(minutes).collect();
        Self::Custom { delays_ms }
    }
}

impl Backoff {
    /// How long a message stays away after attempt `attempt` (from 1) failed.
    #[must_use]
    pub fn delay(&self, attempt: u32) -> Duration {
        let step = attempt.saturating_sub(1);
        match self {
            Backoff::Exponential { initial_ms, max_ms, multiplier } => {
                let max = Duration::from_millis(*max_ms);
                let factor = multiplier.powi(i32::try_from(step.min(64)).expect("at most 64"));
                Duration::try_from_secs_f64(*initial_ms as f64 / 1000.0 * factor)
                    .map_or(max, |delay| delay.min(max))
            }
            Backoff::Custom { delays_ms } => {
                let step = usize::try_from(step).unwrap_or(usize::MAX).min(delays_ms.len().saturating_sub(1));
                Duration::from_millis(delays_ms.get(step).copied().unwrap_or(0))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_backoff_has_the_steps_of_rocketmq() {
        let backoff = Backoff::default();
        let check =
            |attempt: u32, seconds: u64| assert_eq!(backoff.delay(attempt), Duration::from_secs(seconds));
        check(0, 1);
        check(1, 1);
        check(2, 5);
        check(4, 30);
        check(5, 60);
        check(14, 600);
        check(18, 7200);
        check(1000, 7200);
    }

    #[test]
    fn exponential_backoff_grows_up_to_its_maximum() {
        let backoff = Backoff::Exponential { initial_ms: 100, max_ms: 1000, multiplier: 2.0 };
        let check = |attempt: u32, ms: u64| assert_eq!(backoff.delay(attempt), Duration::from_millis(ms));
        check(1, 100);
        check(2, 200);
        check(4, 800);
        check(5, 1000);
        check(u32::MAX, 1000);
    }
}
