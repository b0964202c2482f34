//! The files of a finished restore, as Velero keeps them.

use std::path::Path;

use orlop_core::run::RunSpec;
use orlop_kubernetes::{record::RestoreRecord, velero::Restore};
use orlop_repository::Repository;

use super::{record_of, reported, sealed};
use crate::{
    records::Document,
    runs::{Refusal, with_sources},
    state::LogLine,
};

/// Makes the files of a finished restore that has made objects, sealed where they tell of volumes, in the order in which
/// they are to be put.
///
/// # Errors
/// What was asked for is no object, or what became of the objects cannot be read.
pub(crate) fn restore_files(
    repository: &Repository,
    document: &Document,
    log: &[LogLine],
    reports: &Path,
) -> Result<Vec<(String, Vec<u8>)>, Refusal> {
    let namespace = namespace_of(document)?;
    let objects = reported(reports)
        .map_err(|error| Refusal::Unavailable(format!("read {}: {error}", reports.display())))?;
    let lines = log.iter();
    let record = RestoreRecord {
        run: &document.run,
        log: lines
            .map(|line| record_of(line, document, namespace.as_deref()))
            .collect(),
        objects,
    };
    let files = record.files().map_err(|error| {
        let reason = with_sources(&error);
        Refusal::Precondition(format!("make the files of the restore: {reason}"))
    })?;
    let files = files
        .into_iter()
        .map(|file| (file.is_secret(), file.key, file.bytes));
    sealed(repository, files)
}

/// The namespace of the object that was given.
fn namespace_of(document: &Document) -> Result<Option<String>, Refusal> {
    let RunSpec::Restore(spec) = &document.spec else {
        return Err(Refusal::Precondition("it is no restore".to_owned()));
    };
    let restore: Restore =
        serde_json::from_str(&spec.velero_object).map_err(|error| Refusal::Invalid {
            field: "velero_object",
            message: error.to_string(),
        })?;
    Ok(restore.metadata.namespace)
}
