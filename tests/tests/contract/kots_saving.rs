//! What KOTS does when somebody saves on the settings page, and how the page waits for the end of it.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    client::{APPS, CORE, Client, PATIENCE, VELERO, name, phase},
    go,
    kots_detection::{agent_pods, coordinator_pod},
    world::{World, keys, secret},
};
use orlop_tests::s3;

/// How often the page asks; the real one waits for 2 s.
pub(crate) const POLL: Duration = Duration::from_millis(100);
pub(crate) const LOCATIONS: &str = "/apis/velero.io/v1/namespaces/velero/backupstoragelocations";
const SECRET: &str = "/api/v1/namespaces/velero/secrets/cloud-credentials";

/// When the location was last tried before a save.
pub(crate) struct Saved(Value);

/// What becomes of the Secret.
pub(crate) enum Keys {
    /// This is its content.
    Put(String),
    /// The provider needs none, and what another has left stays.
    Keep,
    /// It is taken away, so that the role of the node counts.
    Remove,
}

/// What somebody has chosen on the page.
pub(crate) struct Choice<'a> {
    pub(crate) provider: &'a str,
    pub(crate) bucket: &'a str,
    pub(crate) prefix: &'a str,
    pub(crate) config: Value,
    pub(crate) keys: Keys,
    /// KOTS does not restart when it expects the plugin of directories to do so.
    pub(crate) restarts: bool,
}

/// The names that the page compares: those of the coordinator's pod and of the agents'.
pub(crate) type Pods = (String, BTreeSet<String>);

pub(crate) async fn pods(client: &Client) -> Pods {
    (
        coordinator_pod(client).await,
        agent_pods(client).await.into_iter().collect(),
    )
}

/// Looks as the page does until both have changed and are there.
pub(crate) async fn until_replaced(client: &Client, before: &Pods) {
    let (mut coordinator, mut agents) = (false, false);
    let looking = async {
        while !(coordinator && agents) {
            let (one, others) = pods(client).await;
            coordinator |= !one.is_empty() && one != before.0;
            agents |= !others.is_empty() && others != before.1;
            tokio::time::sleep(POLL).await;
        }
    };
    let seen = tokio::time::timeout(PATIENCE, looking).await;
    assert!(
        seen.is_ok(),
        "the page waits for ever: coordinator new: {coordinator}, agents new: {agents}"
    );
}

/// What is saved at present.
async fn location(client: &Client) -> Value {
    let all = client.list(LOCATIONS, "").await;
    all.into_iter().find(|one| name(one) == "default").unwrap()
}

async fn put_keys(client: &Client, keys: &str) {
    match client.find(SECRET).await {
        None => {
            client
                .create(&format!("{CORE}/secrets"), &secret(keys))
                .await;
        }
        Some(mut found) => {
            found["data"]["cloud"] = go::bytes(keys);
            client.update(SECRET, &found).await;
        }
    }
}

/// KOTS gives up at a conflict, such as one with a status that was written: somebody who sees that saves again, so often
/// at most.
const TRIES: usize = 5;
/// So long nobody else may change what KOTS writes after the location.
const SETTLE: Duration = Duration::from_secs(2);

/// Saves, from the location to the restart.
pub(crate) async fn save(client: &Client, choice: &Choice<'_>) -> Saved {
    for _ in 0..TRIES {
        if let Some(saved) = try_save(client, choice).await {
            return saved;
        }
    }
    panic!("each of {TRIES} saves has met a conflict");
}

/// Saves once; `None` after a conflict.
async fn try_save(client: &Client, choice: &Choice<'_>) -> Option<Saved> {
    let mut location = location(client).await;
    match &choice.keys {
        Keys::Put(keys) => put_keys(client, keys).await,
        Keys::Keep => {}
        Keys::Remove => drop(client.delete(SECRET).await),
    }
    location["spec"]["provider"] = json!(choice.provider);
    location["spec"]["config"] = choice.config.clone();
    let mut storage = json!({"bucket": choice.bucket});
    if !choice.prefix.is_empty() {
        storage["prefix"] = json!(choice.prefix);
    }
    location["spec"]["objectStorage"] = storage;
    if choice.provider.starts_with("replicated.com/")
        && let Some(status) = location["status"].as_object_mut()
    {
        status.remove("lastSyncedTime");
    }
    finish_save(client, &location, choice.restarts).await
}

/// Puts an entry into a list of a pod's spec, in the place of one of its name.
fn put_named(list: &mut Value, entry: Value) {
    if list.is_null() {
        *list = json!([]);
    }
    let list = list.as_array_mut().unwrap();
    match list.iter_mut().find(|one| one["name"] == entry["name"]) {
        Some(old) => *old = entry,
        None => list.push(entry),
    }
}

fn with_keys(workload: &mut Value) {
    let spec = &mut workload["spec"]["template"]["spec"];
    let volume =
        json!({"name": "cloud-credentials", "secret": {"secretName": "cloud-credentials"}});
    put_named(&mut spec["volumes"], volume);
    let container = &mut spec["containers"][0];
    let mount = json!({"name": "cloud-credentials", "mountPath": "/credentials"});
    put_named(&mut container["volumeMounts"], mount);
    for variable in [
        "GOOGLE_APPLICATION_CREDENTIALS",
        "AWS_SHARED_CREDENTIALS_FILE",
        "AZURE_CREDENTIALS_FILE",
        "ALIBABA_CLOUD_CREDENTIALS_FILE",
    ] {
        let entry = json!({"name": variable, "value": "/credentials/cloud"});
        put_named(&mut container["env"], entry);
    }
}

/// Writes the location and what follows it; `None` after a conflict.
async fn finish_save(client: &Client, location: &Value, restarts: bool) -> Option<Saved> {
    let path = format!("{LOCATIONS}/default");
    client.try_update(&path, location).await?;
    let written = Instant::now();
    let (deployment, set) = (
        format!("{APPS}/deployments/velero"),
        format!("{APPS}/daemonsets/node-agent"),
    );
    let mut coordinator = client.get(&deployment).await;
    let mut agents = client.get(&set).await;
    if client.find(SECRET).await.is_some() {
        with_keys(&mut coordinator);
        with_keys(&mut agents);
    }
    let pull = client
        .find(&format!("{CORE}/secrets/registry-credentials"))
        .await;
    assert_eq!(pull, None);
    for (path, workload) in [(&deployment, &coordinator), (&set, &agents)] {
        if client.try_update(path, workload).await.is_none() {
            let generation = |one: &Value| one["metadata"]["generation"].clone();
            let is_ours = generation(&client.get(path).await) != generation(workload);
            assert!(
                !is_ours || written.elapsed() >= SETTLE,
                "{path} was changed while KOTS saved"
            );
            return None;
        }
    }
    let repositories = format!("{VELERO}/backuprepositories");
    let found = client
        .list(&repositories, "velero.io/storage-location=default")
        .await;
    for one in &found {
        client
            .delete(&format!("{repositories}/{}", name(one)))
            .await;
    }
    let old = client.find(&format!("{VELERO}/resticrepositories")).await;
    assert_eq!(old, None, "there are none since Velero 1.10");
    if restarts {
        restart(client).await;
    }
    Some(Saved(location["status"]["lastValidationTime"].clone()))
}

/// Deletes all pods that have the labels of the Deployment, and then those with the labels of the DaemonSet.
pub(crate) async fn restart(client: &Client) {
    let all = client.list("/apis/apps/v1/deployments", "").await;
    assert!(all.iter().any(|one| name(one) == "velero"));
    for kind in ["deployments", "daemonsets"] {
        let path = format!("{APPS}/{kind}");
        let mut found = client.list(&path, "component=velero").await;
        found.extend(client.list(&path, "app.kubernetes.io/name=velero").await);
        for workload in found {
            let labels = workload["metadata"]["labels"].as_object().unwrap();
            let labels: Vec<String> = labels
                .iter()
                .map(|(key, value)| format!("{key}={}", value.as_str().unwrap()))
                .collect();
            let path = format!("{CORE}/pods");
            for pod in client.list(&path, &labels.join(",")).await {
                client.delete(&format!("{path}/{}", name(&pod))).await;
            }
        }
    }
}

/// Waits until the location is known as it was saved: KOTS leaves the status of before.
pub(crate) async fn until_validated(client: &Client, saved: &Saved, phases: &[&str]) -> Value {
    let path = format!("{LOCATIONS}/default");
    let is_it = |one: &Value| {
        let time = &one["status"]["lastValidationTime"];
        phases.contains(&phase(one)) && time.is_string() && *time != saved.0
    };
    client.until(&format!("is {phases:?}"), &path, is_it).await
}

/// Waits until the Deployment has the directories of locations that it should have, and its pods follow.
pub(crate) async fn until_mounted(
    client: &Client,
    are_they: impl Fn(&[&Value]) -> bool + Send + Sync,
) -> Value {
    let is_it = |one: &Value| {
        let volumes = one["spec"]["template"]["spec"]["volumes"].as_array();
        let is_ours = |volume: &&Value| {
            let name = volume["name"].as_str();
            name.is_some_and(|name| name.starts_with("orlop-store-"))
        };
        let ours: Vec<&Value> = volumes.into_iter().flatten().filter(is_ours).collect();
        are_they(&ours) && one["status"]["observedGeneration"] == one["metadata"]["generation"]
    };
    let path = format!("{APPS}/deployments/velero");
    client.until("mounts what it should", &path, is_it).await
}

/// Saves what is saved already, as somebody does who only looks at the page.
pub(crate) async fn save_same(world: &World, client: &Client) -> Saved {
    for _ in 0..TRIES {
        let location = location(client).await;
        if world.memory().is_some() {
            put_keys(client, &keys(s3::ACCESS_KEY, s3::SECRET_KEY)).await;
        }
        if let Some(saved) = finish_save(client, &location, true).await {
            return saved;
        }
    }
    panic!("each of {TRIES} saves has met a conflict");
}

/// Back to the store of before the row.
pub(crate) async fn save_first(world: &World, client: &Client) {
    let before = pods(client).await;
    let spec = world.location_spec("first");
    let choice = Choice {
        provider: "aws",
        bucket: "bench",
        prefix: "first",
        config: spec["config"].clone(),
        keys: Keys::Put(keys(s3::ACCESS_KEY, s3::SECRET_KEY)),
        restarts: true,
    };
    let saved = save(client, &choice).await;
    until_replaced(client, &before).await;
    until_mounted(client, |volumes| volumes.is_empty()).await;
    until_validated(client, &saved, &["Available"]).await;
}
