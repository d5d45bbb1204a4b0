//! The front door of clients: one file a family of calls.

pub mod connections;
pub mod route;
pub mod telemetry;
