//! One fetch: the entries of a stretch of a queue and the records of those that are wanted, from as near as they can be had.

use std::ops::Range;

use super::Reads;
use super::streams::{LONGEST, MOST_GAP};
use crate::answers::Entry;
use crate::disk::Reach;
use crate::error::ReadError;
use crate::views::Run;
use crate::{QueueId, QueueOffset, Record};

/// A fetch ends early when its records take so much.
const MOST_BYTES: u64 = 4 << 20;
/// What whoever asks may have to copy, at most; beyond it the pool does.
const MOST_BYTES_AT_ONCE: u64 = 256 << 10;

/// What is to be fetched.
pub struct Wanted {
    /// The topic.
    pub topic: String,
    /// The queue of the topic.
    pub queue_id: QueueId,
    /// The first offset.
    pub from: QueueOffset,
    /// At most so many entries.
    pub max: usize,
    /// Whether the record of an entry is wanted as well.
    pub wants: Box<dyn Fn(&Entry) -> bool + Send>,
    /// Whether anybody waits for it still. What nobody waits for any more is dropped before it is read, and takes nobody's
    /// place: nobody is told then.
    pub awaited: Box<dyn Fn() -> bool + Send>,
}

/// What a fetch brings.
#[derive(Debug)]
pub struct Fetched {
    /// What was looked at: all entries in it are in `found`, those of damaged records aside. It may end before as many
    /// were found as were wanted, at the end of the queue or because the records take much; it makes progress always,
    /// unless the queue ends at its start.
    pub range: Range<QueueOffset>,
    /// In the order of the queue.
    pub found: Vec<Found>,
}

/// An entry, and its record if that was wanted.
#[derive(Clone, Debug)]
pub struct Found {
    /// The entry.
    pub entry: Entry,
    /// [`ReadError::Damaged`] or [`ReadError::Deleted`] if it cannot be had any more.
    pub record: Option<Result<Record, ReadError>>,
}

pub(super) struct Gather {
    wanted: Wanted,
    run: Option<Run>,
    found: Vec<Found>,
    bytes: u64,
    /// It ends here, before the run does.
    ends_early: bool,
}

impl Gather {
    pub(super) fn new(wanted: Wanted) -> Self {
        Self { wanted, run: None, found: Vec::new(), bytes: 0, ends_early: false }
    }

    pub(super) fn is_awaited(&self) -> bool {
        (self.wanted.awaited)()
    }

    /// Goes on from where it stopped. False: what comes next lies further away.
    pub(super) fn go(&mut self, reads: &Reads, reach: Reach) -> Result<bool, ReadError> {
        if self.run.is_none() {
            let Wanted { topic, queue_id, from, max, wants: _, awaited: _ } = &self.wanted;
            self.run = reads.views.run(topic, *queue_id, *from, *max, reach)?;
        }
        let Some(run) = &self.run else { return Ok(false) };
        while let Some(entry) = run.entries.get(self.found.len()) {
            if !(self.wanted.wants)(entry) {
                self.found.push(Found { entry: *entry, record: None });
                continue;
            }
            let size = u64::from(entry.size);
            if reach != Reach::Disk && self.bytes + size > MOST_BYTES_AT_ONCE {
                return Ok(false);
            }
            if self.bytes + size > MOST_BYTES && !self.found.is_empty() {
                self.ends_early = true;
                break;
            }
            let record = match reads.record_ahead(entry, wanted_soon(&run.entries[self.found.len()..]), reach)
            {
                Ok(None) => return Ok(false),
                Ok(Some(record)) => Ok(record),
                // What was read so far is good; whoever goes on behind it will hear of this.
                Err(ReadError::Io(_)) if !self.found.is_empty() => {
                    self.ends_early = true;
                    break;
                }
                Err(error @ ReadError::Io(_)) => return Err(error),
                Err(error) => Err(error),
            };
            self.bytes += size;
            self.found.push(Found { entry: *entry, record: Some(record) });
        }
        Ok(true)
    }

    pub(super) fn finish(self) -> Fetched {
        let run = self.run.expect("a fetch that is done has its entries");
        let end = match self.found.last().filter(|_| self.ends_early) {
            Some(last) => last.entry.queue_offset.plus(1),
            None => run.next,
        };
        Fetched { range: self.wanted.from..end, found: self.found }
    }
}

/// Up to where one read should go for the first of these entries and those behind it.
fn wanted_soon(entries: &[Entry]) -> u64 {
    let mut end = 0;
    for entry in entries {
        let (start, next) = (entry.log_offset.0, entry.log_offset.0 + u64::from(entry.size));
        if end > 0 && (start > end + MOST_GAP || next > entries[0].log_offset.0 + LONGEST) {
            break;
        }
        end = next;
    }
    end
}
