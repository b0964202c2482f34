//! The one binary of Orlop: reads the command line, wires the crates together, and ends with the
//! right exit code.

mod client;
mod commands;
mod demo;
mod exit;
mod identity;
mod node;
mod output;
mod progress;
mod shapes;
mod text;

use std::{process::ExitCode, time::Duration};

use anyhow::Context as _;
use clap::Parser as _;

/// Threads for waiting on stores and the network; the heavy work runs on threads of its own.
const WORKERS: usize = 2;

fn main() -> ExitCode {
    orlop_runtime::memory::map_large_blocks();
    let cli = commands::Cli::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()
        .context("start threads");
    match runtime {
        Ok(runtime) => {
            let result = runtime.block_on(async {
                let cancel = orlop_runtime::shutdown::signal_token();
                cli.run(cancel).await
            });
            let code = exit::report(result);
            // A thread that still reads a dead file system must not keep the program.
            runtime.shutdown_timeout(Duration::from_secs(2));
            code
        }
        Err(error) => exit::report(Err(error)),
    }
}
