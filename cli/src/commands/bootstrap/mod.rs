//! `orlop bootstrap`: begins in an empty cluster with the backups of one that is lost.

mod prove;

use std::fmt::Write as _;

use anyhow::Result;
use clap::Args;
use orlop_core::run::not_found;
use orlop_kubernetes::{
    client::Connection,
    install::{
        InstallChoices, ask_restore, install, keep_password, last_listed, render, stored_backups,
        wait_restore,
    },
    velero::{Backup, Restore, RestorePhase},
};
use orlop_repository::Unlock;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use self::prove::{Proof, prove};
use super::{
    install::{InstallOptions, waiting},
    repo::UnlockArgs,
    restore::made_up_name,
};
use crate::{
    exit::{self, Outcome},
    output::OutputArgs,
    shapes::BootstrapShape,
};

/// Where the backups are, what opens them, and which one to restore.
#[derive(Debug, Args)]
pub(crate) struct BootstrapArgs {
    #[command(flatten)]
    unlock: UnlockArgs,
    /// Restore everything of this backup at once
    #[arg(long, value_name = "BACKUP")]
    restore: Option<String>,
    /// Name of the restore; made from the backup's name and the time if left out
    #[arg(long, value_name = "NAME", requires = "restore")]
    restore_name: Option<String>,
    /// Wait until the restore has ended
    #[arg(short, long, requires = "restore")]
    wait: bool,
    #[command(flatten)]
    options: InstallOptions,
    #[command(flatten)]
    output: OutputArgs,
}

impl BootstrapArgs {
    pub(crate) async fn run(self, cancel: CancellationToken) -> Result<Outcome> {
        let password = self.password()?;
        let choices = self.options.choices()?;
        let Some(store) = &choices.store else {
            return Err(exit::usage(
                "nothing says where the backups are: give one of --s3-bucket, --nfs, --host-path, --pvc",
            ));
        };
        let objects = rendered(&choices)?;
        let proof = tokio::select! {
            () = cancel.cancelled() => return Err(exit::failure(exit::INTERRUPTED, "interrupted; nothing was installed")),
            proof = prove(store, &objects, &password) => proof?,
        };
        let connection = self.options.connect().await?;
        let before = last_listed(&connection).await?;
        if keep_password(&connection, &password).await? {
            eprintln!("the password is in the cluster");
        }
        self.install(&connection, &choices, objects, &proof, &cancel)
            .await?;
        eprintln!("waiting until the stored backups are listed");
        let limit = self.options.timeout;
        let backups = stored_backups(&connection, before.as_ref(), limit, &cancel).await?;
        let restore = match &self.restore {
            None => None,
            Some(backup) => Some(self.restore(&connection, backup, &backups, &cancel).await?),
        };
        let shape = BootstrapShape::new(&choices.namespace, &backups, restore.as_ref());
        self.output.print(&shape, BootstrapShape::text)?;
        match restore {
            Some(restore) if self.wait => verdict(&restore),
            _ => Ok(Outcome::Done),
        }
    }

    fn password(&self) -> Result<String> {
        match self.unlock.require()? {
            Unlock::Passphrase(password) if password.is_empty() => Err(exit::usage(
                "the password is empty: it is in the recovery kit",
            )),
            Unlock::Passphrase(password) => Ok(password),
            Unlock::KeyFile(_) => Err(exit::usage(
                "in a cluster a password opens the repository: set ORLOP_PASSWORD, or give --password-file",
            )),
        }
    }

    /// Installs. What is not proven yet may only be read at first, so that no repository is made where none is.
    async fn install(
        &self,
        connection: &Connection,
        choices: &InstallChoices,
        objects: Vec<Value>,
        proof: &Proof,
        cancel: &CancellationToken,
    ) -> Result<()> {
        let limit = self.options.timeout;
        match proof {
            Proof::Opens { snapshots } => {
                eprintln!("the password opens the repository, which has {snapshots} snapshots");
            }
            Proof::Elsewhere(reason) => {
                eprintln!(
                    "the coordinator will try the password, as the repository is not reached from here: {reason}"
                );
                let careful = InstallChoices {
                    read_only: true,
                    ..choices.clone()
                };
                install(connection, &rendered(&careful)?, limit, &waiting, cancel).await?;
                eprintln!("the password opens the repository");
            }
        }
        eprintln!(
            "installing {} objects, and waiting until all works",
            objects.len()
        );
        install(connection, &objects, limit, &waiting, cancel).await?;
        Ok(())
    }

    /// Asks for the restore, and waits for it if that is wanted.
    async fn restore(
        &self,
        connection: &Connection,
        backup: &str,
        backups: &[Backup],
        cancel: &CancellationToken,
    ) -> Result<Restore> {
        let mut names = backups
            .iter()
            .filter_map(|one| one.metadata.name.as_deref());
        if !names.clone().any(|name| name == backup) {
            let message = not_found("backup", backup, &mut names);
            return Err(exit::not_found(format!(
                "{message}; nothing is being restored"
            )));
        }
        let name = match &self.restore_name {
            Some(name) => name.clone(),
            None => made_up_name(Some(backup)),
        };
        ask_restore(connection, &name, backup).await?;
        if !self.wait {
            let mut asked = Restore::default();
            asked.metadata.name = Some(name);
            backup.clone_into(&mut asked.spec.backup_name);
            return Ok(asked);
        }
        let mut told = String::new();
        let mut progress = |restore: &Restore| {
            let line = line(&name, restore);
            if line != told {
                eprintln!("{line}");
                told = line;
            }
        };
        Ok(wait_restore(connection, &name, &mut progress, cancel).await?)
    }
}

fn rendered(choices: &InstallChoices) -> Result<Vec<Value>> {
    render(choices).map_err(|error| exit::usage(error.to_string()))
}

/// One line of progress.
fn line(name: &str, restore: &Restore) -> String {
    let status = &restore.status;
    let phase = match &status.phase {
        RestorePhase::Unset => &RestorePhase::New,
        phase => phase,
    };
    let mut line = format!("restore {name}: {phase}");
    if let Some(progress) = &status.progress {
        let (done, total) = (progress.items_restored, progress.total_items);
        let _ = write!(line, ", {done} of {total} objects");
    }
    line
}

/// The exit code that the restore's end deserves; a failure is an error with its reasons.
fn verdict(restore: &Restore) -> Result<Outcome> {
    let status = &restore.status;
    match status.phase {
        RestorePhase::Completed => Ok(Outcome::Done),
        RestorePhase::PartiallyFailed => Ok(Outcome::WithErrors),
        _ => {
            let mut reasons = status.validation_errors.clone();
            reasons.push(status.failure_reason.clone());
            reasons.retain(|reason| !reason.is_empty());
            let name = restore.metadata.name.as_deref().unwrap_or_default();
            Err(exit::failure(
                exit::FAILED,
                format!("restore {name} {}: {}", status.phase, reasons.join("; ")),
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_restore_that_failed_says_why() {
        let restore = |status: Value| -> Restore {
            let restore = json!({"metadata": {"name": "r"}, "status": status});
            serde_json::from_value(restore).unwrap()
        };
        assert_eq!(
            verdict(&restore(json!({"phase": "Completed"}))).unwrap(),
            Outcome::Done
        );
        let partly = restore(json!({"phase": "PartiallyFailed"}));
        assert_eq!(verdict(&partly).unwrap(), Outcome::WithErrors);
        let refused = restore(json!({"phase": "FailedValidation", "validationErrors": ["a", "b"]}));
        let error = verdict(&refused).unwrap_err().to_string();
        assert_eq!(error, "restore r FailedValidation: a; b");
        let running =
            json!({"phase": "InProgress", "progress": {"totalItems": 5, "itemsRestored": 2}});
        assert_eq!(
            line("r", &restore(running)),
            "restore r: InProgress, 2 of 5 objects"
        );
    }
}
