//! A broker: keeps messages in its log and hands them to consumer groups.
//!
//! ```text
//!   clients ─► front ──► topics      what there is
//!                │  └──► log ──────► store: append, flush
//!                ├─────► transactions ─► log             visible once the producer says so
//!                └─────► delivery ─► store: queues        who gets what when
//!                            └────► access::filter       which messages a consumer wants
//!   operator, CLI ─► admin ─► topics, delivery
//!   topics ─► registration ─► name servers
//! ```
//!
//! `topics` and `delivery` know nothing of the wire: `front` and `admin` translate.

#![forbid(unsafe_code)]

pub mod config;
pub mod takeover;
pub mod topics;

mod addresses;
mod admin;
mod delivery;
mod front;
mod health;
mod local;
mod log;
mod member;
mod meta;
mod metrics;
mod registration;
mod run;
mod schedule;
mod serve;
mod transactions;

pub use config::Config;
pub use delivery::lite::Limits as LiteLimits;
pub use member::{Coordinator, Group, Standing, Unreadable};
pub use run::{main, start, start_on};
pub use serve::Running;
pub use transactions::Schedule as TransactionSchedule;
