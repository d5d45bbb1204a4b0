//! When each request of a load is meant to be sent. Pure: times are lengths since the start of the load.

use std::time::Duration;

/// Which requests there are, and when they are due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Schedule {
    /// Messages a second; none is a closed loop, whose requests are due when there is room for them.
    pub(crate) rate: Option<u64>,
    /// Messages of a request.
    pub(crate) batch: u64,
    /// Messages in all; none is bounded by time.
    pub(crate) count: Option<u64>,
    /// What is due before is sent, but not measured.
    pub(crate) warm_up: Duration,
    /// How long is measured after that, unless a count is given.
    pub(crate) duration: Duration,
}

/// One request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot {
    /// The number of its first message.
    pub(crate) first: u64,
    /// How many messages it has.
    pub(crate) messages: u64,
    /// When it is due; none in a closed loop.
    pub(crate) due: Option<Duration>,
}

impl Schedule {
    /// Request `number`, counted from 0; none behind the last. In a closed loop that is bounded by time there is no last.
    pub(crate) fn request(&self, number: u64) -> Option<Slot> {
        let first = number.checked_mul(self.batch)?;
        let left = self.count.map_or(u64::MAX, |count| count.saturating_sub(first));
        if left == 0 {
            return None;
        }
        let due = self.rate.map(|rate| self.due(first, rate));
        let in_time = self.count.is_some() || due.is_none_or(|due| due < self.end());
        in_time.then_some(Slot { first, messages: self.batch.min(left), due })
    }

    /// How many requests are due when `elapsed` has passed; at most as many as there are.
    pub(crate) fn requests_due(&self, elapsed: Duration) -> u64 {
        let Some(rate) = self.rate else { return u64::MAX };
        // Message n is due at n / rate: of those due by now the last is floor(elapsed * rate).
        let last = elapsed.as_nanos() * u128::from(rate) / 1_000_000_000;
        let due = u64::try_from(last).unwrap_or(u64::MAX) / self.batch + 1;
        due.min(self.requests().unwrap_or(u64::MAX))
    }

    /// How many requests there are; none in a closed loop that is bounded by time.
    pub(crate) fn requests(&self) -> Option<u64> {
        match (self.count, self.rate) {
            (Some(count), _) => Some(count.div_ceil(self.batch)),
            (None, None) => None,
            (None, Some(rate)) => {
                let messages = (self.end().as_nanos() * u128::from(rate)).div_ceil(1_000_000_000);
                Some(u64::try_from(messages).unwrap_or(u64::MAX).div_ceil(self.batch))
            }
        }
    }

    /// When nothing new is sent any more, unless a count is given.
    pub(crate) fn end(&self) -> Duration {
        self.warm_up + self.duration
    }

    fn due(&self, message: u64, rate: u64) -> Duration {
        let nanos = u128::from(message) * 1_000_000_000 / u128::from(rate);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(rate: Option<u64>, batch: u64, count: Option<u64>) -> Schedule {
        let (warm_up, duration) = (Duration::from_secs(1), Duration::from_secs(2));
        Schedule { rate, batch, count, warm_up, duration }
    }

    #[test]
    fn intended_times_do_not_drift() {
        let thirds = schedule(Some(3), 1, Some(10));
        let due = |number| thirds.request(number).unwrap().due.unwrap();
        assert_eq!(due(0), Duration::ZERO);
        assert_eq!(due(1), Duration::from_nanos(333_333_333));
        assert_eq!(due(3), Duration::from_secs(1));
        assert_eq!(due(9), Duration::from_secs(3));
        assert_eq!(thirds.request(10), None);
    }

    #[test]
    fn a_batch_is_due_with_its_first_message_and_the_last_may_be_short() {
        let batches = schedule(Some(100), 32, Some(70));
        assert_eq!(batches.requests(), Some(3));
        let last = batches.request(2).unwrap();
        assert_eq!((last.first, last.messages, last.due), (64, 6, Some(Duration::from_millis(640))));
        assert_eq!(batches.request(3), None);
    }

    #[test]
    fn what_is_due_is_what_the_requests_say() {
        for batch in [1, 7, 32] {
            for count in [None, Some(50), Some(5000)] {
                let schedule = schedule(Some(997), batch, count);
                for ms in (0..4000).step_by(37) {
                    let elapsed = Duration::from_millis(ms);
                    let due = (0..).map_while(|number| schedule.request(number));
                    let due = due.take_while(|slot| slot.due.unwrap() <= elapsed).count() as u64;
                    assert_eq!(schedule.requests_due(elapsed), due, "{schedule:?} at {ms} ms");
                }
            }
        }
    }

    #[test]
    fn time_bounds_a_load_without_a_count() {
        let load = schedule(Some(10), 1, None);
        assert_eq!(load.requests(), Some(30));
        assert!(load.request(29).is_some() && load.request(30).is_none());
        let closed = schedule(None, 1, None);
        assert_eq!(closed.requests(), None);
        assert_eq!(closed.request(1 << 40).unwrap().due, None);
    }
}
