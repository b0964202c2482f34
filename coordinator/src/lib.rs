//! The gRPC services, scheduler and state of Orlop.
