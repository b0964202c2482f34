//! What a pod's annotations say of its volumes and hooks.

use k8s_openapi::api::core::v1::Pod;
use orlop_core::{Chunking, ParseChunkingError};

/// Annotation of ours on a pod: `Fail` makes a pre hook that says nothing about its failure leave the pod's volumes
/// out. Velero documents this as the default but does the opposite.
pub const ON_ERROR: &str = "orlop.io/on-error";

/// Annotation of ours on a pod: `true` ends a hook whose time is over. Velero leaves it running.
pub const HOOK_KILL: &str = "orlop.io/hook-kill";

/// Annotation of ours on a pod: how the large files of its volumes are cut: `page`, `fine`, `content` or `auto`.
pub const CHUNKING: &str = "orlop.io/chunking";

/// How the large files of the pod's volumes are cut.
///
/// # Errors
/// The annotation has another word.
pub(super) fn chunking(pod: &Pod) -> Result<Chunking, ParseChunkingError> {
    match get(pod, CHUNKING) {
        "" => Ok(Chunking::Auto),
        word => word.parse(),
    }
}

/// Whether the pod's hooks are ended when their time is over.
pub fn kills_hooks(pod: &Pod) -> bool {
    get(pod, HOOK_KILL) == "true"
}

/// The last part of the annotations of a hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HookKey {
    Command,
    Container,
    OnError,
    Timeout,
}

impl HookKey {
    fn as_str(self) -> &'static str {
        match self {
            Self::Command => "command",
            Self::Container => "container",
            Self::OnError => "on-error",
            Self::Timeout => "timeout",
        }
    }
}

/// The annotation of a hook; `prefix` is `pre.`, `post.` or, for older pods, empty.
pub(super) fn hook_key(prefix: &str, key: HookKey) -> String {
    format!("{prefix}hook.backup.velero.io/{}", key.as_str())
}

/// An annotation's value without spaces around it; empty if there is none.
pub(crate) fn get<'a>(pod: &'a Pod, key: &str) -> &'a str {
    let annotations = pod.metadata.annotations.as_ref();
    annotations
        .and_then(|annotations| annotations.get(key))
        .map_or("", |value| value.trim())
}

/// The names of a list that commas separate, each once and without spaces around it.
pub(super) fn names(list: &str) -> Vec<&str> {
    let mut names = Vec::new();
    for name in list.split(',').map(str::trim) {
        if !name.is_empty() && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spaces_empty_names_and_repetitions_do_no_harm() {
        assert_eq!(names(" data, logs,,data ,"), ["data", "logs"]);
        assert!(names(" , ").is_empty());
    }
}
