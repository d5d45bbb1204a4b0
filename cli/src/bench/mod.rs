//! The load generator behind `gantry bench`: for every server of `apache.rocketmq.v2`.
//!
//! ```text
//! plan ──► connection: routes, clients with telemetry ──► run
//!  │                                                       ├─ send: lanes, let by a clock in an open loop
//!  └─ schedule: when each request is due                   ├─ receive: polls and acknowledgements
//!                                                          ├─ recorder, ledger: what is measured, what must come
//!                                                          └─ outcome ──► table, JSON, report (HTML)
//! ```
//!
//! Latency counts from the *intended* time of sending in an open loop, so a server that stalls is charged for every
//! message that had to wait, sent or not. `schedule`, `stamp`, `ledger`, `recorder`, `outcome` and `report` only compute.
//!
//! Bounds: connections × in flight sends, connections × polls; histograms of a fixed size, a bit for each message twice,
//! a line for each second.

pub(crate) mod connection;
mod cpu;
pub(crate) mod idle;
mod ledger;
pub mod outcome;
pub(crate) mod plan;
mod receive;
mod recorder;
pub mod report;
pub(crate) mod run;
mod schedule;
mod send;
mod stamp;
