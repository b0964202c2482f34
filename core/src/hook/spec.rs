//! What a hook is.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How long a hook may take when nobody says.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// When a hook runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HookPhase {
    /// Before the pod's volumes are read.
    Pre,
    /// After they were read, whatever became of that.
    Post,
}

impl HookPhase {
    /// The word in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pre => "pre",
            Self::Post => "post",
        }
    }
}

/// Where a hook was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HookSource {
    /// On the pod itself.
    Annotation,
    /// In what somebody asked the backup to do.
    Spec,
}

impl HookSource {
    /// The word in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Annotation => "annotation",
            Self::Spec => "backupSpec",
        }
    }
}

/// What follows when a hook fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// The error is recorded and the pod is backed up.
    Continue,
    /// The error is recorded and the pod's volumes are left out.
    Fail,
}

impl OnError {
    /// The word in specs and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Continue => "Continue",
            Self::Fail => "Fail",
        }
    }
}

/// A command that runs in a container of a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// A name for people; several hooks may have the same.
    pub name: String,
    /// The container.
    pub container: String,
    /// The program and its arguments, never empty; no shell splits or expands them.
    pub command: Vec<String>,
    /// What follows when it fails; `None` if nobody said, which means [`OnError::Continue`].
    pub on_error: Option<OnError>,
    /// How long it may take. It is not killed after that, only not waited for, unless `kill` says so.
    pub timeout: Duration,
    /// Whether it is ended when its time is over, as far as its container lets that be done.
    #[serde(default)]
    pub kill: bool,
    /// Where it was found.
    pub source: HookSource,
    /// When it runs.
    pub phase: HookPhase,
}

impl Hook {
    /// Whether its failure leaves the pod's volumes out.
    pub fn fails_pod(&self) -> bool {
        self.phase == HookPhase::Pre && self.on_error == Some(OnError::Fail)
    }
}

/// The hooks of one pod, each list in the order in which they run.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PodHooks {
    /// Before its volumes.
    pub pre: Vec<Hook>,
    /// After its volumes.
    pub post: Vec<Hook>,
}

impl PodHooks {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.pre.is_empty() && self.post.is_empty()
    }
}

/// A hook of the container `app`.
#[cfg(test)]
pub(crate) fn sample(name: &str, phase: HookPhase, on_error: Option<OnError>) -> Hook {
    Hook {
        name: name.to_owned(),
        container: "app".to_owned(),
        command: vec!["/bin/sync".to_owned()],
        on_error,
        timeout: DEFAULT_TIMEOUT,
        kill: false,
        source: HookSource::Annotation,
        phase,
    }
}
