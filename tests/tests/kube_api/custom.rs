//! Kinds that the client defines.

use kube::{
    ResourceExt as _,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use crate::cluster::{Cluster, Kind, refused};

on_each_server!(
    a_defined_kind_is_served_until_its_definition_goes,
    unknown_fields_are_dropped,
    unknown_fields_are_refused_where_the_client_is_strict,
    what_the_schema_does_not_allow_is_refused,
    without_the_subresource_the_status_is_written_with_the_rest,
    with_the_subresource_the_status_is_written_apart,
    the_generation_counts_changes_of_the_spec,
    an_update_must_name_a_version,
    a_strategic_patch_is_refused,
);

fn schema() -> Value {
    json!({"type": "object", "required": ["node"], "properties": {
        "node": {"type": "string"},
        "mode": {"type": "string", "enum": ["fast", "slow", ""]},
        "count": {"type": "integer", "default": 3},
        "tags": {"type": "object", "additionalProperties": {"type": "string"}},
        "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
    }})
}

async fn plain(cluster: &Cluster) -> Kind {
    cluster.define(schema(), json!({})).await
}

async fn a_defined_kind_is_served_until_its_definition_goes(cluster: Cluster) {
    let kind = plain(&cluster).await;
    let definition = kind.definitions.get(&kind.definition).await.unwrap();
    let conditions = definition.status.unwrap().conditions.unwrap();
    for condition in ["Established", "NamesAccepted"] {
        let found = conditions.iter().find(|one| one.type_ == condition);
        assert_eq!(found.unwrap().status, "True", "{condition}");
    }
    kind.create("a", json!({"spec": {"node": "n"}}))
        .await
        .unwrap();
    let list = kind.api.list(&ListParams::default()).await.unwrap();
    let types = list.items[0].types.as_ref().unwrap();
    assert_eq!(types.kind, "Task");
    let api = kind.api.clone();
    kind.remove().await;
    for _ in 0..300 {
        if let Err(kube::Error::Api(status)) = api.list(&ListParams::default()).await {
            assert_eq!(status.code, 404);
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("it is still served");
}

async fn unknown_fields_are_dropped(cluster: Cluster) {
    let kind = plain(&cluster).await;
    let given = json!({
        "extra": 1,
        "spec": {"node": "n", "more": {"x": 1}, "tags": {"a": "b"}, "any": {"x": {"y": 1}}},
        "status": {"phase": "New", "x": 1},
    });
    let made = kind.create("a", given).await.unwrap();
    let expected = json!({
        "spec": {"node": "n", "count": 3, "tags": {"a": "b"}, "any": {"x": {"y": 1}}},
        "status": {"phase": "New", "x": 1},
    });
    assert_eq!(made.data, expected);
    let change = Patch::Merge(json!({"spec": {"other": 1, "mode": "fast"}}));
    let patched = kind
        .api
        .patch("a", &PatchParams::default(), &change)
        .await
        .unwrap();
    assert_eq!(patched.data["spec"].get("other"), None);
    assert_eq!(patched.data["spec"]["mode"], "fast");
    kind.remove().await;
}

async fn unknown_fields_are_refused_where_the_client_is_strict(cluster: Cluster) {
    let kind = plain(&cluster).await;
    kind.create("a", json!({"spec": {"node": "n"}}))
        .await
        .unwrap();
    let strict = PatchParams::default().validation_strict();
    let change = Patch::Merge(json!({"spec": {"other": 1}}));
    let status = refused(kind.api.patch("a", &strict, &change).await);
    assert!(
        status.message.contains("unknown field \"spec.other\""),
        "{}",
        status.message
    );
    kind.remove().await;
}

async fn what_the_schema_does_not_allow_is_refused(cluster: Cluster) {
    let kind = plain(&cluster).await;
    let begin = format!("Task.{} \"a\" is invalid: ", kind.resource.group);
    let said = async |spec: Value| {
        let status = kind.create("a", json!({"spec": spec})).await.unwrap_err();
        assert_eq!((status.code, status.reason.as_str()), (422, "Invalid"));
        let details = status.details.unwrap();
        assert_eq!(
            (details.name.as_str(), details.kind.as_str()),
            ("a", "Task")
        );
        let cause = &details.causes[0];
        let said = status.message.strip_prefix(&begin);
        let said = said
            .unwrap_or_else(|| panic!("{}", status.message))
            .to_owned();
        (said, cause.field.clone(), cause.reason.clone())
    };
    let (message, field, reason) = said(json!({})).await;
    assert_eq!(message, "spec.node: Required value");
    assert_eq!(
        (field.as_str(), reason.as_str()),
        ("spec.node", "FieldValueRequired")
    );
    let (message, _, reason) = said(json!({"node": 1})).await;
    assert_eq!(
        message,
        "spec.node: Invalid value: \"integer\": spec.node in body must be of type string: \"integer\""
    );
    assert_eq!(reason, "FieldValueTypeInvalid");
    let (message, _, reason) = said(json!({"node": "n", "mode": "x"})).await;
    assert_eq!(
        message,
        "spec.mode: Unsupported value: \"x\": supported values: \"fast\", \"slow\", \"\""
    );
    assert_eq!(reason, "FieldValueNotSupported");
    kind.remove().await;
}

async fn without_the_subresource_the_status_is_written_with_the_rest(cluster: Cluster) {
    let kind = plain(&cluster).await;
    kind.create("a", json!({"spec": {"node": "n"}}))
        .await
        .unwrap();
    let change = Patch::Merge(json!({"status": {"phase": "Done"}}));
    let params = PatchParams::default();
    let status = refused(kind.api.patch_status("a", &params, &change).await);
    assert_eq!((status.code, status.reason.as_str()), (404, "NotFound"));
    let patched = kind.api.patch("a", &params, &change).await.unwrap();
    assert_eq!(patched.data["status"]["phase"], "Done");
    kind.remove().await;
}

async fn with_the_subresource_the_status_is_written_apart(cluster: Cluster) {
    let kind = cluster.define(schema(), json!({"status": {}})).await;
    let given = json!({"spec": {"node": "n"}, "status": {"phase": "Lost"}});
    let made = kind.create("a", given).await.unwrap();
    assert_eq!(made.data.get("status"), None);
    let params = PatchParams::default();
    let both = Patch::Merge(json!({"spec": {"node": "m"}, "status": {"phase": "Done"}}));
    let main = kind.api.patch("a", &params, &both).await.unwrap();
    assert_eq!(
        (main.data.get("status"), &main.data["spec"]["node"]),
        (None, &json!("m"))
    );
    let other = Patch::Merge(json!({"spec": {"node": "o"}, "status": {"phase": "Done"}}));
    let status = kind.api.patch_status("a", &params, &other).await.unwrap();
    assert_eq!(status.data["status"]["phase"], "Done");
    assert_eq!(status.data["spec"]["node"], "m");
    kind.remove().await;
}

async fn the_generation_counts_changes_of_the_spec(cluster: Cluster) {
    let kind = cluster.define(schema(), json!({"status": {}})).await;
    let made = kind
        .create("a", json!({"spec": {"node": "n"}}))
        .await
        .unwrap();
    assert_eq!(made.metadata.generation, Some(1));
    let params = PatchParams::default();
    let label = Patch::Merge(json!({"metadata": {"labels": {"x": "y"}}}));
    let labelled = kind.api.patch("a", &params, &label).await.unwrap();
    assert_eq!(labelled.metadata.generation, Some(1));
    let spec = Patch::Merge(json!({"spec": {"node": "m"}}));
    let changed = kind.api.patch("a", &params, &spec).await.unwrap();
    assert_eq!(changed.metadata.generation, Some(2));
    kind.remove().await;
}

async fn an_update_must_name_a_version(cluster: Cluster) {
    let kind = plain(&cluster).await;
    let made = kind
        .create("a", json!({"spec": {"node": "n"}}))
        .await
        .unwrap();
    let params = PostParams::default();
    let nameless = kind.task("a", json!({"spec": {"node": "m"}}));
    let status = refused(kind.api.replace("a", &params, &nameless).await);
    assert_eq!(status.code, 422);
    let why = "metadata.resourceVersion: Invalid value";
    assert!(status.message.contains(why), "{}", status.message);
    let mut named = nameless;
    named.metadata.resource_version = made.resource_version();
    kind.api.replace("a", &params, &named).await.unwrap();
    kind.remove().await;
}

async fn a_strategic_patch_is_refused(cluster: Cluster) {
    let kind = plain(&cluster).await;
    kind.create("a", json!({"spec": {"node": "n"}}))
        .await
        .unwrap();
    let change = Patch::Strategic(json!({"spec": {"node": "m"}}));
    let status = refused(kind.api.patch("a", &PatchParams::default(), &change).await);
    assert_eq!(
        (status.code, status.reason.as_str()),
        (415, "UnsupportedMediaType")
    );
    kind.remove().await;
}
