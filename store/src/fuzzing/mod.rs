//! For fuzzing only: every decoder of stored bytes, each as a function that takes any bytes and asserts what must hold.
//!
//! No decoder may panic, or allocate out of proportion to what it is given; what it decodes must fit together, and come
//! back from its encoding the same. Each function lies beside the decoders that it tries, in a `fuzzing.rs`; [`store`]
//! tries a whole directory. [`TARGETS`] lists them all.
//!
//! ```text
//!   an input:   │ mode │ bytes …          mode & 1: checksums are made right before they are looked at, so that what lies
//!                                          behind them is tried too; the other bits are the target's to choose by
//! ```
//!
//! `cargo test -p store` replays seeded mutations of valid encodings, and every input in `store/fuzz/found` that once broke
//! something. `cargo xtask fuzz` lets libFuzzer look for more, `cargo xtask miri` replays a few under Miri.

mod store;

use crate::commit_log::codec::fuzzing as records;
use crate::commit_log::fuzzing as log;
use crate::offline::rocketmq::fuzzing as rocketmq;
use crate::schedule::fuzzing as schedule;
use crate::views::fuzzing as views;
use crate::views::keys::fuzzing as keys;

/// What a target is given.
#[derive(Clone, Copy)]
pub(crate) struct Input<'a> {
    /// Make the checksums right.
    pub(crate) mend: bool,
    /// The target's to choose by.
    pub(crate) choice: u8,
    pub(crate) bytes: &'a [u8],
}

/// A decoder, or a few that belong together.
pub struct Target {
    /// As `cargo xtask fuzz` takes it.
    pub name: &'static str,
    run: fn(Input<'_>),
    /// Valid encodings.
    encodings: fn() -> Vec<Vec<u8>>,
}

/// All targets.
pub const TARGETS: [Target; 10] = [
    Target { name: "record", run: records::record, encodings: records::encodings },
    Target { name: "walk", run: log::walk, encodings: log::segments },
    Target { name: "mark", run: log::mark, encodings: log::marks },
    Target { name: "entry", run: views::entry, encodings: views::entries },
    Target { name: "snapshot", run: views::snapshot, encodings: views::snapshots },
    Target { name: "deleted", run: views::deleted, encodings: views::marks },
    Target { name: "keys", run: keys::run, encodings: keys::runs },
    Target { name: "schedule", run: schedule::run, encodings: schedule::schedules },
    Target { name: "rocketmq", run: rocketmq::run, encodings: rocketmq::encodings },
    Target { name: "store", run: store::run, encodings: store::encodings },
];

impl Target {
    /// The target of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        TARGETS.iter().find(|target| target.name == name)
    }

    /// Tries an input.
    ///
    /// # Panics
    /// If a decoder is wrong.
    pub fn run(&self, input: &[u8]) {
        let Some((mode, bytes)) = input.split_first() else { return };
        (self.run)(Input { mend: mode & 1 == 1, choice: mode >> 1, bytes });
    }

    /// Inputs to begin with: valid encodings, with their checksums looked at as they are, and made right.
    #[must_use]
    pub fn seeds(&self) -> Vec<Vec<u8>> {
        let modes = |encoding: Vec<u8>| [0, 1].map(|mode| [&[mode], encoding.as_slice()].concat());
        (self.encodings)().into_iter().flat_map(modes).collect()
    }
}

/// Makes the CRC-32 right that ends `bytes` and covers all before it.
pub(crate) fn mend_end(bytes: &mut [u8]) {
    if let Some((content, crc)) = bytes.split_last_chunk_mut::<4>() {
        *crc = crc32fast::hash(content).to_be_bytes();
    }
}

#[cfg(test)]
mod mutate;
#[cfg(test)]
mod tests;
