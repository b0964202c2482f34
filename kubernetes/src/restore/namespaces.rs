//! Namespaces: made before the first object in them, as they were in the backup.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    ItemEnd,
    api::{Api, Stop},
    items::Items,
    json::text,
    order::NAMESPACES,
    reset,
};
use crate::{
    client::ClientError, collect::ServedKind, files::tarball::ItemPath, selection::ResourceKind,
};

/// How long a namespace is waited for that is being deleted.
const GOING_MAX: Duration = Duration::from_mins(10);

const LOOK: Duration = Duration::from_secs(2);

/// The label that the server puts on each namespace.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// Namespaces that were made sure of, by their names in the cluster, or why they are not there.
#[derive(Default)]
pub(super) struct Namespaces {
    known: BTreeMap<String, Result<ItemEnd, String>>,
}

fn kind() -> ServedKind {
    ServedKind {
        resource: ResourceKind {
            plural: NAMESPACES.to_owned(),
            ..ResourceKind::default()
        },
        kind: "Namespace".to_owned(),
        version: "v1".to_owned(),
    }
}

impl Namespaces {
    /// Makes sure that there is the namespace `name`, which is called `source` in the backup. `mark` puts on what is
    /// made what tells whose it is, and `is_own` finds that again.
    ///
    /// The inner error is a line for a person.
    pub(super) async fn ensure(
        &mut self,
        api: &mut Api<'_>,
        items: &Items,
        (source, name): (&str, &str),
        mark: &(dyn Fn(&mut Value) + Sync),
        is_own: &(dyn Fn(&Value) -> bool + Sync),
    ) -> Result<Result<ItemEnd, String>, Stop> {
        if let Some(known) = self.known.get(name) {
            return Ok(known.clone());
        }
        let wanted = wanted(items, source, name, mark);
        let done = match ensure(api, name, &wanted, is_own).await {
            Ok(end) => Ok(end),
            Err(Stop::Cancelled) => return Err(Stop::Cancelled),
            Err(Stop::Failed(error)) => Err(format!("its namespace {name} cannot be had: {error}")),
        };
        self.known.insert(name.to_owned(), done.clone());
        Ok(done)
    }
}

fn wanted(items: &Items, source: &str, name: &str, mark: &dyn Fn(&mut Value)) -> Value {
    let path = ItemPath::cluster(NAMESPACES, source);
    let mut namespace = items.look(&path).unwrap_or_else(|| json!({}));
    reset::metadata(&mut namespace);
    reset::status(&mut namespace);
    namespace["apiVersion"] = "v1".into();
    namespace["kind"] = "Namespace".into();
    namespace["metadata"]["name"] = name.into();
    if namespace["metadata"]["labels"].get(NAME_LABEL).is_some() {
        namespace["metadata"]["labels"][NAME_LABEL] = name.into();
    }
    mark(&mut namespace);
    namespace
}

async fn ensure(
    api: &mut Api<'_>,
    name: &str,
    wanted: &Value,
    is_own: &(dyn Fn(&Value) -> bool + Sync),
) -> Result<ItemEnd, Stop> {
    let kind = kind();
    let end = Instant::now() + GOING_MAX;
    loop {
        let Some(found) = api.get(&kind, None, name).await? else {
            match api.create(&kind, None, wanted).await {
                Ok(_) => return Ok(ItemEnd::Created),
                Err(Stop::Failed(ClientError::AlreadyExists { .. })) => continue,
                Err(stop) => return Err(stop),
            }
        };
        let goes = !found["metadata"]["deletionTimestamp"].is_null()
            || text(&found, "/status/phase") == Some("Terminating");
        if !goes {
            return Ok(if is_own(&found) {
                ItemEnd::Created
            } else {
                ItemEnd::Skipped
            });
        }
        if Instant::now() >= end {
            let message = format!(
                "it is being deleted for more than {} minutes; look for finalizers of what is in it",
                GOING_MAX.as_secs() / 60
            );
            return Err(Stop::Failed(ClientError::Invalid { message }));
        }
        api.pause(LOOK).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::{super::items::tests::items, *};

    #[test]
    fn a_namespace_is_made_as_it_was_under_its_new_name() {
        let backup = items(&[(
            NAMESPACES,
            json!({
                "metadata": {"name": "shop", "uid": "u", "annotations": {"a": "b"}, "labels": {
                    NAME_LABEL: "shop", "pod-security.kubernetes.io/enforce": "restricted",
                }},
                "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"},
            }),
        )]);
        let mark = |object: &mut Value| object["marked"] = true.into();
        let made = wanted(&backup, "shop", "shop-2", &mark);
        let want = json!({
            "apiVersion": "v1", "kind": "Namespace", "marked": true,
            "metadata": {"name": "shop-2", "annotations": {"a": "b"}, "labels": {
                NAME_LABEL: "shop-2", "pod-security.kubernetes.io/enforce": "restricted",
            }},
            "spec": {"finalizers": ["kubernetes"]},
        });
        assert_eq!(made, want);
        let unknown = wanted(&backup, "mail", "mail", &|_| ());
        assert_eq!(unknown["metadata"], json!({"name": "mail"}));
    }
}
