//! The repository's format: what `docs/format.md` says is enough to read a repository, and what was written once
//! is read for ever.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "format/described.rs"]
mod described;
#[path = "format/golden.rs"]
mod golden;
#[path = "format/reader.rs"]
mod reader;
#[path = "format/second.rs"]
mod second;
#[path = "format/volumes.rs"]
mod volumes;
