//! `orlop install`: puts Orlop into a cluster, or prints the objects.

mod kit;
mod options;

use std::io::Write as _;

use anyhow::Result;
use clap::{Args, ValueEnum};
use orlop_kubernetes::{
    install::{install, render},
    yaml,
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

pub(crate) use kit::recovery_kit;
pub(crate) use options::InstallOptions;

use crate::exit::{self, Outcome};

/// What to install, and where backups are kept.
#[derive(Debug, Args)]
pub(crate) struct InstallArgs {
    /// Print the objects instead, for `kubectl apply --server-side -f -`
    #[arg(long)]
    dry_run: bool,
    /// How to print them
    #[arg(
        short = 'o',
        long = "output",
        value_enum,
        default_value_t,
        value_name = "FORMAT",
        requires = "dry_run"
    )]
    output: Printed,
    #[command(flatten)]
    options: InstallOptions,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Printed {
    /// A document for each object
    #[default]
    Yaml,
    /// One list of all objects
    Json,
}

/// Says what an installation waits for.
pub(super) fn waiting(what: &str) {
    eprintln!("waiting: {what}");
}

impl InstallArgs {
    pub(crate) async fn run(self, cancel: CancellationToken) -> Result<Outcome> {
        let choices = self.options.choices()?;
        let objects = render(&choices).map_err(|error| exit::usage(error.to_string()))?;
        if self.dry_run {
            let printed = match self.output {
                Printed::Yaml => documents(&objects),
                Printed::Json => {
                    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
                    format!("{list:#}\n")
                }
            };
            std::io::stdout().lock().write_all(printed.as_bytes())?;
            return Ok(Outcome::Done);
        }
        let connection = self.options.connect().await?;
        eprintln!(
            "installing {} objects, and waiting until all works",
            objects.len()
        );
        let installed = install(
            &connection,
            &objects,
            self.options.timeout,
            &waiting,
            &cancel,
        )
        .await?;
        let kit = recovery_kit(&choices, installed.password.as_deref());
        std::io::stdout().lock().write_all(kit.as_bytes())?;
        Ok(Outcome::Done)
    }
}

fn documents(objects: &[Value]) -> String {
    let documents: Vec<String> = objects.iter().map(yaml::document).collect();
    documents.join("---\n")
}
