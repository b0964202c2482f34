//! Where a volume is that is restored into while its pod is there, named by its pod or by its claim.

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Volume};
use orlop_core::{
    VolumeRef,
    run::{ClaimRef, Place, not_found},
};

use super::pod::place;
use crate::{
    client::{ClientError, Connection, Objects},
    selection::volumes::holds_data,
};

/// A volume of a pod that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocatedVolume {
    /// The volume.
    pub volume: VolumeRef,
    /// The node that has it.
    pub node: String,
    /// Where it is there.
    pub place: Place,
    /// Whether containers of the pod may be using it.
    pub runs: bool,
}

/// Why a volume cannot be restored into.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotLocated {
    /// There is none of that name.
    #[error("{message}")]
    Missing {
        /// What there is none of: `pod`, `volume` or `claim`.
        kind: &'static str,
        /// Its name.
        name: String,
        /// The sentence for a person.
        message: String,
    },
    /// It is nowhere at the moment, or holds no data.
    #[error("{0}")]
    Unfit(String),
    /// The server does not answer or refuses.
    #[error(transparent)]
    Client(#[from] ClientError),
}

/// Where the volume of a pod is. Persistent volumes of type hostPath are found below `host_roots` only.
///
/// # Errors
/// There is no such pod or volume, the pod has no node or has ended, or the volume is of a kind that holds no data.
pub async fn locate_volume(
    connection: &Connection,
    volume: &VolumeRef,
    host_roots: &[String],
) -> Result<LocatedVolume, NotLocated> {
    let pods = Objects::<Pod>::of(connection, Some(&volume.namespace));
    let Some(pod) = pods.get(&volume.pod).await? else {
        let all = pods.list("").await?;
        let names = all.iter().filter_map(|pod| pod.metadata.name.as_deref());
        let name = format!("{}/{}", volume.namespace, volume.pod);
        return Err(NotLocated::Missing {
            kind: "pod",
            message: not_found("pod", &volume.pod, names),
            name,
        });
    };
    locate(connection, &pod, volume, host_roots).await
}

/// Where the volume of a claim is: in the first pod by name that runs and mounts it, or in one that starts.
///
/// # Errors
/// There is no such claim, no pod mounts it at the moment, or as for [`locate_volume`].
pub async fn locate_claim(
    connection: &Connection,
    claim: &ClaimRef,
    host_roots: &[String],
) -> Result<LocatedVolume, NotLocated> {
    let namespace = Some(claim.namespace.as_str());
    let pods = Objects::<Pod>::of(connection, namespace).list("").await?;
    if let Some((pod, volume)) = user_of(&pods, claim) {
        return locate(connection, pod, &volume, host_roots).await;
    }
    let claims = Objects::<PersistentVolumeClaim>::of(connection, namespace);
    if claims.get(&claim.claim).await?.is_some() {
        return Err(NotLocated::Unfit(format!(
            "no pod mounts claim {claim} at the moment: start one that does, such as its workload, and restore again"
        )));
    }
    let all = claims.list("").await?;
    let names = all.iter().filter_map(|one| one.metadata.name.as_deref());
    Err(NotLocated::Missing {
        kind: "claim",
        name: claim.to_string(),
        message: not_found("claim", &claim.claim, names),
    })
}

/// The first pod by name that has a node and mounts the claim, one that runs before all others, and its volume.
fn user_of<'a>(pods: &'a [Pod], claim: &ClaimRef) -> Option<(&'a Pod, VolumeRef)> {
    let mounts = |pod: &'a Pod| {
        if unusable(pod).is_some() {
            return None;
        }
        let name = pod.metadata.name.as_deref()?;
        let mut volumes = pod.spec.as_ref()?.volumes.iter().flatten();
        let volume = volumes.find(|volume| is_of(volume, name, &claim.claim))?;
        Some((pod, VolumeRef::new(&claim.namespace, name, &volume.name)))
    };
    let found = pods.iter().filter_map(mounts);
    found.min_by_key(|(pod, volume)| (!runs(pod), volume.pod.clone()))
}

fn is_of(volume: &Volume, pod: &str, claim: &str) -> bool {
    let named = volume.persistent_volume_claim.as_ref();
    named.is_some_and(|source| source.claim_name == claim)
        || (volume.ephemeral.is_some() && claim == format!("{pod}-{}", volume.name))
}

fn phase(pod: &Pod) -> Option<&str> {
    pod.status.as_ref()?.phase.as_deref()
}

fn runs(pod: &Pod) -> bool {
    phase(pod) == Some("Running")
}

/// Why nothing can be restored into volumes of the pod.
fn unusable(pod: &Pod) -> Option<String> {
    if pod.metadata.deletion_timestamp.is_some() {
        return Some("it is being deleted".to_owned());
    }
    if let Some(phase @ ("Succeeded" | "Failed")) = phase(pod) {
        return Some(format!("it has ended: {phase}"));
    }
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
    node.is_none_or(str::is_empty)
        .then(|| "it has no node yet".to_owned())
}

async fn locate(
    connection: &Connection,
    pod: &Pod,
    volume: &VolumeRef,
    host_roots: &[String],
) -> Result<LocatedVolume, NotLocated> {
    let unfit = |reason: String| {
        NotLocated::Unfit(format!("volume {volume} cannot be restored into: {reason}"))
    };
    if let Some(reason) = unusable(pod) {
        return Err(unfit(format!("its pod is of no use: {reason}")));
    }
    let spec = pod.spec.clone().unwrap_or_default();
    let volumes = spec.volumes.unwrap_or_default();
    let Some(found) = volumes.iter().find(|one| one.name == volume.volume) else {
        let names = volumes.iter().map(|one| one.name.as_str());
        return Err(NotLocated::Missing {
            kind: "volume",
            name: volume.to_string(),
            message: not_found("volume", &volume.volume, names),
        });
    };
    holds_data(found).map_err(|reason| unfit(reason.to_string()))?;
    let place = place(connection, pod, &volume.volume, host_roots).await?;
    Ok(LocatedVolume {
        volume: volume.clone(),
        node: spec.node_name.unwrap_or_default(),
        place: place.map_err(unfit)?,
        runs: runs(pod),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(name: &str, phase: &str, node: &str, volume: &Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "shop"},
            "spec": {"nodeName": node, "containers": [], "volumes": [volume]},
            "status": {"phase": phase},
        }))
        .unwrap()
    }

    #[test]
    fn a_claim_is_found_in_the_first_pod_that_runs() {
        let of =
            |claim: &str| json!({"name": "data", "persistentVolumeClaim": {"claimName": claim}});
        let claim = ClaimRef {
            namespace: "shop".to_owned(),
            claim: "c".to_owned(),
        };
        let mut going = pod("a-going", "Running", "n", &of("c"));
        going.metadata.deletion_timestamp =
            serde_json::from_value(json!("2026-01-02T03:04:05Z")).unwrap();
        let mut pods = vec![
            going,
            pod("a-ended", "Succeeded", "n", &of("c")),
            pod("a-pending", "Pending", "", &of("c")),
            pod("a-other", "Running", "n", &of("d")),
        ];
        assert_eq!(user_of(&pods, &claim), None);
        pods.push(pod("a-starting", "Pending", "n", &of("c")));
        let volume = |pods: &[Pod]| user_of(pods, &claim).unwrap().1.to_string();
        assert_eq!(volume(&pods), "shop/a-starting/data");
        pods.push(pod("z", "Running", "n", &of("c")));
        pods.push(pod("y", "Running", "n", &of("c")));
        assert_eq!(volume(&pods), "shop/y/data");
        let own = json!({"name": "scratch", "ephemeral": {}});
        let claim = ClaimRef {
            claim: "w-scratch".to_owned(),
            ..claim
        };
        let pods = [pod("w", "Running", "n", &own)];
        let found = user_of(&pods, &claim).unwrap().1;
        assert_eq!(found.to_string(), "shop/w/scratch");
    }
}
