//! The hooks that run around the backup of a pod: those of its annotations, else those that the backup names.

use std::time::Duration;

use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::LabelSelector};
use orlop_core::hook::{DEFAULT_TIMEOUT, Hook, HookPhase, HookSource, OnError, PodHooks};

use super::{
    annotations::{self, HookKey, hook_key},
    labels,
    lists::NameFilter,
    resources::ResourceKind,
    volumes::running_containers,
};
use crate::velero::{
    BackupSpec, ExecHook, GoDuration, HookErrorMode,
    hooks::{BackupResourceHook, BackupResourceHookSpec},
};

/// The name of a hook that has none of its own.
pub(crate) const FROM_ANNOTATION: &str = "<from-annotation>";

/// The hooks of a pod, and what should be said about them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PodHookPlan {
    /// The hooks. One whose container does not exist is among them: it fails when it is to run.
    pub hooks: PodHooks,
    /// One line each.
    pub warnings: Vec<String>,
}

/// The hooks of a pod that is in the backup.
///
/// An annotation of a phase replaces all hooks of the backup for that phase. The older annotations without a phase
/// count as those of pre hooks where there are none. A pod that has ended has no hooks: nothing in it can run.
pub fn pod_hooks(pod: &Pod, spec: &BackupSpec) -> PodHookPlan {
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    let mut plan = PodHookPlan::default();
    if matches!(phase, Some("Succeeded" | "Failed")) {
        return plan;
    }
    let mut collect = HookReader::new(pod);
    let pre = collect.annotated("pre.", HookPhase::Pre);
    let pre = pre.or_else(|| collect.annotated("", HookPhase::Pre));
    let post = collect.annotated("post.", HookPhase::Post);
    let of_backup: Vec<&BackupResourceHookSpec> = spec
        .hooks
        .resources
        .iter()
        .filter(|hooks| is_for(hooks, pod))
        .collect();
    plan.hooks.pre = pre.unwrap_or_else(|| collect.specified(&of_backup, HookPhase::Pre));
    plan.hooks.post = post.unwrap_or_else(|| collect.specified(&of_backup, HookPhase::Post));
    plan.warnings = collect.warnings;
    plan
}

/// Which pods the hooks of a spec are meant for. Each pair is what is included and what is excluded.
pub(crate) struct HookScope<'a> {
    /// Names of namespaces.
    pub(crate) namespaces: (&'a [String], &'a [String]),
    /// Names of kinds.
    pub(crate) resources: (&'a [String], &'a [String]),
    /// Labels; `None` for all pods.
    pub(crate) selector: Option<&'a LabelSelector>,
}

impl HookScope<'_> {
    /// Whether they are meant for this pod.
    pub(crate) fn has(&self, pod: &Pod) -> bool {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let of_pod = pod.metadata.labels.clone().unwrap_or_default();
        let pods = ResourceKind::pods();
        let ((included, excluded), resources) = (self.namespaces, self.resources);
        NameFilter::new(included, excluded).selects(namespace)
            && NameFilter::ignoring_empty(resources.0, resources.1)
                .selects_by(|name| pods.is_called(name))
            && self
                .selector
                .is_none_or(|selector| labels::matches(selector, &of_pod))
    }
}

/// Whether the hooks of a backup's spec are meant for this pod.
fn is_for(hooks: &BackupResourceHookSpec, pod: &Pod) -> bool {
    let scope = HookScope {
        namespaces: (&hooks.included_namespaces, &hooks.excluded_namespaces),
        resources: (&hooks.included_resources, &hooks.excluded_resources),
        selector: hooks.label_selector.as_ref(),
    };
    scope.has(pod)
}

/// Reads what annotations and specs say of a pod's hooks, and remembers what is wrong with it.
pub(crate) struct HookReader<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) warnings: Vec<String>,
}

impl<'a> HookReader<'a> {
    pub(crate) fn new(pod: &'a Pod) -> Self {
        let warnings = Vec::new();
        Self { pod, warnings }
    }

    pub(crate) fn warn(&mut self, text: &str) {
        let name = self.pod.metadata.name.as_deref().unwrap_or_default();
        let namespace = self.pod.metadata.namespace.as_deref().unwrap_or_default();
        self.warnings
            .push(format!("pod {namespace}/{name}: {text}"));
    }

    /// The hook of the annotations that begin with `prefix`; `None` if they name no command.
    fn annotated(&mut self, prefix: &str, phase: HookPhase) -> Option<Vec<Hook>> {
        let key = |key| hook_key(prefix, key);
        let value = |name: &str| annotations::get(self.pod, name).to_owned();
        let command = value(&key(HookKey::Command));
        if command.is_empty() {
            return None;
        }
        let command = self.command(&key(HookKey::Command), &command);
        let timeout = key(HookKey::Timeout);
        let timeout = self.timeout_text(&timeout, &value(&timeout));
        let on_error = key(HookKey::OnError);
        let on_error = self.on_error_text(&on_error, &value(&on_error));
        let container = self.container(&value(&key(HookKey::Container)));
        Some(vec![Hook {
            name: FROM_ANNOTATION.to_owned(),
            container,
            command,
            on_error: on_error.or_else(|| self.default_on_error()),
            timeout,
            kill: annotations::kills_hooks(self.pod),
            source: HookSource::Annotation,
            phase,
        }])
    }

    fn specified(&mut self, all: &[&BackupResourceHookSpec], phase: HookPhase) -> Vec<Hook> {
        let mut hooks = Vec::new();
        for spec in all {
            let list: &[BackupResourceHook] = match phase {
                HookPhase::Pre => &spec.pre,
                HookPhase::Post => &spec.post,
            };
            for hook in list {
                let exec = &hook.exec;
                if exec.command.is_empty() {
                    self.warn(&format!(
                        "the hook {:?} of the backup has no command",
                        spec.name
                    ));
                    continue;
                }
                hooks.push(self.of_spec(&spec.name, exec, phase));
            }
        }
        hooks
    }

    fn of_spec(&mut self, name: &str, exec: &ExecHook, phase: HookPhase) -> Hook {
        let what = format!("onError of the hook {name:?} of the backup");
        let on_error = match &exec.on_error {
            HookErrorMode::Continue => Some(OnError::Continue),
            HookErrorMode::Fail => Some(OnError::Fail),
            HookErrorMode::Unset => None,
            HookErrorMode::Other(text) => self.on_error_text(&what, text),
        };
        let what = format!("timeout of the hook {name:?} of the backup");
        Hook {
            name: name.to_owned(),
            container: self.container(&exec.container),
            command: exec.command.clone(),
            on_error: on_error.or_else(|| self.default_on_error()),
            timeout: self.timeout(&what, exec.timeout),
            kill: annotations::kills_hooks(self.pod),
            source: HookSource::Spec,
            phase,
        }
    }

    /// A JSON list of words; anything else is the program's name as a whole.
    pub(crate) fn command(&mut self, key: &str, text: &str) -> Vec<String> {
        if text.starts_with('[') {
            match serde_json::from_str::<Vec<String>>(text) {
                Ok(words) if !words.is_empty() => return words,
                _ => self.warn(&format!(
                    "{key} begins with a bracket but is no JSON list of words; it is taken for the name of a program"
                )),
            }
        } else if text.contains(char::is_whitespace) {
            self.warn(&format!(
                "{key} has spaces, but no shell splits it: it is the name of one program; write a JSON list such as \
                 [\"/bin/sh\", \"-c\", \"…\"]"
            ));
        }
        vec![text.to_owned()]
    }

    pub(crate) fn timeout_text(&mut self, key: &str, text: &str) -> Duration {
        if text.is_empty() {
            return DEFAULT_TIMEOUT;
        }
        match text.parse::<GoDuration>() {
            Ok(duration) => self.timeout(key, duration),
            Err(error) => {
                self.warn(&format!("{key}: {error}; it is 30s"));
                DEFAULT_TIMEOUT
            }
        }
    }

    /// No time at all stands for the default.
    pub(crate) fn timeout(&mut self, what: &str, duration: GoDuration) -> Duration {
        match duration.to_std() {
            Some(Duration::ZERO) => DEFAULT_TIMEOUT,
            Some(timeout) => timeout,
            None => {
                self.warn(&format!("{what} is negative; it is 30s"));
                DEFAULT_TIMEOUT
            }
        }
    }

    pub(crate) fn on_error_text(&mut self, what: &str, text: &str) -> Option<OnError> {
        match text {
            "" => None,
            "Fail" => Some(OnError::Fail),
            "Continue" => Some(OnError::Continue),
            other => {
                self.warn(&format!(
                    "{what} is {other:?}, neither Fail nor Continue; it is as if it were not there"
                ));
                None
            }
        }
    }

    /// What follows a failure that nobody speaks of, by our own annotation.
    fn default_on_error(&self) -> Option<OnError> {
        (annotations::get(self.pod, annotations::ON_ERROR) == "Fail").then_some(OnError::Fail)
    }

    /// The container, the first one if none is named.
    pub(crate) fn container(&mut self, named: &str) -> String {
        let spec = self.pod.spec.as_ref();
        let mut names = spec
            .into_iter()
            .flat_map(running_containers)
            .map(|c| c.name.as_str());
        if named.is_empty() {
            return names.next().unwrap_or_default().to_owned();
        }
        if !names.any(|name| name == named) {
            self.warn(&format!(
                "a hook names the container {named:?}, which the pod does not have"
            ));
        }
        named.to_owned()
    }
}

#[cfg(test)]
#[path = "hooks_tests.rs"]
mod tests;
