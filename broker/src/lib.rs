//! broker.
#![forbid(unsafe_code)]

pub mod config;
pub mod front;
mod meta;
pub mod registration;
pub mod topics;

pub use config::Config;
