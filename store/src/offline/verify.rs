//! Is every record as it was written, and do the views say what a rebuild from the log would say?

use std::ops::ControlFlow;

use super::views_check::ViewsCheck;
use super::walk::{Damage, Told, What, walk};
use super::{Error, Look, Progress};
use crate::{LogOffset, QueueId, QueueOffset};

/// So many places are listed; more are only counted.
pub(super) const MAX_LISTED: usize = 1000;

/// What a whole reading of a store found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Where the log starts.
    pub min: LogOffset,
    /// Where it ends.
    pub end: LogOffset,
    /// Valid records.
    pub records: u64,
    /// Their bytes.
    pub record_bytes: u64,
    /// Stretches that are damaged, unreadable or missing, and bodies that do not match: the first thousand.
    pub damaged: Vec<Damage>,
    /// How many such stretches there are.
    pub damaged_places: u64,
    /// Bytes of all of them.
    pub damaged_bytes: u64,
    /// What a crash left behind the end; opening the store cuts it.
    pub torn: Option<Damage>,
    /// The views against a rebuild.
    pub views: ViewsVerdict,
}

/// How the views compare with what a rebuild from the log would give.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ViewsVerdict {
    /// Up to where they were compared: the log's start if none are kept.
    pub complete_to: LogOffset,
    /// Queues that they know.
    pub queues: u64,
    /// Entries that are as a rebuild would have them.
    pub good_entries: u64,
    /// Entries of records that are damaged in the log.
    pub damaged_entries: u64,
    /// What a rebuild would have otherwise: the first thousand.
    pub wrong: Vec<WrongEntry>,
    /// How many there are.
    pub wrong_entries: u64,
}

/// A place of a queue where the views and the log disagree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrongEntry {
    /// The topic.
    pub topic: String,
    /// The queue of the topic.
    pub queue_id: QueueId,
    /// The place.
    pub queue_offset: QueueOffset,
    /// How they disagree.
    pub reason: String,
}

impl Verified {
    /// Nothing is damaged and the views are right. A torn tail is no damage: a crash leaves one, and opening cuts it.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.damaged_places == 0 && self.views.wrong_entries == 0
    }

    fn note(&mut self, damage: Damage) {
        if let What::Torn(_) = damage.what {
            self.torn = Some(damage);
            return;
        }
        self.damaged_places += 1;
        self.damaged_bytes += damage.to.0 - damage.from.0;
        if self.damaged.len() < MAX_LISTED {
            self.damaged.push(damage);
        }
    }
}

impl Look {
    /// Reads the whole log, checks every record, and compares the views with it.
    pub fn verify(&self, progress: &mut dyn FnMut(Progress)) -> Result<Verified, Error> {
        let min = self.segments.min();
        let total_bytes = self.segments.end().0 - min.0;
        let mut verified = Verified { min, ..Verified::default() };
        let (views, complete) = self.views()?;
        let mut check = ViewsCheck::new(views, complete, self.deleted()?);
        verified.end = walk(&self.segments, min, self.durable, &mut |told| {
            match told {
                Told::Damage(damage) => {
                    check.damaged(damage.from.0..damage.to.0);
                    progress(Progress { done_bytes: damage.to.0 - min.0, total_bytes });
                    verified.note(damage);
                }
                Told::Batch(batch) => {
                    for item in &batch.items {
                        verified.records += 1;
                        verified.record_bytes += item.size as u64;
                        if !item.body_matches {
                            let (from, to) = (item.head.place, item.head.place.plus(item.size as u64));
                            verified.note(Damage { from, to, what: What::Body });
                        }
                        check.record(item, batch.record(item));
                    }
                    progress(Progress { done_bytes: batch.end().0 - min.0, total_bytes });
                }
            }
            ControlFlow::Continue(())
        })?;
        verified.views = check.finish();
        Ok(verified)
    }
}
