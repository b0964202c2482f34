//! Commands in containers: hooks, above all.
//!
//! A command runs over a WebSocket to the API server. Every wait here has an end.

mod kill;
mod report;
mod run;

pub use report::{ExecExit, ExecReport, OUTPUT_MAX, Output};
pub use run::{ExecRequest, run};
