//! Works ahead of the log's end, so that appending finds its segment made and its pages touched.
//!
//! How far ahead follows the pace: a busy log has tens of megabytes ready, an idle one next to nothing, so that it
//! costs no memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::LogOffset;
use crate::commit_log::CommitLog;
use crate::flush::Flusher;

const SMALLEST_WINDOW: u64 = 2 << 20;
const LARGEST_WINDOW: u64 = 64 << 20;
/// Called again sooner than this, the window grows fourfold; later than ten times this, it halves.
const BRISK: Duration = Duration::from_millis(100);

pub(crate) struct Ahead {
    log: Arc<CommitLog>,
    flusher: Arc<Flusher>,
    /// Blocks are written before they are needed; see [`CommitLog::populate`].
    pre_write: bool,
    /// The thread wants to hear when the log ends here or later.
    call_at: AtomicU64,
    state: Mutex<State>,
    bell: Condvar,
}

#[derive(Default)]
struct State {
    called: bool,
    stop: bool,
}

impl Ahead {
    pub(crate) fn new(log: Arc<CommitLog>, flusher: Arc<Flusher>, pre_write: bool) -> Self {
        Self {
            log,
            flusher,
            pre_write,
            // Nobody hears before the thread runs.
            call_at: AtomicU64::new(u64::MAX),
            state: Mutex::default(),
            bell: Condvar::new(),
        }
    }

    /// The log now ends at `end`.
    pub(crate) fn appended(&self, end: LogOffset) {
        if end.0 >= self.call_at.load(Ordering::Relaxed) {
            self.call_at.store(u64::MAX, Ordering::Relaxed);
            self.state.lock().called = true;
            self.bell.notify_one();
        }
    }

    /// Ends [`Ahead::run`] soon.
    pub(crate) fn stop(&self) {
        self.state.lock().stop = true;
        self.bell.notify_one();
    }

    /// The thread.
    pub(crate) fn run(&self) {
        let mut window = SMALLEST_WINDOW;
        let mut last = Instant::now();
        loop {
            self.log.prepare();
            let ready_to = match self.log.populate(window, self.pre_write) {
                Ok(ready_to) => ready_to,
                Err(error) => {
                    self.flusher.fail(&format!("writing ahead of the log's end failed: {error}"));
                    return;
                }
            };
            self.call_at.store(ready_to.0.saturating_sub(window / 2), Ordering::Relaxed);
            {
                let mut state = self.state.lock();
                while !state.called && !state.stop {
                    self.bell.wait(&mut state);
                }
                if state.stop {
                    return;
                }
                state.called = false;
            }
            let pause = last.elapsed();
            last = Instant::now();
            if pause < BRISK {
                window = (window * 4).min(LARGEST_WINDOW);
            } else if pause > 10 * BRISK {
                window = (window / 2).max(SMALLEST_WINDOW);
            }
        }
    }
}
