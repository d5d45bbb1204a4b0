//! The one thread that knows what waits: follows the log, delivers what is due, recalls, moves, notes.
//!
//! In steps. Each does a little of everything, so that nothing waits long for something else, and says when the next is
//! wanted. Time is a parameter.
//!
//! What will be due within half a second lies *in hand* with its record, so that a slow disk makes nothing late.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use access::RecallHandle;
use store::schedule::{Noted, Scheduled, Standing};
use store::{AppendError, LogOffset, NewRecord, QueueId, QueueOffset, ReadError, Record, Store};
use tokio::sync::oneshot;

use super::record::{self, Said, TOPIC};
use super::{Needs, NotRecalled, Note, QUEUE, RETRY, Timers};
use crate::{log, topics};

/// Records are read so long before they are due.
pub(super) const AHEAD_MS: i64 = 500;
/// In hand at most, together.
const HAND_BYTES: usize = 8 << 20;
/// Followed, taken, appended in one go.
const PORTION: usize = 256;
const PORTION_BYTES: usize = 1 << 20;
/// After it looked for what is new, it does not look again for so long: who sends pays for no wake-up then.
const QUIET: Duration = Duration::from_millis(3);
/// A clock that jumps is noticed within this.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// With so much log behind the last note another is due: it bounds what opening must read.
const NOTE_LOG_BYTES: u64 = 64 << 20;
/// RocketMQ's `MessageSysFlag`: what says how a body is compressed.
const COMPRESSION_BITS: i32 = 0x1 | 0x7 << 8;

pub(super) struct Worker {
    needs: Needs,
    timers: Arc<Timers>,
    /// The next in the queue of waiting messages.
    next: QueueOffset,
    /// Whatever the log says before is known.
    known_to: LogOffset,
    /// Something changed since the last note.
    changed: bool,
    noted_to: LogOffset,
    hand: VecDeque<InHand>,
    hand_bytes: usize,
    moving: Option<Moving>,
    /// Nothing more is moved before the log has come so far.
    no_move_before: LogOffset,
    /// Before then the disk is not asked again.
    not_before_ms: i64,
    /// The log refused, and that was told.
    refused: bool,
    /// What RocketMQ delivered up to then is done.
    done_by_java_ms: i64,
    noted: Option<Noted>,
}

/// What is due soon.
struct InHand {
    scheduled: Scheduled,
    record: Record,
}

/// Moving what waits before a place of the log.
struct Moving {
    below: LogOffset,
    after: Option<(i64, LogOffset)>,
    /// Of the log, so many bytes go with it, and so many were appended anew.
    frees: u64,
    moved: u64,
    /// All is moved; done when it is noted up to here.
    noted_to: Option<LogOffset>,
}

/// The log or the disk refuses just now.
struct Refused;

impl Worker {
    pub(super) fn new(needs: Needs, timers: Arc<Timers>, noted: Option<Noted>, done_by_java_ms: i64) -> Self {
        Self {
            needs,
            timers,
            next: QueueOffset(0),
            known_to: LogOffset(0),
            changed: false,
            noted_to: LogOffset(0),
            hand: VecDeque::new(),
            hand_bytes: 0,
            moving: None,
            no_move_before: LogOffset(0),
            not_before_ms: 0,
            refused: false,
            done_by_java_ms,
            noted,
        }
    }

    pub(super) fn store(&self) -> &Store {
        self.needs.log.store()
    }

    /// Until the stop.
    pub(super) fn run(mut self) {
        if !self.recover() {
            return;
        }
        loop {
            let began = Instant::now();
            self.timers.rung.store(false, Ordering::Release);
            let now_ms = self.needs.clock.now_ms();
            let next_ms = self.step(now_ms);
            if self.timers.is_stopping() {
                break;
            }
            if self.timers.schedule.is_damaged() && !self.begin_anew() {
                break;
            }
            let wait = next_ms.saturating_sub(now_ms).max(0).cast_unsigned();
            let next = began + Duration::from_millis(wait).min(LONGEST_WAIT);
            self.timers.rest(next.min(began + QUIET));
            self.timers.wait(next);
        }
        self.leave();
    }

    /// What is in memory goes to the disk, so that the next opening need not read it again.
    pub(super) fn leave(&mut self) {
        self.put_back();
        let (known_to, note) = (self.known_to, self.note_text());
        let mut tries = 0;
        while tries < 3 && !self.timers.schedule.note(known_to, note.clone()) {
            tries += usize::from(self.timers.write_some(self.store()) == store::schedule::Work::Stuck);
        }
        self.timers.write_some(self.store());
    }

    /// The schedule is damaged: it is made anew from the log.
    pub(super) fn begin_anew(&mut self) -> bool {
        tracing::error!("the schedule of delayed messages is damaged, it is made anew from the log");
        self.hand.clear();
        self.hand_bytes = 0;
        self.moving = None;
        self.noted = None;
        while let Err(error) = self.timers.schedule.clear() {
            tracing::error!(%error, "cannot remove the damaged schedule");
            self.timers.rest(Instant::now() + RETRY);
            if self.timers.is_stopping() {
                return false;
            }
        }
        self.recover()
    }

    /// Tells the schedule what the log has from the last note on. False: stopped.
    pub(super) fn recover(&mut self) -> bool {
        let started = Instant::now();
        let store = self.store().clone();
        let note = self.noted.as_ref().and_then(Note::of);
        let from = match (&self.noted, note) {
            (Some(noted), Some(note)) => {
                self.next = QueueOffset(note.next);
                *self.timers.waiting.lock() = note.waiting;
                noted.complete_to
            }
            _ => {
                self.timers.waiting.lock().clear();
                self.next = store.queue_bounds(TOPIC, QUEUE).start;
                self.first_place(&store)
            }
        };
        let end = store.confirmed();
        self.noted_to = from;
        self.known_to = from;
        let mut outcome = Ok(true);
        let is_anew = self.noted.is_none();
        store.walk(from..end, &mut |passed| {
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
                let stuck = self.timers.write_some(&store) == store::schedule::Work::Stuck;
                self.noted_to = if noted { self.known_to } else { self.noted_to };
                if stuck {
                    self.timers.rest(Instant::now() + RETRY);
                }
                if self.timers.is_stopping() {
                    outcome = Ok(false);
                }
            }
            matches!(outcome, Ok(true))
        });
        self.known_to = self.known_to.max(end);
        match outcome {
            Ok(true) => {
                let waiting: u64 = self.timers.waiting.lock().values().sum();
                tracing::info!(
                    waiting, from = %from, to = %end, took_ms = started.elapsed().as_millis() as u64,
                    "delayed messages are looked after"
                );
                true
            }
            Ok(false) => false,
            Err(error) => {
                tracing::error!(%error, "the schedule of delayed messages cannot be read");
                self.timers.rest(Instant::now() + RETRY);
                !self.timers.is_stopping() && self.begin_anew()
            }
        }
    }

    /// Where the first message lies that may wait; the end if there is none.
    fn first_place(&self, store: &Store) -> LogOffset {
        let start = store.queue_bounds(TOPIC, QUEUE).start;
        let first = store.entries(TOPIC, QUEUE, start, 1);
        match first.as_deref() {
            Ok([first, ..]) => first.log_offset,
            Ok([]) => store.confirmed(),
            Err(_) => LogOffset(0),
        }
    }

    /// What the log said while nobody listened.
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

    /// A little of everything. Returns when to go on, unless something new comes before.
    pub(super) fn step(&mut self, now_ms: i64) -> i64 {
        let followed_all = self.follow();
        self.recall(now_ms);
        self.move_some(now_ms);
        self.take_in_hand(now_ms);
        self.deliver(now_ms);
        self.note();
        if !followed_all || matches!(self.moving, Some(Moving { noted_to: None, .. })) {
            return now_ms.max(self.not_before_ms);
        }
        self.next_ms(now_ms)
    }

    fn next_ms(&self, now_ms: i64) -> i64 {
        let in_hand = self.hand.front().map(|first| first.scheduled.due_ms);
        let full = self.hand_bytes >= HAND_BYTES;
        let ahead = if full { 0 } else { AHEAD_MS };
        let scheduled = match self.timers.schedule.next_due() {
            Ok(due_ms) => due_ms.map(|due_ms| due_ms.saturating_sub(ahead)),
            Err(_) => Some(now_ms + RETRY.as_millis() as i64),
        };
        let next = in_hand.into_iter().chain(scheduled).min().unwrap_or(i64::MAX);
        next.max(self.not_before_ms)
    }

    /// Tells the schedule what new messages wait. True: that was all.
    fn follow(&mut self) -> bool {
        let store = self.store().clone();
        // First: whatever is confirmed now will be seen below.
        let confirmed = store.confirmed();
        for _ in 0..16 {
            if self.timers.schedule.is_full() {
                return false;
            }
            let entries = match store.entries(TOPIC, QUEUE, self.next, PORTION) {
                Ok(entries) => entries,
                Err(ReadError::Deleted { min }) if min > self.next => {
                    self.next = min;
                    continue;
                }
                Err(error) => {
                    tracing::error!(%error, "the queue of delayed messages cannot be read, it is tried again");
                    self.not_before_ms = self.needs.clock.now_ms() + RETRY.as_millis() as i64;
                    return false;
                }
            };
            let Some(last) = entries.last() else {
                self.known_to = self.known_to.max(confirmed);
                return true;
            };
            for entry in &entries {
                match store.record_at(entry.log_offset, entry.size) {
                    Ok(record) => self.follow_one(&record, entry.size),
                    Err(error) => {
                        tracing::error!(log_offset = %entry.log_offset, %error, "a delayed message cannot be read, it is lost");
                        self.needs.counts.lost.inc();
                    }
                }
            }
            self.known_to = self.known_to.max(last.log_offset.plus(u64::from(last.size)));
            self.next = last.queue_offset.plus(1);
            self.changed = true;
        }
        false
    }

    /// What is moved or recalled since the opening this worker said itself.
    fn follow_one(&mut self, record: &Record, size: u32) {
        let said =
            record::said_by_waiting(record.log_offset, size, record.prepared_offset, record.properties());
        if let Some(Said::Waits { scheduled, topic }) = said {
            self.timers.schedule.put(scheduled);
            self.timers.count(topic, 1);
            self.needs.counts.enqueued.inc();
        }
    }

    /// Answers those who want messages back.
    fn recall(&mut self, now_ms: i64) {
        for _ in 0..PORTION {
            let Some(recall) = self.timers.signal.lock().recalls.pop_front() else { return };
            // Its message is confirmed and not followed yet.
            let id = LogOffset(recall.handle.id);
            if id > self.known_to && id <= self.store().confirmed() {
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
        self.changed = true;
        Ok(Some(appended.end))
    }

    /// Takes what is due soon in hand, and reads it.
    fn take_in_hand(&mut self, now_ms: i64) {
        if now_ms < self.not_before_ms {
            return;
        }
        for _ in 0..16 {
            let until_ms = if self.hand_bytes >= HAND_BYTES { now_ms } else { now_ms + AHEAD_MS };
            let taken = match self.timers.schedule.take(until_ms, PORTION) {
                Ok(taken) => taken,
                Err(error) => return self.cannot(now_ms, &error, "the schedule cannot be read"),
            };
            let is_all = taken.is_empty();
            let mut taken = taken.into_iter();
            while let Some(scheduled) = taken.next() {
                match self.store().record_at(scheduled.at, scheduled.size) {
                    Ok(record) => self.hold(InHand { scheduled, record }),
                    Err(error @ ReadError::Io(_)) => {
                        self.timers.schedule.put(scheduled);
                        taken.for_each(|scheduled| self.timers.schedule.put(scheduled));
                        return self.cannot(now_ms, &error, "delayed messages cannot be read");
                    }
                    Err(error) => self.lose(scheduled, &error),
                }
            }
            if is_all || self.hand_bytes >= HAND_BYTES {
                return;
            }
        }
    }

    fn hold(&mut self, item: InHand) {
        let key = |item: &InHand| (item.scheduled.due_ms, item.scheduled.id);
        let at = self.hand.partition_point(|other| key(other) < key(&item));
        self.hand_bytes += bytes_of(&item.record);
        self.hand.insert(at, item);
    }

    fn put_back(&mut self) {
        self.hand.drain(..).for_each(|item| self.timers.schedule.put(item.scheduled));
        self.hand_bytes = 0;
    }

    fn lose(&mut self, scheduled: Scheduled, error: &ReadError) {
        tracing::error!(
            log_offset = %scheduled.at, due_ms = scheduled.due_ms, %error,
            "a delayed message is lost: its record is gone"
        );
        self.needs.counts.lost.inc();
        self.changed = true;
    }

    fn cannot(&mut self, now_ms: i64, error: &dyn std::fmt::Display, what: &str) {
        if !std::mem::replace(&mut self.refused, true) {
            tracing::error!(%error, what, "delayed messages are not delivered now, it is tried again");
        }
        self.not_before_ms = now_ms + RETRY.as_millis() as i64;
    }

    /// Delivers what is due.
    fn deliver(&mut self, now_ms: i64) {
        if now_ms < self.not_before_ms {
            return;
        }
        for _ in 0..64 {
            let mut bytes = 0;
            let fits = |item: &&InHand| {
                bytes += bytes_of(&item.record);
                item.scheduled.due_ms <= now_ms && bytes <= PORTION_BYTES
            };
            let count = self.hand.iter().take(PORTION).take_while(fits).count();
            let is_due = self.hand.front().is_some_and(|first| first.scheduled.due_ms <= now_ms);
            // One that is larger goes alone.
            let count = count.max(usize::from(is_due));
            if count == 0 || self.deliver_first(count, now_ms).is_err() {
                return;
            }
        }
    }

    /// Delivers the first `count` in hand.
    fn deliver_first(&mut self, count: usize, now_ms: i64) -> Result<(), Refused> {
        let items: Vec<&InHand> = self.hand.range(..count).collect();
        let properties: Vec<_> = items.iter().map(|item| record::delivered(&item.record)).collect();
        let homes: Vec<_> = items.iter().map(|item| self.home(&item.record)).collect();
        let records: Vec<_> = items
            .iter()
            .zip(&properties)
            .zip(&homes)
            .filter_map(|((item, properties), home)| {
                let (topic, queue_id) = home.as_ref()?;
                let again = again(&item.record, topic, *queue_id, properties.as_bytes());
                Some(NewRecord { prepared_offset: item.scheduled.id, ..again })
            })
            .collect();
        let outcome = if records.is_empty() { Ok(()) } else { self.store().append(&records).map(drop) };
        let delivered = records.len() as u64;
        drop(records);
        match outcome {
            Ok(()) => {
                self.needs.counts.dequeued.inc_by(delivered);
                self.refused = false;
            }
            Err(error @ (AppendError::DiskFull(_) | AppendError::Closed(_))) => {
                self.cannot(now_ms, &error, "the log refuses");
                return Err(Refused);
            }
            Err(_) if count > 1 => {
                // One of them is too large: each by itself.
                return (0..count).try_for_each(|_| self.deliver_first(1, now_ms));
            }
            Err(error) => {
                let scheduled = self.hand[0].scheduled;
                tracing::error!(log_offset = %scheduled.at, %error, "a delayed message is lost: the log does not take it");
                self.needs.counts.lost.inc();
            }
        }
        let late_ms = now_ms - self.hand[0].scheduled.due_ms;
        self.needs.counts.late(late_ms);
        for InHand { record, .. } in self.hand.drain(..count) {
            self.hand_bytes -= bytes_of(&record);
            if let Some(to) = record::destination(&record) {
                self.timers.count(to.topic, -1);
            }
        }
        self.changed = true;
        Ok(())
    }

    /// Where the message belongs. `None`: there is no such topic any more.
    fn home(&self, record: &Record) -> Option<(String, QueueId)> {
        let to = record::destination(record)?;
        let Some(topic) = self.needs.topics.topic(to.topic) else {
            tracing::warn!(topic = to.topic, log_offset = %record.log_offset, "a delayed message is dropped: its topic is gone");
            return None;
        };
        let topics::TopicConfig { read_queues, .. } = topic.config;
        // The topic may have fewer queues by now.
        Some((to.topic.to_owned(), QueueId(to.queue % read_queues.max(1))))
    }

    /// Appends anew some of what waits in old files of the log that are to go.
    fn move_some(&mut self, now_ms: i64) {
        let wanted = LogOffset(self.timers.wanted_below.load(Ordering::Acquire));
        let moved = LogOffset(self.timers.moved_below.load(Ordering::Acquire));
        if wanted <= moved || now_ms < self.not_before_ms {
            return;
        }
        if let Some(Moving { below, frees, moved, noted_to: Some(_), .. }) = self.moving
            && below < wanted
        {
            self.rest_from_moving(frees, moved);
            self.moving = None;
        }
        if self.moving.is_none() {
            if self.store().confirmed() < self.no_move_before {
                return;
            }
            let frees = wanted.0.saturating_sub(self.store().state().min.0);
            self.moving = Some(Moving { below: wanted, after: None, frees, moved: 0, noted_to: None });
        }
        let Some(moving) = &self.moving else { return };
        let Moving { below, after, frees, moved, noted_to } = *moving;
        match noted_to {
            Some(noted_to) if self.timers.schedule.complete_to() >= noted_to => {
                self.timers.moved_below.fetch_max(below.0, Ordering::AcqRel);
                self.rest_from_moving(frees, moved);
                self.moving = None;
                return;
            }
            Some(_) => return,
            None => {}
        }
        self.put_back();
        let (found, next) = match self.timers.schedule.lying_below(below, after) {
            Ok(found) => found,
            Err(error) => return self.cannot(now_ms, &error, "the schedule cannot be read"),
        };
        if self.append_anew(&found, now_ms).is_err() {
            return;
        }
        let Some(moving) = &mut self.moving else { return };
        if next.is_some() {
            moving.after = next;
        } else if self.try_note() {
            let noted_to = self.noted_to;
            if let Some(moving) = &mut self.moving {
                moving.noted_to = Some(noted_to);
            }
        }
    }

    /// Where more waits than the log may hold, what is moved is soon the oldest again, and moving it for ever would make no
    /// room. So a move that takes more than half of what it frees is paid for: by as much as others write next.
    fn rest_from_moving(&mut self, frees: u64, moved: u64) {
        if moved > frees / 2 {
            self.no_move_before = self.store().confirmed().plus(moved);
            tracing::warn!(
                frees,
                moved,
                "delayed messages take most of the log that is to be deleted: it stays larger than configured, raise messageRetention.size"
            );
        }
    }

    fn append_anew(&mut self, found: &[Scheduled], now_ms: i64) -> Result<(), Refused> {
        let mut rest = found;
        while !rest.is_empty() {
            let mut read = Vec::new();
            let mut bytes = 0;
            let mut passed = 0;
            for scheduled in rest {
                match self.store().record_at(scheduled.at, scheduled.size) {
                    Ok(record) => {
                        bytes += bytes_of(&record);
                        if bytes > PORTION_BYTES && !read.is_empty() {
                            break;
                        }
                        read.push((*scheduled, record));
                    }
                    Err(error @ ReadError::Io(_)) => {
                        self.cannot(now_ms, &error, "delayed messages cannot be read");
                        return Err(Refused);
                    }
                    // Told when it is due.
                    Err(_) => {}
                }
                passed += 1;
            }
            let properties: Vec<_> = read.iter().map(|(_, record)| record::moved(record)).collect();
            let records: Vec<_> = read
                .iter()
                .zip(&properties)
                .map(|((scheduled, record), properties)| NewRecord {
                    prepared_offset: scheduled.id,
                    ..again(record, TOPIC, QUEUE, properties.as_bytes())
                })
                .collect();
            let outcome = if records.is_empty() { None } else { Some(self.store().append(&records)) };
            match outcome {
                None => {}
                Some(Ok(appended)) => {
                    let mut at = appended.start;
                    for ((scheduled, _), record) in read.iter().zip(&records) {
                        let size = record.check(usize::MAX).expect("it was just appended");
                        let size = u32::try_from(size).expect("a record is smaller");
                        self.timers.schedule.put(Scheduled { at, size, ..*scheduled });
                        at = at.plus(u64::from(size));
                    }
                    if let Some(moving) = &mut self.moving {
                        moving.moved += at.0 - appended.start.0;
                    }
                    self.changed = true;
                }
                Some(Err(error @ (AppendError::DiskFull(_) | AppendError::Closed(_)))) => {
                    self.cannot(now_ms, &error, "the log refuses");
                    return Err(Refused);
                }
                // Together they are larger than a file of the log: each by itself.
                Some(Err(_)) if passed > 1 => {
                    for scheduled in &rest[..passed] {
                        self.append_anew(std::slice::from_ref(scheduled), now_ms)?;
                    }
                }
                Some(Err(error)) => {
                    tracing::error!(log_offset = %rest[0].at, %error, "a delayed message cannot be moved, it will be lost");
                }
            }
            rest = &rest[passed..];
        }
        Ok(())
    }

    /// Notes how things stand, if it is time.
    fn note(&mut self) {
        let behind = self.known_to.0.saturating_sub(self.noted_to.0);
        if self.timers.schedule.wants_note() || (self.changed && behind >= NOTE_LOG_BYTES) {
            self.try_note();
        }
    }

    /// False: the note before is not written yet.
    fn try_note(&mut self) -> bool {
        // What is in hand is not delivered.
        self.put_back();
        let noted = self.timers.schedule.note(self.known_to, self.note_text());
        if noted {
            self.noted_to = self.known_to;
            self.changed = false;
        }
        self.timers.call_writer();
        noted
    }

    fn note_text(&self) -> Vec<u8> {
        let note = Note { next: self.next.0, waiting: self.timers.waiting.lock().clone() };
        serde_json::to_vec(&note).expect("numbers and names are JSON")
    }
}

/// The message again, for another topic.
fn again<'a>(record: &'a Record, topic: &'a str, queue_id: QueueId, properties: &'a [u8]) -> NewRecord<'a> {
    NewRecord {
        topic,
        queue_id,
        body: &record.body,
        properties,
        tag: record.properties().filter(|(name, _)| *name == "TAGS").last().map(|(_, tag)| tag),
        flag: record.flag,
        sys_flag: record.sys_flag & COMPRESSION_BITS,
        born_at_ms: record.born_at_ms,
        born_host: record.born_host,
        store_host: record.store_host,
        reconsume_times: record.reconsume_times,
        prepared_offset: LogOffset(0),
    }
}

fn bytes_of(record: &Record) -> usize {
    record.body.len() + record.properties.len() + 128
}

fn answer(to: oneshot::Sender<Result<(), NotRecalled>>, outcome: Result<(), NotRecalled>) {
    // The client may have gone meanwhile.
    let _ = to.send(outcome);
}
