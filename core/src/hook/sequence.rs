//! What a pod's backup does next: its pre hooks, its volumes, its post hooks.
//!
//! Every failure is an error of the backup, which then ends partially failed. Only a pre hook that says `Fail` keeps
//! the volumes from being read, and the pre hooks after it from running. Post hooks run in any case, all of them:
//! what a first pre hook has frozen must thaw although a second one failed.

use serde::{Deserialize, Serialize};

use super::spec::{Hook, PodHooks};

/// How a hook has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HookOutcome {
    /// Its command ended with 0 in time.
    Succeeded,
    /// It did not, or could not be started.
    Failed,
}

/// What one pod's backup has done so far.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PodProgress {
    /// Pre hooks that have ended, in order.
    pub pre: Vec<HookOutcome>,
    /// Whether all its volumes have ended, whichever way.
    pub volumes: bool,
    /// Post hooks that have ended, in order.
    pub post: Vec<HookOutcome>,
}

/// What a pod's backup does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<'a> {
    /// Run this hook and record how it ends.
    Run(&'a Hook),
    /// Read all its volumes at once and record their end.
    Volumes,
    /// Nothing more.
    Done {
        /// Whether its volumes were left out because of a hook.
        volumes_left_out: bool,
    },
}

/// How many hooks there were.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HookTally {
    /// Hooks that have ended, and those that will not run because one before them failed.
    pub attempted: u32,
    /// Hooks that have failed.
    pub failed: u32,
}

/// The next step of a pod with these hooks. The same progress always gives the same step.
pub fn next_step<'a>(hooks: &'a PodHooks, progress: &PodProgress) -> Step<'a> {
    let left_out = leaves_volumes_out(hooks, progress);
    if !left_out {
        if let Some(hook) = hooks.pre.get(progress.pre.len()) {
            return Step::Run(hook);
        }
        if !progress.volumes {
            return Step::Volumes;
        }
    }
    match hooks.post.get(progress.post.len()) {
        Some(hook) => Step::Run(hook),
        None => Step::Done {
            volumes_left_out: left_out,
        },
    }
}

/// The count of a pod's hooks.
pub fn tally(hooks: &PodHooks, progress: &PodProgress) -> HookTally {
    let ended = progress.pre.iter().chain(&progress.post);
    let pre = if leaves_volumes_out(hooks, progress) {
        hooks.pre.len()
    } else {
        progress.pre.len()
    };
    HookTally {
        attempted: (pre + progress.post.len()) as u32,
        failed: ended.filter(|end| **end == HookOutcome::Failed).count() as u32,
    }
}

fn leaves_volumes_out(hooks: &PodHooks, progress: &PodProgress) -> bool {
    hooks
        .pre
        .iter()
        .zip(&progress.pre)
        .any(|(hook, end)| *end == HookOutcome::Failed && hook.fails_pod())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hook::{HookPhase, OnError, sample as hook};
    use HookOutcome::{Failed, Succeeded};

    /// Two pre hooks, of which the first says `on_error`, and two post hooks that say Fail.
    fn hooks(on_error: Option<OnError>) -> PodHooks {
        PodHooks {
            pre: vec![
                hook("freeze", HookPhase::Pre, on_error),
                hook("dump", HookPhase::Pre, None),
            ],
            post: vec![
                hook("thaw", HookPhase::Post, Some(OnError::Fail)),
                hook("tidy", HookPhase::Post, Some(OnError::Fail)),
            ],
        }
    }

    /// Names of the steps when the hooks named in `failing` fail.
    fn steps(hooks: &PodHooks, failing: &[&str]) -> (Vec<String>, HookTally) {
        let mut progress = PodProgress::default();
        let mut names = Vec::new();
        loop {
            match next_step(hooks, &progress) {
                Step::Run(hook) => {
                    names.push(hook.name.clone());
                    let end = if failing.contains(&hook.name.as_str()) {
                        Failed
                    } else {
                        Succeeded
                    };
                    match hook.phase {
                        HookPhase::Pre => progress.pre.push(end),
                        HookPhase::Post => progress.post.push(end),
                    }
                }
                Step::Volumes => {
                    names.push("volumes".to_owned());
                    progress.volumes = true;
                }
                Step::Done { volumes_left_out } => {
                    assert_ne!(volumes_left_out, names.contains(&"volumes".to_owned()));
                    return (names, tally(hooks, &progress));
                }
            }
        }
    }

    fn counted(attempted: u32, failed: u32) -> HookTally {
        HookTally { attempted, failed }
    }

    #[test]
    fn hooks_run_around_the_volumes_in_order() {
        let (names, tally) = steps(&hooks(None), &[]);
        assert_eq!(names, ["freeze", "dump", "volumes", "thaw", "tidy"]);
        assert_eq!(tally, counted(4, 0));
        assert_eq!(steps(&PodHooks::default(), &[]).0, ["volumes"]);
    }

    #[test]
    fn a_failure_without_a_word_about_it_is_recorded_and_the_pod_backed_up() {
        for on_error in [None, Some(OnError::Continue)] {
            let (names, tally) = steps(&hooks(on_error), &["freeze"]);
            assert_eq!(names, ["freeze", "dump", "volumes", "thaw", "tidy"]);
            assert_eq!(tally, counted(4, 1));
        }
    }

    #[test]
    fn a_pre_hook_that_says_fail_leaves_the_volumes_out_but_never_the_post_hooks() {
        let (names, tally) = steps(&hooks(Some(OnError::Fail)), &["freeze"]);
        assert_eq!(names, ["freeze", "thaw", "tidy"]);
        assert_eq!(tally, counted(4, 1));
    }

    #[test]
    fn a_post_hook_that_fails_stops_no_other() {
        let (names, tally) = steps(&hooks(None), &["thaw"]);
        assert_eq!(names, ["freeze", "dump", "volumes", "thaw", "tidy"]);
        assert_eq!(tally, counted(4, 1));
    }

    #[test]
    fn a_restart_goes_on_where_it_was() {
        let hooks = hooks(None);
        let progress = PodProgress {
            pre: vec![Succeeded, Succeeded],
            volumes: true,
            post: vec![Succeeded],
        };
        let text = serde_json::to_string(&progress).unwrap();
        let read: PodProgress = serde_json::from_str(&text).unwrap();
        assert!(matches!(next_step(&hooks, &read), Step::Run(hook) if hook.name == "tidy"));
    }
}
