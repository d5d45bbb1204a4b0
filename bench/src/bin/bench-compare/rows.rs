//! What was measured, and whether it counts.

use bench::load::Outcome;

use crate::servers::Who;

/// What was measured in one scenario.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Figures {
    /// Messages a second.
    pub(crate) rate: Option<f64>,
    /// MB of bodies a second.
    pub(crate) megabytes: Option<f64>,
    /// CPU time of the server for a message, µs.
    pub(crate) cpu_us: Option<f64>,
    /// Latency, ms.
    pub(crate) p50: Option<f64>,
    /// Latency, ms.
    pub(crate) p99: Option<f64>,
    /// Latency, ms.
    pub(crate) p999: Option<f64>,
    /// Latency, ms.
    pub(crate) max: Option<f64>,
    /// Messages for each flush of the log.
    pub(crate) per_flush: Option<f64>,
    /// From exec to the first acknowledged send, ms.
    pub(crate) start_ms: Option<f64>,
    /// Memory of its own after the start, MiB.
    pub(crate) idle_mib: Option<f64>,
    /// The same after all loads, or with idle clients.
    pub(crate) loaded_mib: Option<f64>,
    /// For an idle client, KiB.
    pub(crate) idle_kib: Option<f64>,
    /// Share of one CPU with all idle clients, percent.
    pub(crate) idle_share: Option<f64>,
}

/// One scenario of one server in one round.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) scenario: &'static str,
    pub(crate) who: Who,
    pub(crate) round: usize,
    pub(crate) figures: Figures,
    /// Why it does not count.
    pub(crate) void: Option<String>,
    /// What must be said beside a row that counts.
    pub(crate) note: Option<String>,
}

impl Row {
    /// Figures that count.
    pub(crate) fn new(scenario: &'static str, who: Who, round: usize, figures: Figures) -> Self {
        Self { scenario, who, round, figures, void: None, note: None }
    }

    /// What came to nothing.
    pub(crate) fn failed(scenario: &'static str, who: Who, round: usize, error: &anyhow::Error) -> Self {
        let why = format!("{error:#}").split_whitespace().collect::<Vec<_>>().join(" ");
        Self { void: Some(why), ..Self::new(scenario, who, round, Figures::default()) }
    }

    /// Says why it does not count when others had more of the CPUs than `most`, calls failed or nothing was measured. When a rate
    /// was too high only the rate that was reached is kept: what was never sent has no latency, and those of the rest would flatter.
    pub(crate) fn judged(mut self, outcome: &Outcome, foreign: f64, most: f64) -> Self {
        if foreign > most {
            self.void = Some(format!("others had {:.0} % of the CPUs", foreign * 100.0));
        } else if !outcome.errors.is_empty() {
            self.void = Some(format!("calls failed: {:?}", outcome.errors));
        } else if self.figures.rate.is_none_or(|rate| rate <= 0.0) {
            self.void = Some("nothing was measured: far too slow for this rate".to_owned());
        }
        let unsent = outcome.sent.as_ref().map_or(0, |sent| sent.unsent);
        if unsent > 0 {
            self.note = Some(format!("{unsent} messages were due and never sent"));
            self.figures = Figures { rate: self.figures.rate, ..Figures::default() };
        }
        self
    }
}

impl Figures {
    /// Of a load, with the latency of that name.
    pub(crate) fn of(outcome: &Outcome, latency: &str) -> Self {
        let latency = outcome.latency(latency);
        // A flow is as fast as it is sent; what is sent beforehand, as it is received.
        let received = outcome.received.as_ref().map(|received| received.rate);
        Self {
            rate: outcome.sent.as_ref().map(|sent| sent.rate).or(received),
            cpu_us: outcome.server_cpu_micros,
            p50: latency.map(|latency| latency.p50),
            p99: latency.map(|latency| latency.p99),
            p999: latency.map(|latency| latency.p999),
            max: latency.map(|latency| latency.max),
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use bench::load::{Errors, Latency, Sent};

    use super::*;

    fn judged(rate: f64, unsent: u64, errors: Vec<Errors>, foreign: f64) -> Row {
        let sent = Some(Sent { acknowledged: 9, rate, unsent });
        let latencies = vec![Latency { of: "send".to_owned(), p50: 1.0, p99: 2.0, p999: 3.0, max: 4.0 }];
        let outcome = Outcome { sent, received: None, latencies, errors, server_cpu_micros: Some(5.0) };
        let row = Row::new("closed", Who::Gantry, 1, Figures::of(&outcome, "send"));
        row.judged(&outcome, foreign, 0.1)
    }

    #[test]
    fn noise_failed_calls_and_nothing_at_all_void_a_row() {
        let failed = Errors { code: "TRANSPORT".to_owned(), count: 1, first: "gone".to_owned() };
        assert_eq!(judged(3.0, 0, Vec::new(), 0.25).void.unwrap(), "others had 25 % of the CPUs");
        assert!(judged(3.0, 0, vec![failed], 0.0).void.unwrap().starts_with("calls failed"));
        assert!(judged(0.0, 7, Vec::new(), 0.0).void.unwrap().starts_with("nothing was measured"));
        let row = judged(3.0, 0, Vec::new(), 0.05);
        assert_eq!((row.void, row.figures.p99, row.figures.cpu_us), (None, Some(2.0), Some(5.0)));
    }

    #[test]
    fn of_a_rate_that_was_not_kept_only_the_rate_counts() {
        let row = judged(3.0, 7, Vec::new(), 0.0);
        assert_eq!((row.void, row.note.as_deref()), (None, Some("7 messages were due and never sent")));
        assert_eq!(row.figures, Figures { rate: Some(3.0), ..Figures::default() });
    }
}
