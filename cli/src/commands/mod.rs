//! A file a command: gather, then print.

pub mod bench;
pub mod check;
pub mod completions;
pub mod consume;
pub mod dev;
pub mod failover;
pub mod group;
pub mod message;
pub mod produce;
pub mod status;
pub mod store;
pub mod topic;
pub mod version;
