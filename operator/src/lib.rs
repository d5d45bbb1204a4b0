//! The operator: makes NameServerSets, BrokerGroups, Topics and ConsumerGroups real.
//!
//! ```text
//!   API server ──► watch ──► routes (pure) ──► queue ──► reconcile, one folder a resource:
//!       ▲            └─ stores ─────────────────────────►  observe    from the stores, never from the server
//!       │                                                  validate   pure: everything settled, or why not
//!       │                                                  desired    pure: the objects; golden files show them
//!       ├──────────────── apply (the only writer) ◄──────  apply      in the one safe order
//!       └──────────────── status subresource ◄───────────  status     pure: from what was applied and seen
//!   brokers, name servers ◄── control ◄── topics and consumer groups (`declared`), log levels, how they are
//! ```
//!
//! Nothing waits inside a reconcile: remote calls have a deadline of two seconds, and what takes longer is a condition
//! with a reason. One process leads ([`leader`]); losing the lead ends the process.

#![forbid(unsafe_code)]

pub mod apply;
pub mod broker_group;
pub mod certificates;
pub mod conditions;
pub mod config;
pub mod consumer_group;
pub mod context;
pub mod control;
pub mod covers;
pub mod declared;
pub mod events;
pub mod http;
pub mod identity;
pub mod leader;
pub mod listeners;
pub mod metrics;
pub mod name_server_set;
pub mod options;
pub mod pending;
pub mod pods;
pub mod progress;
pub mod quantity;
pub mod refusals;
pub mod routes;
mod run;
pub mod schemas;
pub mod selector;
pub mod services;
pub mod slim;
pub mod topic;
pub mod watch;

pub use options::Options;
pub use run::{run, run_by};
