//! How far the log is known to the schedule: told at an opening, and, on a replica, as the log comes.

use std::sync::Arc;
use std::time::Instant;

use store::schedule::{Noted, Standing, Work};
use store::{LogOffset, QueueOffset, Store};

use super::record::{self, Said, TOPIC};
use super::{Note, QUEUE, RETRY, Timers};

/// With so much log behind the last note another is due: it bounds what opening must read.
const NOTE_LOG_BYTES: u64 = 64 << 20;

/// The schedule, and up to where it knows the log.
pub(super) struct Known {
    store: Store,
    timers: Arc<Timers>,
    /// The next in the queue of waiting messages.
    pub(super) next: QueueOffset,
    /// Whatever the log says before is known.
    pub(super) known_to: LogOffset,
    /// Something changed since the last note.
    pub(super) changed: bool,
    pub(super) noted_to: LogOffset,
    /// Where to begin is found out.
    has_begun: bool,
    /// What RocketMQ delivered up to then is done.
    done_by_java_ms: i64,
    noted: Option<Noted>,
}

impl Known {
    pub(super) fn new(store: Store, timers: Arc<Timers>, noted: Option<Noted>, done_by_java_ms: i64) -> Self {
        Self {
            store,
            timers,
            next: QueueOffset(0),
            known_to: LogOffset(0),
            changed: false,
            noted_to: LogOffset(0),
            has_begun: false,
            done_by_java_ms,
            noted,
        }
    }

    pub(super) fn timers(&self) -> &Arc<Timers> {
        &self.timers
    }

    /// Tells the schedule what the log has by now. False: stopped.
    pub(super) fn recover(&mut self) -> bool {
        let (started, from) = (Instant::now(), self.known_to);
        if !self.follow() {
            return false;
        }
        let waiting: u64 = self.timers.waiting.lock().values().sum();
        tracing::info!(
            waiting, %from, to = %self.known_to, took_ms = started.elapsed().as_millis() as u64,
            "delayed messages are looked after"
        );
        true
    }

    /// The same, and says nothing of it.
    pub(super) fn follow(&mut self) -> bool {
        loop {
            if !self.has_begun {
                self.begin();
            }
            match self.hear() {
                Ok(heard) => return heard,
                Err(error) => {
                    tracing::error!(%error, "the schedule of delayed messages cannot be read");
                    self.timers.rest(Instant::now() + RETRY);
                    if self.timers.is_stopping() || !self.clear() {
                        return false;
                    }
                }
            }
        }
    }

    /// The schedule is damaged: it is made anew from the log.
    pub(super) fn begin_anew(&mut self) -> bool {
        self.clear() && self.recover()
    }

    fn clear(&mut self) -> bool {
        tracing::error!("the schedule of delayed messages is damaged, it is made anew from the log");
        (self.noted, self.has_begun) = (None, false);
        while let Err(error) = self.timers.schedule.clear() {
            tracing::error!(%error, "cannot remove the damaged schedule");
            self.timers.rest(Instant::now() + RETRY);
            if self.timers.is_stopping() {
                return false;
            }
        }
        true
    }

    /// From the last note on.
    fn begin(&mut self) {
        let note = self.noted.as_ref().and_then(Note::of);
        let from = match (&self.noted, note) {
            (Some(noted), Some(note)) => {
                self.next = QueueOffset(note.next);
                *self.timers.waiting.lock() = note.waiting;
                noted.complete_to
            }
            _ => {
                self.timers.waiting.lock().clear();
                self.next = self.store.queue_bounds(TOPIC, QUEUE).start;
                self.first_place()
            }
        };
        (self.noted_to, self.known_to, self.has_begun) = (from, from, true);
    }

    fn hear(&mut self) -> std::io::Result<bool> {
        let store = self.store.clone();
        let end = store.confirmed();
        // Nothing waits, and nothing came: whatever else the log has says nothing.
        if self.next >= store.queue_bounds(TOPIC, QUEUE).end && self.timers.waiting.lock().is_empty() {
            self.known_to = self.known_to.max(end);
            return Ok(true);
        }
        let mut outcome = Ok(true);
        let is_anew = self.noted.is_none();
        store.walk(self.known_to..end, &mut |passed| {
            let at = passed.log_offset;
            if let Some(said) = record::said_by(passed) {
                outcome = self.learn(&said, is_anew).map(|()| true);
                self.changed = true;
            }
            if passed.topic == TOPIC && passed.queue_id == QUEUE {
                self.next = passed.queue_offset.plus(1);
            }
            self.known_to = at.plus(u64::from(passed.size));
            while matches!(outcome, Ok(true)) && self.timers.schedule.wants_note() {
                let noted = self.timers.schedule.note(self.known_to, self.note_text());
                let stuck = self.timers.write_some(&store) == Work::Stuck;
                self.noted_to = if noted { self.known_to } else { self.noted_to };
                if stuck {
                    self.timers.rest(Instant::now() + RETRY);
                }
                if self.timers.is_stopping() {
                    outcome = Ok(false);
                }
            }
            if self.timers.is_stopping() {
                outcome = Ok(false);
            }
            matches!(outcome, Ok(true))
        });
        if matches!(outcome, Ok(true)) {
            self.known_to = self.known_to.max(end);
        }
        outcome
    }

    /// Where the first message lies that may wait; the end if there is none.
    fn first_place(&self) -> LogOffset {
        let store = &self.store;
        let start = store.queue_bounds(TOPIC, QUEUE).start;
        let first = store.entries(TOPIC, QUEUE, start, 1);
        match first.as_deref() {
            Ok([first, ..]) => first.log_offset,
            Ok([]) => store.confirmed(),
            Err(_) => LogOffset(0),
        }
    }

    /// What the log says.
    fn learn(&self, said: &Said<'_>, is_anew: bool) -> std::io::Result<()> {
        let Timers { schedule, .. } = &*self.timers;
        match *said {
            Said::Waits { scheduled, topic } => {
                // RocketMQ does not say in the log what it delivered.
                if !is_anew || scheduled.due_ms >= self.done_by_java_ms {
                    schedule.put(scheduled);
                    self.timers.count(topic, 1);
                }
            }
            Said::Moved { scheduled, topic } => match schedule.standing(scheduled.due_ms, scheduled.id)? {
                Standing::Cancelled => {}
                Standing::Waiting(_) => schedule.put(scheduled),
                Standing::Unknown => {
                    schedule.put(scheduled);
                    self.timers.count(topic, 1);
                }
            },
            Said::Recalled { due_ms, id, topic } => {
                if matches!(schedule.standing(due_ms, id)?, Standing::Waiting(_)) {
                    schedule.cancel(due_ms, id);
                    self.timers.count(topic, -1);
                }
            }
            Said::Delivered { due_ms, id, topic } => {
                if matches!(schedule.standing(due_ms, id)?, Standing::Waiting(_)) {
                    schedule.forget(due_ms, id)?;
                    self.timers.count(topic, -1);
                }
            }
        }
        Ok(())
    }

    /// Forgets what was recalled or delivered and would be due by now: on a replica nobody takes it.
    pub(super) fn pass_over(&mut self, now_ms: i64) {
        const MOST: usize = 64 << 10;
        match self.timers.schedule.pass_cancelled(now_ms, MOST) {
            Ok(passed) => self.changed |= passed > 0,
            // Whoever asks it next hears so, and makes it anew.
            Err(error) => tracing::debug!(%error, "the schedule of delayed messages cannot be read"),
        }
    }

    /// Is a note due?
    pub(super) fn wants_note(&self) -> bool {
        let behind = self.known_to.0.saturating_sub(self.noted_to.0);
        self.timers.schedule.wants_note() || (self.changed && behind >= NOTE_LOG_BYTES)
    }

    /// False: the note before is not written yet.
    pub(super) fn note(&mut self) -> bool {
        let noted = self.timers.schedule.note(self.known_to, self.note_text());
        if noted {
            self.noted_to = self.known_to;
            self.changed = false;
        }
        self.timers.call_writer();
        noted
    }

    /// What is in memory goes to the disk, so that the next opening need not read it again.
    pub(super) fn leave(&self) {
        let (known_to, note) = (self.known_to, self.note_text());
        let mut tries = 0;
        while tries < 3 && !self.timers.schedule.note(known_to, note.clone()) {
            tries += usize::from(self.timers.write_some(&self.store) == Work::Stuck);
        }
        self.timers.write_some(&self.store);
    }

    fn note_text(&self) -> Vec<u8> {
        let note = Note { next: self.next.0, waiting: self.timers.waiting.lock().clone() };
        serde_json::to_vec(&note).expect("numbers and names are JSON")
    }
}
