//! Opening a log: find its end, cut what is torn, keep what is good.
//!
//! Records are walked from where the views were complete, by the rules of [`super::walk`]. What is torn is cut and zeroed,
//! so that nobody can take it for records later; what rotted is skipped and counted, and everything behind it is served.

use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};

use super::codec::{Flaw, Head, MIN_RECORD_BYTES};
use super::mark::Mark;
use super::prepare::make_segment;
use super::walk::{Step, Verdict, flaw, scan, step, verdict};
use super::{CommitLog, Segment, Writer, segment};
use crate::LogOffset;
use crate::answers::Progress;
use crate::config::{Config, Flush};
use crate::disk::Disk;
use crate::error::{CutBackError, OpenError};

/// How often a long recovery is told in the log.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// The segment files that lie in the directory, checked for size and gaps.
pub(crate) struct Files {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    temp: PathBuf,
    segment_bytes: u64,
    bases: Vec<u64>,
    /// Where the first segment of an empty log starts.
    first: u64,
    mark: Mark,
}

/// What the walk found.
#[derive(Debug, Default)]
pub(crate) struct Walked {
    pub(crate) end: LogOffset,
    pub(crate) cut_bytes: u64,
    pub(crate) records: u64,
    /// Places where bytes are damaged, how many bytes, and what is wrong.
    pub(crate) damaged: Vec<(LogOffset, u64, Flaw)>,
    /// The first of them that is not known to have been durable.
    pub(crate) torn_at: Option<LogOffset>,
}

/// What the walk comes to, in the log's order.
pub(crate) enum Met<'a> {
    Record(&'a Head, &'a [u8]),
    /// A damaged record whose shape can still be read; any of its fields may be wrong.
    Remains(&'a Head, &'a [u8]),
    /// In what is damaged here there were so many more records at the most.
    Unreadable(u64),
}

/// From where to walk, and what to believe.
pub(crate) struct Known {
    /// A record starts here, or the log ends here. What is before needs no walk, and is durable.
    pub(crate) from: LogOffset,
    /// Store time of the last record before `from`.
    pub(crate) stored_at_ms: i64,
    pub(crate) now_ms: i64,
    /// Valid records behind a bad one count even if a crash may have torn it.
    pub(crate) believe: Flush,
    /// Whatever is found must be durable when the log is open.
    pub(crate) settle: bool,
}

impl Files {
    /// Lists the segments.
    pub(crate) fn load(disk: Arc<dyn Disk>, config: &Config) -> Result<Self, OpenError> {
        let dir = config.root.join("commitlog");
        let temp = config.root.join("next-segment.temp");
        disk.create_dir(&dir).map_err(OpenError::at(&dir))?;
        match disk.remove(&temp) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(OpenError::at(&temp)(error)),
            _ => {}
        }
        let mut files: Vec<_> = disk
            .list(&dir)
            .map_err(OpenError::at(&dir))?
            .into_iter()
            .filter_map(|file| segment::base_of(&file.name).map(|base| (base, file.bytes)))
            .collect();
        files.sort_unstable();
        let mark = Mark::flushed(disk.as_ref(), &config.root, config.flush)?;
        if let Some(&(base, 0)) = files.last()
            && base >= mark.noted().0
        {
            // Java leaves such a file when it dies between creating and sizing it.
            let path = segment::path(&dir, base);
            disk.remove(&path).map_err(OpenError::at(&path))?;
            files.pop();
        }
        let segment_bytes = size_of_segments(&files, config.segment_bytes, mark.noted());
        for &(base, found) in &files {
            if found != segment_bytes {
                let path = segment::path(&dir, base);
                return Err(OpenError::SegmentSize { path, found, expected: segment_bytes });
            }
        }
        if segment_bytes != config.segment_bytes {
            tracing::info!(
                segment_bytes,
                configured = config.segment_bytes,
                "the log goes on with the segment size that it began with"
            );
        }
        for pair in files.windows(2) {
            let expected = pair[0].0 + segment_bytes;
            if pair[1].0 != expected {
                let missing = io::Error::other(format!(
                    "the log has a gap, {} follows; restore the missing file, or move the older ones away to go on without them",
                    pair[1].0
                ));
                return Err(OpenError::Io { path: segment::path(&dir, expected), source: missing });
            }
        }
        let first = config.first_offset.unwrap_or(0);
        if !first.is_multiple_of(segment_bytes) {
            return Err(OpenError::FirstOffset { found: first, segment_bytes });
        }
        let bases = files.into_iter().map(|(base, _)| base).collect();
        Ok(Self { disk, dir, temp, segment_bytes, bases, first, mark })
    }

    /// Where the first segment starts.
    pub(crate) fn min(&self) -> LogOffset {
        LogOffset(self.bases.first().copied().unwrap_or(self.first))
    }

    /// Behind the last byte of the last file: the log cannot end later.
    pub(crate) fn end(&self) -> LogOffset {
        LogOffset(self.bases.last().map_or(self.first, |base| base + self.segment_bytes))
    }

    /// No record lies behind this.
    fn data_end(&self) -> Result<LogOffset, OpenError> {
        for &base in self.bases.iter().rev() {
            let path = segment::path(&self.dir, base);
            let end = self.disk.data_end(&path).map_err(OpenError::at(&path))?;
            if end > 0 {
                return Ok(LogOffset(base + end));
            }
        }
        Ok(self.min())
    }

    fn base_at(&self, at: u64) -> Option<u64> {
        self.bases.iter().copied().rfind(|&base| base <= at && at < base + self.segment_bytes)
    }

    /// Walks, cuts, and opens the log at its end. `visit` sees what lies from `known.from` on.
    pub(crate) fn recover(
        mut self,
        known: &Known,
        progress: &Progress,
        visit: &mut dyn FnMut(Met<'_>, LogOffset),
    ) -> Result<(CommitLog, Walked), OpenError> {
        if self.bases.is_empty() {
            self.add_segment(self.first)?;
        }
        let mut stored_at_ms = known.stored_at_ms;
        let durable = known.from.max(self.mark.noted()).min(self.end()).0;
        let mut walk =
            Walk { files: &self, from: known.from, durable, flush: known.believe, walked: Walked::default() };
        let mut told = Told::new(progress, known.from, self.data_end()?);
        walk.run(&mut |met, at| {
            if let Met::Record(head, _) = met {
                stored_at_ms = stored_at_ms.max(head.sure_stored_at_ms(known.now_ms));
                told.reached(at);
            }
            visit(met, at);
        })?;
        let mut walked = walk.walked;
        self.cut(&mut walked)?;

        // What was read may come from the page cache of a killed process. Where nobody counts on it to be durable, the
        // flushing thread sees to that while the log is in use already.
        let flushed = if known.settle || !self.mark.is_known() {
            self.make_durable(durable..walked.end.0)?;
            self.mark.start_at(walked.end);
            walked.end.0
        } else {
            durable.min(walked.end.0)
        };
        let segments = self.open_segments(walked.end, flushed)?;
        let last = segments.last().expect("a recovered log has a segment").clone();
        let log = CommitLog {
            disk: self.disk,
            dir: self.dir,
            temp: self.temp,
            segment_bytes: self.segment_bytes,
            segments: RwLock::new(segments.into()),
            writer: Mutex::new(Writer::new(last, walked.end.0)),
            prepared: Mutex::default(),
            making: Mutex::default(),
            refusal: Mutex::default(),
            refuses: AtomicBool::new(false),
            appended: AtomicU64::new(walked.end.0),
            stored_at_ms: AtomicI64::new(stored_at_ms),
            flushed: AtomicU64::new(flushed),
            doubted_to: walked.end.0,
            mark: self.mark,
            doubted_copies_to: AtomicU64::new(0),
            closed: std::sync::OnceLock::new(),
            quarantine: std::sync::OnceLock::new(),
        };
        Ok((log, walked))
    }

    /// May the log end at `to`? Looks at the segment that holds it.
    pub(crate) fn check_cut(&self, to: LogOffset) -> Result<(), CutBackError> {
        let not_in_log = || CutBackError::NotInLog { to, min: self.min(), end: self.end() };
        if to < self.min() || to > self.end() {
            return Err(not_in_log());
        }
        let Some(base) = self.base_at(to.0) else { return Ok(()) };
        let (segment, data_end) = self.map_whole(base)?;
        let bytes = segment.slice(base..segment.end()).expect("a segment for reading is published whole");
        let mut at = base;
        while at < to.0 {
            let rest = &bytes[(at - base) as usize..];
            let next = match step(rest, LogOffset(at)) {
                Step::Record(_, size) => at + size as u64,
                Step::Blank => return Err(not_in_log()),
                Step::Nothing | Step::Flawed(_) => match scan(&bytes, base, data_end, at + 1) {
                    Some(next) => next.min(to.0),
                    None if to.0 <= base + data_end => to.0,
                    None => return Err(not_in_log()),
                },
            };
            if next > to.0 {
                return Err(CutBackError::WithinRecord { to, record: LogOffset(at) });
            }
            at = next;
        }
        Ok(())
    }

    /// The log ends at `to`, durably. Nothing may know more of it by then.
    pub(crate) fn cut_back(mut self, to: LogOffset) -> Result<(), OpenError> {
        self.remove_behind(to.0)?;
        // Always: a try that was killed may have removed some before.
        self.disk.sync_dir(&self.dir).map_err(OpenError::at(&self.dir))?;
        let Some(base) = self.base_at(to.0) else { return Ok(()) };
        let path = segment::path(&self.dir, base);
        let data_end = base + self.disk.data_end(&path).map_err(OpenError::at(&path))?;
        let segment = self.map(base, to.0 - base)?;
        if data_end > to.0 {
            segment.map().fill(to.0 - base..data_end - base, &mut |bytes| bytes.fill(0));
        }
        // Also what an earlier try wrote, which was killed before this.
        segment.flush(to.0..segment.end()).map_err(OpenError::at(&path))
    }

    /// Removes the segments that start behind `end`. Returns how many bytes of them were used.
    fn remove_behind(&mut self, end: u64) -> Result<u64, OpenError> {
        let mut used = 0;
        // Latest first: a crash in between leaves a log without gaps.
        while let Some(&base) = self.bases.last().filter(|base| **base > end) {
            used += self.used_behind(base, base)?;
            self.bases.pop();
            let path = segment::path(&self.dir, base);
            self.disk.remove(&path).map_err(OpenError::at(&path))?;
            self.disk.sync_dir(&self.dir).map_err(OpenError::at(&self.dir))?;
        }
        Ok(used)
    }

    fn add_segment(&mut self, base: u64) -> Result<(), OpenError> {
        make_segment(self.disk.as_ref(), &self.dir, &self.temp, base, self.segment_bytes)
            .map_err(OpenError::at(&segment::path(&self.dir, base)))?;
        self.bases.push(base);
        Ok(())
    }

    fn map(&self, base: u64, published: u64) -> Result<Segment, OpenError> {
        let path = segment::path(&self.dir, base);
        let map = self.disk.map(&path, self.segment_bytes, published).map_err(OpenError::at(&path))?;
        Ok(Segment::new(base, map))
    }

    /// A segment for reading only, and how many bytes of it may hold data.
    fn map_whole(&self, base: u64) -> Result<(Segment, u64), OpenError> {
        let segment = self.map(base, self.segment_bytes)?;
        let path = segment::path(&self.dir, base);
        let data_end = self.disk.data_end(&path).map_err(OpenError::at(&path))?;
        Ok((segment, data_end))
    }

    /// Removes the files behind the end, and zeroes what is behind it in its own.
    fn cut(&mut self, walked: &mut Walked) -> Result<(), OpenError> {
        let end = walked.end.0;
        walked.cut_bytes += self.remove_behind(end)?;
        match self.bases.last().copied() {
            // The log ends with a segment, and the next one was never made, or was removed at the last close.
            Some(base) if base + self.segment_bytes == end => self.add_segment(end),
            Some(base) => {
                let torn = self.used_behind(base, end)?;
                walked.cut_bytes += torn;
                if torn > 0 {
                    let segment = self.map(base, end - base)?;
                    segment.map().fill(end - base..end - base + torn, &mut |bytes| bytes.fill(0));
                    segment.flush(end..end + torn).map_err(OpenError::at(&segment::path(&self.dir, base)))?;
                }
                Ok(())
            }
            None => self.add_segment(end),
        }
    }

    /// How many bytes of this segment, from `from` on, are used: up to the last that is not zero.
    fn used_behind(&self, base: u64, from: u64) -> Result<u64, OpenError> {
        let (segment, data_end) = self.map_whole(base)?;
        let Some(bytes) = segment.slice(from..(base + data_end).max(from)) else { return Ok(0) };
        Ok(bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last as u64 + 1))
    }

    /// Flushes this range, wholly. A log without a mark was never flushed by us.
    fn make_durable(&self, range: Range<u64>) -> Result<(), OpenError> {
        let bases =
            self.bases.iter().filter(|&&base| base < range.end && range.start < base + self.segment_bytes);
        for &base in bases {
            let segment = self.map(base, (range.end - base).min(self.segment_bytes))?;
            let again = if self.mark.is_known() { segment.write_again(range.clone()) } else { Ok(()) };
            again
                .and_then(|()| segment.flush(range.clone()))
                .map_err(OpenError::at(&segment::path(&self.dir, base)))?;
        }
        Ok(())
    }

    /// The segments, of which those that take no more are sealed.
    fn open_segments(&self, end: LogOffset, flushed: u64) -> Result<Vec<Arc<Segment>>, OpenError> {
        let open = |&base: &u64| {
            let segment = self.map(base, (end.0 - base).min(self.segment_bytes))?;
            if segment.end() <= flushed {
                segment.map().seal();
            }
            Ok(Arc::new(segment))
        };
        self.bases.iter().map(open).collect()
    }
}

/// Tells how far the walk is: to whoever asks at any time, to the log every few seconds.
struct Told<'a> {
    progress: &'a Progress,
    from: LogOffset,
    total: u64,
    records: u64,
    last: Instant,
}

impl<'a> Told<'a> {
    fn new(progress: &'a Progress, from: LogOffset, end: LogOffset) -> Self {
        let total = end.0.saturating_sub(from.0);
        progress.begin(total);
        Self { progress, from, total, records: 0, last: Instant::now() }
    }

    fn reached(&mut self, at: LogOffset) {
        self.records += 1;
        // Often enough for a person, and nothing beside checking the records.
        if self.records.is_multiple_of(1024) {
            let walked_bytes = at.0.saturating_sub(self.from.0);
            self.progress.done(walked_bytes);
            if self.last.elapsed() >= TELL_EVERY {
                self.last = Instant::now();
                let (records, total_bytes) = (self.records, self.total);
                tracing::info!(walked_bytes, total_bytes, records, "recovering the log");
            }
        }
    }
}

/// The size of a log's segments, from their bases and sizes: it keeps the size that it began with, whoever made it, since
/// offsets are found by it. Any file may have lost its end: where they do not agree, the distance of two tells it, and a
/// single one is believed unless more was flushed than it holds.
fn size_of_segments(files: &[(u64, u64)], configured: u64, flushed: LogOffset) -> u64 {
    let distance = files.windows(2).map(|pair| pair[1].0 - pair[0].0).min();
    match files {
        [] => configured,
        &[(base, bytes)] => {
            if base + bytes >= flushed.0 {
                bytes
            } else {
                configured
            }
        }
        &[(_, bytes), ..] if files.iter().all(|file| file.1 == bytes) => bytes,
        _ => distance.unwrap_or(configured),
    }
}

struct Walk<'a> {
    files: &'a Files,
    from: LogOffset,
    /// All before this was flushed once.
    durable: u64,
    flush: Flush,
    walked: Walked,
}

impl Walk<'_> {
    fn run(&mut self, visit: &mut dyn FnMut(Met<'_>, LogOffset)) -> Result<(), OpenError> {
        let files = self.files;
        let durable = self.durable;
        let mut at = self.from.0.max(files.min().0);
        'segments: while let Some(base) = files.base_at(at) {
            let (segment, data_end) = files.map_whole(base)?;
            let bytes = segment.slice(base..segment.end()).expect("a segment for reading is published whole");
            loop {
                let rest = &bytes[(at - base) as usize..];
                match step(rest, LogOffset(at)) {
                    Step::Record(head, size) => {
                        visit(Met::Record(&head, &rest[..size]), LogOffset(at));
                        self.walked.records += 1;
                        at += size as u64;
                    }
                    Step::Blank => {
                        at = segment.end();
                        continue 'segments;
                    }
                    Step::Nothing
                        if at >= durable
                            && at >= base + data_end
                            && base + files.segment_bytes == files.end().0 =>
                    {
                        break 'segments;
                    }
                    Step::Nothing | Step::Flawed(_) => {
                        let next = self.find_valid(&bytes, base, data_end, at + 1)?;
                        match verdict(at, durable, self.flush, next) {
                            Verdict::End => break 'segments,
                            Verdict::SkipTo(next) => {
                                let flaw = flaw(rest, LogOffset(at));
                                if at >= durable {
                                    self.walked.torn_at.get_or_insert(LogOffset(at));
                                }
                                self.walked.damaged.push((LogOffset(at), next - at, flaw));
                                let mut unreadable = next - at;
                                let damaged = &rest[..rest.len().min(unreadable as usize)];
                                for (head, range) in Head::remains(damaged) {
                                    unreadable -= range.len() as u64;
                                    let at = LogOffset(at).plus(range.start as u64);
                                    visit(Met::Remains(&head, &damaged[range]), at);
                                }
                                let unreadable = unreadable / MIN_RECORD_BYTES as u64;
                                visit(Met::Unreadable(unreadable), LogOffset(at));
                                at = next;
                                continue 'segments;
                            }
                        }
                    }
                }
            }
        }
        self.walked.end = LogOffset(at);
        Ok(())
    }

    /// Where the next valid record starts at or after `from`, in this segment or a later one. A record says its own
    /// place, so a copy of one in a body is not taken for it.
    fn find_valid(
        &self,
        bytes: &[u8],
        base: u64,
        data_end: u64,
        from: u64,
    ) -> Result<Option<u64>, OpenError> {
        if let Some(found) = scan(bytes, base, data_end, from) {
            return Ok(Some(found));
        }
        for &later in self.files.bases.iter().filter(|&&later| later > base) {
            let (segment, data_end) = self.files.map_whole(later)?;
            let bytes =
                segment.slice(later..segment.end()).expect("a segment for reading is published whole");
            if let Some(found) = scan(&bytes, later, data_end, later) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_lost_its_end_does_not_say_how_long_segments_are() {
        for (files, flushed, expected) in [
            (&[][..], 0, 4096),
            (&[(0, 8192)], 0, 8192),
            (&[(0, 8192)], 8192, 8192),
            (&[(0, 5000)], 8000, 4096),
            (&[(0, 5000), (8192, 8192)], 0, 8192),
            (&[(0, 8192), (8192, 1)], 0, 8192),
            (&[(0, 8192), (16_384, 8192)], 0, 8192),
            (&[(0, 8192), (16_384, 8192), (24_576, 1)], 0, 8192),
        ] {
            assert_eq!(size_of_segments(files, 4096, LogOffset(flushed)), expected, "{files:?} {flushed}");
        }
    }
}
