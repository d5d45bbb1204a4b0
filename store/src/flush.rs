//! Group commit: many waiters, one flush.
//!
//! One thread flushes. With sync flush it starts at once when something is appended, and everything that is appended
//! while the disk works goes with the next one: no timers. With async flush it looks every half second, or as soon as
//! much is waiting, and leaves the page that is being written to alone while the log is busy: a page on its way to the
//! disk is write-protected, and the next append would wait for the file system. A flush that fails, whosever it was, closes
//! the log for good: the kernel may have dropped the pages and the device its cache, so flushing again and believing it
//! would lose what was promised.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::LogOffset;
use crate::bell::Bell;
use crate::commit_log::CommitLog;
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
    bell: Bell<State>,
    /// The thread was told not to wait for the interval.
    hurried: AtomicBool,
    /// One flush at a time.
    flushing: Mutex<()>,
    /// So far.
    flushes: AtomicU64,
}

#[derive(Default)]
struct State {
    /// In order of their ends, nearly: appends of two threads may register crosswise.
    waiters: VecDeque<(LogOffset, Then)>,
    failed: Option<FlushFailed>,
    stop: bool,
}

impl Flusher {
    pub(crate) fn new(log: Arc<CommitLog>, dispatch: Arc<Dispatch>, mode: Flush) -> Self {
        Self {
            log,
            dispatch,
            mode,
            bell: Bell::default(),
            hurried: AtomicBool::new(false),
            flushing: Mutex::new(()),
            flushes: AtomicU64::new(0),
        }
    }

    /// The log now ends at `end`.
    pub(crate) fn appended(&self, end: LogOffset) {
        if self.mode == Flush::Async {
            self.dispatch.advance(end);
        }
        if self.bell.must_ring() || self.must_hurry(end) {
            self.bell.ring();
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
            if end <= self.log.flushed() && end <= self.dispatch.confirmed() {
                Ok(())
            } else if let Some(failed) = &state.failed {
                Err(failed.clone())
            } else if end <= self.dispatch.confirmed() {
                Ok(())
            } else {
                let later = state.waiters.iter().rev().take_while(|waiter| waiter.0 > end).count();
                let at = state.waiters.len() - later;
                state.waiters.insert(at, (end, then));
                return;
            }
        };
        then(result);
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
                self.answer(flushed);
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
                self.dispatch.advance(flushed);
                Ok(flushed)
            }
            // Before anybody can try again.
            Err(error) => Err(self.note_failure(&format!("a flush failed: {error}"))),
        }
    }

    fn answer(&self, confirmed: LogOffset) {
        let ready: Vec<_> = {
            let mut state = self.bell.state();
            let ready = state.waiters.partition_point(|waiter| waiter.0 <= confirmed);
            state.waiters.drain(..ready).collect()
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
        let waiters = std::mem::take(&mut self.bell.state().waiters);
        for (_, then) in waiters {
            then(Err(failed.clone()));
        }
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
