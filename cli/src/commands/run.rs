//! What backups and restores have in common for a client: waiting, and reading the log.

use std::{
    io::IsTerminal,
    pin::Pin,
    time::{Duration, Instant},
};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};
use orlop_proto::v1;
use tokio_stream::{Stream, StreamExt as _};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use crate::{
    client::{Client, refused},
    exit::{self, Outcome},
    shapes::{Run, phase_name},
    text,
};

/// A stream that broke is opened again so often in a row, a second apart: a coordinator restarts
/// in less.
const RECONNECTS: u32 = 60;
/// Time between two plain lines of progress.
const LINE_EVERY: Duration = Duration::from_secs(5);

type Runs = Pin<Box<dyn Stream<Item = Result<Run, Status>> + Send>>;

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A backup.
    Backup,
    /// A restore.
    Restore,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::Restore => "restore",
        }
    }
}

async fn watch(client: &Client, kind: Kind, name: &str) -> Result<Runs, Status> {
    let name = name.to_owned();
    match kind {
        Kind::Backup => {
            let stream = client
                .backups()
                .watch(v1::WatchBackupsRequest { name })
                .await?
                .into_inner();
            Ok(Box::pin(stream.map(|m| {
                m.map(|m| Run::from(m.backup.unwrap_or_default()))
            })))
        }
        Kind::Restore => {
            let stream = client
                .restores()
                .watch(v1::WatchRestoresRequest { name })
                .await?
                .into_inner();
            Ok(Box::pin(stream.map(|m| {
                m.map(|m| Run::from(m.restore.unwrap_or_default()))
            })))
        }
    }
}

/// Waits until the run has ended and shows its progress on stderr; gives its last state.
///
/// # Errors
/// The server is gone for a minute, the run was deleted, or `cancel` was cancelled: the run goes on.
pub(crate) async fn wait(
    client: &Client,
    kind: Kind,
    name: &str,
    quiet: bool,
    cancel: &CancellationToken,
) -> Result<Run> {
    let mut shown = Shown::new(quiet);
    let mut failures = 0;
    loop {
        let watched = tokio::select! {
            watched = watch(client, kind, name) => watched,
            () = cancel.cancelled() => return Err(left(kind, name)),
        };
        let error = match watched {
            Ok(mut runs) => loop {
                let next = tokio::select! {
                    next = runs.next() => next,
                    () = cancel.cancelled() => return Err(left(kind, name)),
                };
                match next {
                    Some(Ok(run)) if run.has_ended() => {
                        shown.finish();
                        return Ok(run);
                    }
                    Some(Ok(run)) if run.phase == v1::RunPhase::Deleting => {
                        return Err(exit::failure(
                            exit::FAILED,
                            format!("{} {name} was deleted", kind.word()),
                        ));
                    }
                    Some(Ok(run)) => {
                        failures = 0;
                        shown.show(&run);
                    }
                    Some(Err(status)) => break status,
                    None => break Status::unavailable("the stream of its states has ended"),
                }
            },
            Err(status) => status,
        };
        let lasting = matches!(
            error.code(),
            Code::NotFound
                | Code::InvalidArgument
                | Code::Unauthenticated
                | Code::PermissionDenied
                | Code::Unimplemented
        );
        failures += 1;
        if lasting || failures > RECONNECTS {
            return Err(refused(error));
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
            () = cancel.cancelled() => return Err(left(kind, name)),
        }
    }
}

fn left(kind: Kind, name: &str) -> anyhow::Error {
    let word = kind.word();
    exit::failure(
        exit::INTERRUPTED,
        format!(
            "no longer waiting; {word} {name} goes on: orlop {word} get {name}, or orlop {word} cancel {name}"
        ),
    )
}

/// The exit code that a run's end deserves; a failure is an error with its reason.
pub(crate) fn verdict(run: &Run) -> Result<Outcome> {
    match run.phase {
        v1::RunPhase::Completed => Ok(Outcome::Done),
        v1::RunPhase::PartiallyFailed => Ok(Outcome::WithErrors),
        phase => {
            let mut line = format!("{} {} {}", run.kind, run.name, phase_name(phase));
            if !run.failure_reason.is_empty() {
                line.push_str(": ");
                line.push_str(&run.failure_reason);
            }
            Err(exit::failure(exit::FAILED, line))
        }
    }
}

/// Progress of a run on stderr.
struct Shown {
    bar: Option<ProgressBar>,
    quiet: bool,
    last_line: Instant,
}

impl Shown {
    fn new(quiet: bool) -> Self {
        let bar = (!quiet && std::io::stderr().is_terminal()).then(|| {
            let style = ProgressStyle::with_template("{spinner} {elapsed_precise} {msg}")
                .expect("the template is a constant that indicatif understands");
            let bar = ProgressBar::new_spinner().with_style(style);
            bar.enable_steady_tick(Duration::from_millis(250));
            bar
        });
        Self {
            bar,
            quiet,
            last_line: Instant::now(),
        }
    }

    fn show(&mut self, run: &Run) {
        if let Some(bar) = &self.bar {
            bar.set_message(run.progress_line());
        } else if !self.quiet && self.last_line.elapsed() >= LINE_EVERY {
            self.last_line = Instant::now();
            eprintln!("{}", run.progress_line());
        }
    }

    fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Prints a run's log on stdout.
pub(crate) async fn print_log(
    client: &Client,
    kind: Kind,
    name: &str,
    follow: bool,
    cancel: &CancellationToken,
) -> Result<Outcome> {
    use std::io::Write as _;
    let request = v1::ReadLogRequest {
        name: name.to_owned(),
        follow,
        after: 0,
    };
    let mut parts = match kind {
        Kind::Backup => client.backups().read_log(request).await,
        Kind::Restore => client.restores().read_log(request).await,
    }
    .map_err(refused)?
    .into_inner();
    loop {
        let part = tokio::select! {
            part = parts.message() => part.map_err(refused)?,
            () = cancel.cancelled() => return Err(exit::failure(exit::INTERRUPTED, "no longer following the log")),
        };
        let Some(part) = part else {
            return Ok(Outcome::Done);
        };
        let mut out = std::io::stdout().lock();
        for line in part.lines {
            let level = match line.level() {
                v1::LogLevel::Error => "ERROR",
                v1::LogLevel::Warning => "WARN ",
                v1::LogLevel::Info | v1::LogLevel::Unspecified => "INFO ",
            };
            writeln!(
                out,
                "{} {level} {}",
                text::time(line.time_ms),
                text::path(line.message.as_bytes())
            )?;
        }
        out.flush()?;
    }
}
