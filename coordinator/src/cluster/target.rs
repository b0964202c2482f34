//! What a snapshot is restored into while its pod is there.

use orlop_core::{
    VolumeRef,
    run::{ClaimRef, KnownVolume, Place, not_found},
};

use crate::runs::Refusal;

/// A volume as somebody names it to restore into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// By its pod.
    Volume(VolumeRef),
    /// By its claim.
    Claim(ClaimRef),
}

/// A volume to restore into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Located {
    /// The volume.
    pub(crate) volume: VolumeRef,
    /// The node that has it.
    pub(crate) node: String,
    /// Where it is, if the Kubernetes API tells.
    pub(crate) place: Option<Place>,
    /// Whether its pod runs, as far as is known.
    pub(crate) runs: bool,
}

/// The volume among those that agents have found.
pub(super) fn among(target: &Target, known: &[KnownVolume]) -> Result<Located, Refusal> {
    let target = match target {
        Target::Volume(volume) => volume,
        Target::Claim(claim) => {
            let message = format!(
                "claim {claim} needs a Kubernetes API, and there is none here: name the volume as NAMESPACE/POD/VOLUME, \
                 as `orlop status` shows it"
            );
            return Err(Refusal::Invalid {
                field: "volumes",
                message,
            });
        }
    };
    let Some(found) = known.iter().find(|known| known.volume == *target) else {
        let names: Vec<String> = known.iter().map(|known| known.volume.to_string()).collect();
        let name = target.to_string();
        let message = not_found("volume", &name, names.iter().map(String::as_str));
        return Err(Refusal::NotFound {
            kind: "volume",
            name,
            message,
        });
    };
    if let Some(reason) = &found.skip_reason {
        return Err(Refusal::Precondition(format!(
            "volume {target} cannot be restored: {reason}"
        )));
    }
    Ok(Located {
        volume: target.clone(),
        node: found.node.clone(),
        place: None,
        runs: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_refused_where_nobody_knows_claims() {
        let claim = ClaimRef {
            namespace: "shop".to_owned(),
            claim: "data".to_owned(),
        };
        let refused = among(&Target::Claim(claim), &[]).unwrap_err();
        let text = refused.to_string();
        assert!(text.contains("shop/data") && text.contains("POD"), "{text}");
    }
}
