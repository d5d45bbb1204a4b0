//! When the power goes: at a random moment, or at one that is sought.

use std::fmt;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::device::{Loss, Moment};
use crate::dice::Dice;

/// Between two looks at the ledger.
const LOOK: Duration = Duration::from_millis(1);

/// What to wait for before the cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum After {
    /// This long.
    Pause(Duration),
    /// The ledger has a new note with this in it.
    Note(&'static str),
}

/// When to cut, and what is lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Occasion {
    pub(super) after: After,
    pub(super) moment: Moment,
    pub(super) loss: Loss,
}

impl Occasion {
    /// Each kind often, none always.
    pub(super) fn of(dice: &mut Dice) -> Self {
        let after = match dice.below(6) {
            0 => After::Note(" ack "),
            1 => After::Note(" event snapshot"),
            2 => After::Note(" event housekeeping"),
            3 => After::Note(" event roll"),
            _ => After::Pause(dice.shorter_than(Duration::from_millis(200))),
        };
        let moment = match dice.below(4) {
            0 | 1 => Moment::Now,
            2 => Moment::Write(dice.below(40)),
            _ => Moment::Flush(dice.below(12)),
        };
        let loss = *dice.one_of(&[Loss::Nothing, Loss::Unflushed, Loss::Some, Loss::Some]);
        Self { after, moment, loss }
    }
}

impl fmt::Display for Occasion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { after, moment, loss } = self;
        match after {
            After::Pause(pause) => write!(f, "after {pause:?}")?,
            After::Note(note) => write!(f, "after{note}")?,
        }
        write!(f, ", {moment:?}, losing {loss:?}")
    }
}

/// Watches a ledger's file grow.
pub(super) struct Occasions {
    notes: File,
}

impl Occasions {
    pub(super) fn new(notes: &Path) -> Result<Self> {
        let mut notes = File::open(notes)?;
        notes.seek(SeekFrom::End(0))?;
        Ok(Self { notes })
    }

    pub(super) fn wait(mut self, after: &After, patience: Duration) -> Result<()> {
        let wanted = match after {
            After::Pause(pause) => {
                std::thread::sleep(*pause);
                return Ok(());
            }
            After::Note(wanted) => wanted,
        };
        let end = Instant::now() + patience;
        let mut text = String::new();
        loop {
            self.notes.read_to_string(&mut text)?;
            if text.contains(wanted) {
                return Ok(());
            }
            if Instant::now() > end {
                bail!("no note with{wanted} came within {patience:?}");
            }
            std::thread::sleep(LOOK);
        }
    }
}
