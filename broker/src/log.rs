//! The store, as the broker appends to it and reads from it: waits for the disk without blocking a worker.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use access::TopicName;
use store::{
    AppendError, Appended, Entry, FetchError, Fetched, Flush, FlushFailed, LogOffset, NewRecord, QueueId,
    QueueOffset, Store, Wanted,
};
use tokio::sync::{Semaphore, oneshot};

/// Look-ups that wait for the disk at a time: a person makes them, and they leave the disk to the log.
const LOOK_UPS_AT_A_TIME: usize = 4;
/// Look-ups that may wait for their turn; more are refused at once.
const MOST_LOOK_UPS: usize = 64;

/// Why a batch is not in the log.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Nothing was written.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// It may have been written, and is not acknowledged.
    #[error(transparent)]
    Flush(#[from] FlushFailed),
    /// Nothing was written: too few members could acknowledge it, or this one is not the primary.
    #[error(transparent)]
    Refused(#[from] replication::Refusal),
    /// Nothing was written: what the replicas have not yet is as much as it may be.
    #[error("the in-sync members are {} MiB behind, which is as much as they may be", MOST_UNCONFIRMED_BYTES >> 20)]
    TooFarBehind,
    /// It is written here, and not on all that it must be on; it may be delivered.
    #[error("not all in-sync members have acknowledged it within {} s", REPLICATED_WITHIN.as_secs())]
    NotReplicated,
}

/// When an append counts.
#[derive(Clone)]
pub(crate) enum Acknowledge {
    /// As soon as it is appended.
    Appended,
    /// When it is confirmed.
    Confirmed,
    /// When it is confirmed by others, and this one says whether to begin at all.
    Replicated(Arc<dyn Gate>),
}

impl Acknowledge {
    /// For a broker that is alone.
    pub(crate) fn when(flush: Flush) -> Self {
        match flush {
            Flush::Async => Self::Appended,
            Flush::Sync => Self::Confirmed,
        }
    }
}

/// Says whether appends can be acknowledged.
pub(crate) trait Gate: Send + Sync {
    fn may_send(&self) -> Result<(), replication::Refusal>;
}

/// How long an append waits for replicas. A client gives up after 3 s unless told otherwise.
const REPLICATED_WITHIN: Duration = Duration::from_secs(10);
/// How long an append waits for a hand-over, and how often it looks.
const HAND_OVER_WITHIN: Duration = Duration::from_secs(3);
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(10);
/// Appended and not on all in-sync members: beyond it appends are refused.
const MOST_UNCONFIRMED_BYTES: u64 = 256 << 20;

/// Too many look-ups are under way.
#[derive(Clone, Debug, thiserror::Error)]
#[error("too many look at stored messages now: try again")]
pub(crate) struct Busy;

/// The log of this broker.
pub(crate) struct Log {
    store: Store,
    acknowledge: Acknowledge,
    /// What records say about where they were stored.
    pub(crate) store_host: SocketAddr,
    /// Places for look-ups, those that wait for their turn included.
    look_ups: Semaphore,
    turns: Arc<Semaphore>,
}

impl Log {
    pub(crate) fn new(store: Store, acknowledge: Acknowledge, store_host: SocketAddr) -> Self {
        let turns = Arc::new(Semaphore::new(LOOK_UPS_AT_A_TIME));
        Self { store, acknowledge, store_host, look_ups: Semaphore::new(MOST_LOOK_UPS), turns }
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// In a group of several members: could an append be acknowledged now?
    pub(crate) fn may_append(&self) -> Result<(), replication::Refusal> {
        match &self.acknowledge {
            Acknowledge::Appended | Acknowledge::Confirmed => Ok(()),
            Acknowledge::Replicated(gate) => gate.may_send(),
        }
    }

    /// Waits until a hand-over is done or given up: it takes some milliseconds, and the answer is better then.
    async fn not_handing_over(&self) -> Result<(), replication::Refusal> {
        let deadline = Instant::now() + HAND_OVER_WITHIN;
        loop {
            match self.may_append() {
                Err(replication::Refusal::HandingOver) if Instant::now() < deadline => {
                    tokio::time::sleep(LOOK_AGAIN_AFTER).await;
                }
                outcome => return outcome,
            }
        }
    }

    /// This member was the primary, and is not any more: whoever calls is to connect anew.
    pub(crate) fn is_deposed(&self) -> bool {
        matches!(self.may_append(), Err(replication::Refusal::NotPrimary))
    }

    /// Appends the records together, and waits until they are confirmed.
    pub(crate) async fn append(&self, records: &[NewRecord<'_>]) -> Result<Appended, Error> {
        if let Acknowledge::Replicated(_) = &self.acknowledge {
            self.not_handing_over().await?;
            let behind = self.store.durable().0.saturating_sub(self.store.confirmed().0);
            if behind > MOST_UNCONFIRMED_BYTES {
                return Err(Error::TooFarBehind);
            }
        }
        let appended = self.store.append(records)?;
        match &self.acknowledge {
            // Confirmed as soon as it is appended.
            Acknowledge::Appended => {}
            Acknowledge::Confirmed => self.confirmed(appended.end).await?,
            Acknowledge::Replicated(_) => self.replicated(appended.end).await?,
        }
        Ok(appended)
    }

    /// The same, but not for ever, and no longer than this member is the primary.
    async fn replicated(&self, end: LogOffset) -> Result<(), Error> {
        let deadline = Instant::now() + REPLICATED_WITHIN;
        let mut confirmed = std::pin::pin!(self.confirmed(end));
        loop {
            match tokio::time::timeout(LOOK_AGAIN_AFTER * 10, &mut confirmed).await {
                Ok(outcome) => return outcome.map_err(Error::from),
                Err(_) if Instant::now() >= deadline || self.is_deposed() => {
                    return Err(Error::NotReplicated);
                }
                Err(_) => {}
            }
        }
    }

    /// Waits until the log is confirmed up to `end`.
    async fn confirmed(&self, end: LogOffset) -> Result<(), FlushFailed> {
        let (sender, confirmed) = oneshot::channel();
        let tell = move |outcome| {
            // The client may have gone meanwhile.
            let _ = sender.send(outcome);
        };
        self.store.on_confirmed(end, Box::new(tell));
        confirmed.await.unwrap_or_else(|_| Err(FlushFailed("the store was closed".to_owned())))
    }

    /// At most `max` entries of a queue, and the records of those that are wanted, from wherever they lie, without
    /// blocking a worker. Whoever drops this takes nobody's place at the disk any more.
    pub(crate) async fn fetch(
        &self,
        topic: &TopicName,
        id: u32,
        from: u64,
        max: usize,
        wants: impl Fn(&Entry) -> bool + Send + 'static,
    ) -> Result<Fetched, FetchError> {
        let awaited = Arc::new(());
        let awaiting = Arc::downgrade(&awaited);
        let wanted = Wanted {
            topic: topic.to_string(),
            queue_id: QueueId(id),
            from: QueueOffset(from),
            max,
            wants: Box::new(wants),
            awaited: Box::new(move || awaiting.strong_count() > 0),
        };
        let (sender, fetched) = oneshot::channel();
        let tell = move |outcome| {
            // The client may have gone meanwhile.
            let _ = sender.send(outcome);
        };
        self.store.fetch(wanted, Box::new(tell));
        let outcome = fetched.await.unwrap_or(Err(FetchError::Closed));
        drop(awaited);
        outcome
    }

    /// Looks at the store, which may wait for the disk: few at a time, and off the workers. `look` is told whether
    /// anybody still waits for what it finds; whoever drops this does not.
    pub(crate) async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Store, &dyn Fn() -> bool) -> T + Send + 'static,
    ) -> Result<T, Busy> {
        let _place = self.look_ups.try_acquire().map_err(|_| Busy)?;
        let turn = Arc::clone(&self.turns).acquire_owned().await.expect("it is never closed");
        let awaited = Arc::new(());
        let awaiting = Arc::downgrade(&awaited);
        let store = self.store.clone();
        let found = tokio::task::spawn_blocking(move || {
            // The turn is over when the disk has answered, even if nobody waits for it.
            let _turn = turn;
            look(&store, &|| awaiting.strong_count() > 0)
        });
        let found = found.await.expect("looking at the store does not panic");
        drop(awaited);
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use store::disk::MemoryDisk;
    use store::{Config, SystemClock};
    use tokio::task::JoinSet;

    use super::*;

    #[tokio::test]
    async fn few_look_at_a_time_and_those_that_nobody_waits_for_end() {
        let disk = Arc::new(MemoryDisk::default());
        let config = Config { segment_bytes: 64 << 10, ..Config::new("/data") };
        let (store, _) = Store::open_without_threads(disk, Arc::new(SystemClock), config).unwrap();
        let log = Arc::new(Log::new(store, Acknowledge::Appended, "127.0.0.1:8081".parse().unwrap()));
        let (looking, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let mut looks = JoinSet::new();
        for _ in 0..MOST_LOOK_UPS {
            let (log, looking, most) = (Arc::clone(&log), Arc::clone(&looking), Arc::clone(&most));
            let look = move |_: &Store, awaited: &dyn Fn() -> bool| {
                most.fetch_max(looking.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                while awaited() {
                    std::thread::yield_now();
                }
                looking.fetch_sub(1, Ordering::SeqCst);
            };
            looks.spawn(async move { log.look(look).await });
        }
        while log.look_ups.available_permits() > 0 || looking.load(Ordering::SeqCst) < LOOK_UPS_AT_A_TIME {
            tokio::task::yield_now().await;
        }
        assert!(log.look(|_, _| ()).await.is_err(), "one more is refused");
        drop(looks);
        let found = loop {
            match log.look(|store, awaited| (store.state().appended, awaited())).await {
                Ok(found) => break found,
                Err(Busy) => tokio::task::yield_now().await,
            }
        };
        assert_eq!(found, (store::LogOffset(0), true));
        assert_eq!(most.load(Ordering::SeqCst), LOOK_UPS_AT_A_TIME);
    }
}
