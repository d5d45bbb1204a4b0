//! The broker as its clients see it: over real gRPC, on loopback.

mod consume;
mod rig;
