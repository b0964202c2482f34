//! What ConfigMaps in the own namespace say of restores, as Velero's plugins read them.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::{Map, Value, json};

use super::{
    actions::Renames,
    api::{Api, Stop},
};
use crate::{
    client::Objects,
    quantity,
    velero::labels::{KOTSADM_PLUGIN, PLUGIN_CONFIG},
};

/// The program in our image.
const PROGRAM: &str = "/orlop";

/// How the image of Velero's own helper is called: with us it would not know what to do.
const FOREIGN: &str = "restore-helper";

/// Keys that say what the container may use, with the part and the resource that they stand for.
const RESOURCES: [(&str, &str, &str); 4] = [
    ("cpuRequest", "requests", "cpu"),
    ("memRequest", "requests", "memory"),
    ("cpuLimit", "limits", "cpu"),
    ("memLimit", "limits", "memory"),
];

/// How the container that waits is made.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct WaitSettings {
    pub(super) image: String,
    pub(super) command: String,
    /// Requests and limits that are given, by part and resource; `0` for none.
    pub(super) resources: BTreeMap<(&'static str, &'static str), String>,
    /// What takes the place of parts of its security context.
    pub(super) security: Map<String, Value>,
}

impl WaitSettings {
    /// Those of an image that nobody has changed.
    pub(super) fn new(image: &str) -> Self {
        Self {
            image: image.to_owned(),
            command: PROGRAM.to_owned(),
            resources: BTreeMap::new(),
            security: Map::new(),
        }
    }

    /// Those that a ConfigMap changes, with a line for what is wrong in it.
    fn of(image: &str, map: &ConfigMap) -> (Self, Vec<String>) {
        let mut settings = Self::new(image);
        let mut warnings = Vec::new();
        let name = map.metadata.name.as_deref().unwrap_or_default();
        let mut warn = |text: String| warnings.push(format!("ConfigMap {name}: {text}"));
        let get = |key: &str| {
            let value = map.data.as_ref()?.get(key)?.trim();
            (!value.is_empty()).then(|| value.to_owned())
        };
        if let Some(given) = get("image") {
            if given.contains(FOREIGN) {
                warn(format!(
                    "image {given} is that of another program and is not used"
                ));
            } else {
                settings.image = with_tag(&given, image);
            }
        }
        if let Some(given) = get("command") {
            if given.contains(FOREIGN) {
                warn(format!(
                    "command {given} is that of another program and is not used"
                ));
            } else {
                settings.command = given;
            }
        }
        for (key, part, resource) in RESOURCES {
            let Some(given) = get(key) else { continue };
            if quantity::parse(&given).is_some() {
                settings.resources.insert((part, resource), given);
            } else {
                warn(format!(
                    "{key} is no quantity such as 100m or 128Mi and is not used"
                ));
            }
        }
        if let Some(given) = get("secCtx") {
            match serde_saphyr::from_str::<Value>(&given) {
                Ok(Value::Object(security)) => settings.security = security,
                _ => warn("secCtx is no YAML of a security context and is not used".to_owned()),
            }
        }
        for (key, field) in [
            ("secCtxRunAsUser", "runAsUser"),
            ("secCtxRunAsGroup", "runAsGroup"),
        ] {
            match get(key).map(|given| given.parse::<u64>()) {
                None => {}
                Some(Ok(id)) => {
                    settings.security.insert(field.to_owned(), id.into());
                }
                Some(Err(_)) => warn(format!("{key} is no number and is not used")),
            }
        }
        match get("secCtxAllowPrivilegeEscalation").map(|given| given.parse::<bool>()) {
            None => {}
            Some(Ok(allow)) => {
                settings
                    .security
                    .insert("allowPrivilegeEscalation".to_owned(), allow.into());
            }
            Some(Err(_)) => {
                warn("secCtxAllowPrivilegeEscalation is neither true nor false".to_owned());
            }
        }
        if settings.security.get("runAsUser") == Some(&json!(0)) {
            settings.security.remove("runAsUser");
            warn("the waiting container needs no root and does not run as it".to_owned());
        }
        (settings, warnings)
    }
}

/// An image without a tag has that of our own image.
fn with_tag(given: &str, own: &str) -> String {
    let tag = |image: &str| {
        let name = image.rsplit('/').next().unwrap_or_default().to_owned();
        let place = name.find(['@', ':'])?;
        Some(name[place..].to_owned())
    };
    match (tag(given), tag(own)) {
        (None, Some(tag)) => format!("{given}{tag}"),
        _ => given.to_owned(),
    }
}

/// What ConfigMaps say.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Settings {
    pub(super) wait: WaitSettings,
    /// Storage class of the backup → of this cluster.
    pub(super) storage_classes: Renames,
    /// Part of an image's name → what takes its place.
    pub(super) images: Renames,
    /// What kURL says of the KOTS Admin Console on this machine: proxies, and where the authorities are.
    pub(super) kotsadm: BTreeMap<String, String>,
    /// What is wrong with them, one line each.
    pub(super) warnings: Vec<String>,
}

impl Settings {
    /// Reads the ConfigMaps of a namespace.
    pub(super) async fn read(
        api: &mut Api<'_>,
        namespace: &str,
        image: &str,
    ) -> Result<Self, Stop> {
        let mut settings = Self {
            wait: WaitSettings::new(image),
            storage_classes: Renames::new(),
            images: Renames::new(),
            kotsadm: BTreeMap::new(),
            warnings: Vec::new(),
        };
        if let Some(map) = settings
            .find(api, namespace, "velero.io/pod-volume-restore")
            .await?
        {
            let (wait, warnings) = WaitSettings::of(image, &map);
            settings.wait = wait;
            settings.warnings.extend(warnings);
        }
        if let Some(map) = settings
            .find(api, namespace, "velero.io/change-storage-class")
            .await?
        {
            settings.storage_classes = map.data.unwrap_or_default();
        }
        if let Some(map) = settings.find(api, namespace, KOTSADM_PLUGIN).await? {
            settings.kotsadm = map.data.unwrap_or_default();
        }
        if let Some(map) = settings
            .find(api, namespace, "velero.io/change-image-name")
            .await?
        {
            for (key, line) in map.data.unwrap_or_default() {
                match line.split_once(',') {
                    Some((old, new)) if !old.trim().is_empty() => {
                        settings
                            .images
                            .insert(old.trim().to_owned(), new.trim().to_owned());
                    }
                    _ => settings.warnings.push(format!(
                        "the ConfigMap of change-image-name: {key} is not OLD,NEW and is not used"
                    )),
                }
            }
        }
        Ok(settings)
    }

    /// The ConfigMap of a plugin, by its label; of several the first one counts.
    async fn find(
        &mut self,
        api: &mut Api<'_>,
        namespace: &str,
        plugin: &str,
    ) -> Result<Option<ConfigMap>, Stop> {
        let selector = &format!("{PLUGIN_CONFIG},{plugin}=RestoreItemAction");
        let objects = &Objects::<ConfigMap>::of(api.connection, Some(namespace));
        let mut maps = api.patiently(async || objects.list(selector).await).await?;
        if maps.len() > 1 {
            let names: Vec<String> = maps
                .iter()
                .filter_map(|map| map.metadata.name.clone())
                .collect();
            self.warnings.push(format!(
                "several ConfigMaps are labelled {plugin}, of which {} counts and the others do not: {}",
                names.first().map_or("", String::as_str),
                names.join(", ")
            ));
        }
        Ok((!maps.is_empty()).then(|| maps.swap_remove(0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(data: &Value) -> (WaitSettings, Vec<String>) {
        let map = json!({"metadata": {"name": "c"}, "data": data});
        WaitSettings::of("r.example/orlop:2", &serde_json::from_value(map).unwrap())
    }

    #[test]
    fn a_config_map_changes_the_container() {
        let (settings, warnings) = of(&json!({
            "image": "mirror.example:5000/orlop", "command": "/bin/orlop", "cpuRequest": "200m", "memLimit": "0",
            "secCtx": "capabilities:\n  drop: [ALL]\nrunAsUser: 5\n", "secCtxRunAsGroup": "7",
            "secCtxAllowPrivilegeEscalation": "false",
        }));
        assert!(warnings.is_empty(), "{warnings:?}");
        assert_eq!(settings.image, "mirror.example:5000/orlop:2");
        assert_eq!(settings.command, "/bin/orlop");
        let want = [(("requests", "cpu"), "200m"), (("limits", "memory"), "0")];
        let want = want.map(|(key, amount)| (key, amount.to_owned()));
        assert_eq!(settings.resources, BTreeMap::from(want));
        let want = json!({
            "capabilities": {"drop": ["ALL"]}, "runAsUser": 5, "runAsGroup": 7,
            "allowPrivilegeEscalation": false,
        });
        assert_eq!(Value::Object(settings.security), want);
    }

    #[test]
    fn what_cannot_work_is_said_and_not_used() {
        let (settings, warnings) = of(&json!({
            "image": "velero/velero-restore-helper:v1.14.0", "command": "/velero-restore-helper",
            "secCtx": "- x", "secCtxRunAsUser": "0", "secCtxRunAsGroup": "x",
            "secCtxAllowPrivilegeEscalation": "maybe", "cpuRequest": "much",
        }));
        assert_eq!(settings, WaitSettings::new("r.example/orlop:2"));
        assert_eq!(warnings.len(), 7, "{warnings:?}");
        assert!(
            warnings
                .iter()
                .all(|line| line.starts_with("ConfigMap c: "))
        );
    }

    #[test]
    fn a_tag_or_digest_of_its_own_stays() {
        for image in ["a/b:1", "a/b@sha256:0", "host:5000/b:1"] {
            assert_eq!(with_tag(image, "r/orlop:2"), image);
        }
        assert_eq!(with_tag("b", "r/orlop@sha256:1"), "b@sha256:1");
        assert_eq!(with_tag("b", "r:5/orlop"), "b");
    }
}
