//! Commands to run in pods around a backup or after a restore, as the specs of both carry them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde_json::Value;

use super::{
    duration::GoDuration,
    shape::{object, words},
};

words! {
    /// What follows when a hook fails.
    pub enum HookErrorMode {
        /// The failure is recorded and the work goes on.
        Continue = "Continue",
        /// The pod is left out.
        Fail = "Fail",
    }
}

object! {
    /// A command to run in a container.
    pub struct ExecHook {
        /// The container; the pod's first one if empty.
        container: String = "container";
        /// The program and its arguments; no shell splits or expands them.
        command: Vec<String> = "command", required, not_empty;
        /// What follows when the command fails.
        on_error: HookErrorMode = "onError";
        /// How long the command may take; 30 s if not set.
        timeout: GoDuration = "timeout";
    }
}

object! {
    /// One hook of a backup.
    pub struct BackupResourceHook {
        /// The command.
        exec: ExecHook = "exec", required;
    }
}

object! {
    /// Hooks for the pods that a backup takes and that match.
    pub struct BackupResourceHookSpec {
        /// A name, for logs.
        name: String = "name", required;
        /// Namespaces of the pods; all if empty.
        included_namespaces: Vec<String> = "includedNamespaces", nullable;
        /// Namespaces whose pods do not match.
        excluded_namespaces: Vec<String> = "excludedNamespaces", nullable;
        /// Kinds of objects; only pods are of use.
        included_resources: Vec<String> = "includedResources", nullable;
        /// Kinds of objects that do not match.
        excluded_resources: Vec<String> = "excludedResources", nullable;
        /// Labels of the pods.
        label_selector: Option<LabelSelector> = "labelSelector", nullable;
        /// Commands to run before the pod's volumes are backed up, in this order.
        pre: Vec<BackupResourceHook> = "pre";
        /// Commands to run after the pod's volumes are backed up, in this order.
        post: Vec<BackupResourceHook> = "post";
    }
}

object! {
    /// The hooks of a backup.
    pub struct BackupHooks {
        /// Hooks by the pods that they are for, in the order in which they run.
        resources: Vec<BackupResourceHookSpec> = "resources", nullable;
    }
}

object! {
    /// A command to run in a restored pod once its container runs.
    pub struct ExecRestoreHook {
        /// The container; the pod's first one if empty.
        container: String = "container";
        /// The program and its arguments; no shell splits or expands them.
        command: Vec<String> = "command", required, not_empty;
        /// What follows when the command fails.
        on_error: HookErrorMode = "onError";
        /// How long the command may take; 30 s if not set.
        exec_timeout: GoDuration = "execTimeout";
        /// How long to wait for the container; for ever if not set.
        wait_timeout: GoDuration = "waitTimeout";
        /// Whether to wait until the container is ready rather than running.
        wait_for_ready: Option<bool> = "waitForReady", nullable;
    }
}

object! {
    /// Init containers to add to a restored pod.
    pub struct InitRestoreHook {
        /// The containers, as a pod's spec has them; name, image and command are needed.
        init_containers: Vec<Value> = "initContainers", raw_items;
        /// Read but not used.
        timeout: GoDuration = "timeout";
    }
}

object! {
    /// One hook of a restore: one of the two.
    pub struct RestoreResourceHook {
        /// A command to run in a container.
        exec: Option<ExecRestoreHook> = "exec";
        /// Init containers to add.
        init: Option<InitRestoreHook> = "init";
    }
}

object! {
    /// Hooks for the pods that a restore creates and that match.
    pub struct RestoreResourceHookSpec {
        /// A name, for logs.
        name: String = "name", required;
        /// Namespaces of the pods after mapping; all if empty.
        included_namespaces: Vec<String> = "includedNamespaces", nullable;
        /// Namespaces whose pods do not match.
        excluded_namespaces: Vec<String> = "excludedNamespaces", nullable;
        /// Kinds of objects; only pods are of use.
        included_resources: Vec<String> = "includedResources", nullable;
        /// Kinds of objects that do not match.
        excluded_resources: Vec<String> = "excludedResources", nullable;
        /// Labels of the pods.
        label_selector: Option<LabelSelector> = "labelSelector", nullable;
        /// What to run, in this order.
        post_hooks: Vec<RestoreResourceHook> = "postHooks";
    }
}

object! {
    /// The hooks of a restore.
    pub struct RestoreHooks {
        /// Hooks by the pods that they are for.
        resources: Vec<RestoreResourceHookSpec> = "resources";
    }
}

object! {
    /// How many hooks there were.
    pub struct HookStatus {
        /// Hooks that were to run, those that did not come to it included.
        hooks_attempted: i32 = "hooksAttempted";
        /// Hooks that failed.
        hooks_failed: i32 = "hooksFailed";
    }
}
