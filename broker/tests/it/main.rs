//! The broker as its clients see it: over real gRPC, on loopback.

mod bad_input;
mod consume;
mod house;
mod restart;
mod rig;
