//! The marks by which a waiting init container learns how the restore of its pod's volumes goes.
//!
//! They are small files in a directory of their own (an emptyDir that only the init container
//! mounts), never in a volume: a full, read-only or hostile volume can still be reported on.

mod waiting;

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::OwnedFd,
    path::Path,
};

use orlop_core::Progress;
use rustix::{
    fs::{AtFlags, CWD, FileType, Mode, OFlags, fstat, openat, renameat, unlinkat},
    io::Errno,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
pub use waiting::{Outcome, known_failure, wait};

/// Name of the volume that holds the marks.
pub const VOLUME: &str = "orlop-restore";

/// Says which volumes the restore of the pod has.
const EXPECTED: &str = "expected";

/// Marks are small; whatever is larger was not written by us.
const MARK_BYTES_MAX: u64 = 64 << 10;
/// With a suffix it is still a file name.
const VOLUME_NAME_MAX: usize = 240;

/// What is said of one volume; each is a file `<volume>.<kind>`.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Success,
    Failure,
    Progress,
}

impl Kind {
    fn file(self, volume: &str) -> String {
        let kind = match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Progress => "progress",
        };
        format!("{volume}.{kind}")
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct ExpectedMark {
    run: String,
    volumes: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct SuccessMark {
    run: String,
    task: String,
    #[serde(default)]
    done: Option<Done>,
}

/// What a task has done that ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Done {
    /// Logical bytes of the volume.
    pub bytes: u64,
    /// Its entries.
    pub entries: u64,
    /// Entries with warnings.
    pub warnings: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct FailureMark {
    run: String,
    task: String,
    reason: String,
    /// Whether it is tried again.
    #[serde(default)]
    again: bool,
}

/// Whose marks are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MarkOwner {
    /// The restore; marks of another one count for nothing.
    pub run: String,
    /// The task.
    pub task: String,
    /// The volume, as its pod names it.
    pub volume: String,
}

/// The marks of one volume in an open directory; the writing side.
#[derive(Debug)]
pub struct MarkDir {
    fd: OwnedFd,
    owner: MarkOwner,
}

impl MarkDir {
    /// Opens the directory, which must exist and must not be a link.
    ///
    /// # Errors
    /// It is missing, a link, or not a directory; the volume's name is no file name.
    pub fn open(dir: &Path, owner: MarkOwner) -> io::Result<Self> {
        Self::from_fd(open_dir(dir)?, owner)
    }

    /// The marks in a directory that is open already.
    ///
    /// # Errors
    /// The volume's name is no file name.
    pub fn from_fd(fd: OwnedFd, owner: MarkOwner) -> io::Result<Self> {
        check_volume(&owner.volume)?;
        Ok(Self { fd, owner })
    }

    /// The restore of this volume begins: marks of an earlier task of it are removed, and who waits is
    /// told which volumes of the pod are restored (an empty list: this one alone). Why this very task failed before can
    /// be read until it succeeds.
    ///
    /// # Errors
    /// A mark cannot be removed or written, or a volume's name is no file name.
    pub fn begin(&self, volumes: &[String]) -> io::Result<()> {
        let volume = &self.owner.volume;
        self.remove(&Kind::Success.file(volume))?;
        self.remove(&Kind::Progress.file(volume))?;
        if self.own_failure().is_none() {
            self.remove(&Kind::Failure.file(volume))?;
        }
        let mut volumes = volumes.to_vec();
        if !volumes.contains(&self.owner.volume) {
            volumes.push(self.owner.volume.clone());
        }
        volumes.iter().try_for_each(|volume| check_volume(volume))?;
        let run = self.owner.run.clone();
        self.put(EXPECTED, &ExpectedMark { run, volumes })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Why this very task failed when it was last tried.
    fn own_failure(&self) -> Option<FailureMark> {
        let mark: FailureMark = read_mark(&self.fd, &Kind::Failure.file(&self.owner.volume))?;
        ((&mark.run, &mark.task) == (&self.owner.run, &self.owner.task)).then_some(mark)
    }

    /// Everything of the volume is restored; the pod may start when all its volumes are.
    ///
    /// # Errors
    /// The mark cannot be written; the mark of before, if any, is still whole.
    pub fn success(&self, done: Done) -> io::Result<()> {
        let MarkOwner { run, task, volume } = self.owner.clone();
        let done = Some(done);
        self.put(
            &Kind::Success.file(&volume),
            &SuccessMark { run, task, done },
        )?;
        // It counts for nothing any more; without it the directory is only tidier.
        let _ = self.remove(&Kind::Failure.file(&volume));
        Ok(())
    }

    /// What this very task has done if it has ended well before: its pod may have started since, and its volume must
    /// not be touched again.
    pub fn done(&self) -> Option<Done> {
        let mark: SuccessMark = read_mark(&self.fd, &Kind::Success.file(&self.owner.volume))?;
        let own = (&mark.run, &mark.task) == (&self.owner.run, &self.owner.task);
        mark.done.filter(|_| own)
    }

    /// The restore failed; `reason` is one line for a person, and `again` says whether it will be tried again.
    ///
    /// # Errors
    /// As for [`MarkDir::success`].
    pub fn failure(&self, reason: &str, again: bool) -> io::Result<()> {
        let MarkOwner { run, task, volume } = self.owner.clone();
        let mark = FailureMark {
            run,
            task,
            reason: reason.to_owned(),
            again,
        };
        self.put(&Kind::Failure.file(&volume), &mark)
    }

    /// The restore was stopped. A reason that it has failed for before says more than that.
    ///
    /// # Errors
    /// As for [`MarkDir::success`].
    pub fn stopped(&self) -> io::Result<()> {
        let before = self.own_failure().map(|mark| mark.reason);
        self.failure(
            before.as_deref().unwrap_or("the restore was stopped"),
            false,
        )
    }

    /// The restore goes on.
    ///
    /// # Errors
    /// As for [`MarkDir::success`].
    pub fn progress(&self, progress: &Progress) -> io::Result<()> {
        self.put(&Kind::Progress.file(&self.owner.volume), progress)
    }

    /// Writes a mark so that a reader sees the old one or the new one, never a part.
    fn put(&self, name: &str, mark: &impl Serialize) -> io::Result<()> {
        let bytes = serde_json::to_vec(mark)?;
        // Of this volume alone: those of the others are written at the same time.
        let temporary = format!(".{}.tmp", self.owner.volume);
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

/// Names of volumes become names of files.
fn check_volume(volume: &str) -> io::Result<()> {
    let fits = (1..=VOLUME_NAME_MAX).contains(&volume.len());
    let admitted = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if fits && !volume.starts_with('.') && volume.bytes().all(admitted) {
        return Ok(());
    }
    let message = format!("the volume's name cannot be that of a mark: {volume:?}");
    Err(io::Error::new(io::ErrorKind::InvalidInput, message))
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
    use std::{fs, os::unix::fs::symlink, thread, time::Duration};

    use tokio_util::sync::CancellationToken;

    use super::*;

    const POLL: Duration = Duration::from_millis(5);

    fn wait_in(dir: &Path, deadline: Duration) -> (Outcome, Vec<u64>) {
        let mut seen = Vec::new();
        let mut on_progress = |progress: &Progress| seen.push(progress.bytes_done);
        let cancel = CancellationToken::new();
        let outcome = wait(dir, POLL, Some(deadline), None, &mut on_progress, &cancel).unwrap();
        (outcome, seen)
    }

    fn failed(reason: &str, again: bool) -> Outcome {
        let reason = reason.to_owned();
        Outcome::Failure { reason, again }
    }

    fn marks_of(dir: &Path, run: &str, volume: &str) -> MarkDir {
        let owner = MarkOwner {
            run: run.to_owned(),
            task: "t".to_owned(),
            volume: volume.to_owned(),
        };
        MarkDir::open(dir, owner).unwrap()
    }

    const MOMENT: Duration = Duration::from_millis(20);
    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn a_waiter_sees_progress_and_then_success() {
        let dir = tempfile::tempdir().unwrap();
        let marks = marks_of(dir.path(), "r", "data");
        let earlier = marks_of(dir.path(), "r0", "data");
        earlier.failure("an earlier restore", true).unwrap();
        marks.begin(&[]).unwrap();
        let progress = Progress {
            bytes_done: 7,
            ..Progress::default()
        };
        marks.progress(&progress).unwrap();
        let (outcome, seen) = thread::scope(|scope| {
            let waiter = scope.spawn(|| wait_in(dir.path(), LONG));
            thread::sleep(Duration::from_millis(100));
            marks.success(Done::default()).unwrap();
            waiter.join().unwrap()
        });
        assert_eq!(outcome, Outcome::Success);
        assert_eq!(seen, [7]);
    }

    #[test]
    fn a_waiter_waits_for_every_volume_of_its_pod() {
        let dir = tempfile::tempdir().unwrap();
        let expected = ["data".to_owned(), "logs".to_owned()];
        // What an earlier restore has left says nothing of this one.
        let earlier = marks_of(dir.path(), "r0", "logs");
        earlier.begin(&[]).unwrap();
        earlier.success(Done::default()).unwrap();
        let data = marks_of(dir.path(), "r1", "data");
        data.begin(&expected).unwrap();
        data.success(Done::default()).unwrap();
        assert_eq!(wait_in(dir.path(), MOMENT).0, Outcome::Stalled);
        let logs = marks_of(dir.path(), "r1", "logs");
        logs.begin(&expected).unwrap();
        let progress = Progress {
            bytes_done: 5,
            ..Progress::default()
        };
        for marks in [&data, &logs] {
            marks.progress(&progress).unwrap();
        }
        assert_eq!(wait_in(dir.path(), MOMENT), (Outcome::Stalled, vec![10]));
        logs.success(Done::default()).unwrap();
        assert_eq!(wait_in(dir.path(), LONG).0, Outcome::Success);
    }

    #[test]
    fn a_waiter_learns_the_reason_of_a_failure_of_any_volume() {
        let dir = tempfile::tempdir().unwrap();
        let expected = ["data".to_owned(), "logs".to_owned()];
        let data = marks_of(dir.path(), "r", "data");
        data.begin(&expected).unwrap();
        data.success(Done::default()).unwrap();
        let logs = marks_of(dir.path(), "r", "logs");
        logs.failure("the disk is full", true).unwrap();
        let reason = "volume logs: the disk is full";
        assert_eq!(wait_in(dir.path(), LONG).0, failed(reason, true));
        data.begin(&expected).unwrap();
        data.failure("the disk is away", false).unwrap();
        let both = "volume data: the disk is away; volume logs: the disk is full";
        assert_eq!(wait_in(dir.path(), LONG).0, failed(both, false));
    }

    #[test]
    fn a_reason_can_be_read_until_another_attempt_succeeds() {
        let dir = tempfile::tempdir().unwrap();
        let marks = marks_of(dir.path(), "r", "data");
        marks.begin(&[]).unwrap();
        assert_eq!(known_failure(dir.path()).unwrap(), None);
        marks.failure("the disk is full", true).unwrap();
        marks.begin(&[]).unwrap();
        let reason = "volume data: the disk is full";
        assert_eq!(known_failure(dir.path()).unwrap().as_deref(), Some(reason));
        assert_eq!(wait_in(dir.path(), LONG).0, failed(reason, true));
        let knowing = |deadline| {
            let (cancel, none) = (CancellationToken::new(), &mut |_: &Progress| {});
            wait(
                dir.path(),
                POLL,
                Some(deadline),
                Some(reason),
                none,
                &cancel,
            )
            .unwrap()
        };
        assert_eq!(knowing(MOMENT), Outcome::Stalled);
        marks.stopped().unwrap();
        assert_eq!(knowing(LONG), failed(reason, false), "it ends for good");
        marks.begin(&[]).unwrap();
        marks.success(Done::default()).unwrap();
        assert_eq!(knowing(LONG), Outcome::Success);
        assert!(!dir.path().join("data.failure").exists());
        assert_eq!(known_failure(dir.path()).unwrap(), None);
    }

    #[test]
    fn only_the_task_itself_is_done_by_its_mark() {
        let dir = tempfile::tempdir().unwrap();
        let done = Done {
            bytes: 7,
            entries: 2,
            warnings: 1,
        };
        let marks = marks_of(dir.path(), "r", "data");
        assert_eq!(marks.done(), None);
        marks.success(done).unwrap();
        assert_eq!(marks_of(dir.path(), "r", "data").done(), Some(done));
        assert_eq!(marks_of(dir.path(), "r2", "data").done(), None);
        assert_eq!(marks_of(dir.path(), "r", "logs").done(), None);
        let old = r#"{"run": "r", "task": "t"}"#;
        fs::write(dir.path().join("data.success"), old).unwrap();
        assert_eq!(marks.done(), None, "an older agent says nothing more");
        marks.begin(&[]).unwrap();
        assert_eq!(marks.done(), None);
    }

    #[test]
    fn names_of_volumes_lead_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        let marks = marks_of(dir.path(), "r", "data");
        for volume in ["", ".", "..", "../data", ".hidden", "a/b", "a\0"] {
            assert!(marks.begin(&[volume.to_owned()]).is_err(), "{volume:?}");
        }
    }

    #[test]
    fn a_waiter_gives_up_without_progress_and_on_cancel() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(wait_in(dir.path(), MOMENT).0, Outcome::Stalled);
        let cancel = CancellationToken::new();
        cancel.cancel();
        let outcome = wait(dir.path(), POLL, None, None, &mut |_| {}, &cancel).unwrap();
        assert_eq!(outcome, Outcome::Cancelled);
    }

    #[test]
    fn what_is_no_file_is_no_mark_and_keeps_nobody_waiting() {
        let dir = tempfile::tempdir().unwrap();
        let mode = Mode::from_raw_mode(0o666);
        for name in ["data.success", "data.failure", ".data.tmp"] {
            let fifo = dir.path().join(name);
            rustix::fs::mknodat(CWD, &fifo, FileType::Fifo, mode, 0).unwrap();
        }
        fs::create_dir(dir.path().join("expected")).unwrap();
        assert_eq!(wait_in(dir.path(), MOMENT).0, Outcome::Stalled);
        let marks = marks_of(dir.path(), "r", "data");
        assert_eq!(marks.done(), None);
        // A directory in the place of a mark is an error, and nothing is removed from it.
        fs::write(dir.path().join("expected/other"), "kept").unwrap();
        assert!(marks.begin(&[]).is_err());
        assert!(dir.path().join("expected/other").exists());
        fs::remove_dir_all(dir.path().join("expected")).unwrap();
        marks.begin(&[]).unwrap();
        marks.success(Done::default()).unwrap();
        assert_eq!(wait_in(dir.path(), LONG).0, Outcome::Success);
    }

    #[test]
    fn links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        let secret = outside.path().join("secret");
        fs::write(&secret, "as it was").unwrap();
        for name in [".data.tmp", "data.success", "expected"] {
            symlink(&secret, dir.path().join(name)).unwrap();
        }
        let marks = marks_of(dir.path(), "r", "data");
        assert_eq!(wait_in(dir.path(), MOMENT).0, Outcome::Stalled);
        marks.begin(&[]).unwrap();
        marks.success(Done::default()).unwrap();
        assert_eq!(fs::read_to_string(&secret).unwrap(), "as it was");
        assert_eq!(wait_in(dir.path(), LONG).0, Outcome::Success);
        let link = outside.path().join("link");
        symlink(dir.path(), &link).unwrap();
        assert!(MarkDir::open(&link, marks.owner).is_err());
    }
}
