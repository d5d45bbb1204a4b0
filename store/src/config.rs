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

/// Every knob of a store.
#[derive(Clone, Debug)]
pub struct Config {
    /// The store's directory (RocketMQ's `storePathRootDir`).
    pub root: PathBuf,
    /// Bytes of a CommitLog file; RocketMQ's default is 1 GiB.
    pub segment_bytes: u64,
    /// When an append is confirmed.
    pub flush: Flush,
    /// Records older than this may be deleted, a whole segment at a time.
    pub retention: Duration,
    /// Hour of the day, UTC, at which old segments go; `None`: as soon as they are old.
    pub delete_at_hour: Option<u8>,
    /// Above this share of the disk, old segments go whatever the hour; percent. Young ones never go: when the disk is
    /// full, appends are refused.
    pub disk_percent: u8,
    /// Largest body in bytes.
    pub max_body_bytes: usize,
}

impl Config {
    /// Defaults, in this directory.
    #[must_use]
    pub fn new(root: impl AsRef<Path>) -> Self {
        Self {
            root: root.as_ref().to_path_buf(),
            segment_bytes: 1 << 30,
            flush: Flush::Async,
            retention: Duration::from_secs(72 * 3600),
            delete_at_hour: Some(4),
            disk_percent: 75,
            max_body_bytes: 4 << 20,
        }
    }
}
