//! The generated types of the two protocols that Gantry speaks, and how they are encoded. No behaviour lives here.
//!
//! - [`v2`]: `apache.rocketmq.v2`, what official clients speak. The contract is the table
//!   `spec/grpc-v2.tsv`, compared with our files by a test.
//! - [`control`]: `gantry.control.v1`, between brokers, name servers, operator and command line.

#![forbid(unsafe_code)]

pub mod codec;

/// `apache.rocketmq.v2`: the protocol of the official clients.
#[expect(missing_docs, clippy::all, clippy::allow_attributes, reason = "generated")]
pub mod v2 {
    tonic::include_proto!("apache.rocketmq.v2");
}

/// `gantry.control.v1`: our own control plane.
#[expect(missing_docs, clippy::all, clippy::allow_attributes, reason = "generated")]
pub mod control {
    tonic::include_proto!("gantry.control.v1");
}
