//! Reading records: in place near the log's end; far behind it past the mapping, by a few threads of the store's own.
//!
//! ```text
//!   Store::record_in_place ──► the mapping              a slice: no copy, no call of the system
//!   Store::fetch ──► gather ──► chunks, page cache       a copy, no wait ──────────────────────► then, at once
//!                       └─────► pool (bounded) ──► files (pread, ahead) ──► chunks ──► gather ──► then
//! ```
//!
//! A touch of a mapping that has to wait for the disk holds up whoever touches, so what may have left the memory is not
//! touched. *Hot* is what was written since the opening and lies near the log's end. All else is *cold*: it is read with
//! `pread`, ahead where somebody reads on and on, checked by its checksum, and copied out of a chunk that serves many
//! records. What had to come from the disk is dropped from the page cache behind the reader; what was there already is
//! left: somebody else brought it, and may need it.
//!
//! Bounds: chunks, fetches that wait, and the bytes of cold records that callers hold ([`ColdReads`]). Beyond the last two
//! a fetch is refused at once.

mod chunks;
mod files;
mod gather;
mod held;
mod pool;
mod streams;
mod stretch;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::answers::Entry;
use crate::commit_log::codec::Head;
use crate::commit_log::{CommitLog, NotThere, Place};
use crate::config::ColdReads;
use crate::disk::{Disk, File, Reach};
use crate::error::{FetchError, ReadError};
use crate::planted::{Bug, is_planted};
use crate::views::Views;
use crate::{LogOffset, QueueOffset, Record};
use chunks::Chunks;
use files::Files;
use gather::Gather;
pub use gather::{Fetched, Found, Wanted};
use held::Held;
use pool::{Job, Pool, Refused};
use streams::Streams;
pub use stretch::Stretch;

/// The queue offset of an entry that means a record of any. No record has it.
const ANY: QueueOffset = QueueOffset(u64::MAX);

/// Called with the outcome of a fetch.
pub(crate) type Then = Box<dyn FnOnce(Result<Fetched, FetchError>) + Send>;

const PAGE_BYTES: u64 = 4096;
/// A cold record up to this size is copied from the page cache by whoever asks; larger ones are left to the pool.
const MOST_INLINE_BYTES: u64 = 64 << 10;
/// A record from this size on is read for itself: a chunk would hold little else.
const LARGE_BYTES: u64 = 256 << 10;

pub(crate) struct Reads {
    log: Arc<CommitLog>,
    views: Arc<Views>,
    /// What lies before was written before this opening.
    written_before: LogOffset,
    hot_bytes: u64,
    files: Files,
    chunks: Mutex<Chunks>,
    streams: Mutex<Streams>,
    held: Arc<Held>,
    pool: Pool,
    read_bytes: AtomicU64,
}

/// Why bytes cannot be had.
enum Missing {
    Place(NotThere),
    Io(std::io::Error),
}

impl From<NotThere> for Missing {
    fn from(not_there: NotThere) -> Self {
        Self::Place(not_there)
    }
}

impl Reads {
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        log: Arc<CommitLog>,
        views: Arc<Views>,
        written_before: LogOffset,
        limits: &ColdReads,
    ) -> Self {
        let &ColdReads { hot_bytes, threads: _, most_waiting, ahead_bytes, held_bytes } = limits;
        Self {
            log,
            views,
            written_before,
            hot_bytes,
            files: Files::new(disk),
            chunks: Mutex::new(Chunks::new(ahead_bytes)),
            streams: Mutex::new(Streams::new(ahead_bytes)),
            held: Arc::new(Held::new(held_bytes)),
            pool: Pool::new(most_waiting),
            read_bytes: AtomicU64::new(0),
        }
    }

    /// From here on records are read in place.
    pub(crate) fn hot_from(&self) -> LogOffset {
        self.written_before.max(LogOffset(self.log.appended().0.saturating_sub(self.hot_bytes)))
    }

    /// The record of an entry through the mapping, wherever it lies.
    pub(crate) fn in_place(&self, entry: &Entry) -> Result<Record, ReadError> {
        let verify = entry.log_offset < self.written_before;
        match self.log.slice(entry.log_offset, u64::from(entry.size)) {
            Ok(bytes) => self.check(entry, &bytes, verify),
            Err(not_there) => Err(not_there_is(entry, not_there)),
        }
    }

    /// Bytes that cold reads took from files, those read ahead included.
    pub(crate) fn read_bytes(&self) -> u64 {
        self.read_bytes.load(Ordering::Relaxed)
    }

    /// The record of an entry; `None`: it lies further away.
    pub(crate) fn record(&self, entry: &Entry, reach: Reach) -> Result<Option<Record>, ReadError> {
        self.record_ahead(entry, entry.log_offset.0 + u64::from(entry.size), reach)
    }

    /// The record at this place, whatever queue it belongs to.
    pub(crate) fn record_at(&self, at: LogOffset, size: u32) -> Result<Record, ReadError> {
        let entry = Entry { queue_offset: ANY, log_offset: at, size, tags_code: 0 };
        let record = self.record(&entry, Reach::Disk)?;
        Ok(record.expect("the disk is the furthest that records lie"))
    }

    /// The same by somebody who will soon want all up to `soon`.
    fn record_ahead(&self, entry: &Entry, soon: u64, reach: Reach) -> Result<Option<Record>, ReadError> {
        let range = entry.log_offset.0..entry.log_offset.0 + u64::from(entry.size);
        let is_hot = entry.log_offset >= self.hot_from();
        let bytes = match is_hot {
            true => self.log.slice(entry.log_offset, u64::from(entry.size)).map(Some).map_err(Missing::from),
            false => self.cold(range, soon, reach),
        };
        match bytes {
            Ok(None) => Ok(None),
            Ok(Some(bytes)) => self.check(entry, &bytes, !is_hot).map(Some),
            Err(Missing::Place(not_there)) => Err(not_there_is(entry, not_there)),
            Err(Missing::Io(error)) => Err(ReadError::Io(error.to_string())),
        }
    }

    fn cold(&self, range: Range<u64>, soon: u64, reach: Reach) -> Result<Option<Bytes>, Missing> {
        let place = self.log.file_of(LogOffset(range.start))?;
        if range.end > place.end.min(self.log.appended().0) {
            return Err(NotThere::NeverWritten.into());
        }
        let found = self.chunks.lock().get(&range);
        if let Some(bytes) = found {
            // A copy: a small record must not keep a whole chunk.
            return Ok(Some(self.held.keep(bytes.to_vec())));
        }
        match reach {
            Reach::Memory => Ok(None),
            Reach::PageCache => Ok(self.cached(&place, range)),
            Reach::Disk | Reach::DiskOnce => self.read_ahead(&place, range, soon).map(Some),
        }
    }

    fn cached(&self, place: &Place, range: Range<u64>) -> Option<Bytes> {
        let len = range.end - range.start;
        // Opening a file may have to wait for the disk.
        let file = self.files.opened(place.base).filter(|_| len <= MOST_INLINE_BYTES)?;
        let mut bytes = vec![0; len as usize];
        // An error will be told by whoever waits for the disk.
        let found = file.read_cached_at(range.start - place.base, &mut bytes).ok()?;
        (found == bytes.len()).then(|| self.held.keep(bytes))
    }

    fn read_ahead(&self, place: &Place, range: Range<u64>, soon: u64) -> Result<Bytes, Missing> {
        let file = match self.files.open(&self.log, place) {
            Ok(file) => file,
            Err(_) if range.start < self.log.min().0 => return Err(NotThere::Deleted.into()),
            Err(error) => return Err(Missing::Io(error)),
        };
        let is_large = range.end - range.start >= LARGE_BYTES;
        let end = if is_large { range.end } else { self.streams.lock().end_of_read(range.start, soon) };
        // Whole pages, so that all of them can be dropped; but nothing that is being written or hot.
        let limit = place.end.min(self.hot_from().0).max(range.end);
        let wide = range.start / PAGE_BYTES * PAGE_BYTES..end.next_multiple_of(PAGE_BYTES).min(limit);
        let Ok(bytes) = self.read(&*file, place.base, wide.clone()) else {
            // What lies beside it is no reason not to read it.
            return Ok(self.held.keep(self.read(&*file, place.base, range).map_err(Missing::Io)?));
        };
        let within = (range.start - wide.start) as usize..(range.end - wide.start) as usize;
        if is_large {
            return Ok(self.held.keep(bytes).slice(within));
        }
        let bytes = Bytes::from(bytes);
        let record = self.held.keep(bytes[within].to_vec());
        self.chunks.lock().put(wide.start, bytes);
        // Retention may have passed by before the chunk was there.
        self.chunks.lock().forget_before(self.log.min().0);
        Ok(record)
    }

    /// Reads, and drops behind it what had to come from the disk.
    fn read(&self, file: &dyn File, base: u64, range: Range<u64>) -> std::io::Result<Vec<u8>> {
        let mut bytes = vec![0; (range.end - range.start) as usize];
        read_and_drop(file, range.start - base, &mut bytes)?;
        self.read_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(bytes)
    }

    /// Is this the record that the entry means? `verify`: it came from the disk, and may have changed there.
    fn check(&self, entry: &Entry, bytes: &Bytes, verify: bool) -> Result<Record, ReadError> {
        let damaged = |reason: String| ReadError::Damaged { at: entry.log_offset, reason };
        let verify = verify && !is_planted(Bug::ReadUnchecked);
        let head = Head::parse(bytes).and_then(|head| {
            let verified = if verify { head.verify(bytes, entry.log_offset) } else { Ok(()) };
            verified.map(|()| head)
        });
        let head = head.map_err(|flaw| {
            let start = entry.log_offset.0;
            self.log.note_damage(start..start + bytes.len() as u64, &flaw);
            damaged(flaw.to_string())
        })?;
        let is_of_queue = entry.queue_offset == ANY || head.queue_offset == entry.queue_offset;
        if head.place != entry.log_offset || !is_of_queue {
            return Err(damaged(format!(
                "it says queue offset {} and log offset {}, the queue has it as {}",
                head.queue_offset, head.place, entry.queue_offset
            )));
        }
        Ok(head.into_record(bytes))
    }

    /// Calls `then` with what is wanted: at once if that needs no wait for the disk, else from a thread of the pool.
    pub(crate) fn fetch(&self, wanted: Wanted, then: Then) {
        if self.held.is_full() {
            return then(Err(FetchError::Busy));
        }
        let mut gather = Box::new(Gather::new(wanted));
        match gather.go(self, Reach::PageCache) {
            Ok(true) => then(Ok(gather.finish())),
            Err(error) => then(Err(FetchError::Read(error))),
            Ok(false) => match self.pool.submit((gather, then)) {
                Ok(()) => {}
                Err((Refused::Full, (_, then))) => then(Err(FetchError::Busy)),
                Err((Refused::Stopped, (_, then))) => then(Err(FetchError::Closed)),
                Err((Refused::NoThreads, job)) => self.do_now(job),
            },
        }
    }

    fn do_now(&self, (mut gather, then): Job) {
        let outcome = gather.go(self, Reach::Disk).map_err(FetchError::Read);
        then(outcome.map(|done| {
            assert!(done, "the disk is the furthest that records lie");
            gather.finish()
        }));
    }

    /// The log now starts here.
    pub(crate) fn forget_before(&self, min: LogOffset) {
        self.files.forget_before(min.0);
        self.chunks.lock().forget_before(min.0);
    }

    /// From now on there are threads for what must wait.
    pub(crate) fn start(&self) {
        self.pool.start();
    }

    /// A thread of the pool: until it is stopped.
    pub(crate) fn run(&self) {
        while let Some(job) = self.pool.next() {
            self.do_now(job);
        }
    }

    /// Ends [`Reads::run`] soon. Fetches that wait are told.
    pub(crate) fn stop(&self) {
        for (_, then) in self.pool.stop() {
            then(Err(FetchError::Closed));
        }
    }
}

/// Fills `into` from `at` on, and drops from the page cache the whole pages of it that were not there before.
pub(crate) fn read_and_drop(file: &dyn File, at: u64, into: &mut [u8]) -> std::io::Result<()> {
    let end = at + into.len() as u64;
    let cached = file.read_cached_at(at, into)?;
    if cached == into.len() {
        return Ok(());
    }
    let from = at + cached as u64;
    file.read_at(from, &mut into[cached..])?;
    let pages = from.next_multiple_of(PAGE_BYTES)..end / PAGE_BYTES * PAGE_BYTES;
    if !pages.is_empty() {
        file.drop_cached(pages);
    }
    Ok(())
}

fn not_there_is(entry: &Entry, not_there: NotThere) -> ReadError {
    match not_there {
        NotThere::Deleted => ReadError::Deleted { min: QueueOffset(entry.queue_offset.0.saturating_add(1)) },
        NotThere::NeverWritten => {
            ReadError::Damaged { at: entry.log_offset, reason: "the log ends before it".to_owned() }
        }
    }
}
