//! Every knob of a store.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// When an append counts as confirmed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flush {
    /// When it is in the page cache.
    #[default]
    Async,
    /// When it is on the disk (group commit).
    Sync,
}

/// Who says what is confirmed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Confirm {
    /// The store alone, as [`Flush`] says.
    #[default]
    Alone,
    /// Whoever replicates the log: confirmed is what is here, as [`Flush`] says, and below what
    /// [`Store::confirm_to`](crate::Store::confirm_to) was told. What is behind waits, over restarts too.
    Told,
}

/// How much of the log is made ready ahead of its end, so that appends find pages and blocks there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WarmUp {
    /// As much as the pace needs: megabytes.
    #[default]
    Window,
    /// Whole segments. (RocketMQ's `warmMapedFileEnable`.)
    Segment,
    /// Whole segments, and their pages stay in memory while they are written to, where the process may lock so much.
    Locked,
}

/// Every knob of a store.
#[derive(Clone, Debug)]
pub struct Config {
    /// The store's directory (RocketMQ's `storePathRootDir`).
    pub root: PathBuf,
    /// Bytes of a CommitLog file; RocketMQ's default is 1 GiB.
    pub segment_bytes: u64,
    /// Where a new log begins, a multiple of `segment_bytes`: that of a member that copies one whose first files are gone.
    /// A log that is there goes on as it is. Default `None`: at 0.
    pub first_offset: Option<u64>,
    /// The machine's start, as the kernel names it: another one than noted says that it was restarted under the store.
    /// Default `None`: the kernel is asked.
    pub boot_id: Option<String>,
    /// When an append is confirmed.
    pub flush: Flush,
    /// Who says what is confirmed.
    pub confirm: Confirm,
    /// How much is made ready ahead.
    pub warm_up: WarmUp,
    /// Records older than this may be deleted, a whole segment at a time.
    pub retention: Duration,
    /// Hour of the day, UTC, at which old segments go; `None`: as soon as they are old.
    pub delete_at_hour: Option<u8>,
    /// Above this share of the disk it counts as nearly full, and old segments go whatever the hour; percent.
    pub disk_percent: u8,
    /// Above this share of the disk the oldest segments go however young they are, to make room for new records. `None`:
    /// never; then what was acknowledged stays, and appends are refused. (RocketMQ's `diskSpaceCleanForciblyRatio`, 85 %.)
    pub delete_early_percent: Option<u8>,
    /// Above this share of the disk appends are refused, so that room is left for what else must be written: the views,
    /// how far consumers are. (RocketMQ's `diskSpaceWarningLevelRatio`.) 100: only when the disk is full.
    pub refuse_percent: u8,
    /// Above so many bytes of log the oldest segments go, however young; `None`: no bound but the disk.
    pub max_log_bytes: Option<u64>,
    /// No segment goes before somebody is there to be asked: [`Store::ask_before_removal`](crate::Store::ask_before_removal).
    /// Default false: they go without.
    pub await_keeper: bool,
    /// Keep the key index, for [`Store::find`](crate::Store::find). What was not indexed meanwhile is when it is turned on
    /// again, from the log.
    pub index_keys: bool,
    /// Entries that the key index collects in memory before it writes them, 24 bytes each, and four times as much at worst.
    pub key_buffer_entries: usize,
    /// Largest body in bytes.
    pub max_body_bytes: usize,
    /// Reading what lies far behind the log's end.
    pub cold_reads: ColdReads,
    /// Reading everything once in a while, to find rot.
    pub scrub: Scrub,
}

/// Reading everything that is durable once in a while, to find rot while there is a good copy somewhere.
#[derive(Clone, Debug)]
pub struct Scrub {
    /// From the beginning of a pass to that of the next. Default a day; `None`: never.
    pub interval: Option<Duration>,
    /// Bytes that it reads in a second, at most. Default 32 MiB: a day has room for 2.6 TiB.
    pub bytes_per_second: u64,
}

impl Default for Scrub {
    fn default() -> Self {
        Self { interval: Some(Duration::from_secs(24 * 3600)), bytes_per_second: 32 << 20 }
    }
}

/// Reading what lies far behind the log's end. Together with it the process needs `ahead_bytes` and `held_bytes` of memory
/// at most, and the page cache `hot_bytes` to read the rest in place.
#[derive(Clone, Debug)]
pub struct ColdReads {
    /// What was written since the opening and lies nearer to the log's end than this is read in place, because it is in
    /// memory. Keep it below a quarter of the memory that the process may use, page cache included. A smaller one costs a
    /// copy of what is read behind it while that is in memory. Default 64 MiB.
    pub hot_bytes: u64,
    /// Threads that wait for the disk. Default 2: they keep a disk busy, and leave the rest of it to the log.
    pub threads: usize,
    /// Fetches that may wait for a thread; more are refused at once. Default 256.
    pub most_waiting: usize,
    /// Room for what is read ahead. Default 32 MiB: 32 readers at full speed.
    pub ahead_bytes: usize,
    /// Cold records that callers may hold, as they send them; while it is more, fetches are refused. Default 128 MiB.
    pub held_bytes: u64,
}

impl Default for ColdReads {
    fn default() -> Self {
        Self {
            hot_bytes: 64 << 20,
            threads: 2,
            most_waiting: 256,
            ahead_bytes: 32 << 20,
            held_bytes: 128 << 20,
        }
    }
}

impl Config {
    /// Defaults, in this directory.
    #[must_use]
    pub fn new(root: impl AsRef<Path>) -> Self {
        Self {
            root: root.as_ref().to_path_buf(),
            segment_bytes: 1 << 30,
            first_offset: None,
            boot_id: None,
            flush: Flush::Async,
            confirm: Confirm::Alone,
            warm_up: WarmUp::Window,
            retention: Duration::from_secs(72 * 3600),
            delete_at_hour: Some(4),
            disk_percent: 75,
            delete_early_percent: None,
            refuse_percent: 90,
            max_log_bytes: None,
            await_keeper: false,
            index_keys: true,
            key_buffer_entries: 128 << 10,
            max_body_bytes: 4 << 20,
            cold_reads: ColdReads::default(),
            scrub: Scrub::default(),
        }
    }
}
