//! What follows from how a restored pod is: pure, so that every story can be tried.

use std::{collections::BTreeSet, time::Duration};

use orlop_core::run::{Place, PodId};
use orlop_kubernetes::velero::GoDuration;
use tokio::time::Instant;

use crate::cluster::{PodState, RestoredPod};

/// First pause between two looks at a pod, and the longest.
const LOOK: Duration = Duration::from_secs(1);
const LOOK_MAX: Duration = Duration::from_secs(10);
/// A pod that is gone is waited for so long: its controller may make it again, and then that is what is to be said.
const GONE_PATIENCE: Duration = Duration::from_secs(15);
/// A pod that has started has all its volumes; that its agent tells so may take a while.
const STARTED_PATIENCE: Duration = Duration::from_mins(10);
/// Reasons of one pod that the log gets.
const REASONS: u32 = 20;
/// What keeps a pod from moving on, and that somebody has to mend, is a warning when it has lasted so long.
const TROUBLE: Duration = Duration::from_secs(30);
/// So is what mostly passes by itself, when it has lasted so long.
const SLOW: Duration = Duration::from_mins(5);
/// Warnings of one pod.
const WARNINGS: usize = 5;

/// A pod whose volumes are not all restored.
#[derive(Debug, Clone)]
pub(super) struct OpenPod {
    /// The pod.
    pub(super) id: PodId,
    /// The same, for who looks at it.
    pub(super) pod: RestoredPod,
    /// Its volumes that are restored, and what was done for all of them.
    pub(super) moved: (u64, u64),
    /// The node that its open tasks are on, if they know.
    pub(super) node: Option<String>,
    /// Whether the agent of that node is connected.
    pub(super) connected: bool,
    /// Whether no open task was begun yet.
    pub(super) untried: bool,
    /// Why the first of its volumes that has failed so far is tried again.
    pub(super) trouble: Option<String>,
}

/// What is to be done about a pod.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// Nothing new.
    Wait,
    /// The log should say this.
    Tell(String),
    /// Somebody should know this.
    Warn(String),
    /// Its tasks may begin here.
    Place(String, Vec<(String, Place)>),
    /// Another pod that waits has its name: it gets the volumes.
    Again(String),
    /// Another pod that does not wait has its name.
    Replaced(String),
    /// Its tasks end.
    Lost(String),
}

/// What is remembered of a pod between two looks.
#[derive(Debug)]
pub(super) struct Watch {
    /// When the next look is due.
    pub(super) next: Instant,
    pause: Duration,
    /// When it last moved on.
    since: Instant,
    moved: (u64, u64),
    gone: Option<Instant>,
    started: Option<Instant>,
    /// Where its tasks were told to begin.
    placed: Option<String>,
    reason: String,
    told: u32,
    /// Since when something keeps it from moving on.
    troubled: Option<Instant>,
    warned: BTreeSet<String>,
}

impl Watch {
    /// A pod that was not looked at before.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            next: now,
            pause: LOOK,
            since: now,
            moved: (0, 0),
            gone: None,
            started: None,
            placed: None,
            reason: String::new(),
            told: 0,
            troubled: None,
            warned: BTreeSet::new(),
        }
    }

    /// Takes in how the pod is. An error is why nobody knows.
    pub(super) fn judge(
        &mut self,
        pod: &OpenPod,
        state: Result<PodState, String>,
        now: Instant,
        limit: Duration,
    ) -> Judgement {
        self.next = now + self.pause;
        self.pause = (self.pause * 3 / 2).min(LOOK_MAX);
        if pod.moved > self.moved {
            self.moved = pod.moved;
            self.since = now;
        }
        if !matches!(state, Ok(PodState::Gone)) {
            self.gone = None;
        }
        let troubled = self.troubled.take();
        let (reason, patience) = match state {
            Err(reason) => (reason, Some(SLOW)),
            Ok(PodState::Gone) => {
                let since = *self.gone.get_or_insert(now);
                if now - since >= GONE_PATIENCE {
                    return Judgement::Lost(gone(&pod.id));
                }
                self.pause = LOOK;
                return Judgement::Wait;
            }
            Ok(PodState::Replaced { uid, waits: true }) => return Judgement::Again(uid),
            Ok(PodState::Replaced { uid, waits: false }) => return Judgement::Replaced(uid),
            Ok(PodState::Ended) => return Judgement::Lost(ended(&pod.id)),
            Ok(PodState::Started) => {
                let since = *self.started.get_or_insert(now);
                if now - since >= STARTED_PATIENCE {
                    return Judgement::Lost(started(&pod.id));
                }
                return Judgement::Wait;
            }
            Ok(PodState::Unscheduled { reason }) => {
                let reason = format!("it is on no node yet{}", because(&reason));
                (reason, Some(TROUBLE))
            }
            Ok(PodState::Starting { node, reason }) => (not_yet(pod, &node, &reason), Some(SLOW)),
            Ok(PodState::Stuck { node, reason }) => (not_yet(pod, &node, &reason), Some(TROUBLE)),
            Ok(PodState::Waiting { node, places }) => {
                let known = pod.node.as_ref() == Some(&node);
                if !known && self.placed.as_ref() != Some(&node) {
                    self.since = now;
                    self.pause = LOOK;
                    self.placed = Some(node.clone());
                    return Judgement::Place(node, places);
                }
                match (known, pod.connected) {
                    (false, _) => (
                        format!("it waits on node {node}, but not all its volumes are found there"),
                        Some(TROUBLE),
                    ),
                    (true, false) => (
                        format!("it waits on node {node}, whose agent is not connected"),
                        Some(TROUBLE),
                    ),
                    // Only its turn has not come.
                    (true, true) if pod.untried => {
                        self.since = now;
                        return Judgement::Wait;
                    }
                    (true, true) => match &pod.trouble {
                        Some(trouble) => (trouble.clone(), Some(TROUBLE)),
                        None => ("its volumes are being restored".to_owned(), None),
                    },
                }
            }
        };
        if now - self.since >= limit {
            return Judgement::Lost(too_long(&pod.id, limit, &reason));
        }
        self.troubled = patience.map(|_| troubled.unwrap_or(now));
        let lasts = self.troubled.map(|since| now - since);
        let warns = lasts
            .zip(patience)
            .is_some_and(|(lasts, patience)| lasts >= patience);
        self.tell(&pod.id, reason, warns)
    }

    /// Says why a pod does not move on, when that is new; louder when it has lasted.
    fn tell(&mut self, pod: &PodId, reason: String, warns: bool) -> Judgement {
        let line = format!("pod {}: {reason}", name(pod));
        let is_new = reason != self.reason;
        if is_new {
            self.pause = LOOK;
            self.reason = reason;
            self.told += 1;
        }
        if warns && self.warned.len() < WARNINGS && self.warned.insert(self.reason.clone()) {
            return Judgement::Warn(line);
        }
        if is_new && self.told <= REASONS {
            return Judgement::Tell(line);
        }
        Judgement::Wait
    }
}

fn name(pod: &PodId) -> String {
    format!("{}/{}", pod.namespace, pod.pod)
}

/// Why a pod whose container does not run does not wait; what its agent says of a volume that was tried says more.
fn not_yet(pod: &OpenPod, node: &str, reason: &str) -> String {
    match &pod.trouble {
        Some(trouble) if pod.node.as_deref() == Some(node) => trouble.clone(),
        _ => format!(
            "it does not wait for its volumes on node {node} yet{}",
            because(reason)
        ),
    }
}

fn because(reason: &str) -> String {
    if reason.is_empty() {
        String::new()
    } else {
        format!(": {reason}")
    }
}

fn gone(pod: &PodId) -> String {
    format!(
        "pod {} was deleted before this volume was restored: delete what was made again of it, and restore again",
        name(pod)
    )
}

fn ended(pod: &PodId) -> String {
    format!(
        "pod {} has ended before this volume was restored: delete it and restore again",
        name(pod)
    )
}

fn started(pod: &PodId) -> String {
    format!(
        "pod {} has started, and its agent has not told within {} how the restore of this volume ended: look at its data",
        name(pod),
        GoDuration::from(STARTED_PATIENCE)
    )
}

fn too_long(pod: &PodId, limit: Duration, reason: &str) -> String {
    format!(
        "pod {} has not moved on for {}: {reason}; once that is mended delete the pod and restore again, or give the \
         restore more time by the annotation velero.io/pod-volume-timeout",
        name(pod),
        GoDuration::from(limit)
    )
}

/// What to say of a volume whose pod was made again without `restore-wait`.
pub(super) fn replaced(pod: &PodId) -> String {
    format!(
        "pod {} was made again by its controller, without restore-wait, before this volume was restored: scale the \
         controller down to 0, delete its claims, and restore again",
        name(pod)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_hours(4);
    const SECOND: Duration = Duration::from_secs(1);

    fn pod() -> OpenPod {
        OpenPod {
            id: PodId {
                namespace: "shop".to_owned(),
                pod: "db-0".to_owned(),
                uid: "1".to_owned(),
            },
            pod: RestoredPod {
                namespace: "shop".to_owned(),
                pod: "db-0".to_owned(),
                uid: "1".to_owned(),
                volumes: Vec::new(),
                hooks: Vec::new(),
            },
            moved: (0, 0),
            node: None,
            connected: true,
            untried: true,
            trouble: None,
        }
    }

    fn unscheduled(reason: &str) -> PodState {
        let reason = reason.to_owned();
        PodState::Unscheduled { reason }
    }

    fn waiting(node: &str) -> PodState {
        PodState::Waiting {
            node: node.to_owned(),
            places: Vec::new(),
        }
    }

    fn lost(judgement: Judgement) -> String {
        match judgement {
            Judgement::Lost(message) => message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_reason_is_told_once_and_named_when_it_took_too_long() {
        let (pod, start) = (pod(), Instant::now());
        let mut watch = Watch::new(start);
        let first = watch.judge(&pod, Ok(unscheduled("no room")), start, LIMIT);
        let text = "pod shop/db-0: it is on no node yet: no room".to_owned();
        assert_eq!(first, Judgement::Tell(text));
        let second = watch.judge(&pod, Ok(unscheduled("no room")), start + SECOND, LIMIT);
        assert_eq!(second, Judgement::Wait);
        let last = watch.judge(&pod, Ok(unscheduled("no room")), start + LIMIT, LIMIT);
        let message = lost(last);
        assert!(
            message.contains("4h0m0s") && message.contains("no room"),
            "{message}"
        );
    }

    #[test]
    fn what_somebody_has_to_mend_is_a_warning_within_a_minute_and_once() {
        let stuck = || PodState::Stuck {
            node: "n".to_owned(),
            reason: "the image x cannot be pulled".to_owned(),
        };
        let (pod, start) = (pod(), Instant::now());
        let mut watch = Watch::new(start);
        let mut warned = Vec::new();
        while watch.next < start + SLOW * 2 {
            let now = watch.next;
            if let Judgement::Warn(line) = watch.judge(&pod, Ok(stuck()), now, LIMIT) {
                assert!(now - start <= Duration::from_mins(1), "{:?}", now - start);
                warned.push(line);
            }
        }
        assert_eq!(warned.len(), 1, "{warned:?}");
        assert!(warned[0].starts_with("pod shop/db-0: ") && warned[0].contains("image x"));
        // It was mended and comes back: the same is not said again, another thing is.
        let now = watch.next;
        let _ = watch.judge(&pod, Ok(waiting("n")), now, LIMIT);
        for second in 0..120 {
            let now = now + SECOND * second;
            let judged = watch.judge(&pod, Ok(stuck()), now, LIMIT);
            assert!(!matches!(judged, Judgement::Warn(_)), "{judged:?}");
        }
        let now = now + SECOND * 120;
        let judged = watch.judge(&pod, Ok(unscheduled("no room")), now, LIMIT);
        assert!(matches!(judged, Judgement::Warn(line) if line.contains("no room")));
    }

    #[test]
    fn a_pod_that_only_starts_slowly_is_no_trouble_for_minutes() {
        let starting = || PodState::Starting {
            node: "n".to_owned(),
            reason: "ContainerCreating".to_owned(),
        };
        let (pod, start) = (pod(), Instant::now());
        let mut watch = Watch::new(start);
        let _ = watch.judge(&pod, Ok(starting()), start, LIMIT);
        let soon = watch.judge(&pod, Ok(starting()), start + TROUBLE * 2, LIMIT);
        assert_eq!(soon, Judgement::Wait);
        let late = watch.judge(&pod, Ok(starting()), start + SLOW, LIMIT);
        assert!(matches!(late, Judgement::Warn(_)), "{late:?}");
    }

    #[test]
    fn why_a_volume_is_tried_again_says_more_than_what_the_kubelet_does_meanwhile() {
        let (mut pod, start) = (pod(), Instant::now());
        (pod.node, pod.untried) = (Some("n".to_owned()), false);
        pod.trouble = Some("volume data: it is full".to_owned());
        let mut watch = Watch::new(start);
        let said = "pod shop/db-0: volume data: it is full".to_owned();
        let first = watch.judge(&pod, Ok(waiting("n")), start, LIMIT);
        assert_eq!(first, Judgement::Tell(said.clone()));
        let stuck = PodState::Stuck {
            node: "n".to_owned(),
            reason: "CrashLoopBackOff".to_owned(),
        };
        let second = watch.judge(&pod, Ok(stuck), start + TROUBLE, LIMIT);
        assert_eq!(second, Judgement::Warn(said));
        let given_up = lost(watch.judge(&pod, Ok(waiting("n")), start + LIMIT, LIMIT));
        assert!(given_up.contains("it is full"), "{given_up}");
    }

    #[test]
    fn looks_become_rarer_until_something_changes() {
        let (pod, start) = (pod(), Instant::now());
        let mut watch = Watch::new(start);
        let mut now = start;
        for _ in 0..20 {
            let _ = watch.judge(&pod, Ok(unscheduled("no room")), now, LIMIT);
            now = watch.next;
        }
        let _ = watch.judge(&pod, Ok(unscheduled("no room")), now, LIMIT);
        assert_eq!(watch.next - now, LOOK_MAX);
        let _ = watch.judge(&pod, Ok(unscheduled("a taint")), now, LIMIT);
        now = watch.next;
        let _ = watch.judge(&pod, Ok(unscheduled("a taint")), now, LIMIT);
        assert_eq!(watch.next - now, LOOK);
    }

    #[test]
    fn a_pod_that_waits_is_placed_and_never_given_up_before_its_turn() {
        let (mut pod, start) = (pod(), Instant::now());
        let mut watch = Watch::new(start);
        let placed = watch.judge(&pod, Ok(waiting("n")), start, LIMIT);
        assert_eq!(placed, Judgement::Place("n".to_owned(), Vec::new()));
        pod.node = Some("n".to_owned());
        let late = start + LIMIT * 3;
        assert_eq!(
            watch.judge(&pod, Ok(waiting("n")), late, LIMIT),
            Judgement::Wait
        );
        let elsewhere = watch.judge(&pod, Ok(waiting("m")), late, LIMIT);
        assert_eq!(elsewhere, Judgement::Place("m".to_owned(), Vec::new()));
        let again = watch.judge(&pod, Ok(waiting("m")), late, LIMIT);
        assert!(matches!(again, Judgement::Tell(text) if text.contains("not all its volumes")));
    }

    #[test]
    fn tries_in_vain_end_some_time_but_not_while_something_moves() {
        let (mut pod, start) = (pod(), Instant::now());
        let mut watch = Watch::new(start);
        pod.node = Some("n".to_owned());
        pod.untried = false;
        pod.moved = (0, 5);
        let _ = watch.judge(&pod, Ok(waiting("n")), start, LIMIT);
        // Another attempt gets as far as the one before.
        pod.moved = (0, 3);
        let _ = watch.judge(&pod, Ok(waiting("n")), start + LIMIT / 2, LIMIT);
        pod.moved = (0, 6);
        let moved = start + LIMIT - SECOND;
        let _ = watch.judge(&pod, Ok(waiting("n")), moved, LIMIT);
        let later = watch.judge(&pod, Ok(waiting("n")), moved + LIMIT - SECOND, LIMIT);
        assert_eq!(later, Judgement::Wait);
        lost(watch.judge(&pod, Ok(waiting("n")), moved + LIMIT, LIMIT));
    }

    #[test]
    fn a_node_without_an_agent_is_named() {
        let (mut pod, start) = (pod(), Instant::now());
        (pod.node, pod.connected) = (Some("n".to_owned()), false);
        let told = Watch::new(start).judge(&pod, Ok(waiting("n")), start, LIMIT);
        assert!(matches!(told, Judgement::Tell(text) if text.contains("node n, whose agent")));
    }

    #[test]
    fn a_pod_that_is_gone_for_a_moment_may_come_back_without_waiting() {
        let (pod, start) = (pod(), Instant::now());
        let mut watch = Watch::new(start);
        assert_eq!(
            watch.judge(&pod, Ok(PodState::Gone), start, LIMIT),
            Judgement::Wait
        );
        let other = PodState::Replaced {
            uid: "2".to_owned(),
            waits: false,
        };
        let judged = watch.judge(&pod, Ok(other), start + SECOND, LIMIT);
        assert_eq!(judged, Judgement::Replaced("2".to_owned()));
        let gone = |now| (Ok(PodState::Gone), now);
        let (state, now) = gone(start + SECOND * 2);
        assert_eq!(watch.judge(&pod, state, now, LIMIT), Judgement::Wait);
        let (state, now) = gone(start + SECOND * 2 + GONE_PATIENCE);
        assert!(lost(watch.judge(&pod, state, now, LIMIT)).contains("was deleted"));
    }

    #[test]
    fn a_pod_that_has_started_is_given_time_to_be_told_of() {
        let (pod, start) = (pod(), Instant::now());
        let mut watch = Watch::new(start);
        let started = || Ok(PodState::Started);
        assert_eq!(watch.judge(&pod, started(), start, LIMIT), Judgement::Wait);
        let late = start + STARTED_PATIENCE;
        assert!(lost(watch.judge(&pod, started(), late, LIMIT)).contains("look at its data"));
        assert!(lost(watch.judge(&pod, Ok(PodState::Ended), late, LIMIT)).contains("has ended"));
    }

    #[test]
    fn an_api_that_does_not_answer_is_told_of_and_waited_for() {
        let (pod, start) = (pod(), Instant::now());
        let mut watch = Watch::new(start);
        let error = || Err("the API server is unavailable".to_owned());
        let told = watch.judge(&pod, error(), start, LIMIT);
        assert!(matches!(told, Judgement::Tell(_)), "{told:?}");
        assert_eq!(
            watch.judge(&pod, error(), start + SECOND, LIMIT),
            Judgement::Wait
        );
        assert_eq!(
            watch.judge(
                &pod,
                Ok(PodState::Replaced {
                    uid: "2".to_owned(),
                    waits: true
                }),
                start,
                LIMIT
            ),
            Judgement::Again("2".to_owned())
        );
    }
}
