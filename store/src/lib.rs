//! The log and its views: what is acknowledged is here, and comes back from here.
//!
//! A library of plain blocking Rust: no network, no async runtime, no protocol, no topic permissions.
//! [`Store`] is the one way in.
//!
//! # Promises
//!
//! - **Confirmed is kept.** With [`Flush::Sync`] a confirmed record survives a power cut. With [`Flush::Async`] it survives
//!   the death of the process, and a power cut takes a suffix of the log and nothing else.
//! - **Nobody is alone who is not told so.** With [`Confirm::Told`] nothing is confirmed, shown or in a snapshot that
//!   [`Store::confirm_to`] did not allow, over restarts too; what it allowed may have to be told again after a crash.
//! - **A copy is the same bytes.** What [`Store::append_stretch`] takes lies where it lay, and gives the same queues.
//! - **Bytes are checked.** Every byte of a record is under a checksum. A torn tail is cut; a damaged record costs itself
//!   and nothing behind it, and is listed until its segment goes. What nobody reads is read once a day, to find out.
//! - **One failed flush ends it.** Nothing is confirmed after it, and [`State::refusing`] says why.
//! - **A full disk is an error.** Room is reserved before it is written to; appends return when there is room again.
//! - **Only the log counts.** The views can be deleted at any time while the store is closed, and are rebuilt the same.
//!
//! # Layers, from the top down
//!
//! ```text
//!   Store::append ──► append, commit_log    one writer at a time, who takes along what waits; encoded into the mapped file
//!                         │ appended             ▲
//!                         │                      └── ahead: next segment made, pages touched, before they are needed
//!                         ▼
//!                     flush                 group commit: many waiters, one fdatasync
//!                         │ flushed              durable = appended (async) or flushed (sync)
//!                         │                      confirmed = durable, and with Confirm::Told below what was told
//!                         ▼
//!                     dispatch              records below confirmed, in log order ──► views, then Arrivals
//!                         │
//!                         ▼
//!   Store::entries ◄── views                consume queues: their ends in memory, the rest in shared blocks
//!   Store::record  ◄── commit_log           slices of the mapping, which they keep alive
//!   Store::find    ◄── views/keys           follows the confirmed end on its own; verified in the log
//!
//!                     quarantine            places of the log that are known to be damaged; a list for people
//!                       ▲                   from recovery, readers, and from
//!                     scrub                 all that is durable, and the views, read through once a day, slowly
//!
//!                     housekeeping          blocks written, snapshots taken, old segments removed if the keeper lets them go
//!
//!   Store::stretch  ◄── reads               bytes of the log for another member of a group, whose
//!   Store::append_stretch ──► copy          checks and appends them
//!   cut_back                                the log of a closed store, and all that knows of it, back to a place
//!
//!                     schedule              what is to happen at a time; fed, and asked, by whoever opens it
//!   ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
//!                     disk                  the trait; RealDisk holds the only unsafe, MemoryDisk every fault
//! ```
//!
//! # Offsets
//!
//! ```text
//!   the log (LogOffset, bytes, never reused):
//!
//!     min            complete            flushed        confirmed          appended
//!      │ ░░ removable ░░ │ replayed on open │ lost by power cut │ (sync: waits) │ zeros ...
//!      └─────────────────┴──────────────────┴───────────────────┴───────────────┘
//!     min ≤ flushed ≤ appended    min ≤ confirmed ≤ durable ≤ appended    complete ≤ flushed    complete ≤ confirmed
//!     complete: up to where the views' last snapshot reaches
//!
//!   a queue (QueueOffset, messages, never reused while the topic lives):
//!
//!     min         next         assigned
//!      │ readable  │ unconfirmed │                  Store::queue_bounds is min..next
//! ```
//!
//! # On disk
//!
//! ```text
//!   root/
//!     commitlog/00000000000000000000   a segment, named by its first log offset; whole and zero-filled from its birth
//!     commitlog/00000000001073741824     records end to end, then a blank: see commit_log/codec
//!     next-segment.temp                a segment in the making, renamed when whole
//!     views/blocks-00000               entries of all queues, 204 to a block of 4 KiB; small queues share blocks: see views/blocks.rs
//!     views/snapshot, .previous        who has which blocks, and the entries in none: see views/snapshot.rs
//!     views/deleted                    topics whose records in the log belong to no queue any more
//!     views/keys/<start>-<end>         keys of the records in a stretch of the log, sorted: see views/keys/run.rs
//!     views/schedule/                  what is to happen at a time, by time: see schedule/run.rs, schedule/catalog.rs
//!     damaged                          places of the log that are, and how far the scrub is: see quarantine/file.rs
//!     flushed                          how far the log was flushed, lately: tells rot from a torn tail
//!     confirmed                        the same of what was confirmed, where others have a say in that
//!     abort                            who has the store open, or closed it: see last_writer.rs
//!     identity, boot                   which store this is, and under which start of the machine it was opened: see identity.rs
//!     epochs                           the reigns of a broker group, as this member has them: see epochs.rs
//!     lock                             locked while a store is open (as RocketMQ's)
//! ```
//!
//! `commitlog` is RocketMQ's, byte for byte. All else is ours, and rebuilt if missing, but for `identity` and `epochs`.
//!
//! # A crash, step by step
//!
//! Files are listed; a size that does not fit the configuration, or a gap, is an error that says what to do. The snapshot
//! is loaded, and the log walked from where it is complete: magic, size, checksum, and the record's own place. Each record
//! found goes to the views again, or with [`Confirm::Told`] waits unless it is known to be confirmed. Where none is found,
//! `commit_log::recover` decides between end, torn tail and rot.
//! What is cut is zeroed, and the store is open. With sync flush all is flushed before; else like what is appended.
//!
//! # Threads
//!
//! `store-flush` flushes, and confirms with sync flush. `store-ahead` touches pages, `store-make` makes segments.
//! `store-keep` does the housekeeping, `store-read` reads old records, `store-scrub` reads log and views through. `store-keys`
//! indexes keys; after a crash it also makes up what is missing, and opening does not wait for it. All sleep while there is
//! nothing to do, are joined by [`Store::close`], and
//! if one panics the log is closed. Locks are taken in this order, and none is held while the disk flushes: the log's end,
//! pending entries; applying, a queue. (The work on the key index has a lock of its own, under which files are written;
//! only look-ups wait for it.)

mod ahead;
mod answers;
mod append;
mod bell;
mod clock;
mod commit_log;
mod config;
mod copy;
mod crowd;
mod cut_back;
pub mod disk;
mod dispatch;
pub mod epochs;
mod error;
mod find;
mod flush;
mod frame;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod housekeeping;
mod identity;
mod ids;
mod last_writer;
mod milestone;
pub mod offline;
mod opened;
mod planted;
mod quarantine;
mod reads;
mod record;
pub mod schedule;
mod scrub;
mod store;
mod sync;
mod times;
mod views;

pub use answers::{Appended, Arrivals, Damaged, Entry, Keeper, Progress, Recovered, Scrubbed, State};
pub use clock::{Clock, SystemClock};
pub use config::{ColdReads, Config, Confirm, Flush, Scrub, WarmUp};
pub use cut_back::cut_back;
pub use error::{
    AppendError, CopyError, CutBackError, FetchError, FlushFailed, OpenError, ReadError, StretchError,
};
pub use find::{By, FindError, Matches};
pub use ids::{LogOffset, QueueId, QueueOffset};
pub use planted::Bug;
pub use quarantine::DamagedPlace;
pub use reads::{Fetched, Found, Stretch, Wanted};
pub use record::{NewRecord, Passed, Properties, Record};
pub use store::Store;
