//! The broker as its clients see it: over real gRPC, on loopback.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod backlog;
mod bad_input;
mod changes;
mod consume;
mod delay;
mod filters;
mod find;
mod group;
mod house;
mod listeners;
mod lite;
mod managed_groups;
mod many_topics;
mod namespaces;
mod questions;
mod reset;
mod restart;
mod rig;
mod transactions;
