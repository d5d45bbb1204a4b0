//! Keeps the writer of a file and the one that writes zeros ahead of it apart.
//!
//! ```text
//!   0 ....... filled ........ zeroing ......... bytes
//!    │ records │ ready        │ zeros on their way │      zeroing starts at or above `filled`; a writer that comes by
//!                                                         meanwhile waits for the step to end
//! ```

use std::io;
use std::ops::Range;

use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU64, Ordering, fence};

/// Zeros go to whole pages only.
const PAGE_BYTES: u64 = 4096;
const NOWHERE: u64 = u64::MAX;

pub(super) struct Frontier {
    /// The writer has claimed all before. Only grows.
    filled: AtomicU64,
    /// Zeros are being written from here on, or [`NOWHERE`].
    zeroing: AtomicU64,
    /// Held while zeros are written.
    step: Mutex<()>,
}

impl Frontier {
    pub(super) fn new(filled: u64) -> Self {
        Self { filled: AtomicU64::new(filled), zeroing: AtomicU64::new(NOWHERE), step: Mutex::new(()) }
    }

    /// The one writer is about to write before `end`: when this returns, nobody writes zeros there any more.
    pub(super) fn claim(&self, end: u64) {
        if self.filled.load(Ordering::Relaxed) < end {
            self.filled.store(end, Ordering::Relaxed);
        }
        // Both sides say what they do before they look at the other: at least one of them sees the other.
        fence(Ordering::SeqCst);
        while self.zeroing.load(Ordering::Acquire) < end {
            drop(self.step.lock());
        }
    }

    /// Runs `zero` on the pages of `range` that are not claimed; not at all if the writer comes by just now.
    pub(super) fn ahead(
        &self,
        range: Range<u64>,
        zero: impl FnOnce(Range<u64>) -> io::Result<()>,
    ) -> io::Result<()> {
        let _step = self.step.lock();
        let start = range.start.max(self.filled.load(Ordering::Relaxed)).next_multiple_of(PAGE_BYTES);
        if start >= range.end {
            return Ok(());
        }
        // Whoever sees this step begin must see what the one before wrote.
        self.zeroing.store(start, Ordering::Release);
        fence(Ordering::SeqCst);
        let passed = self.filled.load(Ordering::Relaxed) > start;
        let result = if passed { Ok(()) } else { zero(start..range.end) };
        self.zeroing.store(NOWHERE, Ordering::Release);
        result
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::atomic::AtomicU8;

    use super::*;

    #[test]
    fn zeros_go_to_whole_pages_that_nobody_has_claimed() {
        let frontier = Frontier::new(5000);
        let zeroed = |range| {
            let mut zeroed = None;
            frontier
                .ahead(range, |range| {
                    zeroed = Some(range);
                    Ok(())
                })
                .unwrap();
            zeroed
        };
        assert_eq!(zeroed(0..20_000), Some(8192..20_000));
        frontier.claim(8193);
        assert_eq!(zeroed(8192..20_000), Some(12_288..20_000));
        assert_eq!(zeroed(0..12_288), None);
    }

    #[test]
    fn what_was_written_is_never_zeroed_again_however_close_the_two_come() {
        const BYTES: usize = 1 << 20;
        let file: Vec<AtomicU8> = (0..BYTES).map(|_| AtomicU8::new(0)).collect();
        let frontier = Frontier::new(0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for start in (0..BYTES as u64).step_by(8192) {
                    let zero = |range: Range<u64>| {
                        file[range.start as usize..range.end as usize]
                            .iter()
                            .for_each(|byte| byte.store(0, Ordering::Relaxed));
                        Ok(())
                    };
                    frontier.ahead(start..start + 8192, zero).unwrap();
                }
            });
            for start in (0..BYTES).step_by(64) {
                frontier.claim(start as u64 + 64);
                file[start..start + 64].iter().for_each(|byte| byte.store(1, Ordering::Relaxed));
            }
        });
        assert!(file.iter().all(|byte| byte.load(Ordering::Relaxed) == 1));
    }
}

#[cfg(all(test, loom))]
mod orders {
    use loom::sync::Arc;
    use loom::sync::atomic::AtomicU8;
    use loom::thread;

    use super::*;

    #[test]
    fn what_was_written_is_never_zeroed_again_in_any_order() {
        const PAGES: u64 = 2;
        loom::model(|| {
            let pages: [AtomicU8; PAGES as usize] = std::array::from_fn(|_| AtomicU8::new(0));
            let file = Arc::new((Frontier::new(0), pages));
            let ahead = {
                let file = Arc::clone(&file);
                thread::spawn(move || {
                    let (frontier, pages) = &*file;
                    for page in 0..PAGES {
                        let zero = |range: Range<u64>| {
                            assert_eq!(range, page * PAGE_BYTES..(page + 1) * PAGE_BYTES);
                            pages[page as usize].store(0, Ordering::Relaxed);
                            Ok(())
                        };
                        let step = page * PAGE_BYTES..(page + 1) * PAGE_BYTES;
                        frontier.ahead(step, zero).expect("zeroing does not fail");
                    }
                })
            };
            let (frontier, pages) = &*file;
            for (page, end) in pages.iter().zip((1..).map(|page| page * PAGE_BYTES)) {
                frontier.claim(end);
                page.store(1, Ordering::Relaxed);
            }
            ahead.join().expect("the thread ends");
            assert!(pages.iter().all(|page| page.load(Ordering::Relaxed) == 1));
        });
    }
}
