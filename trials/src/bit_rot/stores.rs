//! Small stores with every kind of file in them, and what was put there.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use store::disk::{Crash, MemoryDisk};
use store::{Config, Flush, LogOffset, NewRecord, Properties, QueueId, Store, SystemClock};

use crate::dice::Dice;
use crate::driver::NAME;
use crate::ledger::BodyHash;

/// A topic that was deleted. Where the note of that is damaged, its messages may come back.
pub(super) const DELETED: &str = "deleted";

/// A store to copy and damage.
pub(super) struct Template {
    pub(super) name: &'static str,
    pub(super) disk: MemoryDisk,
    pub(super) config: Config,
    pub(super) put: Vec<Put>,
    pub(super) queues: Vec<(&'static str, u32)>,
    /// Where the last record of a queue is damaged before a snapshot knew of it, its offset is given to the next: nothing
    /// else knows that the queue had counted so far.
    pub(super) may_reuse_last: bool,
}

/// A message that was put there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Put {
    pub(super) topic: &'static str,
    pub(crate) queue: u32,
    pub(crate) offset: u64,
    pub(super) log: Range<u64>,
    pub(crate) hash: BodyHash,
}

impl Put {
    /// Topic, queue and offset.
    pub(super) fn place(&self) -> (&'static str, u32, u64) {
        (self.topic, self.queue, self.offset)
    }
}

/// One that was closed, one that was killed, and one that was killed with synchronous flush.
pub(super) fn all(dice: &mut Dice) -> Result<Vec<Template>> {
    [("closed", Flush::Async, true), ("killed", Flush::Async, false), ("killed sync", Flush::Sync, false)]
        .into_iter()
        .map(|(name, flush, close)| fill(name, flush, close, dice))
        .collect()
}

fn fill(name: &'static str, flush: Flush, close: bool, dice: &mut Dice) -> Result<Template> {
    let disk = MemoryDisk::default();
    let config = Config { segment_bytes: 64 << 10, flush, delete_at_hour: None, ..Config::new("/store") };
    let (store, _) =
        Store::open_without_threads(Arc::new(disk.clone()), Arc::new(SystemClock), config.clone())?;
    let queues: Vec<_> = [("orders", 2), ("bills", 3), (DELETED, 1)]
        .into_iter()
        .flat_map(|(topic, count)| (0..count).map(move |queue| (topic, queue)))
        .collect();
    let mut put = Vec::new();
    for number in 0..1500_u64 {
        // One queue has most, so that it fills blocks of its own; the others share one.
        let (topic, queue) = if dice.once_in(2) { queues[0] } else { *dice.one_of(&queues) };
        if topic == DELETED && number > 600 {
            continue;
        }
        let len = 20 + dice.below(600) as usize;
        let body: Vec<_> = format!("{name} {number} ").into_bytes().into_iter().cycle().take(len).collect();
        put.push(append(&store, topic, queue, &body)?);
        match number {
            // Deleted while its records are in the log, and between two snapshots.
            620 => drop(store.delete_topic(DELETED)),
            500 | 900 | 1300 => {
                (0..70).for_each(|_| store.housekeep());
                store.snapshot()?;
            }
            _ => {}
        }
    }
    store.flush()?;
    if close {
        store.close()?;
    }
    // Let go of the store before it is copied: the copy has no lock, and what the store does at its end is not in it.
    let left = disk.crash(Crash::Kill);
    drop(store);
    Ok(Template { name, disk: left, config, put, queues, may_reuse_last: !close })
}

/// Appends one message.
pub(crate) fn append(store: &Store, topic: &'static str, queue: u32, body: &[u8]) -> Result<Put> {
    let host = SocketAddr::from((Ipv4Addr::LOCALHOST, 8081));
    let mut properties = Properties::default();
    properties.push(NAME, "a message's id");
    properties.push("KEYS", "key");
    let appended = store.append(&[NewRecord {
        topic,
        queue_id: QueueId(queue),
        body,
        properties: properties.as_bytes(),
        tag: None,
        flag: 0,
        sys_flag: 0,
        born_at_ms: 0,
        born_host: host,
        store_host: host,
        reconsume_times: 0,
        prepared_offset: LogOffset(0),
    }])?;
    let (start, end) = (appended.start.0, appended.end.0);
    Ok(Put { topic, queue, offset: appended.queue_offsets[0].0, log: start..end, hash: BodyHash::of(body) })
}

/// Where a segment file starts in the log, by its name.
pub(super) fn segment_base(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?;
    (path.parent()?.ends_with("commitlog")).then(|| name.parse().ok())?
}
