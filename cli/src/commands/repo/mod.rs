//! `orlop repo …`: verbs that open a repository themselves; the last resort on the worst day.

mod backup;
mod cat;
mod check;
mod collect;
mod copy;
mod diff;
mod export;
mod find;
mod forget;
mod init;
mod key;
mod ls;
mod repair;
mod restore;
mod snapshots;
mod stats;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

pub(crate) use check::CheckDepthArgs;
pub(crate) use collect::CollectLimits;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use orlop_core::SnapshotId;
use orlop_repository::{Committer, Order, ReadSession, Repository, Unlock, open_store};
use tokio_util::sync::CancellationToken;

use crate::exit::{self, Outcome};

/// Verbs on a repository.
#[derive(Debug, Subcommand)]
pub(crate) enum RepoCommand {
    /// Make a repository
    Init(init::InitArgs),
    /// Back up a directory as a volume
    Backup(backup::BackupArgs),
    /// List snapshots, oldest first
    Snapshots(snapshots::SnapshotsArgs),
    /// List what is in a snapshot
    Ls(ls::LsArgs),
    /// Print a file of a snapshot
    Cat(cat::CatArgs),
    /// Restore a snapshot, or a part of it, into a directory
    Restore(restore::RestoreArgs),
    /// Look for damage
    Check(check::CheckArgs),
    /// Save what is whole of what is damaged, so that the next backup stores the rest again
    Repair(repair::RepairArgs),
    /// Free the space of what no snapshot needs
    Collect(collect::CollectArgs),
    /// Take snapshots out of the repository; `collect` then frees their space
    Forget(forget::ForgetArgs),
    /// Count and measure
    Stats(stats::StatsArgs),
    /// Say what opens the repository, and change it
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// Copy snapshots into another repository
    Copy(copy::CopyArgs),
    /// Write a snapshot to stdout as a tar archive; take it out with tar's --delay-directory-restore, so that
    /// directories keep their times
    Export(export::ExportArgs),
    /// Look for entries in all snapshots
    Find(find::FindArgs),
    /// Say what differs between two snapshots
    Diff(diff::DiffArgs),
}

impl RepoCommand {
    pub(crate) async fn run(self, cancel: CancellationToken) -> Result<Outcome> {
        match self {
            Self::Init(args) => args.run().await,
            Self::Backup(args) => args.run(cancel).await,
            Self::Snapshots(args) => args.run().await,
            Self::Ls(args) => args.run(cancel).await,
            Self::Cat(args) => args.run(cancel).await,
            Self::Restore(args) => args.run(cancel).await,
            Self::Check(args) => args.run(cancel).await,
            Self::Repair(args) => Box::pin(args.run(cancel)).await,
            Self::Collect(args) => args.run(cancel).await,
            Self::Forget(args) => args.run(cancel).await,
            Self::Stats(args) => args.run().await,
            Self::Key(command) => command.run(cancel).await,
            Self::Copy(args) => args.run(cancel).await,
            Self::Export(args) => args.run(cancel).await,
            Self::Find(args) => args.run(cancel).await,
            Self::Diff(args) => args.run(cancel).await,
        }
    }
}

/// Which repository, and what opens it.
#[derive(Debug, Args)]
pub(crate) struct RepoArgs {
    /// The repository: a directory, file:///DIRECTORY, or s3://BUCKET/PREFIX?region=R or …?endpoint=URL
    #[arg(
        short = 'r',
        long = "repository",
        env = "ORLOP_REPOSITORY",
        value_name = "URL"
    )]
    pub(crate) repository: String,
    /// Where copies of a far repository's metadata are kept, all of them encrypted [default:
    /// $XDG_CACHE_HOME/orlop or ~/.cache/orlop]
    #[arg(long, env = "ORLOP_CACHE_DIR", value_name = "DIR")]
    cache_dir: Option<PathBuf>,
    /// Keep and use no such copies
    #[arg(long, conflicts_with = "cache_dir")]
    no_cache: bool,
    #[command(flatten)]
    pub(crate) unlock: UnlockArgs,
}

/// Which repository to write to.
#[derive(Debug, Args)]
pub(crate) struct WriteArgs {
    #[command(flatten)]
    pub(crate) repo: RepoArgs,
    /// Promise that nothing else writes the repository: for stores that overwrite objects
    #[arg(
        long,
        env = "ORLOP_EXCLUSIVE",
        num_args = 0,
        value_parser = clap::builder::BoolishValueParser::new()
    )]
    exclusive: bool,
}

impl WriteArgs {
    /// Opens the repository to write to it.
    pub(crate) async fn open(&self) -> Result<Arc<Repository>> {
        let repository = self.repo.open().await?;
        allow_writing(repository, self.exclusive)
    }
}

/// Lets this process write a repository; where the store cannot keep writers apart only if that is said to be
/// `exclusive`.
fn allow_writing(repository: Arc<Repository>, exclusive: bool) -> Result<Arc<Repository>> {
    if repository.conditional_create() {
        return Ok(repository);
    }
    if !exclusive {
        let store = repository.store().description();
        return Err(orlop_repository::Error::NeedsExclusive { store }.into());
    }
    eprintln!(
        "warning: this store cannot keep writers apart; should anything else write the repository now, one of the two loses its work"
    );
    repository.set_order(Order::Exclusive);
    Ok(repository)
}

/// What opens a repository: the password in `ORLOP_PASSWORD`, or a file.
#[derive(Debug, Clone, Args)]
pub(crate) struct UnlockArgs {
    /// File that holds the password (default: the variable ORLOP_PASSWORD)
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// File that holds a random key of 32 bytes or more, instead of a password
    #[arg(long, value_name = "FILE", conflicts_with = "password_file")]
    pub(crate) key_file: Option<PathBuf>,
}

impl UnlockArgs {
    /// Whether an option names a key or password.
    pub(crate) fn is_given(&self) -> bool {
        self.key_file.is_some() || self.password_file.is_some()
    }

    /// The key or password; `None` if neither is given.
    pub(crate) fn find(&self) -> Result<Option<Unlock>> {
        if let Some(path) = &self.key_file {
            return key_file(path).map(Some);
        }
        if let Some(path) = &self.password_file {
            return password_file(path).map(Some);
        }
        password_in("ORLOP_PASSWORD")
    }

    /// The key or password, which must be given.
    pub(crate) fn require(&self) -> Result<Unlock> {
        self.find()?.ok_or_else(|| {
            exit::usage(
                "no password for the repository: set ORLOP_PASSWORD, or give --password-file or --key-file",
            )
        })
    }
}

/// The key in a file.
fn key_file(path: &Path) -> Result<Unlock> {
    let bytes = std::fs::read(path)
        .with_context(|| format!("cannot read the key file {}", path.display()))?;
    Ok(Unlock::KeyFile(bytes))
}

/// The password in a file.
fn password_file(path: &Path) -> Result<Unlock> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the password file {}", path.display()))?;
    let text = text.trim_end_matches(['\r', '\n']);
    Ok(Unlock::Passphrase(text.to_owned()))
}

/// The password in a variable, if it is set.
fn password_in(variable: &str) -> Result<Option<Unlock>> {
    match std::env::var(variable) {
        Ok(text) => Ok(Some(Unlock::Passphrase(text))),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => {
            Err(exit::usage(format!("{variable} is not UTF-8: use a file")))
        }
    }
}

impl RepoArgs {
    /// The directory for copies: of a near store none are needed unless they are asked for.
    fn cache(&self) -> Option<PathBuf> {
        self.cache_for(&self.repository)
    }

    /// The same for a repository at another place.
    fn cache_for(&self, repository: &str) -> Option<PathBuf> {
        if self.no_cache {
            return None;
        }
        if self.cache_dir.is_some() {
            return self.cache_dir.clone();
        }
        if !repository.starts_with("s3://") {
            return None;
        }
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let home = || Some(PathBuf::from(set("HOME")?).join(".cache"));
        let root = set("XDG_CACHE_HOME").map(PathBuf::from).or_else(home)?;
        Some(root.join("orlop"))
    }

    async fn open(&self) -> Result<Arc<Repository>> {
        let store = open_store(&self.repository)?;
        let cache = self.cache();
        Ok(Repository::open_cached(store, &self.unlock.require()?, cache.as_deref()).await?)
    }
}

/// Runs `work` on a thread that may wait for disks and locks.
async fn on_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .context("a thread of the program died")?
}

/// Runs `work` on a thread that may wait, with an open snapshot; the session is ended whatever `work`
/// answers.
async fn with_session<T: Send + 'static>(
    repository: Arc<Repository>,
    snapshot: SnapshotId,
    cancel: CancellationToken,
    work: impl FnOnce(&ReadSession) -> Result<T> + Send + 'static,
) -> Result<T> {
    let runtime = tokio::runtime::Handle::current();
    on_thread(move || {
        let store = repository.store().clone();
        let committer: Arc<dyn Committer> = repository;
        let session = ReadSession::open(committer, store, snapshot, runtime, cancel)?;
        let result = work(&session);
        session.end();
        result
    })
    .await
}

/// The bytes of a path as manifests hold it: no slash at either end, no `.` components.
pub(crate) fn manifest_path(path: &std::ffi::OsStr) -> Vec<u8> {
    use std::os::unix::ffi::OsStrExt as _;
    let parts: Vec<&[u8]> = path
        .as_bytes()
        .split(|b| *b == b'/')
        .filter(|part| !part.is_empty() && *part != b".")
        .collect();
    parts.join(&b'/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_loses_its_outer_slashes() {
        for (given, wanted) in [("/", ""), (".", ""), ("/a//b/", "a/b"), ("./a", "a")] {
            assert_eq!(manifest_path(given.as_ref()), wanted.as_bytes());
        }
    }
}
