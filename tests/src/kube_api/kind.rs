//! What the server serves: kinds of objects, and where each is found.

use std::sync::Arc;

use super::schema::Schema;

/// A kind of objects in one version of its group.
#[derive(Debug, Clone)]
#[allow(
    clippy::struct_excessive_bools,
    clippy::struct_field_names,
    reason = "each is a trait of its own that kinds have or lack, and a kind is what they call a kind"
)]
pub(super) struct Kind {
    pub(super) group: String,
    pub(super) version: String,
    pub(super) kind: String,
    pub(super) plural: String,
    pub(super) singular: String,
    pub(super) short: Vec<String>,
    pub(super) categories: Vec<String>,
    pub(super) namespaced: bool,
    /// Whether `/status` is written apart from the rest.
    pub(super) status: bool,
    /// Whether changes outside metadata and status are counted.
    pub(super) generation: bool,
    /// Whether a CustomResourceDefinition brought it.
    pub(super) custom: bool,
    /// Whether objects are kept; reviews are only answered.
    pub(super) stored: bool,
    pub(super) schema: Option<Schema>,
}

impl Kind {
    /// `v1` or `group/version`.
    pub(super) fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// `pods` or `backups.velero.io`, as error messages and `kubectl` say it.
    pub(super) fn full_name(&self) -> String {
        dotted(&self.plural, &self.group)
    }

    /// `Pod` or `Backup.velero.io`, as messages about invalid objects say it.
    pub(super) fn full_kind(&self) -> String {
        dotted(&self.kind, &self.group)
    }

    /// Where objects of all versions of the kind are kept.
    pub(super) fn place(&self) -> Place {
        Place {
            group: self.group.clone(),
            plural: self.plural.clone(),
        }
    }

    pub(super) fn is(&self, group: &str, plural: &str) -> bool {
        self.group == group && self.plural == plural
    }
}

fn dotted(name: &str, group: &str) -> String {
    if group.is_empty() {
        name.to_owned()
    } else {
        format!("{name}.{group}")
    }
}

/// A kind without its version: versions share their objects.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) group: String,
    pub(super) plural: String,
}

/// All kinds that are served, in the order of discovery.
#[derive(Debug, Clone)]
pub(super) struct Kinds(Vec<Arc<Kind>>);

impl Kinds {
    pub(super) fn all(&self) -> &[Arc<Kind>] {
        &self.0
    }

    pub(super) fn find(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Kind>> {
        self.0
            .iter()
            .find(|kind| kind.is(group, plural) && kind.version == version)
    }

    /// By `apiVersion` and `kind` of an object.
    pub(super) fn of_object(&self, api_version: &str, name: &str) -> Option<&Arc<Kind>> {
        self.0
            .iter()
            .find(|kind| kind.kind == name && kind.api_version() == api_version)
    }

    /// By `pods` or `backups.velero.io`.
    pub(super) fn named(&self, full_name: &str) -> Option<&Arc<Kind>> {
        self.0.iter().find(|kind| kind.full_name() == full_name)
    }

    /// Puts a custom kind's versions in the place of those it had.
    pub(super) fn replace(&mut self, place: &Place, kinds: Vec<Kind>) {
        self.0.retain(|kind| !kind.custom || kind.place() != *place);
        self.0.extend(kinds.into_iter().map(Arc::new));
    }

    /// The kinds that the server has by itself.
    pub(super) fn builtin() -> Self {
        Self(BUILTIN.iter().map(|one| Arc::new(one.kind())).collect())
    }
}

const NAMESPACED: u8 = 1;
const STATUS: u8 = 2;
const GENERATION: u8 = 4;
const ANSWERED: u8 = 8;
const WORKLOAD: u8 = NAMESPACED | STATUS | GENERATION;

/// Group, version, kind, plural, short name, traits.
struct Builtin(
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    u8,
);

const AUTHENTICATION: &str = "authentication.k8s.io";
const AUTHORIZATION: &str = "authorization.k8s.io";
const EXTENSIONS: &str = "apiextensions.k8s.io";
const RBAC: &str = "rbac.authorization.k8s.io";

#[rustfmt::skip]
const BUILTIN: [Builtin; 41] = [
    Builtin("", "v1", "Namespace", "namespaces", "ns", STATUS),
    Builtin("", "v1", "Pod", "pods", "po", NAMESPACED | STATUS),
    Builtin("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims", "pvc", NAMESPACED | STATUS),
    Builtin("", "v1", "PersistentVolume", "persistentvolumes", "pv", STATUS),
    Builtin("", "v1", "Service", "services", "svc", NAMESPACED | STATUS),
    Builtin("", "v1", "Secret", "secrets", "", NAMESPACED),
    Builtin("", "v1", "ConfigMap", "configmaps", "cm", NAMESPACED),
    Builtin("", "v1", "ServiceAccount", "serviceaccounts", "sa", NAMESPACED),
    Builtin("", "v1", "Node", "nodes", "no", STATUS),
    Builtin("", "v1", "Event", "events", "ev", NAMESPACED),
    Builtin("", "v1", "Endpoints", "endpoints", "ep", NAMESPACED),
    Builtin("", "v1", "LimitRange", "limitranges", "limits", NAMESPACED),
    Builtin("", "v1", "ResourceQuota", "resourcequotas", "quota", NAMESPACED | STATUS),
    Builtin("apps", "v1", "Deployment", "deployments", "deploy", WORKLOAD),
    Builtin("apps", "v1", "StatefulSet", "statefulsets", "sts", WORKLOAD),
    Builtin("apps", "v1", "DaemonSet", "daemonsets", "ds", WORKLOAD),
    Builtin("apps", "v1", "ReplicaSet", "replicasets", "rs", WORKLOAD),
    Builtin("apps", "v1", "ControllerRevision", "controllerrevisions", "", NAMESPACED),
    Builtin("batch", "v1", "Job", "jobs", "", WORKLOAD),
    Builtin("batch", "v1", "CronJob", "cronjobs", "cj", WORKLOAD),
    Builtin(RBAC, "v1", "Role", "roles", "", NAMESPACED),
    Builtin(RBAC, "v1", "RoleBinding", "rolebindings", "", NAMESPACED),
    Builtin(RBAC, "v1", "ClusterRole", "clusterroles", "", 0),
    Builtin(RBAC, "v1", "ClusterRoleBinding", "clusterrolebindings", "", 0),
    Builtin("storage.k8s.io", "v1", "StorageClass", "storageclasses", "sc", 0),
    Builtin("storage.k8s.io", "v1", "CSIDriver", "csidrivers", "", 0),
    Builtin("storage.k8s.io", "v1", "VolumeAttachment", "volumeattachments", "", STATUS),
    Builtin("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices", "", NAMESPACED),
    Builtin("coordination.k8s.io", "v1", "Lease", "leases", "", NAMESPACED),
    Builtin("networking.k8s.io", "v1", "Ingress", "ingresses", "ing", WORKLOAD),
    Builtin("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies", "netpol", NAMESPACED | GENERATION),
    Builtin("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets", "pdb", WORKLOAD),
    Builtin("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers", "hpa", NAMESPACED | STATUS),
    Builtin(EXTENSIONS, "v1", "CustomResourceDefinition", "customresourcedefinitions", "crd", STATUS | GENERATION),
    Builtin("scheduling.k8s.io", "v1", "PriorityClass", "priorityclasses", "pc", 0),
    Builtin("events.k8s.io", "v1", "Event", "events", "ev", NAMESPACED),
    Builtin(AUTHENTICATION, "v1", "TokenReview", "tokenreviews", "", ANSWERED),
    Builtin(AUTHENTICATION, "v1", "SelfSubjectReview", "selfsubjectreviews", "", ANSWERED),
    Builtin(AUTHORIZATION, "v1", "SubjectAccessReview", "subjectaccessreviews", "", ANSWERED),
    Builtin(AUTHORIZATION, "v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews", "", ANSWERED),
    Builtin(AUTHORIZATION, "v1", "LocalSubjectAccessReview", "localsubjectaccessreviews", "", ANSWERED | NAMESPACED),
];

impl Builtin {
    fn kind(&self) -> Kind {
        let Self(group, version, kind, plural, short, traits) = *self;
        let has = |one: u8| traits & one != 0;
        Kind {
            group: group.to_owned(),
            version: version.to_owned(),
            kind: kind.to_owned(),
            plural: plural.to_owned(),
            singular: kind.to_lowercase(),
            short: (!short.is_empty())
                .then(|| short.to_owned())
                .into_iter()
                .collect(),
            categories: Vec::new(),
            namespaced: has(NAMESPACED),
            status: has(STATUS),
            generation: has(GENERATION),
            custom: false,
            stored: !has(ANSWERED),
            schema: None,
        }
    }
}
