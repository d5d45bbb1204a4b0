//! What a device with a volatile cache holds: the bytes as they are, and the bytes as they would survive a power cut.
//!
//! ```text
//!   write ──► now, and the sector is dirty       flush ──► the dirty sectors of now ──► durable
//!   cut   ──► durable, and of the dirty sectors all, none, or some: each is whole, and that is all that a disk promises
//! ```

use std::io;
use std::ops::Range;
use std::sync::mpsc::Sender;

use crate::dice::Dice;

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

/// When to cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// At once.
    Now,
    /// In the middle of the n-th write from now; 0 is the next.
    Write(u64),
    /// Before the n-th flush from now has an effect.
    Flush(u64),
}

/// What becomes of writes that no flush followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// All had reached the disk, in order.
    Nothing,
    /// None had.
    Unflushed,
    /// Each sector by itself had or had not: writes are reordered and torn.
    Some,
}

/// What a power cut left.
#[derive(Debug)]
pub struct Cut {
    /// The device's bytes.
    pub image: Vec<u8>,
    /// What the look at that moment saw.
    pub seen: u64,
    /// Sectors that were not flushed, and how many of them are lost.
    pub unflushed: usize,
    /// See `unflushed`.
    pub lost: usize,
}

pub(super) struct Armed {
    pub(super) moment: Moment,
    pub(super) loss: Loss,
    pub(super) dice: Dice,
    pub(super) look: Box<dyn FnOnce() -> u64 + Send>,
    pub(super) tell: Sender<Cut>,
}

pub(super) struct Media {
    now: Vec<u8>,
    durable: Vec<u8>,
    /// A bit a sector.
    dirty: Vec<u64>,
    armed: Option<Armed>,
    pub(super) fail_flush: Option<u64>,
    pub(super) fail_writes: bool,
    pub(super) failures: u64,
}

impl Media {
    pub(super) fn new(content: Vec<u8>) -> Self {
        let sectors = content.len().div_ceil(SECTOR);
        Self {
            durable: content.clone(),
            now: content,
            dirty: vec![0; sectors.div_ceil(64)],
            armed: None,
            fail_flush: None,
            fail_writes: false,
            failures: 0,
        }
    }

    pub(super) fn len(&self) -> u64 {
        self.now.len() as u64
    }

    /// The part of a range that there is.
    pub(super) fn read(&self, at: u64, len: usize) -> &[u8] {
        let start = (at as usize).min(self.now.len());
        &self.now[start..(start + len).min(self.now.len())]
    }

    pub(super) fn write(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        if self.fail_writes {
            self.failures += 1;
            return Err(rustix::io::Errno::IO.into());
        }
        let start = at as usize;
        let there = self.now.get_mut(start..start + bytes.len()).ok_or(rustix::io::Errno::NOSPC)?;
        there.copy_from_slice(bytes);
        for sector in start / SECTOR..(start + bytes.len()).div_ceil(SECTOR) {
            self.dirty[sector / 64] |= 1 << (sector % 64);
        }
        self.cut_if(|moment| match moment {
            Moment::Write(left) => Some(left),
            Moment::Now | Moment::Flush(_) => None,
        });
        Ok(())
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.cut_if(|moment| match moment {
            Moment::Flush(left) => Some(left),
            Moment::Now | Moment::Write(_) => None,
        });
        let fails = count_down(&mut self.fail_flush);
        if fails {
            self.failures += 1;
        }
        for index in 0..self.dirty.len() {
            let word = std::mem::take(&mut self.dirty[index]);
            if !fails {
                sectors(index, word, self.now.len()).for_each(|range| {
                    self.durable[range.clone()].copy_from_slice(&self.now[range]);
                });
            }
        }
        // What a failed flush dropped stays dropped, whatever later flushes say.
        if fails { Err(rustix::io::Errno::IO.into()) } else { Ok(()) }
    }

    pub(super) fn arm(&mut self, armed: Armed) {
        let now = armed.moment == Moment::Now;
        self.armed = Some(armed);
        if now {
            self.cut();
        }
    }

    fn cut_if(&mut self, left: impl Fn(&mut Moment) -> Option<&mut u64>) {
        let Some(left) = self.armed.as_mut().and_then(|armed| left(&mut armed.moment)) else { return };
        match left.checked_sub(1) {
            Some(less) => *left = less,
            None => self.cut(),
        }
    }

    fn cut(&mut self) {
        let Some(Armed { moment: _, loss, mut dice, look, tell }) = self.armed.take() else { return };
        let seen = look();
        let mut image = self.durable.clone();
        let (mut unflushed, mut lost) = (0, 0);
        for (index, &word) in self.dirty.iter().enumerate() {
            if word == 0 {
                continue;
            }
            let kept = match loss {
                Loss::Nothing => word,
                Loss::Unflushed => 0,
                Loss::Some => word & dice.any(),
            };
            unflushed += word.count_ones() as usize;
            lost += (word & !kept).count_ones() as usize;
            for range in sectors(index, kept, self.now.len()) {
                image[range.clone()].copy_from_slice(&self.now[range]);
            }
        }
        // Nobody waits for it any more: fine.
        let _ = tell.send(Cut { image, seen, unflushed, lost });
    }
}

/// The bytes of the sectors of one word of bits.
fn sectors(index: usize, word: u64, end: usize) -> impl Iterator<Item = Range<usize>> {
    (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| {
        let start = (index * 64 + bit) * SECTOR;
        start..(start + SECTOR).min(end)
    })
}

fn count_down(left: &mut Option<u64>) -> bool {
    match left {
        Some(0) => {
            *left = None;
            true
        }
        Some(n) => {
            *n -= 1;
            false
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    const BYTES: usize = 64 * SECTOR;

    fn cut(media: &mut Media, loss: Loss) -> Cut {
        let (tell, told) = channel();
        media.arm(Armed { moment: Moment::Now, loss, dice: Dice::new(1), look: Box::new(|| 7), tell });
        told.try_recv().unwrap()
    }

    #[test]
    fn what_was_flushed_survives_every_cut_and_the_rest_as_it_is_told() {
        let mut media = Media::new(vec![0; BYTES]);
        media.write(0, &[1; SECTOR]).unwrap();
        media.flush().unwrap();
        media.write(SECTOR as u64, &[2; 32 * SECTOR]).unwrap();
        assert_eq!(media.read(SECTOR as u64 - 1, 2), [1, 2], "readers see what is written");
        let twos = |cut: &Cut| cut.image.iter().filter(|&&byte| byte == 2).count() / SECTOR;
        let (all, none, some) =
            (cut(&mut media, Loss::Nothing), cut(&mut media, Loss::Unflushed), cut(&mut media, Loss::Some));
        assert!([&all, &none, &some].iter().all(|cut| cut.image[..SECTOR] == [1; SECTOR] && cut.seen == 7));
        assert_eq!((twos(&all), twos(&none)), (32, 0));
        assert!((1..32).contains(&twos(&some)), "{}", twos(&some));
        assert_eq!((some.unflushed, some.lost), (32, 32 - twos(&some)));
    }

    #[test]
    fn a_cut_comes_in_the_write_or_before_the_flush_that_was_named() {
        let mut media = Media::new(vec![0; BYTES]);
        let arm = |media: &mut Media, moment| {
            let (tell, told) = channel();
            media.arm(Armed { moment, loss: Loss::Nothing, dice: Dice::new(1), look: Box::new(|| 0), tell });
            told
        };
        let told = arm(&mut media, Moment::Write(1));
        media.write(0, &[1; 8]).unwrap();
        media.flush().unwrap();
        assert!(told.try_recv().is_err());
        media.write(0, &[2; 8]).unwrap();
        assert_eq!(told.try_recv().unwrap().image[..8], [2; 8]);
        let told = arm(&mut media, Moment::Flush(0));
        media.write(0, &[3; 8]).unwrap();
        media.flush().unwrap();
        let cut = told.try_recv().unwrap();
        assert_eq!((cut.image[0], cut.unflushed), (3, 1), "the flush had no effect yet");
    }

    #[test]
    fn a_flush_that_fails_drops_what_it_was_for() {
        let mut media = Media::new(vec![0; BYTES]);
        media.fail_flush = Some(0);
        media.write(0, &[1; SECTOR]).unwrap();
        assert!(media.flush().is_err());
        media.flush().unwrap();
        assert_eq!(cut(&mut media, Loss::Unflushed).image[0], 0);
        assert_eq!((media.read(0, 1), media.failures), (&[1][..], 1));
        media.fail_writes = true;
        assert!(media.write(0, &[2]).is_err());
        assert!(Media::new(vec![0; 8]).write(4, &[0; 8]).is_err(), "a device does not grow");
    }
}
