//! The store through its front door, on the real disk and on the hostile one.

#![expect(clippy::unwrap_used, reason = "a test may")]

mod disk;
mod every_call;
mod expected;
mod faults;
mod java;
mod java_export;
mod keys;
mod many_queues;
mod model;
mod offline;
mod on_disk;
mod process;
mod queues;
mod reads;
mod recovery;
mod replicate;
mod rot;
mod schedule;
mod support;
mod threads;
mod times;
mod trace;
