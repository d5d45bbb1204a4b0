//! broker.
#![forbid(unsafe_code)]

pub mod config;
mod meta;
pub mod topics;

pub use config::Config;
