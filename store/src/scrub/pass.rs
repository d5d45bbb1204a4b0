//! When the log is read through, and how fast. Only computes.

use std::time::Duration;

use crate::LogOffset;

/// A reading of the log from its start to where it was durable as the reading began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pass {
    /// When it began, Unix milliseconds; 0: none did yet.
    pub(crate) started_ms: i64,
    /// All before is read. A record starts here, or what is damaged does.
    pub(crate) at: LogOffset,
    /// Where it ends.
    pub(crate) end: LogOffset,
    /// When the last pass ended, Unix milliseconds; 0: none did yet.
    pub(crate) ended_ms: i64,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// Begin a pass.
    Begin,
    /// Go on with the one that is under way.
    GoOn,
    /// Nothing, for so long.
    Wait(Duration),
}

impl Pass {
    pub(super) fn begin(&self, now_ms: i64, log: std::ops::Range<LogOffset>) -> Self {
        Self { started_ms: now_ms, at: log.start, end: log.end, ended_ms: self.ended_ms }
    }

    pub(super) fn is_over(&self) -> bool {
        self.at >= self.end
    }

    pub(super) fn over(&mut self, now_ms: i64) {
        self.at = self.end;
        self.ended_ms = now_ms;
    }

    /// A pass begins an interval after the one before began, or when that is over if it took longer.
    pub(super) fn plan(&self, now_ms: i64, interval: Duration) -> Plan {
        if !self.is_over() {
            return Plan::GoOn;
        }
        // A clock that was set back makes the time since unknown.
        let since = now_ms.checked_sub(self.started_ms).and_then(|since| u64::try_from(since).ok());
        match since.map(Duration::from_millis).and_then(|since| interval.checked_sub(since)) {
            Some(left) if !left.is_zero() && self.started_ms != 0 => Plan::Wait(left),
            _ => Plan::Begin,
        }
    }
}

/// How long to rest after reading so many bytes, which took so long, to read no more than `rate` a second.
pub(super) fn rest(bytes: u64, took: Duration, rate: u64) -> Duration {
    let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(rate.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)).saturating_sub(took)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_begins_once_an_interval_and_is_not_begun_twice() {
        let hour = Duration::from_secs(3600);
        let check = |started_ms, at, now_ms, expected| {
            let pass = Pass { started_ms, at: LogOffset(at), end: LogOffset(100), ended_ms: 0 };
            assert_eq!(pass.plan(now_ms, hour), expected, "started at {started_ms}, now {now_ms}, read {at}");
        };
        assert_eq!(Pass::default().plan(1, hour), Plan::Begin, "the first at once");
        check(1000, 100, 1000, Plan::Wait(hour));
        check(1000, 100, 3_600_999, Plan::Wait(Duration::from_millis(1)));
        check(1000, 100, 3_601_000, Plan::Begin);
        check(1000, 99, 1001, Plan::GoOn);
        check(1000, 99, i64::MAX, Plan::GoOn);
        check(1000, 100, 999, Plan::Begin);
        check(i64::MIN, 100, i64::MAX, Plan::Begin);
        check(1000, 101, 1000, Plan::Wait(hour));
    }

    #[test]
    fn it_rests_so_long_that_the_rate_is_kept_whatever_reading_took() {
        let check = |bytes, took_ms, rate, expected_ms| {
            let rested = rest(bytes, Duration::from_millis(took_ms), rate);
            assert_eq!(rested, Duration::from_micros((expected_ms * 1000.0) as u64));
        };
        check(1 << 20, 0, 32 << 20, 31.25);
        check(1 << 20, 10, 32 << 20, 21.25);
        check(1 << 20, 50, 32 << 20, 0.0);
        check(64 << 20, 0, 32 << 20, 2000.0);
        check(0, 0, 32 << 20, 0.0);
        check(1, 0, 0, 1000.0);
    }
}
