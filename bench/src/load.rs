//! A closed loop: so many connections, so many sends under way on each; one that is answered is
//! followed by the next.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use tokio::task::JoinSet;

use crate::figures::{Sorted, ms};
use crate::process::cpu_time;
use crate::wire;

/// What the load is.
#[derive(Debug, Clone, clap::Args)]
pub struct Load {
    /// Connections
    #[arg(long, default_value_t = 4)]
    pub connections: usize,
    /// Sends under way on each connection
    #[arg(long, default_value_t = 32)]
    pub in_flight: usize,
    /// Bytes of a body
    #[arg(long, default_value_t = 1024)]
    pub bytes: usize,
    /// Seconds that are measured
    #[arg(long, default_value_t = 10)]
    pub seconds: u64,
    /// Seconds before, which are not
    #[arg(long, default_value_t = 2)]
    pub warm_up: u64,
    /// The topic; it must exist
    #[arg(long, default_value = "bench")]
    pub topic: String,
    /// Send to so many topics in turn, TOPIC-1 and so on; 0: to the one
    #[arg(long, default_value_t = 0)]
    pub spread_over: u64,
    /// Queues of the topic to spread over
    #[arg(long, default_value_t = 8)]
    pub queues: u64,
    /// Let each message wait so many seconds; 0: deliver it at once
    #[arg(long, default_value_t = 0)]
    pub delay_seconds: u64,
}

/// What came of it, within the seconds that are measured.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Acknowledged sends.
    pub acknowledged: u64,
    /// Sends that were not.
    pub failed: u64,
    /// The first reason.
    pub first_failure: Option<String>,
    /// How long was measured.
    pub elapsed: Duration,
    /// From send to answer.
    pub latency: Sorted,
    /// CPU time that the server used.
    pub server_cpu: Option<Duration>,
}

impl Outcome {
    /// Acknowledged sends a second.
    pub fn rate(&self) -> f64 {
        self.acknowledged as f64 / self.elapsed.as_secs_f64()
    }

    /// The server's CPU time for each acknowledged send, in microseconds.
    pub fn cpu_us(&self) -> Option<f64> {
        self.server_cpu.map(|cpu| cpu.as_secs_f64() * 1e6 / self.acknowledged.max(1) as f64)
    }

    /// The names of the columns of [`row`](Self::row).
    pub const HEAD: &str = "   sends/s   p50 ms    p99 ms  p99.9 ms  CPU µs/send   failed";

    /// The figures in one line.
    pub fn row(&self) -> String {
        let cpu = self.cpu_us().map_or("-".to_owned(), |us| format!("{us:.1}"));
        let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|share| ms(self.latency.at(share)));
        format!("{:>10.0} {p50:>8} {p99:>9} {p999:>9} {cpu:>12} {:>8}", self.rate(), self.failed)
    }
}

/// Counts of all workers.
#[derive(Default)]
struct Counts {
    measuring: AtomicBool,
    stop: AtomicBool,
    next_id: AtomicU64,
}

impl Load {
    /// Runs the load against `address`; `pid` is the server whose CPU time is counted.
    pub async fn run(&self, address: &str, pid: Option<u32>) -> anyhow::Result<Outcome> {
        let counts = Arc::new(Counts::default());
        // Not all zero: a store that compresses, or a disk that does, gains nothing.
        let body: Bytes =
            (0..self.bytes).map(|index| (index.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let mut workers = JoinSet::new();
        for connection in 0..self.connections {
            let stub = wire::connect(address, connection).await?;
            for _ in 0..self.in_flight {
                let worker = Worker {
                    stub: stub.clone(),
                    counts: counts.clone(),
                    topic: self.topic.clone(),
                    topics: self.spread_over,
                    queues: self.queues,
                    delay_seconds: self.delay_seconds,
                    body: body.clone(),
                };
                workers.spawn(worker.run());
            }
        }
        tokio::time::sleep(Duration::from_secs(self.warm_up)).await;
        let cpu_before = pid.map(cpu_time).transpose()?;
        let started = Instant::now();
        counts.measuring.store(true, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_secs(self.seconds)).await;
        counts.measuring.store(false, Ordering::Relaxed);
        let elapsed = started.elapsed();
        let cpu_after = pid.map(cpu_time).transpose()?;
        counts.stop.store(true, Ordering::Relaxed);

        let mut latencies = Vec::new();
        let (mut failed, mut first_failure) = (0, None);
        while let Some(done) = workers.join_next().await {
            let done = done.context("a worker panicked")?;
            latencies.extend(done.latencies);
            failed += done.failed;
            first_failure = first_failure.or(done.first_failure);
        }
        Ok(Outcome {
            acknowledged: latencies.len() as u64,
            failed,
            first_failure,
            elapsed,
            latency: Sorted::new(latencies),
            server_cpu: cpu_before.zip(cpu_after).map(|(before, after)| after.saturating_sub(before)),
        })
    }
}

struct Worker {
    stub: wire::Stub,
    counts: Arc<Counts>,
    topic: String,
    topics: u64,
    queues: u64,
    delay_seconds: u64,
    body: Bytes,
}

#[derive(Default)]
struct Done {
    latencies: Vec<Duration>,
    failed: u64,
    first_failure: Option<String>,
}

impl Worker {
    async fn run(mut self) -> Done {
        let mut done = Done::default();
        while !self.counts.stop.load(Ordering::Relaxed) {
            let number = self.counts.next_id.fetch_add(1, Ordering::Relaxed);
            let queue_id = (number % self.queues.max(1)) as i32;
            // 34 digits, as the ids of official clients.
            let id = format!("01BE7C00000000{number:020}");
            let numbered =
                self.topics.checked_sub(1).map(|_| format!("{}-{}", self.topic, number % self.topics + 1));
            let topic = numbered.as_deref().unwrap_or(&self.topic);
            let mut message = wire::message(topic, id, queue_id, self.body.clone());
            if self.delay_seconds > 0 {
                let due = std::time::SystemTime::now() + Duration::from_secs(self.delay_seconds);
                let due = due.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
                wire::delay(&mut message, i64::try_from(due.as_millis()).unwrap_or(i64::MAX));
            }
            let sent = Instant::now();
            let outcome = wire::send(&mut self.stub, message).await;
            let latency = sent.elapsed();
            if !self.counts.measuring.load(Ordering::Relaxed) {
                if outcome.is_err() {
                    // Do not spin on a server that refuses or is gone.
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                continue;
            }
            match outcome {
                Ok(()) => done.latencies.push(latency),
                Err(error) => {
                    done.failed += 1;
                    done.first_failure.get_or_insert_with(|| format!("{error:#}"));
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        }
        done
    }
}
