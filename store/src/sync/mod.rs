//! Locks, bells and atomics: those of the machine, or ones whose every order a test tries.
//!
//! What threads agree on without a lock is written against this module, so that `cargo xtask interleavings` can run it
//! under loom: `RUSTFLAGS="--cfg loom"`.

#[cfg(not(loom))]
pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard};
#[cfg(not(loom))]
pub(crate) use std::sync::atomic;

#[cfg(loom)]
mod tried;
#[cfg(loom)]
pub(crate) use loom::sync::atomic;
#[cfg(loom)]
pub(crate) use tried::{Condvar, Mutex, MutexGuard};
