//! What a primary wrote to its metadata lately, in order, for its replicas.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;

/// Changes that are kept for those who are a little behind; who is further behind gets everything anew.
const KEPT_BYTES: usize = 16 << 20;
/// How long somebody waits for replicas. A client's own time-out is 3 s.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(3);

/// One value, put or removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) table: &'static str,
    pub(crate) key: String,
    /// `None`: removed.
    pub(crate) value: Option<Vec<u8>>,
}

impl Change {
    pub(crate) fn new(table: &'static str, key: &str, value: Option<&[u8]>) -> Self {
        Self { table, key: key.to_owned(), value: value.map(<[u8]>::to_vec) }
    }

    /// About what it takes in memory and on the wire.
    pub(crate) fn bytes(&self) -> usize {
        32 + self.key.len() + self.value.as_ref().map_or(0, Vec::len)
    }
}

/// The replicas did not say in time that they have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the change is written here, but not yet on all in-sync members: look again, or try again")]
pub struct NotReplicated;

/// The journal of a reign. Its first batch is number 2: number 1 is what there was before.
#[derive(Debug)]
pub(crate) struct Journal {
    kept: Mutex<Kept>,
    /// The last number.
    told: watch::Sender<u64>,
    /// All in-sync members have this many.
    replicated: Mutex<u64>,
    bell: Condvar,
}

#[derive(Debug, Default)]
struct Kept {
    last: u64,
    bytes: usize,
    batches: VecDeque<Batch>,
}

/// A number, and the changes that have it.
pub(crate) type Batch = (u64, Arc<Vec<Change>>);

/// What there was before the first batch.
const FIRST: u64 = 1;

impl Default for Journal {
    fn default() -> Self {
        Self {
            kept: Mutex::new(Kept { last: FIRST, ..Kept::default() }),
            told: watch::Sender::new(FIRST),
            replicated: Mutex::new(FIRST),
            bell: Condvar::new(),
        }
    }
}

impl Journal {
    pub(super) fn add(&self, changes: Vec<Change>) {
        if changes.is_empty() {
            return;
        }
        let last = {
            let mut kept = self.kept.lock();
            kept.last += 1;
            kept.bytes += changes.iter().map(Change::bytes).sum::<usize>();
            let last = kept.last;
            kept.batches.push_back((last, Arc::new(changes)));
            // The newest stays, however large.
            while kept.bytes > KEPT_BYTES && kept.batches.len() > 1 {
                let Some((_, gone)) = kept.batches.pop_front() else { break };
                kept.bytes -= gone.iter().map(Change::bytes).sum::<usize>();
            }
            last
        };
        self.told.send_replace(last);
    }

    /// The number of the last batch.
    pub(crate) fn last(&self) -> u64 {
        self.kept.lock().last
    }

    /// Tells of new batches.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.told.subscribe()
    }

    /// The batch behind `number`; `None`: there is none yet, or, as an error, it is not kept any more.
    pub(crate) fn after(&self, number: u64) -> Result<Option<Batch>, Forgotten> {
        let kept = self.kept.lock();
        if number >= kept.last {
            return Ok(None);
        }
        let Some((first, _)) = kept.batches.front() else { return Err(Forgotten) };
        let index = (number + 1).checked_sub(*first).ok_or(Forgotten)?;
        Ok(usize::try_from(index).ok().and_then(|index| kept.batches.get(index)).cloned())
    }

    /// All in-sync members have everything up to this number.
    pub(crate) fn replicated_to(&self, number: u64) {
        let mut replicated = self.replicated.lock();
        if number > *replicated {
            *replicated = number;
            self.bell.notify_all();
        }
    }

    /// Waits until all in-sync members have what there is now. Blocks, for some seconds at the most.
    pub(crate) fn settled(&self) -> Result<(), NotReplicated> {
        let wanted = self.last();
        let deadline = Instant::now() + SETTLE_TIMEOUT;
        let mut replicated = self.replicated.lock();
        while *replicated < wanted {
            if self.bell.wait_until(&mut replicated, deadline).timed_out() {
                return Err(NotReplicated);
            }
        }
        Ok(())
    }
}

/// So long ago that it is not kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Forgotten;

#[cfg(test)]
mod tests {
    use super::*;

    fn change(key: &str, bytes: usize) -> Vec<Change> {
        vec![Change::new("topics", key, Some(&vec![0; bytes]))]
    }

    #[test]
    fn batches_are_read_in_order_and_the_oldest_are_forgotten() {
        let journal = Journal::default();
        assert!(journal.after(1).unwrap().is_none());
        journal.add(Vec::new());
        assert_eq!(journal.last(), 1, "nothing changed");
        for key in ["a", "b", "c"] {
            journal.add(change(key, KEPT_BYTES / 2 - 100));
        }
        assert!(journal.after(1).is_err(), "the first is forgotten");
        let (number, batch) = journal.after(2).unwrap().unwrap();
        assert_eq!((number, batch[0].key.as_str()), (3, "b"));
        assert_eq!(journal.after(3).unwrap().unwrap().0, 4);
        assert!(journal.after(4).unwrap().is_none());
    }

    #[test]
    fn who_waits_goes_on_when_all_have_it() {
        let journal = Journal::default();
        assert_eq!(journal.settled(), Ok(()));
        journal.add(change("a", 1));
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| journal.settled());
            journal.replicated_to(2);
            assert_eq!(waits.join().unwrap(), Ok(()));
        });
    }
}
