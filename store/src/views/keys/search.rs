//! A look-up: the places of a hash, newest first, block by block as they are asked for.

use std::collections::VecDeque;
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

use super::Keys;
use super::catalog::{Part, matches};
use super::entry::seconds;
use super::run::Run;
use crate::LogOffset;

/// Places of records that may have a key, newest first.
pub(crate) struct Search<'a> {
    keys: &'a Keys,
    hash: u64,
    seconds: RangeInclusive<u32>,
    /// Found and not given out.
    found: VecDeque<u64>,
    /// Not looked at, newest first.
    parts: VecDeque<Part>,
    /// The run that is looked at, and the next block of it.
    run: Option<(Arc<Run>, usize)>,
}

/// A part of the index was damaged: what was found before may not be all. Begin anew.
#[derive(Debug)]
pub(crate) struct Again;

impl Keys {
    /// Begins a look-up of records that were stored at these times, Unix milliseconds, and are indexed: follow
    /// [`Keys::catch_up`]. May give records that have not the key, and some of the seconds around.
    pub(crate) fn search(&self, topic: &str, key: &str, stored_ms: &Range<i64>) -> Search<'_> {
        let hash = (self.hash)(topic.as_bytes(), key.as_bytes());
        let seconds = seconds(stored_ms.start)..=seconds(stored_ms.end.saturating_sub(1));
        let catalog = self.catalog.lock();
        Search {
            keys: self,
            hash,
            found: catalog.live.matches_unsorted(hash, &seconds).into(),
            parts: catalog.newest_first().cloned().collect(),
            run: None,
            seconds,
        }
    }
}

impl Search<'_> {
    /// The next place.
    pub(crate) fn next(&mut self) -> Result<Option<LogOffset>, Again> {
        loop {
            if let Some(at) = self.found.pop_front() {
                return Ok(Some(LogOffset(at)));
            }
            if let Some((run, block)) = self.run.take() {
                self.look_at(run, block)?;
                continue;
            }
            let Some(part) = self.parts.pop_front() else { return Ok(None) };
            match part {
                Part::Waiting(waiting) => self.found.extend(waiting.matches(self.hash, &self.seconds)),
                Part::Run(run) => {
                    let times = &run.footer.seconds;
                    let apart = times.end() < self.seconds.start() || self.seconds.end() < times.start();
                    self.run = run.last_block(self.hash).filter(|_| !apart).map(|block| (run, block));
                }
            }
        }
    }

    fn look_at(&mut self, run: Arc<Run>, block: usize) -> Result<(), Again> {
        match run.block(block) {
            Ok(entries) => {
                self.found.extend(matches(&entries, self.hash, &self.seconds));
                if run.goes_on_before(block, self.hash) {
                    self.run = Some((run, block - 1));
                }
                Ok(())
            }
            Err(error) => {
                self.keys.discard(&run, &error);
                Err(Again)
            }
        }
    }
}
