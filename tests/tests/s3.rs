//! The S3 store against a server in this process, which does wrong what it is told to, and against any
//! other that the environment names.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "s3/bootstrap.rs"]
mod bootstrap;
#[path = "s3/elsewhere.rs"]
mod elsewhere;
#[path = "s3/faults.rs"]
mod faults;
#[path = "s3/messages.rs"]
mod messages;
#[path = "s3/probes.rs"]
mod probes;
#[path = "s3/program.rs"]
mod program;
#[path = "s3/store.rs"]
mod store;
