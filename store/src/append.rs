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
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};

use parking_lot::{Condvar, Mutex};

use crate::answers::Appended;
use crate::commit_log::Tail;
use crate::commit_log::codec::{Plan, Put};
use crate::dispatch::Pending;
use crate::error::AppendError;
use crate::opened::Inner;
use crate::views::{ConsumeQueue, RawEntry};
use crate::{NewRecord, QueueOffset};

/// A writer serves the crowd so many times, then one of the crowd leads: nobody works for the others for ever.
const ROUNDS: usize = 16;
/// Looks at the answer before sleeping: a writer needs a microsecond or two.
const LOOKS: usize = 64;

/// A record on its way to its queue.
struct Item<R> {
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

/// Those who found the log's end taken.
#[derive(Default)]
pub(crate) struct Crowd {
    requests: Mutex<Vec<Request>>,
    /// How many; read without the lock.
    count: AtomicUsize,
}

struct Request {
    items: Vec<Item<Vec<u8>>>,
    answer: Answer,
}

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
        let slot = Arc::new(Slot::default());
        self.crowd.join(Request {
            items: items.iter().map(encoded).collect(),
            answer: Answer(Some(Arc::clone(&slot))),
        });
        // The writer may have left before it could see this request.
        self.relieve();
        while let Told::Lead = slot.wait() {
            self.relieve();
        }
        slot.take()
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
    fn alive(&self, queue: &Arc<ConsumeQueue>) -> Arc<ConsumeQueue> {
        if queue.is_deleted() {
            self.views.queue_or_new(queue.topic(), queue.id())
        } else {
            Arc::clone(queue)
        }
    }

    /// Writes what the crowd has, lets go of the log's end, and tells everybody.
    fn serve(&self, mut tail: Tail<'_>) {
        let served: Vec<_> = self
            .crowd
            .leave()
            .into_iter()
            .map(|Request { items, answer }| (answer, self.write(&mut tail, &items)))
            .collect();
        let end = tail.publish();
        self.flusher.appended(end);
        self.ahead.appended(end);
        if let Some(keys) = &self.keys {
            keys.appended(end);
        }
        for (answer, result) in served {
            answer.give(result);
        }
    }

    /// Serves those who came while somebody held the log's end, unless somebody holds it again: then that one will.
    fn relieve(&self) {
        for _ in 0..ROUNDS {
            // Pairs with the one in `join`: either we see the request, or who made it sees that the end is free.
            fence(Ordering::SeqCst);
            if self.crowd.count.load(Ordering::Relaxed) == 0 {
                return;
            }
            let Some(tail) = self.log.try_tail() else { return };
            self.serve(tail);
        }
        self.crowd.let_one_lead();
    }
}

impl Crowd {
    fn join(&self, request: Request) {
        let mut requests = self.requests.lock();
        requests.push(request);
        self.count.store(requests.len(), Ordering::Relaxed);
        drop(requests);
        fence(Ordering::SeqCst);
    }

    fn leave(&self) -> Vec<Request> {
        if self.count.load(Ordering::Relaxed) == 0 {
            return Vec::new();
        }
        let mut requests = self.requests.lock();
        self.count.store(0, Ordering::Relaxed);
        std::mem::take(&mut *requests)
    }

    fn let_one_lead(&self) {
        if let Some(Answer(Some(slot))) = self.requests.lock().first().map(|request| &request.answer) {
            slot.tell(|state| state.lead = true);
        }
    }
}

/// Where one waits for its answer.
#[derive(Default)]
struct Slot {
    state: Mutex<SlotState>,
    bell: Condvar,
    told: AtomicBool,
}

#[derive(Default)]
struct SlotState {
    result: Option<Result<Appended, AppendError>>,
    lead: bool,
}

enum Told {
    Answer,
    /// Serve the crowd, then wait again.
    Lead,
}

impl Slot {
    fn tell(&self, change: impl FnOnce(&mut SlotState)) {
        change(&mut self.state.lock());
        self.told.store(true, Ordering::Release);
        self.bell.notify_one();
    }

    fn wait(&self) -> Told {
        for _ in 0..LOOKS {
            if self.told.load(Ordering::Acquire) {
                break;
            }
            std::hint::spin_loop();
        }
        let mut state = self.state.lock();
        loop {
            if state.result.is_some() {
                return Told::Answer;
            }
            if std::mem::take(&mut state.lead) {
                self.told.store(false, Ordering::Relaxed);
                return Told::Lead;
            }
            self.bell.wait(&mut state);
        }
    }

    fn take(&self) -> Result<Appended, AppendError> {
        self.state.lock().result.take().expect("who was told has an answer, and takes it once")
    }
}

/// The duty to answer. A writer that dies in a panic answers too.
struct Answer(Option<Arc<Slot>>);

impl Answer {
    fn give(mut self, result: Result<Appended, AppendError>) {
        if let Some(slot) = self.0.take() {
            slot.tell(|state| state.result = Some(result));
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some(slot) = self.0.take() {
            let reason = "the thread that wrote for others panicked".to_owned();
            slot.tell(|state| state.result = Some(Err(AppendError::Closed(reason))));
        }
    }
}
