//! The reading side of the marks: waits until the volumes of a pod are restored.

use std::{
    fmt::Write as _,
    io,
    os::fd::OwnedFd,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use orlop_core::Progress;
use tokio_util::sync::CancellationToken;

use super::{
    EXPECTED, ExpectedMark, FailureMark, Kind, SuccessMark, check_volume, open_dir, read_mark,
};

/// Reasons of a pod's volumes that are told together.
const REASONS: usize = 3;
/// Cancelling a wait takes effect within this time.
const CANCEL_CHECK: Duration = Duration::from_millis(50);

/// How a wait ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// All volumes of the pod are restored.
    Success,
    /// The restore failed.
    Failure {
        /// Why, with the names of the volumes.
        reason: String,
        /// Whether it will be tried again.
        again: bool,
    },
    /// There was no progress for as long as the waiter would wait.
    Stalled,
    /// The wait was cancelled.
    Cancelled,
}

/// Waits until all volumes that are expected have their marks in `dir`, looking every `poll`; tells the
/// progress of all of them together when it differs from the one before. `no_progress_deadline`: give up when nothing changed for so long, `None` waits for ever.
/// A failure that is tried again, and whose reason is `known`, does not end the wait. Blocks the thread.
///
/// # Errors
/// The directory cannot be opened. Marks that cannot be read are as if they were not there.
pub fn wait(
    dir: &Path,
    poll: Duration,
    no_progress_deadline: Option<Duration>,
    known: Option<&str>,
    on_progress: &mut dyn FnMut(&Progress),
    cancel: &CancellationToken,
) -> io::Result<Outcome> {
    let dir = open_dir(dir)?;
    let mut last = None;
    let mut moved = Instant::now();
    loop {
        let expected = read_mark::<ExpectedMark>(&dir, EXPECTED);
        match expected.as_ref().and_then(|it| ended(&dir, it)) {
            Some(Outcome::Failure {
                reason,
                again: true,
            }) if known == Some(reason.as_str()) => {}
            Some(outcome) => return Ok(outcome),
            None => {}
        }
        let progress = expected.as_ref().and_then(|it| all_progress(&dir, it));
        if let Some(now) = progress
            && last != progress
        {
            last = progress;
            moved = Instant::now();
            on_progress(&now);
        }
        if no_progress_deadline.is_some_and(|deadline| moved.elapsed() >= deadline) {
            return Ok(Outcome::Stalled);
        }
        let until = Instant::now() + poll;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            if cancel.is_cancelled() {
                return Ok(Outcome::Cancelled);
            }
            if left.is_zero() {
                break;
            }
            thread::sleep(left.min(CANCEL_CHECK));
        }
    }
}

/// Why the restore of the pod's volumes has failed that is being tried again; `None` if it has not, or is not.
///
/// # Errors
/// As for [`wait`].
pub fn known_failure(dir: &Path) -> io::Result<Option<String>> {
    let dir = open_dir(dir)?;
    let expected = read_mark::<ExpectedMark>(&dir, EXPECTED);
    Ok(match expected.and_then(|it| ended(&dir, &it)) {
        Some(Outcome::Failure {
            reason,
            again: true,
        }) => Some(reason),
        _ => None,
    })
}

/// How the restore of the expected volumes has ended, if it has: a failure ends it for all of them.
fn ended(dir: &OwnedFd, expected: &ExpectedMark) -> Option<Outcome> {
    let mut missing = expected.volumes.is_empty();
    let mut failures = Vec::new();
    for volume in &expected.volumes {
        check_volume(volume).ok()?;
        let success = read_mark::<SuccessMark>(dir, &Kind::Success.file(volume));
        if success.is_some_and(|mark| mark.run == expected.run) {
            continue;
        }
        missing = true;
        let failure = read_mark::<FailureMark>(dir, &Kind::Failure.file(volume));
        failures.extend(
            failure
                .filter(|mark| mark.run == expected.run)
                .map(|mark| (volume, mark)),
        );
    }
    if failures.is_empty() {
        return (!missing).then_some(Outcome::Success);
    }
    let again = failures.iter().all(|(_, mark)| mark.again);
    let told = failures.iter().take(REASONS);
    let told: Vec<String> = told
        .map(|(volume, mark)| format!("volume {volume}: {}", mark.reason))
        .collect();
    let mut reason = told.join("; ");
    if failures.len() > REASONS {
        let more = failures.len() - REASONS;
        let _ = write!(reason, "; and {more} volumes more");
    }
    Some(Outcome::Failure { reason, again })
}

/// The progress of the expected volumes that have begun.
fn all_progress(dir: &OwnedFd, expected: &ExpectedMark) -> Option<Progress> {
    let names = expected.volumes.iter();
    let names = names.filter(|volume| check_volume(volume).is_ok());
    names
        .filter_map(|volume| read_mark::<Progress>(dir, &Kind::Progress.file(volume)))
        .reduce(|a, b| Progress {
            entries_done: a.entries_done.saturating_add(b.entries_done),
            entries_total: a.entries_total.saturating_add(b.entries_total),
            bytes_done: a.bytes_done.saturating_add(b.bytes_done),
            bytes_total: a.bytes_total.saturating_add(b.bytes_total),
            transferred_bytes: a.transferred_bytes.saturating_add(b.transferred_bytes),
        })
}
