//! Trials of the store and of the whole broker: power cuts, failing and full disks, bit rot, and a ledger of what became of
//! every message. `trials/README.md` tells how to run them and what they prove.
//!
//! ```text
//!   ledger     what was attempted, acknowledged and delivered; in a process of its own; and the verdict on it
//!   power_cut  the power goes: nothing acknowledged is lost, and the views are what the log says
//!   full_disk  the disk fills up and has room again: the broker refuses, lives on, and takes messages again
//!   failing_disk  flushes or writes fail: no acknowledgement any more, and nothing acknowledged is lost
//!   planted    rules broken on purpose: each is noticed
//!   bit_rot    one fault at a time in a stopped store: no wrong byte comes, no valid record is dropped
//!   strict_cut the power goes under a disk in memory that keeps nothing which nobody synced
//!   driver     a program that writes to a store, for the trials to watch
//!   broker     the real broker as a process
//!   load       clients of it, and the ledger that they keep
//!   audit      reads a store, all of it, and holds it against a ledger
//!   device     a block device that loses, tears, fails, and is cut at an exact moment
//!   room       mounts and files that vanish with the trial, however it ends
//!   wire       a plain client of the official protocol, for the codes that official clients hide and for load
//!   process    a program with a time limit, whose lines can be awaited
//!   dice       randomness that a printed seed repeats
//! ```
#![forbid(unsafe_code)]

pub mod audit;
pub mod bit_rot;
pub mod broker;
pub mod commands;
pub mod device;
pub mod dice;
pub mod driver;
pub mod failing_disk;
pub mod full_disk;
pub mod ledger;
pub mod load;
pub mod planted;
pub mod power_cut;
pub mod process;
pub mod room;
pub mod strict_cut;
pub mod wire;
