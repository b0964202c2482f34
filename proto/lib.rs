//! The gRPC contract of Orlop.

pub mod convert;
pub mod locations;
pub mod reason;
pub mod receive;
mod requests;
mod schedules;
pub mod store;

/// Generated from `proto/orlop/v1/*.proto`.
pub mod v1 {
    #![allow(
        missing_docs,
        unreachable_pub,
        clippy::all,
        clippy::pedantic,
        reason = "generated code"
    )]
    tonic::include_proto!("orlop.v1");
}

/// The encoded descriptor set, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

pub use receive::ProtocolError;
