//! What can happen to a file while nobody looks.

use std::ops::Range;

use crate::dice::Dice;

/// What a disk loses at once.
const SECTOR: usize = 512;

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// One bit is another.
    Bit { at: usize, bit: u8 },
    /// Zeros where something was.
    Zeros(Range<usize>),
    /// Another sector's bytes, from somewhere.
    Garbage { range: Range<usize>, seed: u64 },
    /// The end is gone.
    Truncated(usize),
}

impl Fault {
    /// A fault that changes this content; `None` if none was found.
    pub(super) fn of(content: &[u8], dice: &mut Dice) -> Option<Self> {
        if content.is_empty() {
            return None;
        }
        // Most of a file is often zeros behind its last record; they are not where the interesting faults are.
        let used = content.iter().rposition(|&byte| byte != 0).map_or(content.len(), |last| last + 1);
        let end = if dice.once_in(20) { content.len() } else { used };
        let at = dice.below(end as u64) as usize;
        let sector = at / SECTOR * SECTOR;
        let range = sector..(sector + SECTOR).min(content.len());
        let fault = match dice.below(8) {
            0..=3 => Self::Bit { at, bit: dice.below(8) as u8 },
            4 | 5 => Self::Zeros(range),
            6 => Self::Garbage { range, seed: dice.any() },
            _ => Self::Truncated(at),
        };
        let mut changed = content.to_vec();
        fault.apply(&mut changed);
        (changed != content).then_some(fault)
    }

    pub(super) fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Bit { at, bit } => content[*at] ^= 1 << bit,
            Self::Zeros(range) => content[range.clone()].fill(0),
            Self::Garbage { range, seed } => {
                let mut dice = Dice::new(*seed);
                content[range.clone()].fill_with(|| dice.any() as u8);
            }
            Self::Truncated(len) => content.truncate(*len),
        }
    }

    /// The bytes that it may have changed.
    pub(super) fn range(&self) -> Range<usize> {
        match self {
            Self::Bit { at, .. } => *at..*at + 1,
            Self::Zeros(range) | Self::Garbage { range, .. } => range.clone(),
            Self::Truncated(len) => *len..usize::MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_changes_something_in_its_range_and_nothing_else() {
        let mut dice = Dice::new(3);
        let content: Vec<u8> = (0..2000_u32).map(|byte| byte as u8).collect();
        for _ in 0..500 {
            let Some(fault) = Fault::of(&content, &mut dice) else { continue };
            let mut changed = content.clone();
            fault.apply(&mut changed);
            assert_ne!(changed, content);
            let outside = |bytes: &[u8]| {
                let kept = bytes.iter().enumerate().filter(|(at, _)| !fault.range().contains(at));
                kept.map(|(_, byte)| *byte).collect::<Vec<_>>()
            };
            assert_eq!(outside(&changed), outside(&content), "{fault:?}");
        }
        assert_eq!(Fault::of(&[], &mut dice), None);
    }
}
