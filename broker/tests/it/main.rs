//! The broker as its clients see it: over real gRPC, on loopback.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod backlog;
mod bad_input;
mod consume;
mod delay;
mod filters;
mod find;
mod group;
mod house;
mod lite;
mod many_topics;
mod reset;
mod restart;
mod rig;
mod transactions;
