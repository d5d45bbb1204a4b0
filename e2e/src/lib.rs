//! The end-to-end tests' vocabulary: a real cluster, the official clients, and the faults.
//!
//! ```text
//!   settings   what the environment must say, each missing thing a sentence
//!   process    a program with a time limit, whose lines can be awaited
//!   cluster    kubectl and helm; a namespace a test, which tells its story when the test fails
//!   messaging  the custom resources that tests apply
//!   clients    the official clients of `clients/`, all behind one command line
//!   wire       a plain client of our own, for the codes that official clients hide and for load
//!   ledger     what was attempted, acknowledged and delivered, and what that makes lost or altered
//!   dev        `gantry dev`, started, killed and started again
//!   killing    the broker killed under load, again and again
//! ```
//!
//! Nothing here sleeps for luck: each wait is for a condition and has a limit, and the limit says what was waited for.
#![forbid(unsafe_code)]

pub mod clients;
pub mod cluster;
pub mod dev;
pub mod killing;
pub mod ledger;
pub mod messaging;
pub mod process;
pub mod settings;
pub mod wire;
