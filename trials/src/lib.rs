//! Trials of the store and of the whole broker: power cuts, failing and full disks, bit rot, and a ledger of what became of
//! every message. `trials/README.md` tells how to run them and what they prove.
//!
//! ```text
//!   ledger     what was attempted, acknowledged and delivered; in a process of its own; and the verdict on it
//!   wire       a plain client of the official protocol, for the codes that official clients hide and for load
//!   process    a program with a time limit, whose lines can be awaited
//! ```
#![forbid(unsafe_code)]

pub mod ledger;
pub mod process;
pub mod wire;
