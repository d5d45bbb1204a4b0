//! A file of the log: from `base` on, `bytes` long, mapped.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::codec::{Announced, Head, announced};
use crate::LogOffset;
use crate::disk::Map;

/// A file of the log. Whoever holds it, or a slice of it, keeps its bytes alive after retention removed its name.
pub(crate) struct Segment {
    base: u64,
    map: Arc<dyn Map>,
    first_stored_at_ms: OnceLock<i64>,
}

impl Segment {
    pub(crate) fn new(base: u64, map: Arc<dyn Map>) -> Self {
        Self { base, map, first_stored_at_ms: OnceLock::new() }
    }

    /// Log offset of the first byte.
    pub(crate) fn base(&self) -> u64 {
        self.base
    }

    /// Log offset behind the last byte.
    pub(crate) fn end(&self) -> u64 {
        self.base + self.map.bytes()
    }

    pub(crate) fn map(&self) -> &dyn Map {
        &*self.map
    }

    /// Makes durable what is written of these log offsets here.
    pub(crate) fn flush(&self, range: Range<u64>) -> io::Result<()> {
        self.map.flush(self.within(range))
    }

    /// Writes what is at these log offsets here again; see [`Map::write_again`].
    pub(crate) fn write_again(&self, range: Range<u64>) -> io::Result<()> {
        let range = self.within(range);
        if range.is_empty() { Ok(()) } else { self.map.write_again(range) }
    }

    /// The part of these log offsets that is here, by place in the file.
    fn within(&self, range: Range<u64>) -> Range<u64> {
        let start = range.start.max(self.base) - self.base;
        start..range.end.min(self.end()).saturating_sub(self.base)
    }

    /// Store time of the first record, read once; `None` if there is none yet, or a damaged one.
    pub(crate) fn first_stored_at_ms(&self) -> Option<i64> {
        if let Some(known) = self.first_stored_at_ms.get() {
            return Some(*known);
        }
        let bytes = self.map.slice(0..self.map.published())?;
        let Announced::Record(size) = announced(&bytes) else { return None };
        let record = &bytes[..size];
        let head = Head::parse(record).ok()?;
        head.verify(record, LogOffset(self.base)).ok()?;
        Some(*self.first_stored_at_ms.get_or_init(|| head.stored_at_ms))
    }

    /// The bytes at these log offsets; `None` if they are not (yet) written here.
    pub(crate) fn slice(&self, range: Range<u64>) -> Option<Bytes> {
        let start = range.start.checked_sub(self.base)?;
        self.map.slice(start..range.end.checked_sub(self.base)?)
    }
}

/// RocketMQ's name of the segment that starts here: 20 digits.
pub(crate) fn path(dir: &Path, base: u64) -> PathBuf {
    dir.join(format!("{base:020}"))
}

/// The base that a file name says, if it is a segment's.
pub(crate) fn base_of(name: &str) -> Option<u64> {
    (name.len() == 20 && name.bytes().all(|byte| byte.is_ascii_digit())).then(|| name.parse().ok())?
}
