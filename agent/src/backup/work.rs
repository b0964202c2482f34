//! The worker threads: whole small files, large files, and single chunks of large files.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{
            AtomicUsize,
            Ordering::{Relaxed, SeqCst},
        },
    },
    time::Duration,
};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, select};
use orlop_core::{Chunking, Issue, IssueKind};
use orlop_repository::{Entry, EntryStatus, HardlinkGroup, WriteSession, Writer};
use tokio_util::sync::CancellationToken;

use super::{
    BackupError, Throttle,
    blocks::{Blocks, Chunk},
    detect::Clock,
    feed::{SMALL, bare},
    job::{Finished, Future, Help, Job, Member},
    large,
    read::Reading,
    report::Tally,
    room::{Room, bytes_of},
    small::SmallReader,
};
use crate::scan::{FileStat, ScanError};

/// How often a worker that has nothing else to do looks whether a large file still needs help.
const TAIL: Duration = Duration::from_millis(5);

/// Where a chunk of several blocks is put together.
pub(super) type Scratch = Vec<u8>;

/// What all workers share.
pub(super) struct Pool<'a> {
    pub(super) session: &'a WriteSession,
    pub(super) tally: &'a Tally,
    pub(super) clock: Clock,
    pub(super) stop: &'a CancellationToken,
    /// What waits for the assembler.
    pub(super) room: Room,
    pub(super) jobs: Receiver<Job>,
    pub(super) help: Receiver<Help>,
    pub(super) help_in: Sender<Help>,
    /// Blocks of large files in memory.
    pub(super) blocks: Arc<Blocks>,
    pub(super) reading: Reading,
    pub(super) chunking: Chunking,
    pub(super) read_limit: Option<&'a Throttle>,
    /// Workers that are reading a large file.
    pub(super) owners: AtomicUsize,
    /// Workers that wait for work.
    pub(super) idle: AtomicUsize,
    /// The first failure of a worker.
    pub(super) failure: Mutex<Option<BackupError>>,
}

impl Pool<'_> {
    /// Works until there are no more jobs. After an error the assembler meets a result that never comes
    /// and asks for the cause.
    pub(super) fn run(&self) {
        let work = || {
            let mut writer = self.session.writer()?;
            self.work(&mut writer)
        };
        // Were it to unwind from here, nobody would take the jobs and the walk would wait for ever.
        let result = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            let message = text.unwrap_or("without a message").to_owned();
            Err(BackupError::Panicked { message })
        });
        if let Err(error) = result {
            if !error.is_cancelled() {
                self.failure
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .get_or_insert(error);
            }
            self.stop.cancel();
            // Drop what is queued, so that nobody waits for it.
            while self.jobs.recv().is_ok() {}
            while self.help.try_recv().is_ok() {}
        }
    }

    /// Why the workers stopped.
    pub(super) fn cause(&self) -> BackupError {
        let first = self
            .failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        first.unwrap_or(BackupError::Cancelled)
    }

    fn work(&self, writer: &mut Writer<'_>) -> Result<(), BackupError> {
        let (mut small, mut scratch) = (SmallReader::default(), Scratch::default());
        loop {
            if self.stop.is_cancelled() {
                return Err(BackupError::Cancelled);
            }
            match self.help.try_recv() {
                Ok(help) => {
                    self.do_help(writer, &mut scratch, help)?;
                    continue;
                }
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => {}
            }
            self.idle.fetch_add(1, SeqCst);
            let next = select! {
                recv(self.help) -> help => Next::Help(help.ok()),
                recv(self.jobs) -> job => Next::Job(job.ok()),
            };
            self.idle.fetch_sub(1, SeqCst);
            match next {
                Next::Help(Some(help)) => self.do_help(writer, &mut scratch, help)?,
                Next::Job(Some(Job::Small(members, result))) => {
                    let finished = small.read(self, writer, &mut scratch, &members)?;
                    let bytes = finished.iter().flatten().map(|(entry, _)| bytes_of(entry));
                    self.room.take(bytes.sum());
                    result.keep(finished);
                }
                Next::Job(Some(Job::Large(member, result))) => {
                    self.owners.fetch_add(1, SeqCst);
                    let finished = large::read(self, writer, &mut scratch, &member);
                    self.owners.fetch_sub(1, SeqCst);
                    let finished = finished?;
                    self.room
                        .take(finished.as_ref().map_or(0, |(entry, _)| bytes_of(entry)));
                    result.keep(finished);
                }
                Next::Job(None) | Next::Help(None) => return self.help_on(writer, &mut scratch),
            }
        }
    }

    /// There are no more jobs: helps those who still read large files.
    fn help_on(&self, writer: &mut Writer<'_>, scratch: &mut Scratch) -> Result<(), BackupError> {
        loop {
            self.idle.fetch_add(1, SeqCst);
            let next = self.help.recv_timeout(TAIL);
            self.idle.fetch_sub(1, SeqCst);
            match next {
                Ok(help) => self.do_help(writer, scratch, help)?,
                Err(RecvTimeoutError::Timeout)
                    if self.owners.load(SeqCst) > 0 && !self.stop.is_cancelled() => {}
                Err(_) => return Ok(()),
            }
        }
    }

    /// Does a piece of a large file's work.
    pub(super) fn do_help(
        &self,
        writer: &mut Writer<'_>,
        scratch: &mut Scratch,
        help: Help,
    ) -> Result<(), BackupError> {
        match help {
            Help::Scan(scan, result) => result.keep(scan.run(self)),
            Help::Store(chunks, result) => {
                let store = |chunk: &Chunk| chunk.store(writer, scratch);
                let stored = chunks.iter().map(store).collect::<Result<_, _>>()?;
                // Whoever waits for the result may wait for the blocks, too.
                drop(chunks);
                result.keep(stored);
            }
        }
        Ok(())
    }

    /// Helps instead of idling until a result is there: what makes it may be among what waits.
    pub(super) fn help_until<T>(
        &self,
        writer: &mut Writer<'_>,
        scratch: &mut Scratch,
        future: &Future<T>,
    ) -> Result<(), BackupError> {
        while !future.is_ready() {
            match self.help.try_recv() {
                Ok(help) => self.do_help(writer, scratch, help)?,
                Err(_) => break,
            }
        }
        Ok(())
    }

    /// Pieces of work that a file may have under way.
    pub(super) fn queued_max(&self) -> usize {
        2 * self.help.capacity().unwrap_or(1)
    }

    /// Counts bytes that were read, and waits if that was too fast.
    pub(super) fn limit_read(&self, bytes: u64) {
        self.tally.read_bytes.fetch_add(bytes, Relaxed);
        if let Some(limit) = self.read_limit {
            limit.take(bytes, self.stop);
        }
    }

    /// Reads one file of any size: for names whose first name could not be read.
    pub(super) fn read_one(
        &self,
        writer: &mut Writer<'_>,
        member: Member,
    ) -> Result<Finished, BackupError> {
        let scratch = &mut Scratch::default();
        if member.stat.size >= SMALL {
            return large::read(self, writer, scratch, &member);
        }
        Ok(SmallReader::default()
            .read(self, writer, scratch, &[member])?
            .pop()
            .flatten())
    }

    /// The entry of a file without its content.
    pub(super) fn entry(member: &Member, stat: &FileStat) -> Entry {
        Entry {
            hardlink: (stat.nlink > 1).then_some(HardlinkGroup {
                id: stat.ino,
                links: stat.nlink,
            }),
            ..bare(member.dir.join(&member.name), stat)
        }
    }

    /// What becomes of a file that cannot be read: gone ones are left out, others keep their
    /// metadata and are told apart by their status.
    pub(super) fn failed(&self, member: &Member, error: &ScanError) -> Finished {
        let path = member.dir.join(&member.name);
        match error {
            ScanError::Vanished | ScanError::Changed => {
                let what = match error {
                    ScanError::Vanished => "it was removed while the volume was walked",
                    _ => "left out: something else has taken its place while the volume was walked",
                };
                self.tally.vanished(&member.stat);
                self.tally.issue(Issue {
                    path,
                    kind: error.issue_kind(),
                    errno: error.errno(),
                    message: what.to_owned(),
                });
                None
            }
            error => {
                self.tally.issue(Issue {
                    path,
                    kind: IssueKind::Unreadable,
                    errno: error.errno(),
                    message: error.to_string(),
                });
                let mut entry = Self::entry(member, &member.stat);
                entry.status = EntryStatus::Unreadable(error.errno());
                let mut record = self.clock.record(&member.stat);
                // Try again next time, whatever its times say.
                record.racy = true;
                Some((entry, record))
            }
        }
    }

    /// Notes that a file changed while it was read.
    pub(super) fn changed(&self, entry: &mut Entry) {
        entry.status = EntryStatus::Changed;
        self.tally.issue(Issue {
            path: entry.path.clone(),
            kind: IssueKind::Changed,
            errno: 0,
            message: "it changed while it was read; the stored copy may mix two states".to_owned(),
        });
    }
}

enum Next {
    Help(Option<Help>),
    Job(Option<Job>),
}
