//! What came of a load, as it is printed.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::plan::Plan;
use super::recorder::{Recorder, Second};
use super::run::Run;
use crate::failure::Failure;
use crate::output::{Paint, Table, View};
use crate::row;
use crate::units;

/// The result of a load. Rates are messages a second, latencies milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// The scenario.
    pub scenario: String,
    /// Where the load went.
    pub endpoint: String,
    /// What the load was, in words.
    pub load: String,
    /// What was sent, if the scenario sends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent: Option<Sent>,
    /// What came, if the scenario receives.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub received: Option<Received>,
    /// What was timed, from the first step to the last.
    pub latencies: Vec<Latency>,
    /// Calls that failed, by code.
    pub errors: Vec<Errors>,
    /// CPU time of the server for each message, in microseconds, where its process was named: of the messages that are
    /// measured, or of all that came where none are sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_cpu_micros: Option<f64>,
    /// Somebody stopped it before its time.
    pub interrupted: bool,
}

/// What was sent.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Sent {
    /// Messages that the server acknowledged, those before the measurement included.
    pub acknowledged: u64,
    /// Those that are measured.
    pub measured: u64,
    /// How long was measured, in seconds.
    pub seconds: f64,
    /// Measured messages a second.
    pub rate: f64,
    /// Messages that were due and never sent, since the server was too slow for the rate.
    pub unsent: u64,
}

/// What came.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Received {
    /// Different messages, of this load and of earlier ones.
    pub distinct: u64,
    /// Messages that had come before.
    pub duplicates: u64,
    /// Messages that no `gantry bench` sent.
    pub foreign: u64,
    /// From the first to the last, in seconds.
    pub seconds: f64,
    /// Messages a second meanwhile.
    pub rate: f64,
    /// Messages of this load that were acknowledged to their sender and never came.
    pub missing: u64,
    /// Messages of a FIFO load that came after a later one of their message group.
    pub out_of_order: u64,
    /// Messages that came before they were due.
    pub early: u64,
}

/// How long something took, in milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Latency {
    /// What.
    pub of: String,
    /// How often.
    pub count: u64,
    /// The mean.
    pub mean: f64,
    /// Half took no longer.
    pub p50: f64,
    /// 90 % took no longer.
    pub p90: f64,
    /// 99 % took no longer.
    pub p99: f64,
    /// 99.9 % took no longer.
    pub p999: f64,
    /// 99.99 % took no longer.
    pub p9999: f64,
    /// The longest.
    pub max: f64,
    /// Shares of what was measured, from 0 to 1, and what they did not exceed.
    pub curve: Vec<(f64, f64)>,
    /// Second by second: when it ended, how often, p50, p99 and the longest.
    pub seconds: Vec<(f64, u64, f64, f64, f64)>,
}

/// Errors of one code.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Errors {
    /// The protocol's code, or UNREACHABLE, TRANSPORT or PROTOCOL.
    pub code: String,
    /// How often.
    pub count: u64,
    /// The first one's words.
    pub first: String,
}

impl Outcome {
    pub(crate) fn of(run: &Run, endpoint: &str) -> Self {
        use std::sync::atomic::Ordering::Relaxed;

        let at = |ns: &std::sync::atomic::AtomicU64| Duration::from_nanos(ns.load(Relaxed));
        let counts = &run.counts;
        let ledger = run.ledger();
        let sent = run.plan.sending.as_ref().map(|sending| {
            let measured = counts.measured.load(Relaxed);
            let length = at(&counts.measured_until).saturating_sub(sending.schedule.warm_up);
            Sent {
                acknowledged: ledger.acknowledged_count,
                measured,
                seconds: rounded(length.as_secs_f64()),
                rate: rate(measured, length),
                unsent: run.unsent(),
            }
        });
        let received = run.plan.receiving.as_ref().map(|_| {
            let length = at(&counts.last_receipt).saturating_sub(at(&counts.first_receipt));
            Received {
                distinct: ledger.distinct,
                duplicates: ledger.duplicates,
                foreign: ledger.foreign,
                seconds: rounded(length.as_secs_f64()),
                rate: rate(ledger.distinct, length),
                missing: ledger.missing(run.load),
                out_of_order: if run.plan.scenario == "fifo" { ledger.out_of_order } else { 0 },
                early: counts.early.load(Relaxed),
            }
        });
        let messages = sent.as_ref().map_or(ledger.distinct, |sent| sent.measured);
        drop(ledger);
        let recorder = run.recorder();
        Self {
            scenario: run.plan.scenario.to_owned(),
            endpoint: endpoint.to_owned(),
            load: words(&run.plan),
            sent,
            received,
            latencies: latencies(&recorder),
            errors: errors(&recorder),
            server_cpu_micros: run
                .server_cpu()
                .map(|cpu| rounded(cpu.as_secs_f64() * 1e6 / messages.max(1) as f64)),
            interrupted: run.was_interrupted(),
        }
    }

    /// What the load shows to be wrong, if anything: the command ends with exit code 1 then.
    pub(crate) fn verdict(&self) -> Result<(), Failure> {
        let first = self.errors.first().map(|errors| format!(": {}", errors.first)).unwrap_or_default();
        if self.sent.as_ref().is_some_and(|sent| sent.acknowledged == 0) {
            return Err(Failure::failed(format!("nothing was acknowledged{first}")));
        }
        let Some(received) = &self.received else { return Ok(()) };
        if received.missing > 0 && !self.interrupted {
            let missing = units::counted(received.missing, "acknowledged message");
            return Err(Failure::failed(format!("{missing} did not come{first}"))
                .next("they may still come: --patience waits longer"));
        }
        if received.distinct == 0 && received.foreign == 0 && !self.errors.is_empty() {
            return Err(Failure::failed(format!("nothing was received{first}")));
        }
        if received.out_of_order > 0 {
            let late = units::counted(received.out_of_order, "message");
            return Err(Failure::failed(format!("{late} came out of order")));
        }
        if received.early > 0 {
            let early = units::counted(received.early, "message");
            return Err(Failure::failed(format!("{early} came before they were due")));
        }
        Ok(())
    }
}

/// The load in a line.
fn words(plan: &Plan) -> String {
    let connections = units::counted(plan.connections as u64, "connection");
    let mut parts = vec![match plan.topics.as_slice() {
        [topic] => format!("topic {topic}"),
        topics => format!("{} topics", topics.len()),
    }];
    if let Some(sending) = &plan.sending {
        parts.push(format!("{connections} × {} in flight", sending.in_flight));
        parts.push(units::bytes(sending.bytes as u64));
        if sending.schedule.batch > 1 {
            parts.push(format!("{} a request", sending.schedule.batch));
        }
        parts.push(match sending.schedule.rate {
            Some(rate) => format!("open loop, {rate} a second"),
            None => "closed loop".to_owned(),
        });
        let delay = sending.kind.delay();
        if !delay.is_zero() {
            parts.push(format!("due after {}", units::duration(delay)));
        }
        if !sending.schedule.warm_up.is_zero() {
            parts.push(format!("{} of warm-up", units::duration(sending.schedule.warm_up)));
        }
    }
    if let Some(receiving) = &plan.receiving {
        parts.push(format!("group {}, {connections} × {} polls", receiving.group, receiving.polls));
    }
    parts.push(match plan.count {
        Some(count) => units::counted(count, "message"),
        None => units::duration(plan.duration),
    });
    parts.join(", ")
}

fn latencies(recorder: &Recorder) -> Vec<Latency> {
    let of = |(operation, track): (&super::recorder::Operation, &super::recorder::Track)| {
        let total = &track.total;
        let at = |share| ms(total.value_at_quantile(share));
        let second =
            |s: &Second| (rounded(s.at.as_secs_f64()), s.count, ms(s.p50_us), ms(s.p99_us), ms(s.max_us));
        Latency {
            of: operation.name().to_owned(),
            count: total.len(),
            mean: rounded(total.mean() / 1e3),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            p9999: at(0.9999),
            max: ms(total.max()),
            curve: curve(total),
            seconds: track.seconds.iter().map(second).collect(),
        }
    };
    recorder.tracks.iter().map(of).collect()
}

/// Points at which the rest halves, a few to each half, to the last single one.
fn curve(total: &Histogram<u64>) -> Vec<(f64, f64)> {
    total.iter_quantiles(4).map(|step| (step.quantile(), ms(step.value_iterated_to()))).collect()
}

fn errors(recorder: &Recorder) -> Vec<Errors> {
    let failures = recorder.failures.iter();
    let one = |(code, is): (&String, &super::recorder::Failures)| Errors {
        code: code.clone(),
        count: is.count,
        first: is.first.clone(),
    };
    let mut errors: Vec<_> = failures.map(one).collect();
    errors.sort_by_key(|errors| std::cmp::Reverse(errors.count));
    errors
}

fn ms(micros: u64) -> f64 {
    micros as f64 / 1e3
}

fn rate(messages: u64, length: Duration) -> f64 {
    if length.is_zero() { 0.0 } else { rounded(messages as f64 / length.as_secs_f64()) }
}

fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

impl View for Outcome {
    fn text(&self, paint: Paint) -> String {
        let mut text = format!("{} at {}: {}\n", paint.heading(&self.scenario), self.endpoint, self.load);
        if let Some(sent) = &self.sent {
            let Sent { acknowledged, measured, seconds, rate, unsent } = sent;
            text += &format!(
                "sent       {rate:.0} a second: {measured} in {seconds:.1} s, {acknowledged} in all\n"
            );
            if *unsent > 0 {
                text += &paint
                    .bad(&format!("           {unsent} were due and not sent: too slow for this rate\n"));
            }
        }
        if let Some(received) = &self.received {
            let Received { distinct, duplicates, foreign, seconds, rate, missing, out_of_order, early } =
                received;
            text += &format!("received   {rate:.0} a second: {distinct} in {seconds:.1} s");
            for (count, what) in [(duplicates, "more than once"), (foreign, "of somebody else")] {
                if *count > 0 {
                    text += &format!(", {count} {what}");
                }
            }
            for (count, what) in [(missing, "missing"), (out_of_order, "out of order"), (early, "too early")]
            {
                if *count > 0 {
                    text += &paint.bad(&format!(", {count} {what}"));
                }
            }
            text.push('\n');
        }
        let mut table = Table::new(["MS", "COUNT", "MEAN", "P50", "P90", "P99", "P99.9", "P99.99", "MAX"]);
        for latency in &self.latencies {
            let Latency { of, count, mean, p50, p90, p99, p999, p9999, max, curve: _, seconds: _ } = latency;
            let [mean, p50, p90, p99, p999, p9999, max] =
                [mean, p50, p90, p99, p999, p9999, max].map(|ms| format!("{ms:.3}"));
            table.row(row![of, count, mean, p50, p90, p99, p999, p9999, max]);
        }
        text += &table.text(paint);
        if let Some(micros) = self.server_cpu_micros {
            text += &format!("\nCPU time of the server: {micros:.1} µs a message");
        }
        for Errors { code, count, first } in &self.errors {
            text += &format!("\n{} {count} × {code}: {first}", paint.bad("failed"));
        }
        if self.interrupted {
            text += "\ninterrupted before its time";
        }
        text
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use insta::assert_snapshot;

    use super::*;
    use crate::bench::recorder::Operation;
    use crate::output::{Format, render};

    pub(crate) fn outcome() -> Outcome {
        let mut recorder = Recorder::default();
        for micros in 1..=1000 {
            recorder.record(Operation::EndToEnd, Duration::from_micros(micros), true);
        }
        recorder.end_second(Duration::from_secs(1));
        recorder.fail(&crate::client::Error::Refused {
            code: proto::v2::Code::TooManyRequests,
            message: "TOO_MANY_REQUESTS: slow down".to_owned(),
        });
        Outcome {
            scenario: "fifo".to_owned(),
            endpoint: "127.0.0.1:8081".to_owned(),
            load: "topic t, closed loop".to_owned(),
            sent: Some(Sent { acknowledged: 1200, measured: 1000, seconds: 2.0, rate: 500.0, unsent: 7 }),
            received: Some(Received {
                distinct: 1199,
                duplicates: 2,
                foreign: 0,
                seconds: 2.5,
                rate: 479.6,
                missing: 1,
                out_of_order: 0,
                early: 0,
            }),
            latencies: latencies(&recorder),
            errors: errors(&recorder),
            server_cpu_micros: Some(31.25),
            interrupted: false,
        }
    }

    #[test]
    fn a_result_fits_on_a_few_lines() {
        let text = render(&outcome(), Format::Table, Paint(false)).unwrap();
        assert_snapshot!(text, @"
        fifo at 127.0.0.1:8081: topic t, closed loop
        sent       500 a second: 1000 in 2.0 s, 1200 in all
                   7 were due and not sent: too slow for this rate
        received   480 a second: 1199 in 2.5 s, 2 more than once, 1 missing
        MS           COUNT   MEAN    P50     P90     P99     P99.9   P99.99   MAX
        end to end   1000    0.500   0.500   0.900   0.990   0.999   1.000    1.000
        CPU time of the server: 31.2 µs a message
        failed 1 × TOO_MANY_REQUESTS: TOO_MANY_REQUESTS: slow down
        ");
    }

    #[test]
    fn the_curve_goes_to_the_longest_and_never_falls() {
        let Outcome { latencies, .. } = outcome();
        let curve = &latencies[0].curve;
        assert!(curve.is_sorted_by(|a, b| a.0 <= b.0 && a.1 <= b.1), "{curve:?}");
        assert_eq!(curve.last().map(|last| last.0), Some(1.0));
        assert!(curve.len() < 100, "{}", curve.len());
    }

    #[test]
    fn what_is_lost_late_or_out_of_order_fails_the_command() {
        let check = |change: fn(&mut Outcome), expected: &str| {
            let mut outcome = outcome();
            outcome.received.as_mut().unwrap().missing = 0;
            change(&mut outcome);
            match outcome.verdict() {
                Ok(()) => assert_eq!(expected, ""),
                Err(failure) => assert!(failure.to_string().contains(expected), "{failure}"),
            }
        };
        check(|_| (), "");
        check(
            |it| it.received.as_mut().unwrap().missing = 2,
            "2 acknowledged messages did not come: TOO_MANY",
        );
        check(|it| it.received.as_mut().unwrap().out_of_order = 1, "1 message came out of order");
        check(|it| it.received.as_mut().unwrap().early = 3, "3 messages came before they were due");
        check(|it| it.sent.as_mut().unwrap().acknowledged = 0, "nothing was acknowledged");
    }
}
