//! By what objects of a restore are told from those of another restore of its name.

use orlop_core::run::Run;
use orlop_kubernetes::velero::Restore;

/// The restore with a uid: that of its object, or one of the run if it has none, as from the command line. It is the same
/// after a restart.
pub(super) fn with_uid(mut restore: Restore, run: &Run) -> Restore {
    let uid = restore.metadata.uid.take().filter(|uid| !uid.is_empty());
    let uid = uid.unwrap_or_else(|| format!("{}.{}", run.name, run.created_ms));
    restore.metadata.uid = Some(uid);
    restore
}

#[cfg(test)]
mod tests {
    use orlop_core::run::RunKind;

    use super::*;

    #[test]
    fn a_restore_without_a_uid_has_one_of_its_run() {
        let run = |created_ms| Run::new(RunKind::Restore, "r", "default", created_ms);
        let uid = |restore: Restore, run: &Run| with_uid(restore, run).metadata.uid.unwrap();
        let first = uid(Restore::default(), &run(1));
        assert_eq!(first, uid(Restore::default(), &run(1)));
        assert_ne!(first, uid(Restore::default(), &run(2)));
        let mut object = Restore::default();
        object.metadata.uid = Some("u-1".to_owned());
        assert_eq!(uid(object, &run(1)), "u-1");
    }
}
