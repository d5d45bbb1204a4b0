//! A segment file that is read in large pieces, whatever the disk refuses of it.

use std::ops::Range;
use std::sync::Arc;

use crate::disk::File;

/// A page: what is read at least when a disk refuses more.
const PAGE: u64 = 4096;

/// A segment file, open.
pub(crate) struct Reader {
    file: Arc<dyn File>,
    /// Log offsets.
    pub(crate) range: Range<u64>,
    /// Log offsets of pages that the disk would not give. They read as zeros.
    pub(crate) unreadable: Vec<Range<u64>>,
}

impl Reader {
    /// The file holds the log from the start of `range` on.
    pub(crate) fn new(file: Arc<dyn File>, range: Range<u64>) -> Self {
        Self { file, range, unreadable: Vec::new() }
    }

    /// Reads `into` from this log offset on. Pages that cannot be read are noted, and come as zeros: the records in them
    /// are damaged, and the others are not.
    pub(crate) fn read(&mut self, at: u64, into: &mut [u8]) {
        let base = self.range.start;
        if self.file.read_at(at - base, into).is_ok() {
            return;
        }
        let mut done = 0;
        while done < into.len() {
            let here = at + done as u64;
            let to_page_end = (PAGE - (here - base) % PAGE).min((into.len() - done) as u64) as usize;
            let page = &mut into[done..done + to_page_end];
            if self.file.read_at(here - base, page).is_err() {
                page.fill(0);
                self.note_unreadable(here..here + to_page_end as u64);
            }
            done += to_page_end;
        }
    }

    fn note_unreadable(&mut self, range: Range<u64>) {
        if let Some(last) =
            self.unreadable.last_mut().filter(|last| last.end >= range.start && last.start <= range.start)
        {
            last.end = last.end.max(range.end);
        } else if !self.unreadable.iter().any(|known| known.start <= range.start && range.end <= known.end) {
            self.unreadable.push(range);
        }
    }
}
