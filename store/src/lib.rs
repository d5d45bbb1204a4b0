//! The log and its views. A library: no network, no async runtime, no topic permissions.
//!
//! ```text
//!   Store::append ──► commit_log (one writer at a time, encode once into the mapped file)
//!                         │ end of the log: appended
//!                         ▼
//!                     flush (group commit: many waiters, one fdatasync)
//!                         │ flushed                      confirmed = appended (async) or flushed (sync)
//!                         ▼
//!                     dispatch (records below confirmed, in log order) ──► views: consume queues
//!                         │
//!                         ▼
//!                     Arrivals (wakes whoever waits for a queue)
//!
//!   min ≤ flushed ≤ appended, confirmed ≤ appended; readers see records below confirmed only.
//! ```

mod ahead;
mod answers;
mod clock;
mod commit_log;
mod config;
pub mod disk;
mod dispatch;
mod error;
mod flush;
mod housekeeping;
mod ids;
mod opened;
mod record;
mod store;
mod views;

pub use answers::{Appended, Arrivals, Entry, Recovered, State};
pub use clock::{Clock, SystemClock};
pub use config::{Config, Flush};
pub use error::{AppendError, FlushFailed, OpenError, ReadError};
pub use ids::{LogOffset, QueueId, QueueOffset};
pub use record::{NewRecord, Properties, Record};
pub use store::Store;
