//! A broker group in one thread, in which everything goes wrong that can, from one seed.
//!
//! ```text
//!   faults.rs ──► world.rs: time, the queue of events, one seed
//!                    │
//!      clients ──► member.rs ×N: a driver as the broker's, around `replication::Member` ──► lease.rs: compare-and-swap,
//!      (client.rs)   │  ▲           its disk: disk.rs                                        late, lost, stale
//!                    └──┴── net.rs: streams in order, cut one way or both, refused, silent
//!                    │
//!                 checks.rs: what must hold after every step, and once the faults stop
//! ```
//!
//! `cargo test -p sim` runs some thousand seeds; `cargo xtask sim` a night's 100,000, and `cargo xtask sim 17` one of them
//! again, word for word. `cargo xtask sim --planted` breaks the rules one by one, and counts what is noticed.

#![forbid(unsafe_code)]

mod checks;
mod client;
mod disk;
mod driver_bug;
mod faults;
mod lease;
mod member;
mod net;
mod random;
mod world;

pub use driver_bug::DriverBug;
pub use world::{Failure, Options, Outcome, run};
