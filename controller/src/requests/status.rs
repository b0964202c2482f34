//! `ServerStatusRequest`: whether we run, and which version we claim to be.

use orlop_kubernetes::velero::{
    ServerStatusRequest,
    request::{PluginInfo, RequestPhase, ServerStatusRequestStatus},
};

use crate::clock;

/// How long an answer can be read.
const READABLE_MS: i64 = 60_000;

/// What is asked for by name: KOTS wants to see where backups can go, the `velero` command lists all.
const PLUGINS: [(&str, &str); 31] = [
    ("kurl.sh/restore-kotsadm-plugin", "RestoreItemAction"),
    ("replicated.com/hostpath", "ObjectStore"),
    ("replicated.com/nfs", "ObjectStore"),
    ("replicated.com/pvc", "ObjectStore"),
    ("velero.io/aws", "ObjectStore"),
    ("velero.io/crd-remap-version", "BackupItemAction"),
    ("velero.io/pod", "BackupItemAction"),
    ("velero.io/pv", "BackupItemAction"),
    ("velero.io/service-account", "BackupItemAction"),
    ("velero.io/add-pv-from-pvc", "RestoreItemAction"),
    ("velero.io/add-pvc-from-pod", "RestoreItemAction"),
    (
        "velero.io/admission-webhook-configuration",
        "RestoreItemAction",
    ),
    ("velero.io/apiservice", "RestoreItemAction"),
    ("velero.io/change-image-name", "RestoreItemAction"),
    ("velero.io/change-pvc-node-selector", "RestoreItemAction"),
    ("velero.io/change-storage-class", "RestoreItemAction"),
    ("velero.io/cluster-role-bindings", "RestoreItemAction"),
    ("velero.io/crd-preserve-fields", "RestoreItemAction"),
    ("velero.io/init-restore-hook", "RestoreItemAction"),
    ("velero.io/job", "RestoreItemAction"),
    ("velero.io/pod", "RestoreItemAction"),
    ("velero.io/pod-volume-restore", "RestoreItemAction"),
    ("velero.io/role-bindings", "RestoreItemAction"),
    ("velero.io/secret", "RestoreItemAction"),
    ("velero.io/service", "RestoreItemAction"),
    ("velero.io/service-account", "RestoreItemAction"),
    ("velero.io/pod", "ItemBlockAction"),
    ("velero.io/pvc", "ItemBlockAction"),
    ("velero.io/service-account", "ItemBlockAction"),
    ("velero.io/dataupload", "DeleteItemAction"),
    ("velero.io/pvc", "RestoreItemAction"),
];

/// What to do about a request.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Step {
    /// Write this answer.
    Answer(ServerStatusRequestStatus),
    /// Delete it.
    Remove,
    /// Look again then.
    LaterAt(i64),
}

/// Decides; `version` is what we claim to be.
pub(crate) fn next(request: &ServerStatusRequest, version: &str, now_ms: i64) -> Step {
    if request.status.phase != RequestPhase::Processed {
        return Step::Answer(ServerStatusRequestStatus {
            phase: RequestPhase::Processed,
            processed_timestamp: clock::time(now_ms),
            server_version: version.to_owned(),
            plugins: plugins(),
        });
    }
    let then_ms = clock::ms_or_zero(request.status.processed_timestamp.as_ref()) + READABLE_MS;
    if then_ms <= now_ms {
        Step::Remove
    } else {
        Step::LaterAt(then_ms)
    }
}

fn plugins() -> Vec<PluginInfo> {
    let plugin = |(name, kind): (&str, &str)| PluginInfo {
        name: name.to_owned(),
        kind: kind.to_owned(),
    };
    PLUGINS.into_iter().map(plugin).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// 2026-01-02T03:04:05Z
    const NOW: i64 = 1_767_323_045_000;

    #[test]
    fn a_request_is_answered_at_once_and_gone_after_a_minute() {
        let mut request = ServerStatusRequest::default();
        let Step::Answer(status) = next(&request, "v1.16.2+orlop.1", NOW) else {
            panic!("it is new");
        };
        let told = json!(status);
        assert_eq!(told["phase"], "Processed");
        assert_eq!(told["serverVersion"], "v1.16.2+orlop.1");
        assert_eq!(told["processedTimestamp"], "2026-01-02T03:04:05Z");
        let plugins = told["plugins"].as_array().unwrap();
        assert!(plugins.contains(&json!({"name": "velero.io/aws", "kind": "ObjectStore"})));
        request.status = status;
        assert_eq!(
            next(&request, "v", NOW + 59_000),
            Step::LaterAt(NOW + 60_000)
        );
        assert_eq!(next(&request, "v", NOW + 60_000), Step::Remove);
    }
}
