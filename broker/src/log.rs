//! The store, as the broker appends to it: waits until a batch is confirmed, without blocking a worker.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use store::{AppendError, Appended, Flush, FlushFailed, LogOffset, NewRecord, Store};
use tokio::sync::oneshot;

/// What lies further behind the end of the log than this may be on the disk only.
const WARM_BYTES: u64 = 64 << 20;

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
    end: AtomicU64,
    /// What records say about where they were stored.
    pub(crate) store_host: SocketAddr,
}

impl Log {
    pub(crate) fn new(store: Store, flush: Flush, end: LogOffset, store_host: SocketAddr) -> Self {
        Self { store, flush, end: AtomicU64::new(end.0), store_host }
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Appends the records together, and waits until they are confirmed.
    pub(crate) async fn append(&self, records: &[NewRecord<'_>]) -> Result<Appended, Error> {
        let appended = self.store.append(records)?;
        self.end.fetch_max(appended.end.0, Ordering::Relaxed);
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

    /// Whether reading at `offset` may wait for the disk.
    pub(crate) fn is_cold(&self, offset: LogOffset) -> bool {
        self.end.load(Ordering::Relaxed).saturating_sub(offset.0) > WARM_BYTES
    }
}
