//! The clients of a run: official ones as programs, and one of our own that asks often enough to see a short silence.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use trials::ledger::What;
use trials::wire::Wire;

use super::book::{Book, Sender};
use super::stop::Stop;
use crate::clients::{Consumer, Heard, Language, Line, Program, consume, produce};

/// The topic without an order, and the one with message groups.
pub(super) const NORMAL: &str = "orders";
/// The topic with message groups.
pub(super) const FIFO: &str = "steps";
/// The consumer group of each of the two.
pub(super) const LIVE: &str = "live";
/// The one that keeps the order.
pub(super) const ORDERED: &str = "walkers";

/// Bodies are filled up to so much.
const BODY: usize = 300;
/// Between two sends of our own client.
const BEAT: Duration = Duration::from_millis(50);
/// How long one of them waits for its answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// More of them do not wait at a time.
const MOST_WAITING: usize = 40;
/// A program that is not meant to end by itself.
const FOREVER: usize = 1_000_000_000;

/// Everything that sends and receives.
pub(super) struct Traffic {
    programs: Vec<Heard>,
    consumers: Vec<Heard>,
    /// What each program sends first.
    first: Vec<String>,
    runtime: Runtime,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// What a sender tells the book.
struct Story {
    book: Arc<Book>,
    sender: Sender,
    topic: &'static str,
    key: Option<String>,
}

impl Traffic {
    /// Starts it; official clients send so much a second in all, ours 20.
    pub(super) fn start(book: &Arc<Book>, access_point: &str, rate: usize, logs: &Path) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let mut traffic = Self {
            programs: Vec::new(),
            consumers: Vec::new(),
            first: Vec::new(),
            runtime,
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        };
        let consumers =
            [(Language::Go, Consumer::Push, NORMAL, LIVE), (Language::Java, Consumer::Push, FIFO, ORDERED)];
        for (language, kind, topic, group) in consumers {
            let program = consume(language, kind, access_point, topic, group)?;
            traffic.consumers.push(receiver(book, program.idle(FOREVER), logs)?);
        }
        for (sender, language) in [(Sender::Java, Language::Java), (Sender::Go, Language::Go)] {
            for topic in [NORMAL, FIFO] {
                let prefix = format!("{language}-{topic}-");
                traffic.first.push(format!("{prefix}0"));
                let key = (topic == FIFO).then(|| format!("of-{language}"));
                let mut program = produce(language, access_point, topic, FOREVER)?
                    .prefix(&prefix)
                    .rate((rate / 4).max(1))
                    .flag("--announce")
                    .with("--bytes", &BODY.to_string());
                if let Some(key) = &key {
                    program = program.with("--message-group", key);
                }
                let story = Story { book: Arc::clone(book), sender, topic, key };
                traffic.programs.push(program.listen(logs, move |line| story.hear(line))?);
            }
        }
        let beating =
            beat(Arc::clone(book), access_point.to_owned(), traffic.stop.clone(), traffic.tasks.clone());
        traffic.tasks.spawn_on(beating, traffic.runtime.handle());
        Ok(traffic)
    }

    /// Waits until all clients are set up: who finds no broker while it begins does not come back.
    pub(super) fn flows(&self, book: &Book, limit: Duration, stop: &Stop) -> Result<()> {
        book.acknowledged_each(&self.first, limit, stop)?;
        book.delivered_all(limit, stop)
    }

    /// An error if one of them has ended.
    pub(super) fn ensure_running(&mut self) -> Result<()> {
        self.programs.iter_mut().chain(&mut self.consumers).try_for_each(Heard::ensure_running)
    }

    /// Nothing is sent any more.
    pub(super) fn stop_sending(&mut self) -> Result<()> {
        self.stop.cancel();
        self.tasks.close();
        self.runtime.block_on(self.tasks.wait());
        self.programs.drain(..).try_for_each(Heard::kill)
    }
}

/// A consumer that tells the book.
pub(super) fn receiver(book: &Arc<Book>, program: Program, logs: &Path) -> Result<Heard> {
    let book = Arc::clone(book);
    program.listen(logs, move |line| {
        if let Line::Received { body, attempt, .. } = line {
            book.delivered(name(&body), attempt.unsigned_abs(), body.as_bytes());
        }
    })
}

impl Story {
    fn hear(&self, line: Line) {
        match line {
            Line::Sending { sending } => {
                self.book.attempt(name(&sending), self.topic, self.key.as_deref(), sending.as_bytes());
            }
            Line::Sent { body, .. } => self.book.acknowledged(self.sender, &body),
            // Why an official client gave up does not say whether one of its tries was heard.
            Line::Failed { body, .. } => self.book.failed(self.sender, &body, What::Unknown),
            Line::Received { .. } | Line::Recalled { .. } | Line::Asked { .. } => {}
        }
    }
}

/// A body is the message's name, filled up.
fn name(body: &str) -> &str {
    body.trim_end_matches('x')
}

/// Sends at every beat, however long the answers take.
async fn beat(book: Arc<Book>, access_point: String, stop: CancellationToken, tasks: TaskTracker) {
    let (found, mut route) = watch::channel(None);
    let stale = Arc::new(AtomicBool::new(true));
    let finding = find(access_point, Arc::clone(&stale), found);
    tasks.spawn(stop.clone().run_until_cancelled_owned(finding));
    if stop.run_until_cancelled(route.wait_for(Option::is_some)).await.is_none() {
        return;
    }
    let next = AtomicU64::new(0);
    let waiting = Arc::new(tokio::sync::Semaphore::new(MOST_WAITING));
    let mut beats = tokio::time::interval(BEAT);
    beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while stop.run_until_cancelled(beats.tick()).await.is_some() {
        let Ok(permit) = Arc::clone(&waiting).try_acquire_owned() else { continue };
        let Some(mut wire): Option<Wire> = route.borrow().clone() else { continue };
        let (book, stale) = (Arc::clone(&book), Arc::clone(&stale));
        let name = format!("raw-{}", next.fetch_add(1, Ordering::Relaxed));
        tasks.spawn(async move {
            let _permit = permit;
            let body: Vec<u8> = name.bytes().chain(std::iter::repeat(b'x')).take(BODY).collect();
            book.attempt(&name, NORMAL, None, &body);
            match tokio::time::timeout(PATIENCE, wire.send(NORMAL, &name, body)).await {
                Ok(Ok(_)) => book.acknowledged(Sender::Raw, &name),
                Ok(Err(refusal)) => {
                    stale.store(true, Ordering::Relaxed);
                    book.failed(Sender::Raw, &name, refusal.outcome());
                }
                Err(_) => {
                    stale.store(true, Ordering::Relaxed);
                    book.failed(Sender::Raw, &name, What::Unknown);
                }
            }
        });
    }
}

/// Asks for the route whenever a send failed.
async fn find(access_point: String, stale: Arc<AtomicBool>, found: watch::Sender<Option<Wire>>) {
    loop {
        if stale.swap(false, Ordering::Relaxed) {
            match tokio::time::timeout(PATIENCE, Wire::of_topic(&access_point, NORMAL, "chaos")).await {
                Ok(Ok(wire)) => {
                    found.send_replace(Some(wire));
                }
                _ => stale.store(true, Ordering::Relaxed),
            }
        }
        tokio::time::sleep(BEAT).await;
    }
}

/// Reads both topics from their beginnings as groups of their own, until all that was acknowledged came.
pub(super) fn audit(
    book: &Arc<Book>,
    access_point: &str,
    logs: &Path,
    limit: Duration,
    stop: &super::stop::Stop,
) -> Result<()> {
    let logs = logs.join("audit");
    std::fs::create_dir_all(&logs)?;
    let mut readers = Vec::new();
    for topic in [NORMAL, FIFO] {
        let program = consume(Language::Go, Consumer::Simple, access_point, topic, "audit")?;
        // A few that nobody acknowledged may come behind the last that somebody did.
        readers.push(receiver(book, program.idle(10), &logs)?);
    }
    book.delivered_all(limit, stop).context("the audit")?;
    readers.into_iter().try_for_each(|reader| reader.ended(Duration::from_secs(60)))
}
