//! For fuzzing only: calls of `apache.rocketmq.v2` made of any bytes, and what every answer must be.
//!
//! ```text
//!   bytes ──► call::draw ──► Call: headers, messages ──► caller::carry_out ──► answer::check ──► Learned, or what is wrong
//!               ▲                                                                                  │
//!               └────────── Known: names that exist, handles that were given out ◄─────────────────┘
//! ```
//!
//! The same bytes and the same [`Known`] make the same call. Most calls are plausible: names that exist beside garbage, numbers
//! at their bounds, handles that are rotten or somebody else's. Some are damaged where they lie encoded, and some are no message
//! at all. Brokers and name servers are tried with them in their own tests; brokers for longer, and with other calls, by
//! `GANTRY_FUZZ_CASES=100000 GANTRY_FUZZ_SEED=7 cargo test -p broker --test any_call`.

#![forbid(unsafe_code)]

pub mod answer;
pub mod call;
pub mod caller;
pub mod draw;
mod known;
mod panics;

pub use known::{Given, Kind, Known};
pub use panics::Panics;
