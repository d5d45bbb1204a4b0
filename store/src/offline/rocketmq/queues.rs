//! RocketMQ's consume queues (`ConsumeQueue`): a folder a queue, files of 300,000 entries, 20 bytes an entry.
//!
//! ```text
//!   consumequeue/<topic>/<queue>/00000000000006000000    named by its first byte; entry n of the queue is at byte 20 n
//!     log offset i64, size i32, tag hash i64             zeros behind the last
//! ```
//!
//! A queue that does not start at 0 has *blank* entries (0, 0x7FFFFFFF, 0) before its first, as far as its first file
//! reaches. Where a message is damaged its place has the entry of the next one: Java delivers that twice, and loses none.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Component, Path, PathBuf};

use foldhash::fast::RandomState;

use super::super::walk::Item;
use super::{ExportError, property, sync_dir};
use crate::commit_log::codec::{Head, is_queued};
use crate::views::RawEntry;

const ENTRY_BYTES: u64 = 20;
/// Entries kept before they are written, of all queues together.
const MOST_KEPT: usize = 1 << 20;
/// More messages than this one damaged stretch does not cost a queue.
const MAX_HOLES: u64 = 1 << 24;
/// The topic of messages with a delay level. Its entries have the time to deliver at in place of the tag's hash.
const SCHEDULE_TOPIC: &str = "SCHEDULE_TOPIC_XXXX";
/// RocketMQ's `messageDelayLevel`, in seconds.
const DELAY_SECONDS: [i64; 18] =
    [1, 5, 10, 30, 60, 120, 180, 240, 300, 360, 420, 480, 540, 600, 1200, 1800, 3600, 7200];

/// What was written.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub(super) entries: u64,
    pub(super) topics: BTreeMap<String, u32>,
    pub(super) left_out: u64,
}

/// Writes all queues.
pub(super) struct QueuesWriter {
    dir: PathBuf,
    file_entries: u64,
    /// By topic and queue id.
    topics: HashMap<String, BTreeMap<u32, Queue>, RandomState>,
    kept: usize,
    written: Written,
}

#[derive(Default)]
struct Queue {
    /// The queue offset of the first entry kept.
    at: u64,
    kept: Vec<u8>,
}

impl Queue {
    fn next(&self) -> u64 {
        self.at + self.kept.len() as u64 / ENTRY_BYTES
    }
}

impl QueuesWriter {
    pub(super) fn new(dir: &Path, file_entries: u64) -> Self {
        let topics = HashMap::default();
        Self { dir: dir.to_path_buf(), file_entries, topics, kept: 0, written: Written::default() }
    }

    /// The next record of the log.
    pub(super) fn put(&mut self, item: &Item, record: &[u8]) -> Result<(), ExportError> {
        let head = &item.head;
        if !is_queued(head.sys_flag) {
            return Ok(());
        }
        let topic = head.topic(record);
        if !is_folder_name(topic) {
            self.written.left_out += 1;
            return Ok(());
        }
        let queues = match self.topics.get_mut(topic) {
            Some(queues) => queues,
            None => self.topics.entry(topic.to_owned()).or_default(),
        };
        let offset = head.queue_offset.0;
        let kept = &mut self.kept;
        let queue = queues.entry(head.queue_id.0).or_insert_with(|| {
            let blanks = (offset % self.file_entries) as usize;
            *kept += blanks;
            Queue { at: offset - blanks as u64, kept: blank_entry().repeat(blanks) }
        });
        let Some(holes) = offset.checked_sub(queue.next()).filter(|holes| *holes <= MAX_HOLES) else {
            self.written.left_out += 1;
            return Ok(());
        };
        let entry = RawEntry::new(head.place, item.size as u32, column(item, topic, record));
        for _ in 0..=holes {
            queue.kept.extend_from_slice(entry.as_bytes());
        }
        self.written.entries += 1;
        self.kept += holes as usize + 1;
        if self.kept >= MOST_KEPT { self.write() } else { Ok(()) }
    }

    /// Writes what is kept.
    fn write(&mut self) -> Result<(), ExportError> {
        self.kept = 0;
        for (topic, queues) in &mut self.topics {
            for (id, queue) in queues {
                if queue.kept.is_empty() {
                    continue;
                }
                let dir = self.dir.join(topic).join(id.to_string());
                fs::create_dir_all(&dir).map_err(ExportError::at(&dir))?;
                write_entries(&dir, queue.at, &queue.kept, self.file_entries)?;
                queue.at = queue.next();
                queue.kept = Vec::new();
            }
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<Written, ExportError> {
        self.write()?;
        // Java wants the directory even if it is empty.
        fs::create_dir_all(&self.dir).map_err(ExportError::at(&self.dir))?;
        for (topic, queues) in &self.topics {
            for id in queues.keys() {
                sync_dir(&self.dir.join(topic).join(id.to_string()))?;
            }
            sync_dir(&self.dir.join(topic))?;
            let count = queues.keys().last().map_or(0, |last| last.saturating_add(1));
            self.written.topics.insert(topic.clone(), count);
        }
        sync_dir(&self.dir)?;
        Ok(self.written)
    }
}

/// Writes entries from this queue offset on, into as many files as they take.
fn write_entries(dir: &Path, mut at: u64, mut entries: &[u8], file_entries: u64) -> Result<(), ExportError> {
    while !entries.is_empty() {
        let index = at % file_entries;
        let count = (file_entries - index).min(entries.len() as u64 / ENTRY_BYTES);
        let (now, later) = entries.split_at((count * ENTRY_BYTES) as usize);
        let path = dir.join(format!("{:020}", (at - index) * ENTRY_BYTES));
        let written =
            fs::File::options().write(true).create(true).truncate(false).open(&path).and_then(|file| {
                file.set_len(file_entries * ENTRY_BYTES)?;
                file.write_all_at(now, index * ENTRY_BYTES)?;
                file.sync_all()
            });
        written.map_err(ExportError::at(&path))?;
        at += count;
        entries = later;
    }
    Ok(())
}

/// What the entry has beside place and size (RocketMQ: `CommitLog.checkMessageAndReturnSize`).
pub(super) fn column(item: &Item, topic: &str, record: &[u8]) -> i64 {
    let level = || -> Option<i64> {
        let level: usize = property(&item.head, record, "DELAY")?.parse().ok()?;
        let seconds = DELAY_SECONDS[level.min(DELAY_SECONDS.len()).checked_sub(1)?];
        Some(deliver_at(&item.head, seconds))
    };
    match topic {
        SCHEDULE_TOPIC => level().unwrap_or(item.tags_code),
        _ => item.tags_code,
    }
}

fn deliver_at(head: &Head, seconds: i64) -> i64 {
    head.stored_at_ms.saturating_add(seconds * 1000)
}

/// RocketMQ's entry for places before a queue's first message.
fn blank_entry() -> [u8; ENTRY_BYTES as usize] {
    let mut entry = [0; ENTRY_BYTES as usize];
    entry[8..12].copy_from_slice(&i32::MAX.to_be_bytes());
    entry
}

/// A topic comes from stored bytes: it must not lead out of the directory.
pub(super) fn is_folder_name(topic: &str) -> bool {
    let mut parts = Path::new(topic).components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(name)), None) if name == topic)
        && !topic.contains('\0')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commit_log::codec::fuzzing::valid;
    use crate::{QueueId, QueueOffset};

    #[test]
    fn queues_that_begin_late_do_not_fill_the_memory() {
        const FILE_ENTRIES: u64 = 1 << 18;
        let dir = tempfile::tempdir().unwrap();
        let mut writer = QueuesWriter::new(dir.path(), FILE_ENTRIES);
        let record = valid(0).swap_remove(0);
        for id in 0..9 {
            let mut head = Head::parse(&record).unwrap();
            (head.queue_id, head.queue_offset) = (QueueId(id), QueueOffset(FILE_ENTRIES - 1));
            let item = Item { start: 0, size: record.len(), head, tags_code: 0, body_matches: true };
            writer.put(&item, &record).unwrap();
            let queues = writer.topics.values().flat_map(BTreeMap::values);
            assert!(queues.map(|queue| queue.kept.len()).sum::<usize>() <= MOST_KEPT * ENTRY_BYTES as usize);
        }
        assert_eq!(writer.finish().unwrap().entries, 9);
    }

    #[test]
    fn a_topic_that_leads_elsewhere_is_no_folder_name() {
        for good in ["orders", "%RETRY%g", "a.b", "SCHEDULE_TOPIC_XXXX", "ä"] {
            assert!(is_folder_name(good), "{good}");
        }
        for bad in ["", ".", "..", "/", "a/b", "../a", "/a", "a/", "a\0b"] {
            assert!(!is_folder_name(bad), "{bad:?}");
        }
    }
}
