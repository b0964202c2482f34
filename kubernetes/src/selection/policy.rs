//! Rules for volumes in a ConfigMap that a backup names: the first that matches says what becomes of a volume.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Volume};
use serde::Deserialize;
use serde_json::Value;

use crate::quantity;

/// What a rule says of the volumes that match it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PolicyAction {
    /// It is left out.
    Skip,
    /// It is backed up, whatever annotations say.
    FsBackup,
    /// It is for snapshots by others.
    Snapshot,
    /// It is for somebody else.
    Custom,
}

impl PolicyAction {
    /// The word in the ConfigMap.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Skip => "skip",
            Self::FsBackup => "fs-backup",
            Self::Snapshot => "snapshot",
            Self::Custom => "custom",
        }
    }
}

/// Rules that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the volume policies cannot be read: {reason}")]
pub struct PolicyError {
    /// What is wrong with them.
    pub reason: String,
}

/// The rules, in order.
#[derive(Debug, Clone, PartialEq)]
pub struct VolumePolicies {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone, PartialEq)]
struct Rule {
    conditions: Conditions,
    capacity: Option<(f64, f64)>,
    action: PolicyAction,
}

#[derive(Debug, Deserialize)]
struct Document {
    version: String,
    #[serde(default, rename = "volumePolicies")]
    policies: Vec<Policy>,
    #[serde(default, rename = "includeExcludePolicy")]
    filters: BTreeMap<String, Value>,
}

#[derive(Debug, Deserialize)]
struct Policy {
    #[serde(default)]
    conditions: Conditions,
    action: Action,
}

#[derive(Debug, Deserialize)]
struct Action {
    #[serde(rename = "type")]
    kind: PolicyAction,
}

/// All that are given must hold. One that we do not know makes the rules invalid: to ignore it would widen the rule.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Conditions {
    capacity: Option<String>,
    storage_class: Option<Vec<String>>,
    nfs: Option<Nfs>,
    csi: Option<Csi>,
    volume_types: Option<Vec<String>>,
    pvc_labels: Option<BTreeMap<String, String>>,
    pvc_phase: Option<Vec<String>>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Nfs {
    server: String,
    path: String,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Csi {
    driver: String,
    volume_attributes: BTreeMap<String, String>,
}

/// A volume as rules see it.
#[derive(Debug, Clone, Copy)]
pub struct VolumeFacts<'a> {
    /// The volume in the pod's spec.
    pub volume: &'a Volume,
    /// Its claim.
    pub claim: Option<&'a PersistentVolumeClaim>,
    /// The volume that is bound to the claim.
    pub persistent: Option<&'a PersistentVolume>,
}

impl VolumePolicies {
    /// The rules that the one key of the ConfigMap holds, as YAML.
    ///
    /// # Errors
    /// It is not YAML of this form and of version `v1`, or has a condition or a quantity that is not known.
    pub fn parse(yaml: &str) -> Result<Self, PolicyError> {
        let fail = |reason: String| PolicyError { reason };
        let document: Document =
            serde_saphyr::from_str(yaml).map_err(|error| fail(error.to_string()))?;
        if document.version != "v1" {
            return Err(fail(format!("version {:?} is not v1", document.version)));
        }
        if !document.filters.is_empty() {
            let reason =
                "includeExcludePolicy is not known here: write the filters into the backup's spec";
            return Err(fail(reason.to_owned()));
        }
        let rules = document.policies.into_iter().map(|policy| {
            let capacity = policy.conditions.capacity.as_deref().map(range).transpose();
            Ok(Rule {
                capacity: capacity.map_err(fail)?,
                conditions: policy.conditions,
                action: policy.action.kind,
            })
        });
        Ok(Self {
            rules: rules.collect::<Result<_, PolicyError>>()?,
        })
    }

    /// What the first rule that matches says; `None` if none does.
    pub fn action(&self, facts: &VolumeFacts<'_>) -> Option<PolicyAction> {
        self.rules
            .iter()
            .find(|rule| rule.matches(facts))
            .map(|rule| rule.action)
    }
}

impl Rule {
    fn matches(&self, facts: &VolumeFacts<'_>) -> bool {
        let conditions = &self.conditions;
        let of_pv = facts.persistent.and_then(|pv| pv.spec.as_ref());
        let volume = facts.volume;
        let capacity = || {
            let quantity = of_pv?.capacity.as_ref()?.get("storage")?;
            quantity::parse(&quantity.0)
        };
        let class = || of_pv?.storage_class_name.as_deref();
        let nfs = || volume.nfs.as_ref().or_else(|| of_pv?.nfs.as_ref());
        let claim_labels = facts.claim.and_then(|claim| claim.metadata.labels.as_ref());
        let phase = || facts.claim?.status.as_ref()?.phase.as_deref();

        self.capacity.is_none_or(|(least, most)| {
            capacity().is_some_and(|bytes| least <= bytes && bytes <= most)
        }) && conditions.storage_class.as_ref().is_none_or(|classes| {
            class().is_some_and(|class| classes.iter().any(|one| one == class))
        }) && conditions.nfs.as_ref().is_none_or(|wanted| {
            nfs().is_some_and(|nfs| {
                (wanted.server.is_empty() || wanted.server == nfs.server)
                    && (wanted.path.is_empty() || wanted.path == nfs.path)
            })
        }) && conditions
            .csi
            .as_ref()
            .is_none_or(|wanted| wanted.matches(facts))
            && conditions.volume_types.as_ref().is_none_or(|types| {
                source_types(facts)
                    .iter()
                    .any(|source| types.contains(source))
            })
            && conditions.pvc_labels.as_ref().is_none_or(|wanted| {
                let has = |(key, value)| {
                    claim_labels.is_some_and(|labels| labels.get(key) == Some(value))
                };
                wanted.iter().all(has) && facts.claim.is_some()
            })
            && conditions.pvc_phase.as_ref().is_none_or(|phases| {
                phase().is_some_and(|phase| phases.iter().any(|one| one == phase))
            })
    }
}

impl Csi {
    fn matches(&self, facts: &VolumeFacts<'_>) -> bool {
        let of_pv = facts
            .persistent
            .and_then(|pv| pv.spec.as_ref()?.csi.as_ref());
        let inline = facts.volume.csi.as_ref();
        let (driver, attributes) = match (inline, of_pv) {
            (Some(csi), _) => (&csi.driver, csi.volume_attributes.as_ref()),
            (None, Some(csi)) => (&csi.driver, csi.volume_attributes.as_ref()),
            (None, None) => return false,
        };
        (self.driver.is_empty() || self.driver == *driver)
            && self.volume_attributes.iter().all(|(key, value)| {
                attributes.is_some_and(|attributes| attributes.get(key) == Some(value))
            })
    }
}

/// The names of the volume's source, of the pod's spec and of the persistent volume's.
fn source_types(facts: &VolumeFacts<'_>) -> Vec<String> {
    let keys = |value: serde_json::Result<Value>| match value {
        Ok(Value::Object(map)) => map.into_iter().map(|(key, _)| key).collect(),
        _ => Vec::new(),
    };
    let mut types: Vec<String> = keys(serde_json::to_value(facts.volume));
    if let Some(spec) = facts.persistent.and_then(|pv| pv.spec.as_ref()) {
        types.extend(keys(serde_json::to_value(spec)));
    }
    // What is no source cannot be asked for: no source has the name of another field.
    types.retain(|key| key != "name");
    types
}

/// `LEAST,MOST`, either of which may be empty, in bytes.
fn range(text: &str) -> Result<(f64, f64), String> {
    let (least, most) = text
        .split_once(',')
        .ok_or_else(|| format!("capacity {text:?} is not of the form LEAST,MOST"))?;
    let side = |side: &str, empty: f64| match side.trim() {
        "" => Ok(empty),
        quantity => quantity::parse(quantity)
            .ok_or_else(|| format!("capacity {quantity:?} is not a quantity such as 10Gi")),
    };
    let (least, most) = (side(least, 0.0)?, side(most, f64::INFINITY)?);
    if least > most {
        return Err(format!("capacity {text:?} has the larger one first"));
    }
    Ok((least, most))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn policies(conditions: &str) -> VolumePolicies {
        VolumePolicies::parse(&format!(
            "version: v1\nvolumePolicies:\n- conditions: {conditions}\n  action: {{type: skip}}\n"
        ))
        .unwrap()
    }

    #[test]
    fn each_condition_is_checked_against_the_volume() {
        let volume: Volume = serde_json::from_value(
            json!({"name": "data", "persistentVolumeClaim": {"claimName": "c"}}),
        )
        .unwrap();
        let claim = serde_json::from_value(json!({
            "metadata": {"name": "c", "labels": {"tier": "db"}}, "status": {"phase": "Bound"},
        }));
        let claim: PersistentVolumeClaim = claim.unwrap();
        let persistent = serde_json::from_value(json!({"spec": {
            "capacity": {"storage": "20Gi"}, "storageClassName": "fast",
            "csi": {"driver": "disk.example", "volumeHandle": "h", "volumeAttributes": {"a": "1"}},
        }}));
        let persistent: PersistentVolume = persistent.unwrap();
        let facts = VolumeFacts {
            volume: &volume,
            claim: Some(&claim),
            persistent: Some(&persistent),
        };
        let cases = [
            ("{}", true),
            ("{capacity: '10Gi,100Gi'}", true),
            ("{capacity: ',100Gi'}", true),
            ("{capacity: '20Gi,'}", true),
            ("{capacity: '21474836481,'}", false),
            ("{capacity: ',1e9'}", false),
            ("{storageClass: [slow, fast]}", true),
            ("{storageClass: [slow]}", false),
            ("{csi: {}}", true),
            (
                "{csi: {driver: disk.example, volumeAttributes: {a: '1'}}}",
                true,
            ),
            (
                "{csi: {driver: disk.example, volumeAttributes: {a: '2'}}}",
                false,
            ),
            ("{nfs: {}}", false),
            ("{volumeTypes: [emptyDir, csi]}", true),
            ("{volumeTypes: [emptyDir]}", false),
            ("{pvcLabels: {tier: db}}", true),
            ("{pvcLabels: {tier: web}}", false),
            ("{pvcPhase: [Bound]}", true),
            ("{pvcPhase: [Lost], csi: {}}", false),
        ];
        for (conditions, want) in cases {
            let found = policies(conditions).action(&facts);
            assert_eq!(found == Some(PolicyAction::Skip), want, "{conditions}");
        }
    }

    #[test]
    fn a_volume_of_the_pod_alone_has_its_source_only() {
        let volume: Volume =
            serde_json::from_value(json!({"name": "x", "nfs": {"server": "s", "path": "/p"}}))
                .unwrap();
        let facts = VolumeFacts {
            volume: &volume,
            claim: None,
            persistent: None,
        };
        for (conditions, want) in [
            ("{nfs: {}}", true),
            ("{nfs: {server: s, path: /p}}", true),
            ("{nfs: {server: t}}", false),
            ("{volumeTypes: [nfs]}", true),
            ("{pvcLabels: {}}", false),
            ("{capacity: '0,'}", false),
        ] {
            assert_eq!(
                policies(conditions).action(&facts).is_some(),
                want,
                "{conditions}"
            );
        }
    }

    #[test]
    fn the_first_rule_that_matches_wins() {
        let policies = VolumePolicies::parse(
            "version: v1\nvolumePolicies:\n- conditions: {volumeTypes: [emptyDir]}\n  action: {type: fs-backup}\n\
             - conditions: {}\n  action: {type: skip, parameters: {a: b}}\n",
        );
        let volume: Volume = serde_json::from_value(json!({"name": "x", "emptyDir": {}})).unwrap();
        let facts = VolumeFacts {
            volume: &volume,
            claim: None,
            persistent: None,
        };
        assert_eq!(
            policies.unwrap().action(&facts),
            Some(PolicyAction::FsBackup)
        );
    }

    #[test]
    fn rules_that_are_not_understood_are_refused() {
        let bad = [
            "version: v2\n",
            "[]",
            "version: v1\nvolumePolicies: [{action: {type: destroy}}]",
            "version: v1\nvolumePolicies: [{conditions: {colour: red}, action: {type: skip}}]",
            "version: v1\nvolumePolicies: [{conditions: {capacity: 10Gi}, action: {type: skip}}]",
            "version: v1\nvolumePolicies: [{conditions: {capacity: '10Gi,1Gi'}, action: {type: skip}}]",
            "version: v1\nvolumePolicies: [{conditions: {capacity: 'inf,'}, action: {type: skip}}]",
        ];
        for yaml in bad {
            assert!(VolumePolicies::parse(yaml).is_err(), "{yaml}");
        }
    }
}
