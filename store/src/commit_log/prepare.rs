//! The next segment is made ahead, off the hot path, and its pages are touched before the writer needs them.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{CommitLog, Segment, segment};
use crate::LogOffset;
use crate::disk::{Map, is_full};
use crate::error::AppendError;
use crate::planted::{Bug, is_planted};

/// While no segment can be made, ask the disk again only this often: every refused append would otherwise try.
const RETRY_AFTER: Duration = Duration::from_millis(200);
/// How far before a writer that was faster the work goes on.
const LEAD: u64 = 1 << 20;
/// Steps in which pages are made ready: an append that comes by waits for one at most, some 60 µs.
const POPULATE_STEP: u64 = 256 << 10;
/// Steps in which blocks are written ahead: a flush of the log that comes by waits for one, so they are few.
const PRE_WRITE_STEP: u64 = 1 << 20;

/// The segment behind the last, if it is there already.
#[derive(Default)]
pub(super) struct Prepared {
    next: Option<Arc<Segment>>,
    /// End of the last segment that was handed to the writer. Between this and its entry in the list of segments
    /// it must not be made again: the new file would take the name of the one in use.
    handed_out: u64,
    failed: Option<(Instant, String)>,
    /// Pages are touched up to here.
    populated: u64,
}

/// Held by whoever makes a segment. [`Prepared`] is not locked meanwhile: making pages ready does not wait for the disk's
/// journal.
#[derive(Default)]
pub(super) struct Making;

impl Prepared {
    /// The segment from `base` on, if it is there.
    fn hand_out(&mut self, base: u64) -> Option<Arc<Segment>> {
        let next = self.next.take_if(|next| next.base() == base)?;
        self.handed_out = next.end();
        Some(next)
    }

    fn has_room_again(&mut self, base: u64) {
        if self.failed.take().is_some() {
            tracing::info!(log_offset = base, "the disk has room again, appends go on");
        }
    }
}

impl CommitLog {
    /// The segment from `base` on: the prepared one, or made now.
    pub(super) fn next_segment(&self, base: u64) -> Result<Arc<Segment>, AppendError> {
        if let Some(next) = self.prepared.lock().hand_out(base) {
            return Ok(next);
        }
        // It may be in the making.
        let making = self.making.lock();
        {
            let mut prepared = self.prepared.lock();
            if let Some(next) = prepared.hand_out(base) {
                return Ok(next);
            }
            if let Some((at, reason)) = &prepared.failed
                && at.elapsed() < RETRY_AFTER
            {
                return Err(AppendError::DiskFull(reason.clone()));
            }
        }
        let made = self.make_segment(&making, base);
        let mut prepared = self.prepared.lock();
        match made {
            Ok(segment) => {
                prepared.handed_out = segment.end();
                prepared.has_room_again(base);
                Ok(segment)
            }
            Err(error) => {
                let reason = format!("cannot add a segment of {} bytes: {error}", self.segment_bytes);
                if prepared.failed.is_none() {
                    tracing::error!(log_offset = base, %error, full = is_full(&error), "cannot add a segment, appends are refused");
                }
                prepared.failed = Some((Instant::now(), reason.clone()));
                Err(AppendError::DiskFull(reason))
            }
        }
    }

    /// Why the log takes no more just now.
    pub(crate) fn out_of_room(&self) -> Option<String> {
        self.refusal.lock().clone().or_else(|| self.cannot_grow())
    }

    /// Why the log cannot grow just now.
    pub(crate) fn cannot_grow(&self) -> Option<String> {
        self.prepared.lock().failed.as_ref().map(|(_, reason)| reason.clone())
    }

    /// Refuses appends for this reason from now on, or takes them again.
    pub(crate) fn refuse(&self, reason: Option<String>) {
        let mut refusal = self.refusal.lock();
        match (&*refusal, &reason) {
            (None, Some(reason)) => tracing::error!(reason, "appends are refused"),
            (Some(_), None) => tracing::info!("the disk has room again, appends go on"),
            _ => {}
        }
        self.refuses.store(reason.is_some(), Ordering::Relaxed);
        *refusal = reason;
    }

    /// Is it time to make the next segment? Once half of the current one is used, so that a roll need not wait. Idle stores
    /// therefore hold one segment, not two.
    pub(crate) fn wants_next(&self) -> bool {
        self.base_wanted().is_some()
    }

    /// Makes the next segment if it is wanted. Did it?
    pub(crate) fn prepare(&self) -> bool {
        if !self.wants_next() {
            return false;
        }
        let making = self.making.lock();
        let Some(base) = self.base_wanted() else { return false };
        match self.make_segment(&making, base) {
            Ok(segment) => {
                let mut prepared = self.prepared.lock();
                prepared.next = Some(segment);
                prepared.has_room_again(base);
                true
            }
            // Not a failure yet: the roll will try again, and say so if it must refuse.
            Err(error) => {
                tracing::warn!(log_offset = base, %error, "cannot prepare the next segment");
                false
            }
        }
    }

    fn base_wanted(&self) -> Option<u64> {
        let last_end = self.segments.read().back().expect("a log has at least one segment").end();
        if last_end.saturating_sub(self.appended().0) > self.segment_bytes / 2 || self.closed().is_some() {
            return None;
        }
        let prepared = self.prepared.lock();
        // The roll may have happened meanwhile, or be under way; then the next half asks again.
        (prepared.next.is_none() && prepared.handed_out <= last_end).then_some(last_end)
    }

    /// The segments that are or will be written to and that end at `from` or later.
    pub(crate) fn ahead_from(&self, from: u64) -> Vec<Arc<Segment>> {
        let prepared = self.prepared.lock();
        let last = self.segments.read().back().cloned();
        let ahead = last.into_iter().chain(prepared.next.clone());
        ahead.filter(|segment| segment.end() >= from).collect()
    }

    /// Touches the pages of the next `window` bytes behind the end, in the prepared segment too; returns up to where they
    /// are touched. Only a hint: the blocks are reserved already.
    ///
    /// With `pre_write` the zeros there are written to the disk as well: a flush of blocks that were never written must
    /// wait for the file system's journal to note that they are now. An error is that of a flush: the caller closes the
    /// log.
    pub(crate) fn populate(&self, window: u64, pre_write: bool) -> io::Result<LogOffset> {
        let appended = self.appended().0;
        let populated = self.prepared.lock().populated;
        // Overtaken: side by side with the writer nothing is gained, so go on some way before it.
        let mut at = if populated >= appended { populated } else { appended + LEAD };
        for segment in self.ahead_from(at + 1) {
            // The log may have rolled since its end was read.
            at = at.max(segment.base());
            let window_end = segment.end().min(appended.saturating_add(window));
            while at < window_end {
                let step = if pre_write { PRE_WRITE_STEP } else { POPULATE_STEP };
                let to = (at + step).min(segment.end());
                let range = at - segment.base()..to - segment.base();
                if let Err(error) = touch(segment.map(), &range) {
                    tracing::debug!(%error, "cannot touch pages ahead");
                    return Ok(LogOffset(at));
                }
                if pre_write {
                    segment.map().flush(range.clone())?;
                    // Written pages are write-protected; touched once more they are not.
                    let _only_a_hint = touch(segment.map(), &range);
                }
                at = to;
            }
            // What is left of a segment is not skipped because the next one is there.
            if at < segment.end() {
                break;
            }
        }
        self.prepared.lock().populated = at;
        Ok(LogOffset(at))
    }

    /// The prepared segment was never used: remove it, Java does not expect it.
    pub(crate) fn discard_prepared(&self) {
        let Some(next) = self.prepared.lock().next.take() else { return };
        if let Err(error) = self.disk.remove(&segment::path(&self.dir, next.base())) {
            tracing::warn!(%error, "cannot remove the unused next segment");
        }
    }

    fn make_segment(&self, _alone: &Making, base: u64) -> io::Result<Arc<Segment>> {
        make_segment(self.disk.as_ref(), &self.dir, &self.temp, base, self.segment_bytes).map(Arc::new)
    }
}

/// Makes pages ready, in steps that an append may come between.
fn touch(map: &dyn Map, range: &Range<u64>) -> io::Result<()> {
    let mut steps = (range.start..range.end).step_by(POPULATE_STEP as usize);
    steps.try_for_each(|at| map.populate(at..(at + POPULATE_STEP).min(range.end)))
}

/// Makes a segment under a temporary name first: a file with a segment's name is always whole.
pub(super) fn make_segment(
    disk: &dyn crate::disk::Disk,
    dir: &std::path::Path,
    temp: &std::path::Path,
    base: u64,
    bytes: u64,
) -> io::Result<Segment> {
    let path = segment::path(dir, base);
    match disk.remove(temp) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    disk.allocate(temp, bytes)?;
    disk.rename(temp, &path)?;
    // Before the first record goes in: a durable record in a file without a durable name is lost.
    if !is_planted(Bug::SkipDirectorySync) {
        disk.sync_dir(dir)?;
    }
    Ok(Segment::new(base, disk.map(&path, bytes, 0)?))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::commit_log::codec::tests::new_record;
    use crate::disk::MemoryDisk;
    use crate::{Config, Store, SystemClock};

    #[test]
    fn the_rest_of_a_segment_is_made_ready_also_when_the_next_one_is_there() {
        const SEGMENT: u64 = 8 << 20;
        const WINDOW: u64 = 1 << 20;
        let config = Config { segment_bytes: SEGMENT, ..Config::new("/data") };
        let (store, _) =
            Store::open_without_threads(Arc::new(MemoryDisk::default()), Arc::new(SystemClock), config)
                .unwrap();
        let body = vec![7; 1 << 20];
        let record = new_record("t", &body, b"");
        let log = &store.inner().log;
        let mut ready_to = log.populate(WINDOW, false).unwrap();
        while log.appended().0 < SEGMENT {
            store.append(std::slice::from_ref(&record)).unwrap();
            log.prepare();
            let appended = log.appended().0;
            let next = log.populate(WINDOW, false).unwrap();
            assert!(ready_to <= next, "{next} was ready before");
            assert!(appended < next.0 && next.0 <= appended + 2 * WINDOW, "{next} is ready at {appended}");
            ready_to = next;
        }
    }
}
