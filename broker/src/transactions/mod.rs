//! Messages that are visible only once their producer says so.
//!
//! ```text
//!   send ─► half message, in the log ─────────► pending ── due ─► asks a producer, again and again
//!                                                  ▲                     │
//!   commit: message and end, in the log ◄──── end ─┴─────────────────────┘
//!   roll back, given up: end, in the log ◄─┘
//! ```
//!
//! Every transaction by itself: one that nobody ends holds up no other. What waits is in the log, so a restart finds it
//! again. A crash between a commit and its end asks the producer once more, who says the same; the message comes twice then.

mod pending;
mod records;
mod restore;

use std::sync::Arc;
use std::time::Duration;

use access::{TopicName, TransactionId};
use parking_lot::Mutex;
use store::{FetchError, QueueOffset, ReadError, Record};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(crate) use records::Prepared;

use crate::delivery::now_ms;
use crate::log::{self, Log};
use crate::meta::{self, Meta};
use crate::metrics::TransactionMetrics;
use pending::{Half, Pending, Replay};

/// Half messages looked at in one round; the next follows at once.
const ROUND: usize = 256;
/// With nobody there to ask, so soon it is looked again.
const LOOK_FOR_PRODUCERS: Duration = Duration::from_secs(5);
/// The disk refuses: so soon it is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// How often it is written down where a restart begins to read.
const KEEP_EVERY: Duration = Duration::from_secs(2);

/// When producers are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// How long a producer may take before it is asked, unless the message says.
    pub first_check_after: Duration,
    /// From one question to the next.
    pub check_interval: Duration,
    /// Then the message is given up.
    pub max_checks: u32,
    /// Half messages at a time; more are refused.
    pub max_pending: usize,
}

/// Asks producers about their transactions.
pub(crate) trait Producers: Send + Sync {
    /// Whether somebody is there to ask about the topic.
    fn are_there(&self, topic: &TopicName) -> bool;

    /// Asks one of the producers of the topic. False: none is there.
    fn ask(&self, topic: &TopicName, half: &Record, transaction_id: &str) -> bool;
}

/// How a transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resolution {
    /// The message is delivered.
    Commit,
    /// It is not.
    RollBack,
}

/// Why a transaction does not begin.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotPrepared {
    /// There are too many.
    #[error("{0} transactions wait for their end: end some, or raise config.maxPendingTransactions")]
    TooMany(usize),
    /// The log refuses.
    #[error(transparent)]
    Log(#[from] log::Error),
}

/// Why a transaction does not end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotEnded {
    /// Another broker has it.
    #[error("the transaction is kept by broker {0}: end it there")]
    Elsewhere(String),
    /// There never was such a one.
    #[error(
        "the transaction id belongs to no message of this broker: use the one that came with the message"
    )]
    Unknown,
    /// It may be read later.
    #[error("the half message cannot be read: {0}")]
    Unread(FetchError),
    /// The log refuses.
    #[error(transparent)]
    Log(#[from] log::Error),
}

/// What transactions need of the rest.
pub(crate) struct Needs {
    pub(crate) broker_name: String,
    pub(crate) log: Arc<Log>,
    pub(crate) meta: Arc<Meta>,
    pub(crate) producers: Arc<dyn Producers>,
    pub(crate) schedule: Schedule,
    pub(crate) metrics: TransactionMetrics,
    pub(crate) tasks: TaskTracker,
    pub(crate) stopping: CancellationToken,
}

/// A half message in the log.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Began {
    pub(crate) transaction_id: String,
    /// Its place in the queue of half messages.
    pub(crate) offset: u64,
}

/// See the [module](self).
pub(crate) struct Transactions {
    needs: Needs,
    pending: Mutex<Pending>,
    /// Something is due earlier than it was.
    earlier: Notify,
}

impl Transactions {
    /// Finds in the log what waits. Blocks on the disk.
    pub(crate) fn open(needs: Needs) -> anyhow::Result<Self> {
        let from = restore::replay(&needs.meta)?;
        let now = now_ms();
        let first_check_at =
            |half: &records::Read| now + first_check_after(&needs.schedule, half.first_check_after_ms);
        let mut pending = restore::pending(needs.log.store(), from, &first_check_at)?;
        pending.had_checks(restore::checks(&needs.meta)?);
        if pending.len() > 0 {
            tracing::info!(
                transactions = pending.len(),
                "transactions wait for their end, their producers are asked"
            );
        }
        Ok(Self { needs, pending: Mutex::new(pending), earlier: Notify::new() })
    }

    /// Stores a half message. Whoever calls may go away: it is stored all the same, or not.
    pub(crate) async fn begin(self: &Arc<Self>, prepared: Prepared) -> Result<Began, NotPrepared> {
        let this = Arc::clone(self);
        let began = self.needs.tasks.spawn(async move { this.store_half(prepared).await });
        began.await.expect("storing a half message does not panic")
    }

    async fn store_half(&self, prepared: Prepared) -> Result<Began, NotPrepared> {
        let ticket = {
            let mut pending = self.pending.lock();
            let max = self.needs.schedule.max_pending;
            if pending.len() >= max {
                return Err(NotPrepared::TooMany(max));
            }
            pending.begin(self.ends())
        };
        let properties = prepared.half_properties();
        let half = prepared.half(&properties, self.needs.log.store_host);
        let appended = match self.needs.log.append(&[half]).await {
            Ok(appended) => appended,
            Err(error) => {
                self.pending.lock().lost(ticket);
                return Err(error.into());
            }
        };
        let offset = appended.queue_offsets[0].0;
        let after_ms =
            prepared.first_check_after.map(|after| i64::try_from(after.as_millis()).unwrap_or(i64::MAX));
        let due = appended.stored_at_ms.saturating_add(first_check_after(&self.needs.schedule, after_ms));
        self.pending.lock().arrived(ticket, offset, prepared.topic, due);
        self.earlier.notify_one();
        let transaction_id = self.id_of(offset, prepared.message_id).to_text();
        Ok(Began { transaction_id, offset })
    }

    /// Ends a transaction; one that has ended already stays as it is. Whoever calls may go away meanwhile.
    pub(crate) async fn end(self: &Arc<Self>, id: &TransactionId, how: Resolution) -> Result<(), NotEnded> {
        if id.broker != self.needs.broker_name {
            return Err(NotEnded::Elsewhere(id.broker.clone()));
        }
        let (this, id) = (Arc::clone(self), id.clone());
        let ended = self.needs.tasks.spawn(async move {
            let Some(half) = this.pending.lock().end(id.offset) else { return Ok(()) };
            let ended = this.write_end(id.offset, &half, Some(&id.message_id), how.into()).await;
            this.settle(id.offset, ended.is_ok());
            ended
        });
        ended.await.expect("ending a transaction does not panic")
    }

    /// The end of a half message that was begun to be ended is in the log, or not.
    fn settle(&self, offset: u64, ended: bool) {
        if ended {
            self.pending.lock().finished(offset);
        } else {
            self.pending.lock().not_finished(offset, now_ms() + millis(RETRY));
            self.earlier.notify_one();
        }
    }

    /// `message_id`: whose transaction it must be.
    async fn write_end(
        &self,
        offset: u64,
        half: &Half,
        message_id: Option<&str>,
        how: End,
    ) -> Result<(), NotEnded> {
        let (log, topic) = (&self.needs.log, &half.topic);
        let record = self.read(offset).await.map_err(NotEnded::Unread)?;
        let body = records::end_body(offset);
        let properties = records::end_properties();
        let end = records::end(&body, &properties, now_ms(), log.store_host);
        let Some((real, record)) = record.and_then(|record| Some((records::read(&record)?, record))) else {
            tracing::error!(%topic, offset, "a half message is gone before its transaction ended");
            log.append(&[end]).await?;
            return Ok(());
        };
        if message_id.is_some_and(|id| id != records::message_id(&record)) {
            return Err(NotEnded::Unknown);
        }
        match how {
            End::Commit => {
                let properties = records::committed_properties(&record);
                log.append(&[records::commit(&record, &real, &properties, log.store_host), end]).await?;
                self.needs.metrics.committed(topic);
            }
            End::RollBack => {
                log.append(&[end]).await?;
                self.needs.metrics.rolled_back(topic);
            }
            End::GiveUp => {
                log.append(&[records::given_up(&record, log.store_host), end]).await?;
                self.needs.metrics.given_up(topic);
                tracing::warn!(
                    %topic, message_id = records::message_id(&record), checks = half.checks,
                    "no producer ended a transaction, it is given up: its message lies in {}", records::GIVEN_UP
                );
            }
        }
        Ok(())
    }

    /// `None`: retention deleted it, or it is damaged.
    async fn read(&self, offset: u64) -> Result<Option<Record>, FetchError> {
        let halves = TopicName::internal(records::HALVES).expect("a topic of RocketMQ's has a good name");
        match self.needs.log.fetch(&halves, records::QUEUE.0, offset, 1, |_| true).await {
            Ok(fetched) => {
                let found =
                    fetched.found.into_iter().find(|found| found.entry.queue_offset == QueueOffset(offset));
                Ok(found.and_then(|found| found.record).and_then(Result::ok))
            }
            Err(FetchError::Read(ReadError::Deleted { .. } | ReadError::Damaged { .. })) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Asks producers about what is due, until the broker stops.
    pub(crate) async fn keep_asking(self: Arc<Self>) {
        let mut kept = None;
        let mut keep_at = tokio::time::Instant::now() + KEEP_EVERY;
        loop {
            let next = self.pending.lock().next_due();
            let rest = next.map(|at| Duration::from_millis(u64::try_from(at - now_ms()).unwrap_or(0)));
            // The clock may be set: no jump is slept through.
            let rest = rest.map(|rest| rest.min(Duration::from_secs(1)));
            tokio::select! {
                () = self.needs.stopping.cancelled() => return,
                () = self.earlier.notified() => {}
                () = sleep(rest) => self.ask_about_due().await,
                () = tokio::time::sleep_until(keep_at) => {
                    keep_at = tokio::time::Instant::now() + KEEP_EVERY;
                    let this = Arc::clone(&self);
                    let before = kept;
                    let written = tokio::task::spawn_blocking(move || this.keep(before)).await;
                    match written.expect("writing down where to begin does not panic") {
                        Ok(replay) => kept = Some(replay),
                        Err(error) => tracing::warn!(%error, "a restart would read more of the transactions than it must"),
                    }
                }
            }
        }
    }

    /// Writes down where a restart begins to read, unless that is `known`. Blocks on the disk.
    fn keep(&self, known: Option<Replay>) -> Result<Replay, meta::Error> {
        let (replay, checks) = {
            let mut pending = self.pending.lock();
            (pending.replay(self.ends()), pending.take_checks())
        };
        if (known != Some(replay) || !checks.is_empty())
            && let Err(error) = restore::keep(&self.needs.meta, replay, &checks)
        {
            self.pending.lock().not_kept(&checks);
            return Err(error);
        }
        Ok(replay)
    }

    /// Before the broker's database is closed. Blocks on the disk.
    pub(crate) fn close(&self) -> Result<(), meta::Error> {
        self.keep(None).map(drop)
    }

    async fn ask_about_due(self: &Arc<Self>) {
        let due = self.pending.lock().due(now_ms(), ROUND);
        for (offset, half) in due {
            if half.checks >= self.needs.schedule.max_checks {
                let Some(half) = self.pending.lock().end(offset) else { continue };
                let ended = self.write_end(offset, &half, None, End::GiveUp).await;
                if let Err(error) = &ended {
                    tracing::warn!(%error, offset, "a transaction cannot be given up yet");
                }
                self.settle(offset, ended.is_ok());
                continue;
            }
            let is_there =
                self.needs.log.store().queue_bounds(records::HALVES, records::QUEUE).start.0 <= offset;
            if is_there && !self.needs.producers.are_there(&half.topic) {
                // Nothing is read for nobody.
                let interval = self.needs.schedule.check_interval.min(LOOK_FOR_PRODUCERS);
                self.pending.lock().asked(offset, false, now_ms() + millis(interval));
                continue;
            }
            match self.read(offset).await {
                Ok(Some(record)) => {
                    let id = self.id_of(offset, records::message_id(&record).to_owned()).to_text();
                    let asked = self.needs.producers.ask(&half.topic, &record, &id);
                    let interval = self.needs.schedule.check_interval;
                    let again = if asked { interval } else { interval.min(LOOK_FOR_PRODUCERS) };
                    self.pending.lock().asked(offset, asked, now_ms() + millis(again));
                }
                Ok(None) => {
                    let Some(half) = self.pending.lock().end(offset) else { continue };
                    let ended = self.write_end(offset, &half, None, End::RollBack).await;
                    self.settle(offset, ended.is_ok());
                }
                Err(error) => {
                    tracing::debug!(%error, offset, "a half message cannot be read yet");
                    self.pending.lock().asked(offset, false, now_ms() + millis(RETRY));
                }
            }
        }
    }

    /// There is no such topic any more.
    pub(crate) fn forget_topic(&self, topic: &TopicName) {
        self.needs.metrics.forget(topic);
    }

    /// How they ended.
    pub(crate) fn metrics(&self) -> &TransactionMetrics {
        &self.needs.metrics
    }

    /// How many wait, by topic.
    pub(crate) fn waiting_by_topic(&self) -> Vec<(TopicName, u64)> {
        self.pending.lock().by_topic().into_iter().map(|(topic, count)| (topic.clone(), count)).collect()
    }

    fn id_of(&self, offset: u64, message_id: String) -> TransactionId {
        TransactionId { broker: self.needs.broker_name.clone(), offset, message_id }
    }

    /// Where the queues end that are read after a restart.
    fn ends(&self) -> Replay {
        let end = |topic| self.needs.log.store().queue_bounds(topic, records::QUEUE).end.0;
        Replay { halves: end(records::HALVES), ends: end(records::ENDS) }
    }
}

/// How a half message is done with.
#[derive(Clone, Copy)]
enum End {
    Commit,
    RollBack,
    GiveUp,
}

impl From<Resolution> for End {
    fn from(how: Resolution) -> Self {
        match how {
            Resolution::Commit => Self::Commit,
            Resolution::RollBack => Self::RollBack,
        }
    }
}

fn first_check_after(schedule: &Schedule, message_says_ms: Option<i64>) -> i64 {
    message_says_ms.unwrap_or_else(|| millis(schedule.first_check_after))
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

async fn sleep(rest: Option<Duration>) {
    match rest {
        None => std::future::pending().await,
        Some(rest) => tokio::time::sleep(rest).await,
    }
}
