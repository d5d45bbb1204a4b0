//! The end-to-end tests' vocabulary: a real cluster, the official clients, and the faults.
//!
//! ```text
//!   settings   what the environment must say, each missing thing a sentence
//!   cluster    kubectl and helm; a namespace a test, which tells its story when the test fails
//!   messaging  the custom resources that tests apply
//!   clients    the official clients of `clients/`, all behind one command line
//!   suite      what is tried with which of them: the tests of `tests/dev`, and a table
//!   dev        `gantry dev`, started, killed and started again
//!   chaos      faults of all kinds on the cluster, again and again, under official clients
//!   killing    the broker killed under load, again and again
//! ```
//!
//! From `trials` come the ledger, a plain client of our own (`wire`), and programs with a time limit (`process`).
//!
//! Nothing here sleeps for luck: each wait is for a condition and has a limit, and the limit says what was waited for.
#![forbid(unsafe_code)]

pub mod chaos;
pub mod clients;
pub mod cluster;
pub mod dev;
pub mod killing;
pub mod messaging;
pub mod settings;
pub mod suite;

pub use trials::{ledger, process, wire};
