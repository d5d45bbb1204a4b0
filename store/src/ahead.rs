//! Works ahead of the log's end, so that appending finds its segment made and its pages touched.
//!
//! How far ahead follows the pace: a busy log has tens of megabytes ready, an idle one next to nothing, so that it
//! costs no memory. Segments are made by a thread of their own: the disk may take seconds for one while much waits to be
//! flushed, and meanwhile pages are needed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::LogOffset;
use crate::commit_log::CommitLog;
use crate::config::{Config, Flush, WarmUp};
use crate::flush::Flusher;
use crate::milestone::Milestone;

const SMALLEST_WINDOW: u64 = 2 << 20;
const LARGEST_WINDOW: u64 = 64 << 20;
/// Called again sooner than this, the window grows fourfold; later than ten times this, it halves.
const BRISK: Duration = Duration::from_millis(100);

pub(crate) struct Ahead {
    log: Arc<CommitLog>,
    flusher: Arc<Flusher>,
    /// Blocks are written before they are needed; see [`CommitLog::populate`].
    pre_write: bool,
    warm_up: WarmUp,
    /// The thread wants to hear when the log ends here or later.
    call_at: Milestone,
    pages: Calls,
    segments: Calls,
}

/// Calls to a thread, of which it hears one at least.
#[derive(Default)]
struct Calls {
    state: Mutex<State>,
    bell: Condvar,
}

#[derive(Default)]
struct State {
    called: bool,
    stop: bool,
}

impl Calls {
    fn call(&self) {
        self.state.lock().called = true;
        self.bell.notify_one();
    }

    fn stop(&self) {
        self.state.lock().stop = true;
        self.bell.notify_one();
    }

    /// Waits for a call; false: stop.
    fn wait(&self) -> bool {
        let mut state = self.state.lock();
        while !state.called && !state.stop {
            self.bell.wait(&mut state);
        }
        state.called = false;
        !state.stop
    }
}

impl Ahead {
    pub(crate) fn new(log: Arc<CommitLog>, flusher: Arc<Flusher>, config: &Config) -> Self {
        Self {
            log,
            flusher,
            pre_write: config.flush == Flush::Sync,
            warm_up: config.warm_up,
            // Nobody hears before the thread runs.
            call_at: Milestone::default(),
            pages: Calls::default(),
            segments: Calls::default(),
        }
    }

    /// The log now ends at `end`.
    pub(crate) fn appended(&self, end: LogOffset) {
        if self.call_at.is_reached(end) {
            self.pages.call();
        }
    }

    /// Ends [`Ahead::run`] and [`Ahead::make_segments`] soon.
    pub(crate) fn stop(&self) {
        self.pages.stop();
        self.segments.stop();
    }

    /// The thread that makes the next segment.
    pub(crate) fn make_segments(&self) {
        loop {
            if self.log.prepare() {
                // Its pages may be wanted already.
                self.pages.call();
            }
            if !self.segments.wait() {
                return;
            }
        }
    }

    /// The thread that makes pages ready.
    pub(crate) fn run(&self) {
        let mut window = match self.warm_up {
            WarmUp::Window => SMALLEST_WINDOW,
            WarmUp::Segment | WarmUp::Locked => u64::MAX,
        };
        let mut locked_to = 0;
        let mut last = Instant::now();
        loop {
            if self.log.wants_next() {
                self.segments.call();
            }
            if self.warm_up == WarmUp::Locked {
                locked_to = self.lock(locked_to);
            }
            let ready_to = match self.log.populate(window, self.pre_write) {
                Ok(ready_to) => ready_to,
                Err(error) => {
                    self.flusher.fail(&format!("writing ahead of the log's end failed: {error}"));
                    return;
                }
            };
            // With a window half of it is left then; with whole segments, half of a segment.
            let reserve = (window / 2).min(self.log.segment_bytes() / 2);
            self.call_at.set(ready_to.0.saturating_sub(reserve));
            if !self.pages.wait() {
                return;
            }
            let pause = last.elapsed();
            last = Instant::now();
            if self.warm_up != WarmUp::Window {
                continue;
            }
            if pause < BRISK {
                window = (window * 4).min(LARGEST_WINDOW);
            } else if pause > 10 * BRISK {
                window = (window / 2).max(SMALLEST_WINDOW);
            }
        }
    }

    /// Locks the segments from `from` on that are or will be written to. Returns the end of the last.
    fn lock(&self, from: u64) -> u64 {
        for segment in self.log.ahead_from(from) {
            if let Err(error) = segment.map().lock() {
                tracing::warn!(
                    %error,
                    bytes = self.log.segment_bytes(),
                    "cannot lock the log's pages in memory, they are only made ready: raise the limit of locked memory, or choose another warm-up"
                );
                return u64::MAX;
            }
        }
        self.log.ahead_from(from).last().map_or(from, |segment| segment.end() + 1)
    }
}
