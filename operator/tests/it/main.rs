//! What the operator makes, how it speaks with the API server, and what it tells brokers.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod chosen;
mod consumer_groups;
mod day_two;
mod declared;
mod drift;
mod fields;
mod gitops;
mod golden;
mod killed;
mod namespaces;
mod placement;
mod rights;
mod server;
mod world;
