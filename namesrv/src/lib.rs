//! A name server: brokers tell it what they have, clients ask it whom to talk to.
//!
//! ```text
//!  brokers ── Register stream ──► registry ─┐                       ┌─► route ── QueryRoute, QueryAssignment,
//!                                           ├─► cluster ─► table ───┤            Telemetry, Heartbeat ── clients
//!  operator, CLI ── Describe ───► registry ─┘  (clock, warm-up)     ├─► forward ── EndTransaction, RecallMessage ──► their broker
//!                                                                    └─► http: /readyz says who is missing
//! ```
//!
//! It keeps nothing: [`table`] is a pure value that brokers fill again after every start. Name servers never talk
//! to each other. Deliberately absent: messages, and any memory of clients.

#![forbid(unsafe_code)]

pub mod config;
pub mod table;

mod cluster;
mod forward;
mod metrics;
mod registry;
mod route;
mod run;

pub use config::Config;
pub use run::{Running, main, start};
