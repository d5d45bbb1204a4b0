//! Appending: one writer at a time, and whoever writes takes along what waits.
//!
//! An append that finds the log's end free writes itself, straight into the mapped file. One that finds it taken leaves
//! its encoded records in the crowd and waits for the answer; the writer of the moment writes them with its own:
//!
//! ```text
//!   append ── end free? ── yes ─► write own ─► write the crowd's ─► publish once ─► dispatch ─► answer the crowd
//!                │                                                     │
//!                no ─► join the crowd ─► wait for the answer ◄─────────┘   (or for the lead, if a writer served long enough)
//! ```
//!
//! So many who append at once cost one hand-over of the lock and not one each, and nobody is woken only to queue again.

use std::sync::Arc;

use crate::answers::Appended;
use crate::commit_log::Tail;
use crate::commit_log::codec::{Plan, Put};
use crate::crowd;
use crate::dispatch::Pending;
use crate::error::AppendError;
use crate::opened::Inner;
use crate::views::{ConsumeQueue, RawEntry};
use crate::{NewRecord, QueueOffset};

const PANICKED: &str = "the thread that wrote for others panicked";

/// A record on its way to its queue.
pub(crate) struct Item<R> {
    record: R,
    /// `None`: in no queue.
    queue: Option<Arc<ConsumeQueue>>,
    tags_code: i64,
}

impl<R: Put> Put for Item<R> {
    fn len(&self) -> usize {
        self.record.len()
    }

    fn put(&self, out: &mut [u8]) {
        self.record.put(out);
    }
}

/// Those who found the log's end taken, with their encoded records.
pub(crate) type Crowd = crowd::Crowd<Vec<Item<Vec<u8>>>, Result<Appended, AppendError>>;

impl Inner {
    /// See [`Store::append`](crate::Store::append).
    pub(crate) fn append(&self, records: &[NewRecord<'_>]) -> Result<Appended, AppendError> {
        let items = records
            .iter()
            .map(|record| {
                let plan = Plan::new(record, self.config.max_body_bytes)?;
                // Here and not under the lock: with many topics the look-up waits for memory.
                let queue = plan.queue().map(|(topic, id)| self.views.queue_or_new(topic, id));
                Ok(Item { queue, tags_code: plan.tags_code, record: plan })
            })
            .collect::<Result<Vec<_>, AppendError>>()?;
        // It goes after the log's end is free: whoever comes later tries for that.
        let _alarm = Alarm(self);
        let Some(mut tail) = self.log.try_tail() else { return self.append_with_others(&items) };
        let result = self.write(&mut tail, &items);
        self.serve(tail);
        self.relieve();
        result
    }

    /// Holds the log's end for something else than an append.
    pub(crate) fn with_tail<T>(&self, work: impl FnOnce(&Tail<'_>) -> T) -> T {
        let tail = self.log.tail();
        let result = work(&tail);
        drop(tail);
        self.relieve();
        result
    }

    fn append_with_others(&self, items: &[Item<Plan<'_>>]) -> Result<Appended, AppendError> {
        let encoded = |item: &Item<Plan<'_>>| {
            let mut bytes = vec![0; item.len()];
            item.put(&mut bytes);
            Item { record: bytes, queue: item.queue.clone(), tags_code: item.tags_code }
        };
        let items = items.iter().map(encoded).collect();
        self.crowd
            .ask(items, || self.log.try_tail(), |tail| self.serve(tail))
            .unwrap_or_else(|| Err(AppendError::Closed(PANICKED.to_owned())))
    }

    /// Writes one batch. Nobody knows of it before [`Inner::serve`].
    fn write<R: Put>(&self, tail: &mut Tail<'_>, items: &[Item<R>]) -> Result<Appended, AppendError> {
        let bytes = items.iter().map(|item| item.len() as u64).sum();
        let start = tail.make_room(bytes)?;
        let stored_at_ms = tail.stamp(self.clock.now_ms());
        let mut queue_offsets = Vec::with_capacity(items.len());
        let mut pending = Vec::with_capacity(items.len());
        let end = tail.write(items, |index, at| {
            let item = &items[index];
            let queue_offset = item.queue.as_ref().map_or(QueueOffset(0), |queue| {
                let queue = self.alive(queue);
                let offset = queue.assign();
                let len = item.len();
                pending.push(Pending {
                    record_end: at.plus(len as u64),
                    queue,
                    entry: RawEntry::new(at, len as u32, item.tags_code),
                    tags_code: item.tags_code,
                    next: None,
                });
                offset
            });
            queue_offsets.push(queue_offset);
            queue_offset
        });
        self.dispatch.push(pending.into_iter());
        Ok(Appended { start, end, queue_offsets, stored_at_ms })
    }

    /// The queue, or the one of its topic's new life if the topic was deleted since the look-up.
    pub(crate) fn alive(&self, queue: &Arc<ConsumeQueue>) -> Arc<ConsumeQueue> {
        if queue.is_deleted() {
            self.views.queue_or_new(queue.topic(), queue.id())
        } else {
            Arc::clone(queue)
        }
    }

    /// Writes what the crowd has, lets go of the log's end, and tells everybody.
    pub(crate) fn serve(&self, mut tail: Tail<'_>) {
        let crowd = self.crowd.leave().into_iter();
        let served: Vec<_> = crowd.map(|(items, duty)| (duty, self.write(&mut tail, &items))).collect();
        let end = tail.publish();
        self.flusher.appended(end);
        self.ahead.appended(end);
        self.housekeeping.appended(end);
        if let Some(keys) = &self.keys {
            keys.appended(end);
        }
        if let Some(listener) = self.on_appended.get() {
            listener(end);
        }
        for (duty, result) in served {
            duty.answer(result);
        }
    }

    /// Serves those who came while somebody held the log's end.
    pub(crate) fn relieve(&self) {
        self.crowd.relieve(|| self.log.try_tail(), |tail| self.serve(tail));
    }
}

/// If the thread that holds the log's end panics, the log closes, and those who wait for that thread hear of it.
pub(crate) struct Alarm<'a>(pub(crate) &'a Inner);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.flusher.fail(PANICKED);
            drop(self.0.crowd.leave());
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::{Arc, OnceLock};
    use std::thread;

    use crate::commit_log::codec::tests::new_record;
    use crate::disk::MemoryDisk;
    use crate::{AppendError, Clock, Config, Store};

    fn append(store: &Store) -> Result<crate::Appended, AppendError> {
        store.append(&[new_record("t", b"body", b"")])
    }

    /// Asked for the time while the log's end is held, it waits for the crowd and panics.
    #[derive(Default)]
    struct Broken {
        store: OnceLock<Store>,
    }

    impl Clock for Broken {
        fn now_ms(&self) -> i64 {
            let Some(store) = self.store.get() else { return 0 };
            while store.inner().crowd.waiting() == 0 {
                thread::yield_now();
            }
            panic!("the clock is broken");
        }
    }

    #[test]
    fn who_waits_for_a_thread_that_panics_hears_that_the_log_is_closed() {
        let clock = Arc::new(Broken::default());
        let (store, _) = Store::open_without_threads(
            Arc::new(MemoryDisk::default()),
            Arc::<Broken>::clone(&clock),
            Config { segment_bytes: 4096, ..Config::new("/data") },
        )
        .expect("an empty disk opens");
        assert!(clock.store.set(store.clone()).is_ok());
        let outcomes: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = (0..2).map(|_| scope.spawn(|| append(&store))).collect();
            threads.into_iter().map(thread::ScopedJoinHandle::join).collect()
        });
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_err()).count(), 1, "one panics");
        let answer = outcomes.into_iter().find_map(Result::ok).expect("the other has an answer");
        assert!(matches!(answer, Err(AppendError::Closed(_))), "{answer:?}");
        assert!(matches!(append(&store), Err(AppendError::Closed(_))));
        assert!(store.state().refusing.is_some());
    }
}
