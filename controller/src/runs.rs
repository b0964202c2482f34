//! What backups and restores share: what a run says in a status, and what the coordinator's refusal means.

use orlop_kubernetes::{api::Time, client::ObjectKind, velero::merge_patch};
use orlop_proto::v1::RunPhase;
use serde_json::Value;
use tonic::{Code, Status};

use crate::{clock, patch::only_if};

/// What a run's failure reason is that somebody has stopped.
pub(crate) const CANCELED: &str = "canceled";
/// Longest failure reason, in bytes.
const REASON_MAX: usize = 4096;

/// When a run began that was accepted at `created_ms`: that every run has, and the console sorts by it.
pub(crate) fn began(created_ms: i64, started_ms: i64, now_ms: i64) -> Option<Time> {
    let known = [created_ms, started_ms].into_iter().find(|ms| *ms > 0);
    clock::time(known.unwrap_or(now_ms))
}

/// When a run ended that has.
pub(crate) fn ended(completed_ms: i64, now_ms: i64) -> Option<Time> {
    clock::time(if completed_ms == 0 {
        now_ms
    } else {
        completed_ms
    })
}

/// The failure reason of a run that is so far; `what` it is.
pub(crate) fn reason(phase: RunPhase, told: &str, what: &str) -> String {
    match phase {
        RunPhase::Canceled => CANCELED.to_owned(),
        RunPhase::Failed if told.is_empty() => format!("see the log of the {what}"),
        RunPhase::Completed | RunPhase::PartiallyFailed | RunPhase::Failed => {
            told[..told.floor_char_boundary(REASON_MAX)].to_owned()
        }
        _ => String::new(),
    }
}

/// A count as Velero writes it.
pub(crate) fn count(number: u64) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// Whether the coordinator will never accept the request.
pub(crate) fn is_verdict(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::InvalidArgument
            | Code::FailedPrecondition
            | Code::NotFound
            | Code::OutOfRange
            | Code::Unimplemented
    )
}

/// What makes `before` into `after`, unless somebody else has changed the object meanwhile.
pub(crate) fn change<K: ObjectKind>(before: &K, after: &K) -> Option<Value> {
    let patch = merge_patch(before, after)?;
    Some(only_if(patch, before.meta().resource_version.as_deref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_without_a_result_says_why() {
        let reason = |phase, told: &str| reason(phase, told, "backup");
        assert_eq!(reason(RunPhase::Canceled, "somebody"), "canceled");
        assert_eq!(reason(RunPhase::Failed, "no agent"), "no agent");
        assert_eq!(reason(RunPhase::Failed, ""), "see the log of the backup");
        assert_eq!(reason(RunPhase::Running, "not yet"), "");
        assert_eq!(reason(RunPhase::Failed, &"ä".repeat(9000)).len(), 4096);
    }

    #[test]
    fn a_run_begins_when_it_is_accepted() {
        let second = |time: Option<Time>| time.map(|time| clock::ms(&time));
        assert_eq!(second(began(5_000, 7_000, 9_000)), Some(5_000));
        assert_eq!(second(began(0, 7_000, 9_000)), Some(7_000));
        assert_eq!(second(began(0, 0, 9_000)), Some(9_000));
        assert_eq!(second(ended(0, 9_000)), Some(9_000));
        assert_eq!(second(ended(8_000, 9_000)), Some(8_000));
    }
}
