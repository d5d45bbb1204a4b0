//! The one thread that knows what waits: follows the log, delivers what is due, recalls, moves, notes.
//!
//! In steps. Each does a little of everything, so that nothing waits long for something else, and says when the next is
//! wanted. Time is a parameter.
//!
//! What will be due within half a second lies *in hand* with its record, so that a slow disk makes nothing late.

mod deliver;
mod moving;
mod recall;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use store::{LogOffset, NewRecord, QueueId, ReadError, Record, Store};

use self::deliver::{HAND_BYTES, InHand};
use self::moving::Moving;
use super::known::Known;
use super::record::{self, Said, TOPIC};
use super::{Needs, QUEUE, RETRY, Timers};

/// Records are read so long before they are due.
pub(super) const AHEAD_MS: i64 = 500;
/// Followed, taken, appended in one go.
const PORTION: usize = 256;
const PORTION_BYTES: usize = 1 << 20;
/// After it looked for what is new, it does not look again for so long: who sends pays for no wake-up then.
const QUIET: Duration = Duration::from_millis(3);
/// A clock that jumps is noticed within this.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// RocketMQ's `MessageSysFlag`: what says how a body is compressed.
const COMPRESSION_BITS: i32 = 0x1 | 0x7 << 8;

pub(super) struct Worker {
    needs: Needs,
    timers: Arc<Timers>,
    known: Known,
    hand: VecDeque<InHand>,
    hand_bytes: usize,
    moving: Option<Moving>,
    /// Nothing more is moved before the log has come so far.
    no_move_before: LogOffset,
    /// Before then the disk is not asked again.
    not_before_ms: i64,
    /// The log refused, and that was told.
    refused: bool,
}

/// The log or the disk refuses just now.
struct Refused;

impl Worker {
    pub(super) fn new(needs: Needs, known: Known) -> Self {
        Self {
            needs,
            timers: Arc::clone(known.timers()),
            known,
            hand: VecDeque::new(),
            hand_bytes: 0,
            moving: None,
            no_move_before: LogOffset(0),
            not_before_ms: 0,
            refused: false,
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
        self.known.leave();
    }

    /// The schedule is damaged: it is made anew from the log.
    pub(super) fn begin_anew(&mut self) -> bool {
        self.hand.clear();
        self.hand_bytes = 0;
        self.moving = None;
        self.known.begin_anew()
    }

    /// Tells the schedule what the log has from the last note on. False: stopped.
    pub(super) fn recover(&mut self) -> bool {
        self.known.recover()
    }

    /// A little of everything. Returns when to go on, unless something new comes before.
    pub(super) fn step(&mut self, now_ms: i64) -> i64 {
        let followed_all = self.follow();
        self.recall(now_ms);
        self.move_some(now_ms);
        self.take_in_hand(now_ms);
        self.deliver(now_ms);
        self.note();
        if !followed_all || self.moving.as_ref().is_some_and(Moving::goes_on) {
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
            let entries = match store.entries(TOPIC, QUEUE, self.known.next, PORTION) {
                Ok(entries) => entries,
                Err(ReadError::Deleted { min }) if min > self.known.next => {
                    self.known.next = min;
                    continue;
                }
                Err(error) => {
                    tracing::error!(%error, "the queue of delayed messages cannot be read, it is tried again");
                    self.not_before_ms = self.needs.clock.now_ms() + RETRY.as_millis() as i64;
                    return false;
                }
            };
            let Some(last) = entries.last() else {
                self.known.known_to = self.known.known_to.max(confirmed);
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
            self.known.known_to = self.known.known_to.max(last.log_offset.plus(u64::from(last.size)));
            self.known.next = last.queue_offset.plus(1);
            self.known.changed = true;
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

    fn cannot(&mut self, now_ms: i64, error: &dyn std::fmt::Display, what: &str) {
        if !std::mem::replace(&mut self.refused, true) {
            tracing::error!(%error, what, "delayed messages are not delivered now, it is tried again");
        }
        self.not_before_ms = now_ms + RETRY.as_millis() as i64;
    }

    /// Notes how things stand, if it is time.
    fn note(&mut self) {
        if self.known.wants_note() {
            self.try_note();
        }
    }

    /// False: the note before is not written yet.
    fn try_note(&mut self) -> bool {
        // What is in hand is not delivered.
        self.put_back();
        self.known.note()
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
