//! The marks by which a waiting init container learns how the restore of its pod's volumes goes.
//!
//! They are small files in a directory of their own (an emptyDir that only the init container
//! mounts), never in a volume: a full, read-only or hostile volume can still be reported on.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::OwnedFd,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use orlop_core::Progress;
use rustix::{
    fs::{AtFlags, CWD, FileType, Mode, OFlags, fstat, openat, renameat, unlinkat},
    io::Errno,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio_util::sync::CancellationToken;

/// Name of the volume that holds the marks.
pub const VOLUME: &str = "orlop-restore";

const SUCCESS: &str = "success";
const FAILURE: &str = "failure";
const PROGRESS: &str = "progress";

/// Marks are small; whatever is larger was not written by us.
const MARK_BYTES_MAX: u64 = 64 << 10;
/// Cancelling a wait takes effect within this time.
const CANCEL_CHECK: Duration = Duration::from_millis(50);

#[derive(Debug, Serialize, Deserialize)]
struct SuccessMark {
    task: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct FailureMark {
    task: String,
    reason: String,
}

/// An open directory of marks; the writing side.
#[derive(Debug)]
pub struct MarkDir {
    fd: OwnedFd,
}

impl MarkDir {
    /// Opens the directory, which must exist and must not be a link.
    ///
    /// # Errors
    /// It is missing, a link, or not a directory.
    pub fn open(dir: &Path) -> io::Result<Self> {
        Ok(Self { fd: open_dir(dir)? })
    }

    /// The marks in a directory that is open already.
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self { fd }
    }

    /// Removes the marks of an earlier task: what is waited for begins now.
    ///
    /// # Errors
    /// A mark cannot be removed.
    pub fn clear(&self) -> io::Result<()> {
        for name in [SUCCESS, FAILURE, PROGRESS] {
            match unlinkat(&self.fd, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    /// Everything is restored: the pod may start.
    ///
    /// # Errors
    /// The mark cannot be written; the mark of before, if any, is still whole.
    pub fn success(&self, task: &str) -> io::Result<()> {
        self.put(
            SUCCESS,
            &SuccessMark {
                task: task.to_owned(),
            },
        )
    }

    /// The restore failed; `reason` is one line for a person.
    ///
    /// # Errors
    /// As for [`MarkDir::success`].
    pub fn failure(&self, task: &str, reason: &str) -> io::Result<()> {
        self.put(
            FAILURE,
            &FailureMark {
                task: task.to_owned(),
                reason: reason.to_owned(),
            },
        )
    }

    /// The restore goes on.
    ///
    /// # Errors
    /// As for [`MarkDir::success`].
    pub fn progress(&self, progress: &Progress) -> io::Result<()> {
        self.put(PROGRESS, progress)
    }

    /// Writes a mark so that a reader sees the old one or the new one, never a part.
    fn put(&self, name: &str, mark: &impl Serialize) -> io::Result<()> {
        let bytes = serde_json::to_vec(mark)?;
        let temporary = format!(".{name}.tmp");
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // The container runs as another user, who must be able to read it.
        let mode = Mode::from_raw_mode(0o644);
        let fd = match openat(&self.fd, &temporary, flags, mode) {
            Err(Errno::EXIST) => {
                unlinkat(&self.fd, &temporary, AtFlags::empty())?;
                openat(&self.fd, &temporary, flags, mode)?
            }
            result => result?,
        };
        rustix::fs::fchmod(&fd, mode)?;
        let mut file = File::from(fd);
        file.write_all(&bytes)?;
        file.sync_data()?;
        renameat(&self.fd, &temporary, &self.fd, name)?;
        Ok(())
    }
}

/// How a wait ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Everything is restored.
    Success,
    /// The restore failed, for this reason.
    Failure(String),
    /// There was no progress for as long as the waiter would wait.
    Stalled,
    /// The wait was cancelled.
    Cancelled,
}

/// Waits for the marks in `dir`, looking every `poll`; tells each progress that differs from the one
/// before. `no_progress_deadline`: give up when nothing changed for so long, `None` waits for ever.
/// Blocks the thread.
///
/// # Errors
/// The directory cannot be opened. Marks that cannot be read are as if they were not there.
pub fn wait(
    dir: &Path,
    poll: Duration,
    no_progress_deadline: Option<Duration>,
    on_progress: &mut dyn FnMut(&Progress),
    cancel: &CancellationToken,
) -> io::Result<Outcome> {
    let dir = open_dir(dir)?;
    let mut last = None;
    let mut moved = Instant::now();
    loop {
        if let Some(mark) = read_mark::<FailureMark>(&dir, FAILURE) {
            return Ok(Outcome::Failure(mark.reason));
        }
        if read_mark::<SuccessMark>(&dir, SUCCESS).is_some() {
            return Ok(Outcome::Success);
        }
        let progress = read_mark::<Progress>(&dir, PROGRESS);
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

fn open_dir(dir: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(CWD, dir, flags, Mode::empty())?)
}

fn read_mark<T: DeserializeOwned>(dir: &OwnedFd, name: &str) -> Option<T> {
    let flags =
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let fd = openat(dir, name, flags, Mode::empty()).ok()?;
    let stat = fstat(&fd).ok()?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return None;
    }
    let mut bytes = Vec::new();
    File::from(fd)
        .take(MARK_BYTES_MAX)
        .read_to_end(&mut bytes)
        .ok()?;
    serde_json::from_slice(&bytes).ok()
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    const POLL: Duration = Duration::from_millis(5);

    fn wait_in(dir: &Path, deadline: Duration) -> (Outcome, Vec<u64>) {
        let mut seen = Vec::new();
        let mut on_progress = |progress: &Progress| seen.push(progress.bytes_done);
        let cancel = CancellationToken::new();
        let outcome = wait(dir, POLL, Some(deadline), &mut on_progress, &cancel).unwrap();
        (outcome, seen)
    }

    #[test]
    fn a_waiter_sees_progress_and_then_success() {
        let dir = tempfile::tempdir().unwrap();
        let marks = MarkDir::open(dir.path()).unwrap();
        marks.failure("t0", "an earlier attempt").unwrap();
        marks.clear().unwrap();
        marks
            .progress(&Progress {
                bytes_done: 7,
                ..Progress::default()
            })
            .unwrap();
        let (outcome, seen) = thread::scope(|scope| {
            let waiter = scope.spawn(|| wait_in(dir.path(), Duration::from_secs(20)));
            thread::sleep(Duration::from_millis(100));
            marks.success("t1").unwrap();
            waiter.join().unwrap()
        });
        assert_eq!(outcome, Outcome::Success);
        assert_eq!(seen, [7]);
    }

    #[test]
    fn a_waiter_learns_the_reason_of_a_failure() {
        let dir = tempfile::tempdir().unwrap();
        MarkDir::open(dir.path())
            .unwrap()
            .failure("t", "the disk is full")
            .unwrap();
        let (outcome, _) = wait_in(dir.path(), Duration::from_secs(20));
        assert_eq!(outcome, Outcome::Failure("the disk is full".to_owned()));
    }

    #[test]
    fn a_waiter_gives_up_without_progress_and_on_cancel() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(
            wait_in(dir.path(), Duration::from_millis(20)).0,
            Outcome::Stalled
        );
        let cancel = CancellationToken::new();
        cancel.cancel();
        let outcome = wait(dir.path(), POLL, None, &mut |_| {}, &cancel).unwrap();
        assert_eq!(outcome, Outcome::Cancelled);
    }

    #[test]
    fn links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        let secret = outside.path().join("secret");
        fs::write(&secret, "as it was").unwrap();
        for name in [".success.tmp", "success"] {
            symlink(&secret, dir.path().join(name)).unwrap();
        }
        let marks = MarkDir::open(dir.path()).unwrap();
        assert_eq!(
            wait_in(dir.path(), Duration::from_millis(10)).0,
            Outcome::Stalled
        );
        marks.success("t").unwrap();
        assert_eq!(fs::read_to_string(&secret).unwrap(), "as it was");
        assert_eq!(
            wait_in(dir.path(), Duration::from_secs(20)).0,
            Outcome::Success
        );
        symlink(dir.path(), outside.path().join("link")).unwrap();
        assert!(MarkDir::open(&outside.path().join("link")).is_err());
    }
}
