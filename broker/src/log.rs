//! The store, as the broker appends to it and reads from it: waits for the disk without blocking a worker.

use std::net::SocketAddr;
use std::sync::Arc;

use access::TopicName;
use store::{
    AppendError, Appended, Entry, FetchError, Fetched, Flush, FlushFailed, NewRecord, QueueId, QueueOffset,
    Store, Wanted,
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
}

/// Too many look-ups are under way.
#[derive(Clone, Debug, thiserror::Error)]
#[error("too many look at stored messages now: try again")]
pub(crate) struct Busy;

/// The log of this broker.
pub(crate) struct Log {
    store: Store,
    flush: Flush,
    /// What records say about where they were stored.
    pub(crate) store_host: SocketAddr,
    /// Places for look-ups, those that wait for their turn included.
    look_ups: Semaphore,
    turns: Arc<Semaphore>,
}

impl Log {
    pub(crate) fn new(store: Store, flush: Flush, store_host: SocketAddr) -> Self {
        let turns = Arc::new(Semaphore::new(LOOK_UPS_AT_A_TIME));
        Self { store, flush, store_host, look_ups: Semaphore::new(MOST_LOOK_UPS), turns }
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Appends the records together, and waits until they are confirmed.
    pub(crate) async fn append(&self, records: &[NewRecord<'_>]) -> Result<Appended, Error> {
        let appended = self.store.append(records)?;
        match self.flush {
            // Confirmed as soon as it is appended.
            Flush::Async => {}
            Flush::Sync => {
                let (sender, confirmed) = oneshot::channel();
                let tell = move |outcome| {
                    // The client may have gone meanwhile.
                    let _ = sender.send(outcome);
                };
                self.store.on_confirmed(appended.end, Box::new(tell));
                confirmed.await.unwrap_or_else(|_| Err(FlushFailed("the store was closed".to_owned())))?;
            }
        }
        Ok(appended)
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
        let log = Arc::new(Log::new(store, Flush::Async, "127.0.0.1:8081".parse().unwrap()));
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
