//! Our own annotations, and names that we make.

use orlop_kubernetes::client::ObjectKind;

/// Annotation of a backup or restore: `true` stops it.
pub(crate) const CANCEL: &str = "orlop.io/cancel";
/// Annotation of a schedule: which of its backups are kept, such as `daily=7,weekly=4`.
pub(crate) const KEEP: &str = "orlop.io/keep";
/// Annotation of a backup: why it could not be deleted.
pub(crate) const DELETE_ERROR: &str = "orlop.io/delete-error";
/// Annotation of a request: when it was answered.
pub(crate) const ANSWERED: &str = "orlop.io/answered";
/// Annotation of a backup that was found in the store: its volumes' objects are not all there yet.
pub(crate) const INCOMPLETE: &str = "orlop.io/incomplete";
/// Annotation of an object that cannot be served: why.
pub(crate) const PROBLEM: &str = "orlop.io/problem";
/// Annotation of the template of the agents' pods: which directories the server had mounted when they were started.
pub(crate) const DIRECTORIES: &str = "orlop.io/directories";
/// The value of the annotation by which our objects are known.
pub(crate) const OURS: &str = "orlop";

/// Longest name of an object.
const NAME_MAX: usize = 253;

/// The value of an annotation.
pub(crate) fn annotation<'a, K: ObjectKind>(object: &'a K, key: &str) -> Option<&'a str> {
    let annotations = object.meta().annotations.as_ref()?;
    annotations.get(key).map(String::as_str)
}

/// The value of a label.
pub(crate) fn label<'a, K: ObjectKind>(object: &'a K, key: &str) -> Option<&'a str> {
    let labels = object.meta().labels.as_ref()?;
    labels.get(key).map(String::as_str)
}

/// Whether an object can have this name: nothing else may get into the path of a request.
pub(crate) fn is_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
    let edge = |c: char| c.is_ascii_alphanumeric();
    !name.is_empty()
        && name.len() <= NAME_MAX
        && name.chars().all(allowed)
        && name.starts_with(edge)
        && name.ends_with(edge)
}

/// `name` with `end` behind it, cut so that it is a name.
pub(crate) fn with_end(name: &str, end: &str) -> String {
    let kept = name[..name.floor_char_boundary(NAME_MAX - end.len())].trim_end_matches(['.', '-']);
    format!("{kept}{end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_lead_elsewhere_is_no_name() {
        for name in ["b", "b-1.2", &"a".repeat(253)] {
            assert!(is_name(name), "{name}");
        }
        for name in [
            "",
            ".",
            "..",
            "a/b",
            "../b",
            "a b",
            "A",
            "a?b",
            "-a",
            "a.",
            &"a".repeat(254),
        ] {
            assert!(!is_name(name), "{name}");
        }
    }

    #[test]
    fn a_name_with_an_end_is_still_a_name() {
        assert_eq!(with_end("nightly", "-expired"), "nightly-expired");
        assert_eq!(with_end(&"a".repeat(253), "-expired").len(), 253);
        assert_eq!(
            with_end(&format!("{}.b", "a".repeat(244)), "-expired").len(),
            252
        );
    }
}
