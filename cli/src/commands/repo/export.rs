//! `orlop repo export`.

use std::{
    ffi::OsString,
    fs::File,
    io::{IsTerminal as _, Write as _},
    os::fd::AsFd as _,
    sync::Arc,
};

use anyhow::Result;
use clap::{ArgMatches, Args, Command, FromArgMatches, ValueEnum};
use orlop_agent::restore::{self, Selection};
use orlop_core::Monitor;
use orlop_repository::SnapshotState;
use tokio_util::sync::CancellationToken;

use super::{RepoArgs, manifest_path, with_session};
use crate::{
    exit::{self, Outcome},
    progress::Display,
};

/// What the repository looks like on disk: enough to write a reader from.
const DOCUMENTATION: &str = include_str!("../../../../docs/format.md");

/// The option that names the repository, as clap knows it.
const REPOSITORY: &str = "repository";

/// How a snapshot is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Archive {
    /// POSIX tar with pax headers, as GNU tar reads it
    Tar,
}

/// What to write to stdout.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    repo: OptionalRepo,
    /// Id of the snapshot, the beginning of one, latest, or latest:NS/POD/VOL
    #[arg(required_unless_present = "documentation")]
    snapshot: Option<String>,
    /// Write only this entry and what is below it; may be given several times
    #[arg(long = "path", value_name = "PATH")]
    paths: Vec<OsString>,
    /// The kind of archive
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Archive::Tar)]
    format: Archive,
    /// Write the description of the repository's format instead, to be kept beside the repository: from it a
    /// reader can be written without this program. It needs no repository
    #[arg(long, conflicts_with_all = ["snapshot", "paths", "format"])]
    documentation: bool,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
}

/// The repository, which the documentation does not need.
#[derive(Debug)]
struct OptionalRepo {
    repo: Option<RepoArgs>,
}

impl Args for OptionalRepo {
    fn augment_args(command: Command) -> Command {
        RepoArgs::augment_args(command).mut_arg(REPOSITORY, |arg| arg.required(false))
    }

    fn augment_args_for_update(command: Command) -> Command {
        RepoArgs::augment_args_for_update(command)
    }
}

impl FromArgMatches for OptionalRepo {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = matches.contains_id(REPOSITORY);
        let repo = given.then(|| RepoArgs::from_arg_matches(matches));
        Ok(Self {
            repo: repo.transpose()?,
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl ExportArgs {
    pub(crate) async fn run(self, cancel: CancellationToken) -> Result<Outcome> {
        let stdout = std::io::stdout();
        if self.documentation {
            stdout.lock().write_all(DOCUMENTATION.as_bytes())?;
            return Ok(Outcome::Done);
        }
        let Archive::Tar = self.format;
        if stdout.is_terminal() {
            return Err(exit::usage(
                "an archive is not for a terminal: redirect it into a file, or pipe it into tar",
            ));
        }
        let (Some(repo), Some(snapshot)) = (self.repo.repo, self.snapshot) else {
            return Err(exit::usage(
                "no repository: give -r URL or set ORLOP_REPOSITORY",
            ));
        };
        let repository = repo.open().await?;
        let info = repository.resolve(&snapshot).await?;
        if info.state == SnapshotState::Partial {
            eprintln!(
                "warning: snapshot {} is a checkpoint of a backup that has not finished: the volume's later entries are not in it",
                info.id
            );
        }
        let select = Selection {
            paths: self.paths.iter().map(|path| manifest_path(path)).collect(),
            include: Vec::new(),
        };
        let display = Arc::new(Display::new("export", self.quiet));
        let monitor: Arc<dyn Monitor> = display.clone();
        let stop = cancel.clone();
        let exported = with_session(repository, info.id, cancel.clone(), move |session| {
            // Not by way of the standard library's stdout, which looks for lines.
            let own = std::io::stdout().as_fd().try_clone_to_owned()?;
            let mut out = std::io::BufWriter::with_capacity(1 << 18, File::from(own));
            Ok(restore::export(&select, session, &mut out, monitor, &stop)?)
        })
        .await;
        display.finish();
        if exported.is_err() && cancel.is_cancelled() {
            return Err(exit::failure(
                exit::INTERRUPTED,
                "interrupted: the archive is not whole",
            ));
        }
        exported?;
        Ok(Outcome::with_errors(display.errors() > 0))
    }
}
