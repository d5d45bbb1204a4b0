//! Group commit: many waiters, one flush.
//!
//! One thread flushes. With sync flush it starts at once when something is appended, and everything that is appended
//! while the disk works goes with the next one: no timers. With async flush it looks every half second, or as soon as
//! much is waiting, and leaves the page that is being written to alone while the log is busy: a page on its way to the
//! disk is write-protected, and the next append would wait for the file system. A flush that fails, whosever it was, closes
//! the log for good: the kernel may have dropped the pages and the device its cache, so flushing again and believing it
//! would lose what was promised.
//!
//! *Durable* is what the log here holds as its flush mode wants it: appended (async) or flushed (sync). *Confirmed* is the
//! same, unless others must have it too: then it is what is durable and below what [`Flusher::confirm_to`] was told.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::LogOffset;
use crate::bell::Bell;
use crate::commit_log::CommitLog;
use crate::commit_log::mark::Mark;
use crate::config::Flush;
use crate::dispatch::Dispatch;
use crate::error::FlushFailed;
use crate::planted::{Bug, is_planted};

/// RocketMQ's `flushIntervalCommitLog`.
const ASYNC_INTERVAL: Duration = Duration::from_millis(500);
/// So much un-flushed does not wait for the interval: otherwise the kernel writes it all at once, much later.
const ASYNC_BYTES: u64 = 32 << 20;

/// What becomes write-protected on its way to the disk; a larger page of the machine only costs a little.
const PAGE_BYTES: u64 = 4096;

pub(crate) type Then = Box<dyn FnOnce(Result<(), FlushFailed>) + Send>;

pub(crate) struct Flusher {
    log: Arc<CommitLog>,
    dispatch: Arc<Dispatch>,
    mode: Flush,
    /// `None`: nobody else is asked.
    told: Option<Told>,
    bell: Bell<State>,
    /// Somebody waits, or is about to: see [`Flusher::answer_any`].
    waiting: AtomicBool,
    /// The thread was told not to wait for the interval.
    hurried: AtomicBool,
    /// One flush at a time.
    flushing: Mutex<()>,
    /// So far.
    flushes: AtomicU64,
}

/// What those said who replicate the log.
pub(crate) struct Told {
    /// They allow what is before. Only grows.
    to: AtomicU64,
    /// What was confirmed, for the next opening.
    mark: Mark,
}

impl Told {
    /// So far it was confirmed before this opening.
    pub(crate) fn new(to: LogOffset, mark: Mark) -> Self {
        Self { to: AtomicU64::new(to.0), mark }
    }
}

#[derive(Default)]
struct State {
    /// For what is confirmed.
    waiters: Waiters,
    /// For what is durable, where that is not the same.
    durable_waiters: Waiters,
    failed: Option<FlushFailed>,
    /// The store is closed: nothing that is not confirmed will be.
    closed: bool,
    stop: bool,
}

/// In order of their ends, nearly: appends of two threads may register crosswise.
#[derive(Default)]
struct Waiters(VecDeque<(LogOffset, Then)>);

impl Waiters {
    fn add(&mut self, end: LogOffset, then: Then) {
        let later = self.0.iter().rev().take_while(|waiter| waiter.0 > end).count();
        self.0.insert(self.0.len() - later, (end, then));
    }

    /// Those who waited for nothing behind `to`.
    fn take(&mut self, to: LogOffset) -> impl Iterator<Item = (LogOffset, Then)> {
        let ready = self.0.partition_point(|waiter| waiter.0 <= to);
        self.0.drain(..ready)
    }
}

impl Flusher {
    pub(crate) fn new(log: Arc<CommitLog>, dispatch: Arc<Dispatch>, mode: Flush, told: Option<Told>) -> Self {
        Self {
            log,
            dispatch,
            mode,
            told,
            bell: Bell::default(),
            waiting: AtomicBool::new(false),
            hurried: AtomicBool::new(false),
            flushing: Mutex::new(()),
            flushes: AtomicU64::new(0),
        }
    }

    /// The log now ends at `end`.
    pub(crate) fn appended(&self, end: LogOffset) {
        if self.mode == Flush::Async {
            self.dispatch.advance(self.allowed(end));
            if self.told.is_some() {
                self.answer_any();
            }
        }
        if self.bell.must_ring() || self.must_hurry(end) {
            self.bell.ring();
        }
    }

    /// The log here holds everything before, by its flush mode.
    pub(crate) fn durable(&self) -> LogOffset {
        match self.mode {
            Flush::Async => self.log.appended(),
            Flush::Sync => self.log.flushed(),
        }
    }

    /// What may be confirmed once the log here is durable up to `durable`, which was noted before the call.
    fn allowed(&self, durable: LogOffset) -> LogOffset {
        let Some(told) = &self.told else { return durable };
        // Whoever tells looks at the log after it told, and we the other way: one of us sees both.
        fence(Ordering::SeqCst);
        durable.min(LogOffset(told.to.load(Ordering::Acquire)))
    }

    /// Those who replicate the log have everything before `to`.
    pub(crate) fn confirm_to(&self, to: LogOffset) {
        let Some(told) = &self.told else { return };
        if told.to.fetch_max(to.0, Ordering::AcqRel) >= to.0 {
            return;
        }
        fence(Ordering::SeqCst);
        self.dispatch.advance(self.durable().min(to));
        self.answer_any();
    }

    /// End of what readers see.
    pub(crate) fn confirmed(&self) -> LogOffset {
        self.dispatch.confirmed()
    }

    /// Every entry that the views have is of a record before.
    pub(crate) fn applied(&self) -> LogOffset {
        self.dispatch.applied()
    }

    /// Writes down what is confirmed now. Only a note: the next opening may find an older one.
    pub(crate) fn note_confirmed(&self) {
        if let Some(told) = &self.told {
            let _alone = self.flushing.lock();
            told.mark.note_exactly(self.dispatch.confirmed());
        }
    }

    /// How often the log was flushed.
    pub(crate) fn flushes(&self) -> u64 {
        self.flushes.load(Ordering::Relaxed)
    }

    /// Is too much waiting for the interval of async flush? True once per flush.
    fn must_hurry(&self, end: LogOffset) -> bool {
        self.mode == Flush::Async
            && end.0.saturating_sub(self.log.flushed().0) >= ASYNC_BYTES
            && !self.hurried.swap(true, Ordering::Relaxed)
    }

    /// Calls `then` once the log is confirmed up to `end`.
    pub(crate) fn on_confirmed(&self, end: LogOffset, then: Then) {
        let result = {
            let mut state = self.bell.state();
            self.note_waiting();
            if end <= self.log.flushed() && end <= self.dispatch.confirmed() {
                Ok(())
            } else if let Some(failed) = &state.failed {
                Err(failed.clone())
            } else if end <= self.dispatch.confirmed() {
                Ok(())
            } else if state.closed {
                Err(closed())
            } else {
                state.waiters.add(end, then);
                return;
            }
        };
        then(result);
    }

    /// Calls `then` once the log here holds everything before `end`, by its flush mode.
    pub(crate) fn on_durable(&self, end: LogOffset, then: Then) {
        if self.told.is_none() {
            return self.on_confirmed(end, then);
        }
        let result = {
            let mut state = self.bell.state();
            self.note_waiting();
            if end <= self.log.flushed() {
                Ok(())
            } else if let Some(failed) = &state.failed {
                Err(failed.clone())
            } else if end <= self.durable() {
                Ok(())
            } else if state.closed {
                Err(closed())
            } else {
                state.durable_waiters.add(end, then);
                return;
            }
        };
        then(result);
    }

    /// Before a look at how far the log is that decides whether to wait.
    fn note_waiting(&self) {
        if self.told.is_some() {
            self.waiting.store(true, Ordering::Relaxed);
            fence(Ordering::SeqCst);
        }
    }

    /// Flushes what is appended, confirms it and answers those who wait for it. Returns up to where; when it returns, the
    /// views know all before.
    pub(crate) fn flush(&self) -> Result<LogOffset, FlushFailed> {
        let end = self.log.appended();
        self.flush_to(end, end)
    }

    /// Flushes whole pages only. `boundary` is where the log ended a while ago.
    fn flush_whole_pages(&self, boundary: LogOffset) -> Result<LogOffset, FlushFailed> {
        let target = LogOffset(self.log.appended().0 / PAGE_BYTES * PAGE_BYTES);
        self.flush_to(target, boundary.min(target))
    }

    fn flush_to(&self, target: LogOffset, boundary: LogOffset) -> Result<LogOffset, FlushFailed> {
        let flushed = self.flush_alone(target, boundary);
        // Without the lock: the last handle of the store may go in a callback, and closing flushes.
        match flushed {
            Ok(flushed) => {
                self.answer();
                Ok(flushed)
            }
            Err(failed) => {
                self.answer_failed(&failed);
                Err(failed)
            }
        }
    }

    fn flush_alone(&self, target: LogOffset, boundary: LogOffset) -> Result<LogOffset, FlushFailed> {
        let _alone = self.flushing.lock();
        if let Some(failed) = &self.bell.state().failed {
            return Err(failed.clone());
        }
        let flushed = self.log.flush(target, boundary);
        let again = flushed.is_err() && is_planted(Bug::RetryFailedFlush);
        match if again { self.log.flush(target, boundary) } else { flushed } {
            Ok(flushed) => {
                self.flushes.fetch_add(1, Ordering::Relaxed);
                match &self.told {
                    None => self.dispatch.advance(flushed),
                    Some(told) => {
                        self.dispatch.advance(self.allowed(self.durable()));
                        told.mark.note(self.dispatch.confirmed());
                    }
                }
                Ok(flushed)
            }
            // Before anybody can try again.
            Err(error) => Err(self.note_failure(&format!("a flush failed: {error}"))),
        }
    }

    /// The same as [`Flusher::answer`], without the lock if nobody waits. For those who do it with every append.
    fn answer_any(&self) {
        // Between how far the log is, which was told before, and the look at who waits for it.
        fence(Ordering::SeqCst);
        if self.waiting.load(Ordering::Relaxed) {
            self.answer();
        }
    }

    /// Answers those who wait for nothing more.
    fn answer(&self) {
        let ready: Vec<_> = {
            let mut state = self.bell.state();
            let State { waiters, durable_waiters, .. } = &mut *state;
            let durable = durable_waiters.take(self.durable());
            let ready = durable.chain(waiters.take(self.dispatch.confirmed())).collect();
            self.waiting.store(!waiters.0.is_empty() || !durable_waiters.0.is_empty(), Ordering::Relaxed);
            ready
        };
        for (_, then) in ready {
            then(Ok(()));
        }
    }

    /// Closes the log for good and tells all who wait. The first reason stays.
    pub(crate) fn fail(&self, reason: &str) {
        let failed = self.note_failure(reason);
        self.answer_failed(&failed);
    }

    /// Somebody's flush to the log's device failed: the thread tells all who wait.
    pub(crate) fn hear_of_failure(&self, reason: &str) {
        self.note_failure(reason);
        self.bell.ring();
    }

    fn note_failure(&self, reason: &str) -> FlushFailed {
        if !is_planted(Bug::GoOnAfterFailedFlush) {
            self.log.close(reason);
        }
        let mut state = self.bell.state();
        if let Some(first) = &state.failed {
            return first.clone();
        }
        tracing::error!(
            reason,
            log_offset = self.log.flushed().0,
            "the log is closed, nothing more is confirmed"
        );
        state.failed.insert(FlushFailed(reason.to_owned())).clone()
    }

    fn answer_failed(&self, failed: &FlushFailed) {
        let (waiters, durable_waiters) = {
            let mut state = self.bell.state();
            (std::mem::take(&mut state.waiters), std::mem::take(&mut state.durable_waiters))
        };
        for (_, then) in durable_waiters.0.into_iter().chain(waiters.0) {
            then(Err(failed.clone()));
        }
    }

    /// The store is closed, and everything is flushed: whoever waits for others to confirm hears that it will not happen.
    pub(crate) fn end(&self) {
        self.bell.state().closed = true;
        self.answer_failed(&closed());
    }

    /// Ends [`Flusher::run`] soon.
    pub(crate) fn stop(&self) {
        self.bell.tell(|state| state.stop = true);
    }

    /// The thread: until it is stopped, or a flush fails.
    pub(crate) fn run(&self) {
        let mut before = self.log.flushed();
        while self.sleep() {
            let end = self.log.appended();
            let busy = self.mode == Flush::Async && end != before;
            let flushed = if busy { self.flush_whole_pages(before) } else { self.flush() };
            if flushed.is_err() {
                return;
            }
            before = end;
        }
    }

    /// Waits until there is something to flush and it is time; false: stop.
    fn sleep(&self) -> bool {
        let mut state = self.bell.state();
        self.bell.sleep_while(&mut state, |state| {
            !state.stop && state.failed.is_none() && self.log.appended() <= self.log.flushed()
        });
        if self.mode == Flush::Async {
            self.hurried.store(false, Ordering::Relaxed);
            let until = Instant::now() + ASYNC_INTERVAL;
            while !state.stop && state.failed.is_none() && !self.hurried.load(Ordering::Relaxed) {
                if !self.bell.wait_until(&mut state, until) {
                    break;
                }
            }
        }
        !state.stop
    }
}

fn closed() -> FlushFailed {
    FlushFailed("the store was closed before it was confirmed".to_owned())
}
