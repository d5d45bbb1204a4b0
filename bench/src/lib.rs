//! The figures that Gantry promises, each with its command; `README.md` lists them.
//!
//! ```text
//! bench-echo        the ruler: a bare tonic server with the real proto, and nothing behind it
//! bench-load        a closed loop of sends to any server, and the server's CPU time for each
//! bench-compare     echo and `gantry dev`, alternately, in one run
//! bench-coldstart   from exec to the first acknowledged send
//! bench-delay       delayed sends beside others, the memory of what waits, and how late it comes
//! bench-kill9       kill -9 under load, again and again: what was acknowledged is there
//! bench-store       the store in this process, beside bare system calls and Java's own store
//! bench-topics-scale  what a hundred thousand topics cost one broker
//! bench-topics      from the creation of Topic resources to Ready
//! ```
//!
//! Server and load share this machine, so rates are comparable only within one run. CPU time a message is
//! the figure that is judged: it is the server's own.

#![forbid(unsafe_code)]

pub mod figures;
pub mod load;
pub mod process;
pub mod wire;
