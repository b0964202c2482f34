//! Whether a `Restore` can be made, and what it means where it says nothing.

use orlop_kubernetes::{
    selection::{Filters, NameFilter},
    velero::{
        Backup, BackupPhase, BackupStorageLocation, GoDuration, Restore, RestorePhase, RestoreSpec,
        labels::{RESTORE_FINALIZER, SCHEDULE_NAME},
    },
};
use serde_json::Value;

use crate::{
    clock,
    location::{Readiness, readiness},
    names,
};

/// What Velero fills in for work that goes on beside a restore.
const OPERATION_TIMEOUT: GoDuration = GoDuration::from_secs(4 * 3600);

/// Kinds that no restore makes: clients see them in the list of what is left out.
const NOT_RESTORABLE: [&str; 9] = [
    "nodes",
    "events",
    "events.events.k8s.io",
    "backups.velero.io",
    "restores.velero.io",
    "resticrepositories.velero.io",
    "csinodes.storage.k8s.io",
    "volumeattachments.storage.k8s.io",
    "backuprepositories.velero.io",
];

/// What is known when a restore is looked at.
#[derive(Clone, Copy)]
pub(super) struct Facts<'a> {
    /// The backup that is named, if it is there, or those of the schedule that is.
    pub(super) backups: &'a [Backup],
    /// All locations.
    pub(super) locations: &'a [BackupStorageLocation],
    /// Whether the coordinator has been told what the location of this name is now.
    pub(super) is_applied: &'a dyn Fn(&BackupStorageLocation) -> bool,
}

/// What becomes of a new restore.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Admission {
    /// It can be made: the whole of what it means, and the location of its backup.
    Admitted(Box<Restore>, String),
    /// It cannot be made; the reasons are in its status.
    Refused(Box<Restore>),
    /// The location of its backup is not ready yet; why.
    Wait(String),
}

/// Fills in what is left out, and checks it.
pub(super) fn admit(restore: &Restore, facts: &Facts<'_>) -> Admission {
    let mut filled = restore.clone();
    let spec = &mut filled.spec;
    let mut problems = problems(spec);
    for kind in NOT_RESTORABLE {
        if !spec.excluded_resources.iter().any(|one| one == kind) {
            spec.excluded_resources.push(kind.to_owned());
        }
    }
    if spec.item_operation_timeout.is_zero() {
        spec.item_operation_timeout = OPERATION_TIMEOUT;
    }
    let mut place = String::new();
    match backup(spec, facts.backups) {
        Err(problem) => problems.push(problem),
        Ok(backup) => {
            spec.backup_name = backup.metadata.name.clone().unwrap_or_default();
            if let Some(schedule) = names::label(backup, SCHEDULE_NAME) {
                schedule.clone_into(&mut spec.schedule_name);
            }
            place.clone_from(&backup.spec.storage_location);
            match readiness(&place, facts.locations, facts.is_applied) {
                Readiness::NotYet(why) if problems.is_empty() => return Admission::Wait(why),
                Readiness::Ready | Readiness::NotYet(_) => {}
                Readiness::Never(problem) => {
                    problems.push(format!("backup {}: {problem}", spec.backup_name));
                }
            }
        }
    }
    if problems.is_empty() {
        let finalizers = filled.metadata.finalizers.get_or_insert_default();
        if !finalizers.iter().any(|one| one == RESTORE_FINALIZER) {
            finalizers.push(RESTORE_FINALIZER.to_owned());
        }
        filled.status.phase = RestorePhase::New;
        return Admission::Admitted(Box::new(filled), place);
    }
    filled.status.phase = RestorePhase::FailedValidation;
    filled.status.validation_errors = problems;
    Admission::Refused(Box::new(filled))
}

/// The backup that is meant, if it can be restored.
fn backup<'a>(spec: &RestoreSpec, backups: &'a [Backup]) -> Result<&'a Backup, String> {
    let (name, schedule) = (spec.backup_name.as_str(), spec.schedule_name.as_str());
    if schedule.is_empty() == name.is_empty() {
        return Err(if name.is_empty() {
            "nothing is named to restore: set backupName, or scheduleName for the schedule's newest completed backup"
        } else {
            "backupName and scheduleName exclude each other: leave out one of them"
        }
        .to_owned());
    }
    if !schedule.is_empty() {
        let completed = backups
            .iter()
            .filter(|one| one.status.phase == BackupPhase::Completed);
        let newest = completed.max_by_key(|one| {
            let began = clock::ms_or_zero(one.status.start_timestamp.as_ref());
            (began, one.metadata.name.clone())
        });
        return newest.ok_or_else(|| {
            format!(
                "schedule {schedule} has no completed backup: wait for one, or name a backup in backupName"
            )
        });
    }
    let is_it = |one: &&Backup| one.metadata.name.as_deref() == Some(name);
    let backup = backups.iter().find(is_it).ok_or_else(|| {
        format!("there is no backup {name}: choose one that `velero backup get` lists")
    })?;
    match &backup.status.phase {
        BackupPhase::Completed | BackupPhase::PartiallyFailed => Ok(backup),
        BackupPhase::Failed | BackupPhase::FailedValidation => Err(format!(
            "backup {name} is {}: there is nothing in it to restore; choose another one",
            backup.status.phase
        )),
        BackupPhase::Deleting => Err(format!(
            "backup {name} is being deleted: choose another one"
        )),
        BackupPhase::Unset => Err(format!(
            "backup {name} is New: wait until it has ended, and make another restore"
        )),
        phase => Err(format!(
            "backup {name} is {phase}: wait until it has ended, and make another restore"
        )),
    }
}

/// What is wrong with what somebody has written, each in one line.
fn problems(spec: &RestoreSpec) -> Vec<String> {
    let mut problems = Vec::new();
    if let Err(invalid) = Filters::of_restore(spec) {
        problems.extend(invalid.problems);
    }
    for kind in &spec.included_resources {
        if NOT_RESTORABLE.contains(&kind.as_str()) {
            problems.push(format!(
                "resources: {kind} are never restored: leave them out of includedResources"
            ));
        }
    }
    if let Some(status) = &spec.restore_status {
        let names =
            NameFilter::ignoring_empty(&status.included_resources, &status.excluded_resources);
        problems.extend(names.problems("resources of restoreStatus", true));
    }
    for (from, to) in &spec.namespace_mapping {
        if !is_namespace(from) || !is_namespace(to) {
            problems.push(format!(
                "namespaceMapping: {from:?} to {to:?}: both must be names of namespaces: lower-case letters, digits and hyphens, 63 at most"
            ));
        }
    }
    if !["", "none", "update"].contains(&spec.existing_resource_policy.as_str()) {
        problems.push(format!(
            "existingResourcePolicy: {:?} is none: write none or update",
            spec.existing_resource_policy
        ));
    }
    if let Some(modifier) = &spec.resource_modifier {
        problems.push(format!(
            "resourceModifier: {} {}: not supported yet: leave it out, and change objects once they are restored",
            modifier.kind, modifier.name
        ));
    }
    if spec.item_operation_timeout.as_nanos() < 0 {
        problems.push(format!(
            "itemOperationTimeout {} is negative: write how long to wait",
            spec.item_operation_timeout
        ));
    }
    for hooks in &spec.hooks.resources {
        let inits = hooks
            .post_hooks
            .iter()
            .filter_map(|hook| hook.init.as_ref());
        for (index, container) in inits.flat_map(|init| &init.init_containers).enumerate() {
            problems.extend(container_problem(&hooks.name, index, container));
        }
    }
    problems
}

fn is_namespace(name: &str) -> bool {
    name.len() <= 63 && !name.contains('.') && names::is_name(name)
}

/// What an init container of a hook lacks.
fn container_problem(hook: &str, index: usize, container: &Value) -> Option<String> {
    let is_text = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
    let is_command = |value: &Value| {
        let words = value.as_array();
        words.is_some_and(|words| !words.is_empty() && words.iter().all(Value::is_string))
    };
    let parts = [
        ("name", is_text(&container["name"])),
        ("image", is_text(&container["image"])),
        ("command", is_command(&container["command"])),
    ];
    let missing: Vec<&str> = parts
        .iter()
        .filter(|(_, is_there)| !is_there)
        .map(|(part, _)| *part)
        .collect();
    let called = container["name"].as_str().unwrap_or_default();
    (!missing.is_empty()).then(|| {
        format!(
            "hooks: init container {} {called:?} of {hook:?} lacks {}: give it name, image and command",
            index + 1,
            missing.join(", ")
        )
    })
}

#[cfg(test)]
#[path = "admit_tests.rs"]
mod tests;
