//! Takes messages back that wait.

use access::RecallHandle;
use store::schedule::{Scheduled, Standing};
use store::{LogOffset, NewRecord};
use tokio::sync::oneshot;

use super::{PORTION, Worker, bytes_of};
use crate::log;
use crate::schedule::record::{self, TOPIC};
use crate::schedule::{NotRecalled, QUEUE};

impl Worker {
    /// Answers those who want messages back.
    pub(super) fn recall(&mut self, now_ms: i64) {
        for _ in 0..PORTION {
            let Some(recall) = self.timers.signal.lock().recalls.pop_front() else { return };
            // Its message is confirmed and not followed yet.
            let id = LogOffset(recall.handle.id);
            if id > self.known.known_to && id <= self.store().confirmed() {
                self.timers.signal.lock().recalls.push_front(recall);
                self.timers.ring();
                return;
            }
            let outcome = self.recall_one(&recall.handle, now_ms);
            match outcome {
                Ok(Some(end)) => {
                    let tell = move |outcome: Result<(), store::FlushFailed>| {
                        answer(recall.answer, outcome.map_err(|error| NotRecalled::Log(error.into())));
                    };
                    self.store().on_confirmed(end, Box::new(tell));
                }
                Ok(None) => answer(recall.answer, Ok(())),
                Err(error) => answer(recall.answer, Err(error)),
            }
        }
    }

    /// Returns where the log ends behind what says so, if that is new.
    fn recall_one(&mut self, handle: &RecallHandle, now_ms: i64) -> Result<Option<LogOffset>, NotRecalled> {
        let &RecallHandle { due_ms, id, ref topic, ref message_id, broker: _ } = handle;
        let id = LogOffset(id);
        let in_hand =
            self.hand.iter().position(|item| (item.scheduled.due_ms, item.scheduled.id) == (due_ms, id));
        let record = match in_hand {
            Some(at) => self.hand[at].record.clone(),
            None => {
                let standing = self.timers.schedule.standing(due_ms, id);
                match standing.map_err(|error| NotRecalled::Unread(error.to_string()))? {
                    // What was delivered is cancelled, too, where a crash left the schedule behind the log.
                    Standing::Cancelled if due_ms > now_ms => return Ok(None),
                    Standing::Unknown | Standing::Cancelled => return Err(NotRecalled::Unknown),
                    Standing::Waiting(Scheduled { at, size, .. }) => {
                        let record = self.store().record_at(at, size);
                        record.map_err(|error| NotRecalled::Unread(error.to_string()))?
                    }
                }
            }
        };
        let is_meant = record::destination(&record)
            .is_some_and(|to| to.topic == topic.as_str() && to.message_id == message_id.as_str());
        if !is_meant {
            return Err(NotRecalled::Unknown);
        }
        let properties = record::recalled(topic, message_id, due_ms);
        let says = NewRecord {
            topic: TOPIC,
            queue_id: QUEUE,
            body: b"0",
            properties: properties.as_bytes(),
            tag: None,
            flag: 0,
            sys_flag: 0,
            born_at_ms: now_ms,
            born_host: self.needs.log.store_host,
            store_host: self.needs.log.store_host,
            reconsume_times: 0,
            prepared_offset: id,
        };
        let appended = self.store().append(&[says]).map_err(log::Error::from)?;
        if let Some(item) = in_hand.and_then(|at| self.hand.remove(at)) {
            self.hand_bytes -= bytes_of(&item.record);
        }
        self.timers.schedule.cancel(due_ms, id);
        self.timers.count(topic, -1);
        self.known.changed = true;
        Ok(Some(appended.end))
    }
}

fn answer(to: oneshot::Sender<Result<(), NotRecalled>>, outcome: Result<(), NotRecalled>) {
    // The client may have gone meanwhile.
    let _ = to.send(outcome);
}
