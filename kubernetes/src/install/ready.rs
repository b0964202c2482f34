//! Whether what was installed works.

use k8s_openapi::{
    api::{
        apps::v1::{DaemonSet, Deployment},
        core::v1::Pod,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use serde_json::{Value, json};

use super::{LOCATION, PASSWORD_SECRET, apply::InstallError, pods::Restarts};
use crate::{
    client::{ClientError, Connection, Objects},
    velero::{
        BackupStorageLocation,
        location::{BackupStorageLocationStatus, LocationPhase},
    },
};

/// What the coordinator says of a place that may only be read and is empty.
const NO_REPOSITORY: &str = "holds no repository";

/// What was installed.
pub(super) struct Watched<'a> {
    connection: &'a Connection,
    /// Its location, if it has one.
    location: Option<Before>,
    restarts: Restarts,
}

/// When a location was tried last before all was applied.
struct Before(Option<Time>);

impl<'a> Watched<'a> {
    /// What `objects` say, which have all been applied.
    pub(super) async fn new(
        connection: &'a Connection,
        objects: &[Value],
    ) -> Result<Self, ClientError> {
        let mut watched = Self {
            connection,
            location: None,
            restarts: Restarts::default(),
        };
        if objects
            .iter()
            .any(|object| object["kind"] == "BackupStorageLocation")
        {
            let before = Before(watched.location().await?.last_validation_time);
            watched.location = Some(before);
        }
        Ok(watched)
    }

    async fn location(&self) -> Result<BackupStorageLocationStatus, ClientError> {
        let namespace = Some(self.connection.namespace());
        let locations = Objects::<BackupStorageLocation>::of(self.connection, namespace);
        let location = locations.get(LOCATION).await?;
        Ok(location.map(|location| location.status).unwrap_or_default())
    }

    /// What does not work yet, and the command that shows more.
    ///
    /// # Errors
    /// Waiting cannot help, or the server does not answer.
    pub(super) async fn missing(&mut self) -> Result<Option<(String, String)>, InstallError> {
        let mut location = None;
        if let Some(Before(before)) = &self.location {
            let status = self.location().await?;
            if let Some(message) = verdict(&status, before.as_ref()) {
                return Err(InstallError::Location {
                    name: LOCATION.to_owned(),
                    message,
                });
            }
            location = Some(status);
        }
        let missing = self.workloads().await?;
        if missing.is_some() {
            return Ok(missing);
        }
        let waits = location.filter(|status| status.phase != LocationPhase::Available);
        Ok(waits.map(|status| {
            let namespace = self.connection.namespace();
            let what = format!("location {LOCATION} is not available: {}", status.message);
            let command = format!("kubectl -n {namespace} get backupstoragelocations -o yaml");
            (what, command)
        }))
    }

    async fn workloads(&mut self) -> Result<Option<(String, String)>, InstallError> {
        let (connection, namespace) = (self.connection, self.connection.namespace());
        let number = |value: &Value| value.as_i64().unwrap_or(0);
        let deployments = Objects::<Deployment>::of(connection, Some(namespace));
        let deployment = json!(deployments.get("velero").await?);
        let is_current = |object: &Value| {
            let seen = number(&object["status"]["observedGeneration"]);
            seen >= number(&object["metadata"]["generation"])
        };
        let status = &deployment["status"];
        let is_up = is_current(&deployment)
            && number(&status["updatedReplicas"]) >= 1
            && number(&status["availableReplicas"]) >= 1
            && number(&status["unavailableReplicas"]) == 0;
        if !is_up {
            let what = "the coordinator is not ready".to_owned();
            return self.waits_for(what, "deploy=velero").await.map(Some);
        }
        let sets = Objects::<DaemonSet>::of(connection, Some(namespace));
        let set = json!(sets.get("node-agent").await?);
        let status = &set["status"];
        let wanted = number(&status["desiredNumberScheduled"]);
        let available = number(&status["numberAvailable"]);
        let is_new = number(&status["updatedNumberScheduled"]) == wanted;
        if !is_current(&set) || !is_new || available < wanted {
            let what = format!("{available} of {wanted} agents are ready");
            return self.waits_for(what, "name=node-agent").await.map(Some);
        }
        Ok(None)
    }

    /// What its pods say of that which is not ready, and the command that shows more.
    async fn waits_for(
        &mut self,
        what: String,
        selector: &str,
    ) -> Result<(String, String), InstallError> {
        let namespace = self.connection.namespace();
        let command = format!("kubectl -n {namespace} describe pod -l {selector}");
        let pods = Objects::<Pod>::of(self.connection, Some(namespace));
        let pods = pods.list(selector).await?;
        let Some(trouble) = self.restarts.trouble_of(&pods) else {
            return Ok((what, command));
        };
        let what = format!("{what}: {}", trouble.what);
        if trouble.lasts {
            return Err(InstallError::Broken { what, command });
        }
        Ok((what, command))
    }
}

/// What was said of the location since all was applied and will not change by waiting: what the controller says of its
/// password names the Secret to mend.
fn verdict(status: &BackupStorageLocationStatus, before: Option<&Time>) -> Option<String> {
    let is_news = status.last_validation_time.as_ref() != before;
    let lasts = [PASSWORD_SECRET, NO_REPOSITORY]
        .iter()
        .any(|word| status.message.contains(word));
    (status.phase == LocationPhase::Unavailable && is_news && lasts).then(|| status.message.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waiting_cannot_mend_is_told_from_what_it_can_and_from_old_news() {
        let status = |phase: &str, message: &str| -> BackupStorageLocationStatus {
            let time = "2026-01-02T03:04:05Z";
            serde_json::from_value(json!({
                "phase": phase, "message": message, "lastValidationTime": time,
            }))
            .unwrap()
        };
        let wrong = status(
            "Unavailable",
            "wrong password: Secret velero-repo-credentials …",
        );
        assert!(verdict(&wrong, None).is_some());
        assert_eq!(verdict(&wrong, wrong.last_validation_time.as_ref()), None);
        let none = status(
            "Unavailable",
            "s3://b/kopia/orlop holds no repository: check …",
        );
        assert!(verdict(&none, None).is_some());
        let away = status("Unavailable", "the store has not answered within 45 s");
        assert_eq!(verdict(&away, None), None);
        assert_eq!(verdict(&status("Available", ""), None), None);
    }
}
