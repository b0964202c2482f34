//! `orlop restore-wait`: what a restored pod's init container runs. It opens no socket; marks in a
//! directory of their own tell it how the restore goes.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use orlop_agent::marks::{self, Outcome as Mark};
use orlop_core::Progress;
use tokio_util::sync::CancellationToken;

use crate::{
    exit::{self, Outcome},
    progress::counters,
    text,
};

/// What to do after a restore that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OnFailure {
    /// End with the reason, so that the pod's restart policy decides
    Exit,
    /// Print the reason and wait for another restore, for pods that are never restarted
    Wait,
}

/// Where the marks are, and how long to wait.
#[derive(Debug, Args)]
pub(crate) struct RestoreWaitArgs {
    /// Directory of the marks
    #[arg(long, value_name = "DIR", default_value = "/orlop-restore")]
    dir: PathBuf,
    /// What to do when the restore fails
    #[arg(long, value_enum, default_value_t = OnFailure::Exit)]
    on_failure: OnFailure,
    /// Give up after so many seconds without any progress; 0 waits for ever
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    stall_seconds: u64,
    /// Time between two looks
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 250, hide = true)]
    poll_ms: u64,
}

impl RestoreWaitArgs {
    pub(crate) async fn run(self, cancel: CancellationToken) -> Result<Outcome> {
        eprintln!("restore-wait: waiting for the restore of this pod's volumes");
        tokio::task::spawn_blocking(move || self.wait(&cancel))
            .await
            .context("the waiting thread died")?
    }

    fn wait(&self, cancel: &CancellationToken) -> Result<Outcome> {
        let poll = Duration::from_millis(self.poll_ms.max(10));
        let deadline = (self.stall_seconds > 0).then(|| Duration::from_secs(self.stall_seconds));
        let mut told = None;
        loop {
            let mark = marks::wait(&self.dir, poll, deadline, &mut print_progress, cancel)
                .with_context(|| format!("cannot read the marks in {}", self.dir.display()))?;
            match mark {
                Mark::Success => {
                    println!("restore-wait: the volumes are restored");
                    return Ok(Outcome::Done);
                }
                Mark::Failure(reason) if self.on_failure == OnFailure::Exit => {
                    return Err(exit::failure(
                        exit::FAILED,
                        format!("the restore failed: {}", text::path(reason.as_bytes())),
                    ));
                }
                Mark::Failure(reason) => {
                    if told.as_ref() != Some(&reason) {
                        eprintln!(
                            "restore-wait: the restore failed: {}",
                            text::path(reason.as_bytes())
                        );
                        told = Some(reason);
                    }
                    std::thread::sleep(poll);
                    if cancel.is_cancelled() {
                        return Err(exit::failure(exit::INTERRUPTED, "no longer waiting"));
                    }
                }
                Mark::Stalled => {
                    return Err(exit::failure(
                        exit::FAILED,
                        format!(
                            "no progress for {} seconds: is the agent of this node running?",
                            self.stall_seconds
                        ),
                    ));
                }
                Mark::Cancelled => {
                    return Err(exit::failure(exit::INTERRUPTED, "no longer waiting"));
                }
            }
        }
    }
}

fn print_progress(progress: &Progress) {
    eprintln!("restore-wait: {}", counters(*progress));
}
