//! Appends anew what waits in old files of the log, so that they can go.

use std::sync::atomic::Ordering;

use store::schedule::Scheduled;
use store::{AppendError, LogOffset, NewRecord, ReadError};

use super::{PORTION_BYTES, Refused, Worker, again, bytes_of};
use crate::schedule::QUEUE;
use crate::schedule::record::{self, TOPIC};

/// Moving what waits before a place of the log.
pub(super) struct Moving {
    below: LogOffset,
    after: Option<(i64, LogOffset)>,
    /// Of the log, so many bytes go with it, and so many were appended anew.
    frees: u64,
    moved: u64,
    /// All is moved; done when it is noted up to here.
    noted_to: Option<LogOffset>,
}

impl Moving {
    /// There is more to append.
    pub(super) fn goes_on(&self) -> bool {
        self.noted_to.is_none()
    }
}

impl Worker {
    /// Appends anew some of what waits in old files of the log that are to go.
    pub(super) fn move_some(&mut self, now_ms: i64) {
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
            let noted_to = self.known.noted_to;
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
                    self.known.changed = true;
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
}
