//! What KOTS does with one backup of an app: it makes it, waits for its end, and deletes it.

use serde_json::{Value, json};

use super::{
    client::{Client, VELERO, encoded, name, phase},
    download, go,
    world::Application,
};

pub(crate) const BACKUPS: &str = "/apis/velero.io/v1/namespaces/velero/backups";

/// What KOTS says on every backup of an app.
pub(crate) fn annotations(trigger: &str) -> Value {
    json!({
        "kots.io/snapshot-trigger": trigger,
        "kots.io/app-id": "2QfUEXtnvyAcjS4XPKlJqVgTYm5",
        "kots.io/app-sequence": "7",
        "kots.io/snapshot-requested": "2026-01-02T03:04:05Z",
    })
}

/// The backup of an app as KOTS makes it; with a time to live of 30 days.
pub(crate) async fn start(client: &Client, app: &Application<'_>, more: &Value) -> String {
    let mut spec = json!({
        "includedNamespaces": [app.namespace], "includeClusterResources": true, "storageLocation": "default",
        "labelSelector": {"matchLabels": {"kots.io/app-slug": app.slug}}, "ttl": "720h0m0s",
    });
    go::merge(&mut spec, more);
    let metadata =
        json!({"generateName": format!("{}-", app.slug), "annotations": annotations("manual")});
    let made = client.create(BACKUPS, &go::backup(&metadata, &spec)).await;
    name(&made).to_owned()
}

/// The phases at which KOTS takes a backup for ended.
pub(crate) const ENDED: [&str; 4] = ["Completed", "PartiallyFailed", "Failed", "FailedValidation"];

/// Waits for the end of a backup, which must be a good one.
pub(crate) async fn completed(client: &Client, backup: &str) -> Value {
    let ended = client.phase(&format!("{BACKUPS}/{backup}"), &ENDED).await;
    if phase(&ended) != "Completed" {
        let log = download::text(client, "BackupLog", backup).await;
        panic!("{}: {log}", ended["status"]);
    }
    ended
}

/// Deletes a backup as KOTS does.
pub(crate) async fn delete(client: &Client, backup: &str) {
    let label = encoded(&format!("replicated.com/backup-name={backup}"));
    let parts = client
        .get(&format!("{BACKUPS}?labelSelector={label}"))
        .await;
    let parts: Vec<String> = parts["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| name(one).to_owned())
        .collect();
    let all = if parts.is_empty() {
        vec![backup.to_owned()]
    } else {
        parts
    };
    for one in all {
        let request = go::object(
            "DeleteBackupRequest",
            &json!({"name": one}),
            &json!({"backupName": one}),
        );
        client
            .create(&format!("{VELERO}/deletebackuprequests"), &request)
            .await;
    }
}

/// Deletes a backup and waits until nothing of it is there.
pub(crate) async fn remove(client: &Client, backup: &str) {
    delete(client, backup).await;
    client.gone(&format!("{BACKUPS}/{backup}")).await;
}
