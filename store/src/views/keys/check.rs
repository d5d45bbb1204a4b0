//! The scrub's way through the runs: every block is read, and a run with a damaged one is made anew.

use super::Keys;
use super::run::BLOCK_BYTES;

/// How far it is.
#[derive(Default)]
pub(crate) struct Checking {
    /// Runs of the log before this are read.
    at: u64,
    /// Of the run that begins there, so many blocks are read.
    blocks: usize,
}

impl Keys {
    /// Reads on, about so many bytes; returns how many. `None`: everything was read. Leaves the page cache as it was.
    pub(crate) fn check(&self, checking: &mut Checking, bytes: u64) -> Option<u64> {
        let mut read = 0;
        while read < bytes {
            let Some(run) = self.catalog.lock().first_run_from(checking.at) else {
                return (read > 0).then_some(read);
            };
            let range = &run.footer.range;
            if checking.at != range.start {
                *checking = Checking { at: range.start, blocks: 0 };
            }
            if checking.blocks >= run.blocks() {
                *checking = Checking { at: range.end, blocks: 0 };
                continue;
            }
            if let Err(error) = run.check(checking.blocks) {
                self.discard(&run, &error);
            }
            checking.blocks += 1;
            read += BLOCK_BYTES as u64;
        }
        Some(read)
    }
}
