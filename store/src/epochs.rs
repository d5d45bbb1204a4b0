//! The reigns of a broker group's primaries, as a member's log has them: the highest epoch that it has seen, and where in
//! the log each reign began.
//!
//! ```text
//!   root/epochs:
//!     "GANTRYEP"
//!     seen u64, count u32
//!     per reign, in order: epoch u64, start u64
//!     CRC-32 of all before u32
//! ```
//!
//! Numbers are big-endian. The file is replaced whole, and each change is durable before it counts. One that is damaged is
//! an error: a member that does not know what it has seen must not act on it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::LogOffset;
use crate::disk::Disk;
use crate::frame::{self, Kept, Magic};

const MAGIC: &Magic = b"GANTRYEP";

/// Where a reign began in the log: what is from there up to the next one's start is of its epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reign {
    /// The epoch.
    pub epoch: u64,
    /// The log's end when it began.
    pub start: LogOffset,
}

/// The epochs of a member, and their file. The store need not be open.
pub struct Epochs {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    known: Known,
}

/// What is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Known {
    seen: u64,
    /// Epochs grow, starts do not shrink.
    list: Vec<Reign>,
}

impl Known {
    fn encode(&self) -> Vec<u8> {
        let mut out = self.seen.to_be_bytes().to_vec();
        out.extend_from_slice(&(self.list.len() as u32).to_be_bytes());
        for Reign { epoch, start } in &self.list {
            out.extend_from_slice(&epoch.to_be_bytes());
            out.extend_from_slice(&start.0.to_be_bytes());
        }
        out
    }

    fn decode(content: &[u8]) -> Option<Self> {
        let (seen, rest) = content.split_first_chunk::<8>()?;
        let (count, rest) = rest.split_first_chunk::<4>()?;
        let (reigns, []) = rest.as_chunks::<16>() else { return None };
        let number = |bytes: &[u8]| bytes.first_chunk().map(|bytes| u64::from_be_bytes(*bytes));
        let reign =
            |bytes: &[u8; 16]| Some(Reign { epoch: number(bytes)?, start: LogOffset(number(&bytes[8..])?) });
        let list: Vec<_> = reigns.iter().map(reign).collect::<Option<_>>()?;
        let known = Self { seen: u64::from_be_bytes(*seen), list };
        (u32::from_be_bytes(*count) as usize == known.list.len() && known.is_in_order()).then_some(known)
    }

    fn is_in_order(&self) -> bool {
        self.list.windows(2).all(|two| two[0].epoch < two[1].epoch && two[0].start <= two[1].start)
            && self.list.last().is_none_or(|last| last.epoch <= self.seen)
    }
}

impl Epochs {
    /// Loads what is kept in a store's directory; nothing for a new one.
    pub fn load(disk: Arc<dyn Disk>, root: &Path) -> io::Result<Self> {
        disk.create_dir(root)?;
        // What is read counts, so it must stay: a change may have been killed before it was durable.
        disk.sync_dir(root)?;
        let path = root.join("epochs");
        let known = match frame::read(&*disk, &path, MAGIC, Known::decode)? {
            Kept::Good(known) => known,
            Kept::Nothing => Known::default(),
            Kept::Damaged => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("{} is damaged; only with an empty volume can this member go on", path.display()),
                ));
            }
        };
        Ok(Self { disk, path, known })
    }

    /// The highest epoch that was seen; 0: none.
    #[must_use]
    pub fn seen(&self) -> u64 {
        self.known.seen
    }

    /// The reigns of which the log has something, in order; the last may have nothing yet.
    #[must_use]
    pub fn list(&self) -> &[Reign] {
        &self.known.list
    }

    /// This epoch was seen. Returns whether no higher one was before: records of lower ones are refused.
    pub fn see(&mut self, epoch: u64) -> io::Result<bool> {
        if epoch > self.known.seen {
            self.change(Known { seen: epoch, ..self.known.clone() })?;
        }
        Ok(epoch == self.known.seen)
    }

    /// A reign begins: the log from `start` on is of this epoch.
    ///
    /// # Panics
    /// If there is a later reign, or this one began elsewhere.
    pub fn begin(&mut self, epoch: u64, start: LogOffset) -> io::Result<()> {
        let reign = Reign { epoch, start };
        if self.known.list.last() == Some(&reign) {
            return self.see(epoch).map(|_| ());
        }
        let mut known = self.known.clone();
        known.seen = known.seen.max(epoch);
        known.list.push(reign);
        assert!(known.is_in_order(), "reigns begin one behind the other: {:?}", known.list);
        self.change(known)
    }

    /// The list is this one now: the primary's, as far as this log goes. What was seen stays.
    ///
    /// # Panics
    /// If it is not in order.
    pub fn replace(&mut self, list: Vec<Reign>) -> io::Result<()> {
        let seen = list.last().map_or(0, |last| last.epoch).max(self.known.seen);
        let known = Known { seen, list };
        assert!(known.is_in_order(), "reigns begin one behind the other: {:?}", known.list);
        if known == self.known { Ok(()) } else { self.change(known) }
    }

    /// The log is cut back to `to`: reigns of which nothing is left are forgotten. What was seen stays.
    pub fn cut(&mut self, to: LogOffset) -> io::Result<()> {
        let list = self.known.list.iter().copied().filter(|reign| reign.start < to).collect();
        self.replace(list)
    }

    fn change(&mut self, known: Known) -> io::Result<()> {
        frame::write(&*self.disk, &self.path, MAGIC, &known.encode())?;
        self.known = known;
        Ok(())
    }
}

/// Tries bytes as a file: what is believed is written the same.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn try_bytes(bytes: &[u8]) {
    if let Some(known) = frame::unseal(MAGIC, bytes).and_then(Known::decode) {
        assert_eq!(frame::seal(MAGIC, &known.encode()), bytes);
    }
}

/// The file of two reigns.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn two() -> Vec<u8> {
    let list = [(1, 0), (4, 1 << 40)].map(|(epoch, start)| Reign { epoch, start: LogOffset(start) });
    frame::seal(MAGIC, &Known { seen: 5, list: list.to_vec() }.encode())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Crash, MemoryDisk};

    fn load(disk: &MemoryDisk) -> io::Result<Epochs> {
        Epochs::load(Arc::new(disk.clone()), Path::new("/data"))
    }

    fn reign(epoch: u64, start: u64) -> Reign {
        Reign { epoch, start: LogOffset(start) }
    }

    #[test]
    fn epochs_are_kept_and_cut_with_the_log() {
        let disk = MemoryDisk::default();
        let mut epochs = load(&disk).unwrap();
        assert_eq!((epochs.seen(), epochs.list()), (0, &[][..]));
        assert!(epochs.see(3).unwrap() && !epochs.see(2).unwrap() && epochs.see(3).unwrap());
        epochs.begin(3, LogOffset(0)).unwrap();
        epochs.begin(3, LogOffset(0)).unwrap();
        epochs.begin(5, LogOffset(100)).unwrap();
        epochs.begin(6, LogOffset(100)).unwrap();
        let mut epochs = load(&disk.crash(Crash::LoseUnsynced)).unwrap();
        assert_eq!((epochs.seen(), epochs.list()), (6, &[reign(3, 0), reign(5, 100), reign(6, 100)][..]));
        epochs.cut(LogOffset(101)).unwrap();
        assert_eq!(epochs.list().len(), 3);
        epochs.cut(LogOffset(100)).unwrap();
        assert_eq!((epochs.seen(), epochs.list()), (6, &[reign(3, 0)][..]));
        epochs.replace(vec![reign(3, 0), reign(7, 50)]).unwrap();
        assert_eq!(epochs.seen(), 7);
    }

    #[test]
    fn a_change_is_there_or_not_whichever_call_fails_and_damage_is_an_error() {
        for call in 0.. {
            let disk = MemoryDisk::default();
            load(&disk).unwrap().begin(1, LogOffset(0)).unwrap();
            let mut epochs = load(&disk).unwrap();
            disk.fail_call(call);
            let changed = epochs.begin(2, LogOffset(10));
            assert_eq!(epochs.seen(), if changed.is_ok() { 2 } else { 1 });
            let left = load(&disk.crash(Crash::Tear(call + 1))).unwrap();
            assert!(left.seen() == 2 || (left.seen() == 1 && changed.is_err()), "call {call}");
            if changed.is_ok() {
                assert!(call > 1);
                break;
            }
        }
        let disk = MemoryDisk::default();
        load(&disk).unwrap().begin(1, LogOffset(0)).unwrap();
        disk.edit(Path::new("/data/epochs"), |bytes| bytes[10] ^= 1);
        assert_eq!(load(&disk).map(|_| ()).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
