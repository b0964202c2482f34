//! What is done about a pod that its controller has made again without `restore-wait`.

use std::collections::BTreeSet;

use orlop_core::run::{PodId, RestoreEvent};
use orlop_proto::v1::LogLevel;

use super::{Restoring, judge::replaced};

/// Pods that were dealt with: each name once, for its controller would only make it again.
#[derive(Debug, Default)]
pub(super) struct Evicted(BTreeSet<(String, String)>);

impl Restoring<'_> {
    /// The pod `id` is lost; what has its name now, with this UID, is deleted before it does harm to half a volume.
    pub(super) async fn evict(&self, evicted: &mut Evicted, id: &PodId, uid: &str) {
        let message = replaced(id);
        self.tell(RestoreEvent::PodLost {
            pod: id.clone(),
            message,
        });
        let PodId { namespace, pod, .. } = id;
        if !evicted.0.insert((namespace.clone(), pod.clone())) {
            return;
        }
        let cluster = &self.runs.parts.cluster;
        let line = match cluster.delete_pod(namespace, pod, uid).await {
            Ok(()) => format!(
                "pod {namespace}/{pod} that does not wait for its volumes (uid {uid}) is deleted"
            ),
            Err(refusal) => format!(
                "pod {namespace}/{pod} that does not wait for its volumes (uid {uid}) cannot be deleted: {refusal}"
            ),
        };
        self.note(LogLevel::Warning, &line);
    }
}
