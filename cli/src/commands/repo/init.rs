//! `orlop repo init`.

use anyhow::Result;
use clap::Args;
use orlop_repository::{InitOptions, Repository, open_store};
use orlop_runtime::token;
use serde::Serialize;

use super::RepoArgs;
use crate::{exit::Outcome, output::OutputArgs};

/// Where to make a repository.
#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    #[command(flatten)]
    repo: RepoArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Serialize)]
struct InitShape {
    repository_id: String,
    store: String,
}

impl InitArgs {
    pub(crate) async fn run(self) -> Result<Outcome> {
        let store = open_store(&self.repo.repository)?;
        if let Some(path) = self
            .repo
            .unlock
            .key_file
            .as_deref()
            .filter(|path| !path.exists())
        {
            token::load_or_create(path)?;
            eprintln!(
                "made the key file {}: without it nothing in the repository can be read",
                path.display()
            );
        }
        let unlock = self.repo.unlock.require()?;
        let repository = Repository::init(store.clone(), &unlock, InitOptions::default()).await?;
        let shape = InitShape {
            repository_id: repository.id(),
            store: store.description(),
        };
        self.output.print(&shape, |s| {
            format!("made repository {} in {}\n", s.repository_id, s.store)
        })?;
        Ok(Outcome::Done)
    }
}
