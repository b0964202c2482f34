//! Whether a restore of objects can be accepted.

use orlop_core::run::{RestoreSpec, Run, RunPhase};

use crate::runs::{Refusal, RunKey, Runs};

impl Runs {
    /// The location of a restore that makes objects again, if there is anything to make them from.
    pub(in crate::runs) fn objects_at(
        &self,
        name: &str,
        spec: &RestoreSpec,
        location: &str,
    ) -> Result<String, Refusal> {
        self.parts.cluster.restore_object(name, spec)?;
        let backup = self.get(&RunKey::backup(&spec.from_backup))?.run;
        at_location(&backup, location)?;
        has_objects(&backup)?;
        Ok(backup.location)
    }
}

/// Whether the backup is where it was said to be.
pub(in crate::runs) fn at_location(backup: &Run, location: &str) -> Result<(), Refusal> {
    let at = &backup.location;
    if location.is_empty() || location == at {
        return Ok(());
    }
    Err(Refusal::Invalid {
        field: "location",
        message: format!("backup {} is in location {at}", backup.name),
    })
}

/// Whether Kubernetes objects can be made again from a backup.
pub(super) fn has_objects(backup: &Run) -> Result<(), Refusal> {
    let name = &backup.name;
    let message = match backup.phase {
        RunPhase::Completed | RunPhase::PartiallyFailed if backup.objects.is_some() => {
            return Ok(());
        }
        RunPhase::Completed | RunPhase::PartiallyFailed => format!(
            "backup {name} has no Kubernetes objects: restore its volumes with `orlop restore create --from-backup {name}`"
        ),
        RunPhase::Failed | RunPhase::Canceled => {
            format!("backup {name} has not been completed: choose another one")
        }
        RunPhase::Deleting => format!("backup {name} is being deleted: choose another one"),
        _ => format!("backup {name} has not ended yet: wait for it"),
    };
    Err(Refusal::Precondition(message))
}
