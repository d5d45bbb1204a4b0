//! Taking over the metadata of a RocketMQ broker, and giving it back.
//!
//! The log of a Java broker is opened as it lies; what it knew of topics, groups and their progress is in
//! `config/*.json`. This module knows those files: [`read`] and [`write`], on plain structs.

mod fastjson;
mod files;

pub use fastjson::quote_integer_keys;
pub use files::*;
