//! The store, as the broker appends to it and reads from it: waits for the disk without blocking a worker.

use std::net::SocketAddr;
use std::sync::Arc;

use access::TopicName;
use store::{
    AppendError, Appended, Entry, FetchError, Fetched, Flush, FlushFailed, NewRecord, QueueId, QueueOffset,
    Store, Wanted,
};
use tokio::sync::oneshot;

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

/// The log of this broker.
pub(crate) struct Log {
    store: Store,
    flush: Flush,
    /// What records say about where they were stored.
    pub(crate) store_host: SocketAddr,
}

impl Log {
    pub(crate) fn new(store: Store, flush: Flush, store_host: SocketAddr) -> Self {
        Self { store, flush, store_host }
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
}
