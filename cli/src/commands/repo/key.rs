//! `orlop repo key`: what opens the repository.

use std::{path::PathBuf, sync::Arc};

use anyhow::Result;
use clap::{Args, Subcommand};
use orlop_core::Monitor;
use orlop_repository::{RotateOptions, Unlock};
use orlop_runtime::token;
use tokio_util::sync::CancellationToken;

use super::{RepoArgs, WriteArgs, key_file, password_file, password_in};
use crate::{
    exit::{self, Outcome},
    output::OutputArgs,
    progress::Display,
    shapes::{KeyShape, RotateShape},
};

/// Verbs on what opens the repository.
#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// List the passwords and key files that open the repository, the oldest first
    List(ListArgs),
    /// Let another password or key file open the repository
    Add(AddArgs),
    /// Take a password or key file away. Who has it and a copy of its object under keys/ can still
    /// open what was there until now: `rotate` keeps them from what comes later
    Remove(RemoveArgs),
    /// Make new keys: passwords and key files that are not kept open the repository no more, not even
    /// with copies of its objects, and what nodes knew is of no use for what is backed up from now on.
    /// `collect` then removes what was sealed to the old keys. An interrupted rotation is finished first
    Rotate(RotateArgs),
}

impl KeyCommand {
    pub(crate) async fn run(self, cancel: CancellationToken) -> Result<Outcome> {
        match self {
            Self::List(args) => args.run().await,
            Self::Add(args) => args.run().await,
            Self::Remove(args) => args.run().await,
            Self::Rotate(args) => args.run(cancel).await,
        }
    }
}

/// Which repository's keys.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    repo: RepoArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl ListArgs {
    async fn run(self) -> Result<Outcome> {
        let keys = self.repo.open().await?.keys().await?;
        let keys: Vec<KeyShape> = keys.into_iter().map(KeyShape::from).collect();
        self.output.print(&keys, |keys| KeyShape::table(keys))?;
        Ok(Outcome::Done)
    }
}

/// What is to open the repository, too.
#[derive(Debug, Args)]
pub(crate) struct AddArgs {
    #[command(flatten)]
    repo: RepoArgs,
    /// File that holds the new password (default: the variable ORLOP_NEW_PASSWORD)
    #[arg(long, value_name = "FILE")]
    new_password_file: Option<PathBuf>,
    /// File that holds a random key of 32 bytes or more, instead of a password; it is made if it is missing
    #[arg(long, value_name = "FILE", conflicts_with = "new_password_file")]
    new_key_file: Option<PathBuf>,
    /// What `list` is to call it
    #[arg(long, value_name = "TEXT", default_value = "")]
    label: String,
    #[command(flatten)]
    output: OutputArgs,
}

impl AddArgs {
    async fn run(self) -> Result<Outcome> {
        let repository = self.repo.open().await?;
        let unlock = self.unlock()?;
        let key = KeyShape::from(repository.add_key(&unlock, &self.label).await?);
        self.output.print(&key, KeyShape::added)?;
        Ok(Outcome::Done)
    }

    fn unlock(&self) -> Result<Unlock> {
        if let Some(path) = &self.new_key_file {
            if !path.exists() {
                token::load_or_create(path)?;
                eprintln!("made the key file {}", path.display());
            }
            return key_file(path);
        }
        if let Some(path) = &self.new_password_file {
            return password_file(path);
        }
        password_in("ORLOP_NEW_PASSWORD")?.ok_or_else(|| {
            exit::usage(
                "nothing to add: give --new-password-file or --new-key-file, or set ORLOP_NEW_PASSWORD",
            )
        })
    }
}

/// Which key.
#[derive(Debug, Args)]
pub(crate) struct RemoveArgs {
    #[command(flatten)]
    repo: RepoArgs,
    /// Id of the key, or the beginning of one, as `list` shows it
    id: String,
    /// Also if it is the one that this command itself uses
    #[arg(long)]
    own: bool,
    #[command(flatten)]
    output: OutputArgs,
}

impl RemoveArgs {
    async fn run(self) -> Result<Outcome> {
        let repository = self.repo.open().await?;
        let key = KeyShape::from(repository.remove_key(&self.id, self.own).await?);
        self.output.print(&key, KeyShape::removed)?;
        Ok(Outcome::Done)
    }
}

/// Who is to open the repository afterwards.
#[derive(Debug, Args)]
pub(crate) struct RotateArgs {
    #[command(flatten)]
    repo: WriteArgs,
    /// File with another password that is kept, besides the one that this command uses; may be given several
    /// times
    #[arg(long, value_name = "FILE")]
    keep_password_file: Vec<PathBuf>,
    /// Key file that is kept; may be given several times
    #[arg(long, value_name = "FILE")]
    keep_key_file: Vec<PathBuf>,
    /// Leave all others behind
    #[arg(long)]
    drop_others: bool,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    output: OutputArgs,
}

impl RotateArgs {
    async fn run(self, cancel: CancellationToken) -> Result<Outcome> {
        let repository = self.repo.open().await?;
        let passwords = self
            .keep_password_file
            .iter()
            .map(|path| password_file(path));
        let key_files = self.keep_key_file.iter().map(|path| key_file(path));
        let options = RotateOptions {
            keep: passwords.chain(key_files).collect::<Result<_>>()?,
            drop_others: self.drop_others,
        };
        let display = Arc::new(Display::new("rotate", self.quiet));
        let monitor: Arc<dyn Monitor> = display.clone();
        let report = repository.rotate(&options, &*monitor, &cancel).await;
        display.finish();
        let shape = RotateShape::from(report?);
        self.output.print(&shape, RotateShape::table)?;
        Ok(Outcome::with_errors(shape.has_damage()))
    }
}
