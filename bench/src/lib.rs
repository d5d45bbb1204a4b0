//! The figures that Gantry promises, each with its command; `README.md` lists them.
//!
//! ```text
//! bench-echo        the ruler: a bare tonic server with the real proto, and nothing behind it
//! bench-compare     Gantry beside the Java broker with its proxy, the echo, NATS and Kafka, in one run: RESULTS.md
//! bench-coldstart   from exec to the first acknowledged send
//! bench-delay       delayed sends beside others, the memory of what waits, and how late it comes
//! bench-kill9       kill -9 under load, again and again: what was acknowledged is there
//! bench-store       the store in this process, beside bare system calls and Java's own store
//! bench-topics-scale  what a hundred thousand topics cost one broker
//! bench-topics      from the creation of Topic resources to Ready
//! ```
//!
//! Loads are made by `gantry bench`, which `load` runs: there is one load generator.
//!
//! Server and load share this machine, so rates are comparable only within one run. CPU time a message is
//! the figure that is judged: it is the server's own.

#![forbid(unsafe_code)]

pub mod figures;
pub mod load;
pub mod process;
pub mod wire;
