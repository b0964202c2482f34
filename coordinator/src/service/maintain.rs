//! What `Maintain` does to a repository, and its reports as messages.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use orlop_core::{Issue, Monitor, Progress};
use orlop_proto::{
    ProtocolError,
    v1::{self, MaintainResponse, maintain_request::Operation, maintain_response::Event},
};
use orlop_repository::{
    CheckDepth, CheckOptions, CheckReport, CollectOptions, CollectReport, CollectState, Covered,
    Repository, Sample, WaitingSession,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::status::repository as failed;
use crate::maintenance::Maintenance;

/// A message of the stream, or its end.
type Answer = Result<MaintainResponse, Status>;

/// What is done.
#[derive(Debug, Clone, Copy)]
pub(super) enum Work {
    /// Look for damage.
    Check(CheckOptions),
    /// Free space.
    Collect(CollectOptions),
}

impl TryFrom<Option<Operation>> for Work {
    type Error = ProtocolError;

    fn try_from(operation: Option<Operation>) -> Result<Self, ProtocolError> {
        Ok(match operation {
            None => return Err(ProtocolError::missing("operation")),
            Some(Operation::Check(check)) => Self::Check(check_options(&check)?),
            Some(Operation::Collect(collect)) => Self::Collect(collect_options(collect)?),
        })
    }
}

impl Work {
    /// Whether it changes the repository.
    pub(super) fn writes(self) -> bool {
        matches!(self, Self::Collect(CollectOptions { dry_run: false, .. }))
    }

    /// Does it; gives the last message.
    pub(super) async fn run(
        self,
        location: &str,
        repository: &Arc<Repository>,
        maintenance: &Maintenance,
        monitor: Arc<dyn Monitor>,
        cancel: CancellationToken,
    ) -> Answer {
        let event = match self {
            Self::Check(options) => {
                let report = repository.check(options, monitor, cancel).await;
                maintenance.note_checked(location, &report);
                report.map(|report| Event::Check(check_message(report)))
            }
            Self::Collect(options) => {
                let report = repository.collect(options, monitor, cancel).await;
                if self.writes() {
                    maintenance.note_collected(location, &report);
                }
                report.map(|report| Event::Collect(collect_message(report)))
            }
        };
        event.map(message).map_err(|error| failed(&error))
    }
}

fn check_options(wanted: &v1::CheckOperation) -> Result<CheckOptions, ProtocolError> {
    let depth = match v1::CheckDepth::try_from(wanted.depth) {
        Ok(v1::CheckDepth::Unspecified) if wanted.read_data => CheckDepth::Data,
        Ok(v1::CheckDepth::Unspecified | v1::CheckDepth::Existence) => CheckDepth::Existence,
        Ok(v1::CheckDepth::Structure) => CheckDepth::Structure,
        Ok(v1::CheckDepth::Scrub) => CheckDepth::Scrub,
        Ok(v1::CheckDepth::Data) => CheckDepth::Data,
        Err(_) => return Err(ProtocolError::new("check.depth", "is not known")),
    };
    let sample = match &*wanted.sample {
        "" => Sample::All,
        text => text
            .parse::<Sample>()
            .map_err(|error| ProtocolError::new("check.sample", error.to_string()))?,
    };
    Ok(CheckOptions {
        depth,
        sample,
        resume: wanted.resume,
        bytes_per_second: 0,
    })
}

fn collect_options(wanted: v1::CollectOperation) -> Result<CollectOptions, ProtocolError> {
    let usual = CollectOptions::default();
    let percent = |field, value: u32, usual: u8, most: u8| match u8::try_from(value) {
        Ok(0) => Ok(usual),
        Ok(value) if value <= most => Ok(value),
        _ => Err(ProtocolError::new(field, format!("must be up to {most}"))),
    };
    let seconds = |value: u64, usual: Duration| match value {
        0 => usual,
        seconds => Duration::from_secs(seconds),
    };
    Ok(CollectOptions {
        dry_run: wanted.dry_run,
        dead_percent: percent(
            "collect.dead_percent",
            wanted.dead_percent,
            usual.dead_percent,
            99,
        )?,
        budget_bytes: match wanted.budget_bytes {
            0 => usual.budget_bytes,
            bytes => bytes,
        },
        max_removed_percent: percent(
            "collect.max_removed_percent",
            wanted.max_removed_percent,
            usual.max_removed_percent,
            100,
        )?,
        patience: seconds(wanted.wait_seconds, usual.patience),
        fence_after: seconds(wanted.fence_after_seconds, usual.fence_after),
    })
}

/// What a collection has done, as the wire has it.
pub fn collect_message(report: CollectReport) -> v1::CollectReport {
    let state = match report.state {
        CollectState::Planned => v1::CollectState::Planned,
        CollectState::Clean => v1::CollectState::Clean,
        CollectState::Collected => v1::CollectState::Collected,
        CollectState::Waiting => v1::CollectState::Waiting,
    };
    let waiting = |one: &WaitingSession| v1::WaitingSession {
        session: one.session,
        since_ms: one.since_ms,
    };
    v1::CollectReport {
        dry_run: report.dry_run,
        state: state.into(),
        snapshots: report.snapshots,
        dead_packs: report.dead_packs,
        moved_packs: report.moved_packs,
        moved_bytes: report.moved_bytes,
        postponed_bytes: report.postponed_bytes,
        removable_bytes: report.removable_bytes,
        rescued_packs: report.rescued_packs,
        removed_objects: report.removed_objects,
        removed_bytes: report.removed_bytes,
        waiting: report.waiting.iter().map(waiting).collect(),
        fenced: report.fenced,
    }
}

fn message(event: Event) -> MaintainResponse {
    MaintainResponse { event: Some(event) }
}

/// Sends progress as far as there is room.
pub(super) struct Forward {
    sender: mpsc::Sender<Answer>,
    last: Mutex<Progress>,
}

impl Forward {
    /// Sends to `sender`.
    pub(super) fn to(sender: mpsc::Sender<Answer>) -> Self {
        Self {
            sender,
            last: Mutex::default(),
        }
    }
}

impl Monitor for Forward {
    fn progress(&self, progress: Progress) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if *last != progress {
            *last = progress;
            // Progress that finds no room is replaced by later progress.
            let _ = self
                .sender
                .try_send(Ok(message(Event::Progress(progress.into()))));
        }
    }

    fn issue(&self, _issue: &Issue) {}
}

/// What a check has found, as the wire has it.
pub fn check_message(report: CheckReport) -> v1::CheckReport {
    let damage = report.damage.into_iter().map(|damage| v1::Damage {
        object: damage.object,
        kind: damage.kind.as_str().to_owned(),
        snapshots: damage.snapshots.iter().map(ToString::to_string).collect(),
        paths: damage.paths.into_iter().map(Into::into).collect(),
        repairable: damage.repairable,
    });
    let depth = match report.depth {
        CheckDepth::Structure => v1::CheckDepth::Structure,
        CheckDepth::Existence => v1::CheckDepth::Existence,
        CheckDepth::Scrub => v1::CheckDepth::Scrub,
        CheckDepth::Data => v1::CheckDepth::Data,
    };
    v1::CheckReport {
        read_data: report.depth == CheckDepth::Data,
        ok: report.ok,
        objects: report.objects,
        bytes: report.bytes,
        damage: damage.collect(),
        depth: depth.into(),
        resumed_bytes: report.resumed_bytes,
        more_damage: report.more_damage,
        covered: Some(covered_message(report.covered)),
    }
}

/// What checks have read, as the wire has it.
pub(super) fn covered_message(covered: Covered) -> v1::Covered {
    v1::Covered {
        total_bytes: covered.total_bytes,
        read_bytes: covered.read_bytes,
        since_ms: covered.since_ms.unwrap_or_default(),
        damaged_packs: covered.damaged_packs,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_given_is_as_usual() {
        let options = collect_options(v1::CollectOperation::default()).unwrap();
        assert_eq!(options, CollectOptions::default());
    }

    #[test]
    fn a_check_is_as_deep_as_it_is_told() {
        let told = |read_data, depth, sample: &str| {
            let sample = sample.to_owned();
            let (depth, resume) = (i32::from(depth), false);
            check_options(&v1::CheckOperation {
                read_data,
                depth,
                sample,
                resume,
            })
        };
        let unspecified = v1::CheckDepth::Unspecified;
        assert_eq!(told(false, unspecified, ""), Ok(CheckOptions::default()));
        assert_eq!(told(true, unspecified, ""), Ok(CheckOptions::data()));
        let part = told(false, v1::CheckDepth::Scrub, "1/7").unwrap();
        assert_eq!(
            (part.depth, part.sample),
            (CheckDepth::Scrub, Sample::Part { number: 1, of: 7 })
        );
        assert_eq!(
            told(false, unspecified, "8/7").unwrap_err().field,
            "check.sample"
        );
        let unknown = v1::CheckOperation {
            depth: 9,
            ..Default::default()
        };
        assert_eq!(check_options(&unknown).unwrap_err().field, "check.depth");
    }

    #[test]
    fn shares_are_shares() {
        let wanted = |dead_percent, max_removed_percent| v1::CollectOperation {
            dead_percent,
            max_removed_percent,
            ..Default::default()
        };
        let error = collect_options(wanted(100, 1)).unwrap_err();
        assert_eq!(error.field, "collect.dead_percent");
        let error = collect_options(wanted(99, 300)).unwrap_err();
        assert_eq!(error.field, "collect.max_removed_percent");
        let options = collect_options(wanted(99, 100)).unwrap();
        assert_eq!(
            (options.dead_percent, options.max_removed_percent),
            (99, 100)
        );
    }
}
