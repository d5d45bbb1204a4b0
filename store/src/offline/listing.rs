//! What lies in a store's directory, without reading the log: a look that takes milliseconds.

use std::io;

use super::{Error, Look, Odd, SegmentFile};
use crate::LogOffset;
use crate::commit_log::mark;
use crate::disk::Listed;
use crate::last_writer::LastWriter;
use crate::views::{Deleted, Kept};

/// RocketMQ's `checkpoint`, as far as it is used: store times, Unix milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Of the last flushed record of the log.
    pub log_ms: i64,
    /// Of the last flushed entry of the consume queues.
    pub queues_ms: i64,
    /// Of the last flushed entry of the key index.
    pub index_ms: i64,
}

impl Checkpoint {
    /// Reads the first three numbers of the file (RocketMQ: `StoreCheckpoint`).
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut numbers = bytes.as_chunks::<8>().0.iter().map(|number| i64::from_be_bytes(*number));
        Some(Self { log_ms: numbers.next()?, queues_ms: numbers.next()?, index_ms: numbers.next()? })
    }
}

/// Files that RocketMQ keeps and Gantry does not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RocketFiles {
    /// Its own checkpoint.
    pub checkpoint: Option<Checkpoint>,
    /// Files of its key index.
    pub index_files: usize,
    /// Files of its configuration: topics, groups, offsets.
    pub config: Vec<String>,
}

/// What is kept of the views.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ViewsKept {
    /// Complete up to here; opening replays the log from here.
    CompleteTo(LogOffset),
    /// Damaged: opening rebuilds them from the log.
    Damaged,
    /// They reach further than the log, whose last files must be missing; opening rebuilds them.
    BeyondTheLog(LogOffset),
    /// None yet: opening builds them from the log.
    Nothing,
}

/// What lies in a store's directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// The log's files.
    pub segments: Vec<SegmentFile>,
    /// Files beside them, which Java would take for segments.
    pub strangers: Vec<String>,
    /// Closed properly, by whoever had it, or never opened.
    pub clean: bool,
    /// How far the log was flushed, by Gantry's own note.
    pub flushed: Option<LogOffset>,
    /// The views' snapshot.
    pub views: ViewsKept,
    /// Bytes of the files of the views.
    pub views_bytes: u64,
    /// Topics that were deleted while records of theirs are in the log, by name.
    pub deleted_topics: Vec<(String, LogOffset)>,
    /// Files that RocketMQ keeps.
    pub rocketmq: RocketFiles,
}

impl Listing {
    /// Bytes of the log's files.
    #[must_use]
    pub fn log_bytes(&self) -> u64 {
        self.segments.iter().map(|file| file.bytes).sum()
    }

    /// Does a broker open it as it is? If not, why, and what to do.
    #[must_use]
    pub fn obstacle(&self) -> Option<String> {
        self.segments.iter().find_map(|file| {
            let name = format!("commitlog/{:020}", file.base.0);
            let (end, next) = (file.end(), file.base.plus(file.bytes));
            match file.odd? {
                Odd::GapBehind(missing) => Some(format!(
                    "{missing} bytes are missing behind {name} (log offset {end} on): restore the file, or move the older ones away to go on without them"
                )),
                Odd::Overlaps => Some(format!("{name} reaches beyond the start of the next file: one of them is of another log, or has grown")),
                Odd::OtherSize => Some(format!(
                    "{name} has another size than the files before it and ends at {next}: restore it"
                )),
                Odd::Empty => None,
            }
        })
    }
}

impl Look {
    /// What lies in the directory.
    pub fn listing(&self) -> Result<Listing, Error> {
        let disk = self.disk.as_ref();
        let files_in = |name: &str| -> Result<Vec<Listed>, Error> {
            let dir = self.root.join(name);
            match disk.list(&dir) {
                Ok(files) => Ok(files),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
                Err(error) => Err(Error::at(&dir)(error)),
            }
        };
        let views = self.root.join("views");
        let kept = match Kept::of(disk, &self.root).map_err(Error::at(&views))? {
            Kept::Snapshot(to) if to > self.segments.end() => ViewsKept::BeyondTheLog(to),
            Kept::Snapshot(to) => ViewsKept::CompleteTo(to),
            Kept::Damaged => ViewsKept::Damaged,
            Kept::Nothing => ViewsKept::Nothing,
        };
        let deleted = Deleted::load(disk, &self.root).map_err(Error::at(&views))?;
        let mut deleted_topics: Vec<_> = deleted.topics().map(|(topic, at)| (topic.to_owned(), at)).collect();
        deleted_topics.sort_unstable();
        let checkpoint = self.root.join("checkpoint");
        let checkpoint = match disk.read(&checkpoint) {
            Ok(bytes) => Checkpoint::decode(&bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(Error::at(&checkpoint)(error)),
        };
        let config = files_in("config")?.into_iter().map(|file| file.name);
        Ok(Listing {
            segments: self.segments.files.clone(),
            strangers: self.segments.others.clone(),
            clean: LastWriter::look(disk, &self.root).map_err(Error::at(&self.root))?.was_clean(),
            flushed: mark::read(disk, &self.root).map_err(Error::at(&self.root.join("flushed")))?,
            views: kept,
            views_bytes: files_in("views")?.iter().map(|file| file.bytes).sum(),
            deleted_topics,
            rocketmq: RocketFiles {
                checkpoint,
                index_files: files_in("index")?.len(),
                config: config.filter(|name| name.ends_with(".json")).collect(),
            },
        })
    }
}
