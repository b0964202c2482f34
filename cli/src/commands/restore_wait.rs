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

/// A failure that the pod has told of already is told again when it lasts so long. The kubelet, which starts a container
/// later after each end, forgets earlier ends of one that has run so long.
const REMINDER: Duration = Duration::from_mins(10);

/// What to do after a restore that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OnFailure {
    /// End with the reason, once; when started again wait until it is mended, and tell it again every ten minutes
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
        let stall = (self.stall_seconds > 0).then(|| Duration::from_secs(self.stall_seconds));
        let unread = || format!("cannot read the marks in {}", self.dir.display());
        // What this container said when it last ended is on the pod; to end again at once would only make the kubelet
        // wait longer each time, and then the pod, once it may start.
        let mut known = marks::known_failure(&self.dir).with_context(unread)?;
        if let Some(reason) = &known {
            eprintln!("restore-wait: {}", failed(reason, true));
        }
        loop {
            let deadline = match (&known, self.on_failure) {
                (Some(_), OnFailure::Exit) => Some(stall.map_or(REMINDER, |it| it.min(REMINDER))),
                _ => stall,
            };
            let told = known.as_deref();
            let mark = marks::wait(&self.dir, poll, deadline, told, &mut print_progress, cancel)
                .with_context(unread)?;
            match (mark, self.on_failure) {
                (Mark::Success, _) => {
                    println!("restore-wait: the volumes are restored");
                    return Ok(Outcome::Done);
                }
                (Mark::Failure { reason, again }, OnFailure::Exit) => {
                    return Err(exit::failure(exit::FAILED, failed(&reason, again)));
                }
                (Mark::Failure { reason, again }, OnFailure::Wait) => {
                    if known.as_ref() != Some(&reason) {
                        eprintln!("restore-wait: {}", failed(&reason, again));
                        known = Some(reason);
                    }
                    std::thread::sleep(poll);
                    if cancel.is_cancelled() {
                        return Err(exit::failure(exit::INTERRUPTED, "no longer waiting"));
                    }
                }
                (Mark::Stalled, _) => {
                    let message = match &known {
                        Some(reason) => failed(reason, true),
                        None => format!(
                            "no progress for {} seconds: is the agent of this node running?",
                            self.stall_seconds
                        ),
                    };
                    return Err(exit::failure(exit::FAILED, message));
                }
                (Mark::Cancelled, _) => {
                    return Err(exit::failure(exit::INTERRUPTED, "no longer waiting"));
                }
            }
        }
    }
}

fn failed(reason: &str, again: bool) -> String {
    let reason = text::path(reason.as_bytes());
    let then = if again {
        "; it is tried again while the restore goes on"
    } else {
        ""
    };
    format!("the restore failed: {reason}{then}")
}

fn print_progress(progress: &Progress) {
    eprintln!("restore-wait: {}", counters(*progress));
}

#[cfg(test)]
mod tests {
    use orlop_agent::marks::{Done, MarkDir, MarkOwner};

    use super::*;

    fn args(dir: &std::path::Path, on_failure: OnFailure) -> RestoreWaitArgs {
        RestoreWaitArgs {
            dir: dir.to_owned(),
            on_failure,
            stall_seconds: 60,
            poll_ms: 10,
        }
    }

    fn marks(dir: &std::path::Path) -> MarkDir {
        let owner = MarkOwner {
            run: "r".to_owned(),
            task: "t".to_owned(),
            volume: "data".to_owned(),
        };
        MarkDir::open(dir, owner).unwrap()
    }

    #[test]
    fn it_ends_with_a_reason_once_and_then_waits_until_the_cause_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let marks = marks(dir.path());
        marks.begin(&[]).unwrap();
        marks.failure("it is full", true).unwrap();
        // It is started again: the kubelet has told the reason.
        let cancel = CancellationToken::new();
        let args = args(dir.path(), OnFailure::Exit);
        let outcome = std::thread::scope(|scope| {
            let waits = scope.spawn(|| args.wait(&cancel));
            std::thread::sleep(Duration::from_millis(200));
            assert!(!waits.is_finished(), "the same reason ends it no more");
            marks.begin(&[]).unwrap();
            marks.success(Done::default()).unwrap();
            waits.join().unwrap()
        });
        assert!(matches!(outcome, Ok(Outcome::Done)), "{outcome:?}");
    }

    #[test]
    fn a_new_reason_ends_it_and_one_without_another_attempt_each_time() {
        let dir = tempfile::tempdir().unwrap();
        let marks = marks(dir.path());
        marks.begin(&[]).unwrap();
        let cancel = CancellationToken::new();
        let args = args(dir.path(), OnFailure::Exit);
        let error = std::thread::scope(|scope| {
            let waits = scope.spawn(|| args.wait(&cancel));
            std::thread::sleep(Duration::from_millis(100));
            marks.failure("it is full", true).unwrap();
            waits.join().unwrap().unwrap_err()
        });
        let text = "the restore failed: volume data: it is full; it is tried again while the restore goes on";
        assert!(format!("{error:#}").contains(text), "{error:#}");
        marks.failure("its snapshot is gone", false).unwrap();
        for _ in 0..2 {
            let error = args.wait(&cancel).unwrap_err();
            let error = format!("{error:#}");
            assert!(
                error.contains("gone") && !error.contains("again"),
                "{error}"
            );
        }
    }
}
