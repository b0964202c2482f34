//! Whether a location can be used now.

use orlop_kubernetes::velero::{BackupStorageLocation, location::LocationPhase};

/// Whether a location can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// Now.
    Ready,
    /// Soon, perhaps; why not now.
    NotYet(String),
    /// Not as it is; one line for a person.
    Never(String),
}

/// The location of this name.
pub(crate) fn by_name<'a>(
    locations: &'a [BackupStorageLocation],
    name: &str,
) -> Option<&'a BackupStorageLocation> {
    let is_it = |one: &&BackupStorageLocation| one.metadata.name.as_deref() == Some(name);
    locations.iter().find(is_it)
}

/// Whether the location of this name can be used. `is_applied` says whether the coordinator has been told what it is
/// now: before, its data would be looked for where it was.
pub(crate) fn readiness(
    name: &str,
    locations: &[BackupStorageLocation],
    is_applied: &dyn Fn(&BackupStorageLocation) -> bool,
) -> Readiness {
    let Some(location) = by_name(locations, name) else {
        return Readiness::Never(missing(name, locations));
    };
    match location.status.phase {
        _ if !is_applied(location) => {}
        LocationPhase::Unset => {}
        LocationPhase::Available => return Readiness::Ready,
        _ => {
            return Readiness::Never(format!(
                "backup storage location {name} is unavailable: {}",
                location.status.message
            ));
        }
    }
    Readiness::NotYet(format!("backup storage location {name} is not checked yet"))
}

fn missing(name: &str, locations: &[BackupStorageLocation]) -> String {
    let names: Vec<&str> = locations
        .iter()
        .filter_map(|one| one.metadata.name.as_deref())
        .collect();
    if names.is_empty() {
        return format!(
            "there is no backup storage location {name}, nor any other: make one first"
        );
    }
    format!(
        "there is no backup storage location {name}; there is {}",
        names.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn location(phase: &str) -> BackupStorageLocation {
        serde_json::from_value(json!({
            "metadata": {"name": "default"},
            "spec": {"provider": "aws", "objectStorage": {"bucket": "b"}},
            "status": {"phase": phase, "message": "the bucket is gone"},
        }))
        .unwrap()
    }

    #[test]
    fn a_location_is_ready_once_it_is_known_as_it_is() {
        let ready =
            |phase: &str, applied: bool| readiness("default", &[location(phase)], &|_| applied);
        assert_eq!(ready("Available", true), Readiness::Ready);
        for (phase, applied) in [("Available", false), ("", true), ("Unavailable", false)] {
            assert!(matches!(ready(phase, applied), Readiness::NotYet(_)));
        }
        let Readiness::Never(why) = ready("Unavailable", true) else {
            panic!("nothing will come of it");
        };
        assert!(why.ends_with("the bucket is gone"), "{why}");
    }

    #[test]
    fn a_location_that_is_not_there_is_named_with_those_that_are() {
        let missing = |locations: &[_]| match readiness("x", locations, &|_| true) {
            Readiness::Never(why) => why,
            other => panic!("{other:?}"),
        };
        assert!(missing(&[]).ends_with("make one first"));
        assert!(missing(&[location("")]).ends_with("there is default"));
    }
}
