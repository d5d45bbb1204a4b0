//! Latencies by operation, second by second and in all, and errors by code. No clock of its own.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::client::Error;

/// What is timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Operation {
    /// From the intended time of sending to the answer.
    Send,
    /// From the intended time of sending to the answer of the commit.
    Commit,
    /// From the call of a poll to the end of its answer, of those that brought messages.
    Receive,
    /// From the call of an acknowledgement to its answer.
    Acknowledge,
    /// From the intended time of sending, or from when a delayed message is due, to receipt.
    EndToEnd,
}

impl Operation {
    /// As it is printed.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Send => "send",
            Self::Commit => "commit",
            Self::Receive => "receive",
            Self::Acknowledge => "acknowledge",
            Self::EndToEnd => "end to end",
        }
    }
}

/// The latencies of one second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Second {
    /// The second's end, since the start of the load.
    pub(crate) at: Duration,
    /// How many there were.
    pub(crate) count: u64,
    /// Half were no longer, µs.
    pub(crate) p50_us: u64,
    /// 99 % were no longer, µs.
    pub(crate) p99_us: u64,
    /// The longest, µs.
    pub(crate) max_us: u64,
}

/// The latencies of one operation.
#[derive(Debug)]
pub(crate) struct Track {
    /// What was measured, in µs.
    pub(crate) total: Histogram<u64>,
    second: Histogram<u64>,
    /// Seconds that are over, what was not measured included.
    pub(crate) seconds: Vec<Second>,
}

/// Errors of one code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failures {
    /// How often.
    pub(crate) count: u64,
    /// The first one's words.
    pub(crate) first: String,
}

/// Everything that is measured.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    /// By operation; those that happen.
    pub(crate) tracks: BTreeMap<Operation, Track>,
    /// By code: there are no more than the protocol has.
    pub(crate) failures: BTreeMap<String, Failures>,
}

/// 1 µs to an hour, to three digits: what is longer counts as an hour.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 3_600_000_000, 3).expect("these bounds are good ones")
}

impl Recorder {
    /// An operation took this long; unmeasured ones only show in their second.
    pub(crate) fn record(&mut self, operation: Operation, took: Duration, measured: bool) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let track = self.tracks.entry(operation).or_insert_with(|| Track {
            total: histogram(),
            second: histogram(),
            seconds: Vec::new(),
        });
        if measured {
            track.total.saturating_record(micros.max(1));
        }
        track.second.saturating_record(micros.max(1));
    }

    /// A call failed.
    pub(crate) fn fail(&mut self, error: &Error) {
        let code = match error {
            Error::Refused { code, .. } => code.as_str_name(),
            Error::Unreachable { .. } => "UNREACHABLE",
            Error::Transport { .. } => "TRANSPORT",
            Error::Protocol { .. } => "PROTOCOL",
            Error::NoQueue { .. } => "NO_QUEUE",
        };
        let first = || Failures { count: 0, first: error.to_string() };
        self.failures.entry(code.to_owned()).or_insert_with(first).count += 1;
    }

    /// A second is over.
    pub(crate) fn end_second(&mut self, at: Duration) {
        for track in self.tracks.values_mut() {
            track.seconds.push(Second {
                at,
                count: track.second.len(),
                p50_us: track.second.value_at_quantile(0.5),
                p99_us: track.second.value_at_quantile(0.99),
                max_us: track.second.max(),
            });
            track.second.reset();
        }
    }

    /// How often calls failed.
    pub(crate) fn failed(&self) -> u64 {
        self.failures.values().map(|failures| failures.count).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unmeasured_latencies_show_in_their_second_only() {
        let mut recorder = Recorder::default();
        recorder.record(Operation::Send, Duration::from_millis(9), false);
        recorder.record(Operation::Send, Duration::from_micros(100), true);
        recorder.end_second(Duration::from_secs(1));
        let track = &recorder.tracks[&Operation::Send];
        assert_eq!((track.total.len(), track.total.max()), (1, 100));
        assert_eq!((track.seconds[0].count, track.seconds[0].p50_us), (2, 100));
        assert!((9_000..9_010).contains(&track.seconds[0].max_us), "{:?}", track.seconds);
        recorder.end_second(Duration::from_secs(2));
        assert_eq!(recorder.tracks[&Operation::Send].seconds[1].count, 0);
    }

    #[test]
    fn nothing_is_too_short_or_too_long_to_count() {
        let mut recorder = Recorder::default();
        recorder.record(Operation::Send, Duration::ZERO, true);
        recorder.record(Operation::Send, Duration::from_secs(86_400), true);
        assert_eq!(recorder.tracks[&Operation::Send].total.len(), 2);
    }

    #[test]
    fn errors_are_counted_by_code_with_the_first_ones_words() {
        let mut recorder = Recorder::default();
        for message in ["slow down", "again"] {
            let code = proto::v2::Code::TooManyRequests;
            recorder.fail(&Error::Refused { code, message: message.to_owned() });
        }
        let expected = Failures { count: 2, first: "slow down".to_owned() };
        assert_eq!(recorder.failures["TOO_MANY_REQUESTS"], expected);
        assert_eq!(recorder.failed(), 2);
    }
}
