//! Questions that clients put as objects: where a file is, and who we are.

mod download;
mod status;

use std::{sync::Arc, time::Duration};

use orlop_kubernetes::velero::{DownloadRequest, ServerStatusRequest};
use serde_json::json;

use crate::{
    clock,
    engine::{Next, Reconciler},
    error::{Trouble, is_passing},
    names,
    parts::Parts,
};

/// How often a question is looked at that cannot be answered now.
const AGAIN: Duration = Duration::from_secs(30);

/// Looks after `DownloadRequest` objects.
pub(crate) struct Downloads(pub(crate) Arc<Parts>);

impl Reconciler for Downloads {
    type Object = DownloadRequest;

    fn concerns(&self, _request: &DownloadRequest) -> bool {
        true
    }

    async fn reconcile(
        &self,
        name: &str,
        object: Option<DownloadRequest>,
    ) -> Result<Next, Trouble> {
        let Some(request) = object else {
            return Ok(Next::Done);
        };
        let kept = &self.0.downloads;
        let now_ms = clock::now_ms();
        let why = match download::next(&request, now_ms) {
            download::Step::Remove => {
                kept.delete(name, request.metadata.uid.as_deref()).await?;
                return Ok(Next::Done);
            }
            download::Step::LaterAt(then_ms) => {
                return Ok(Next::After(clock::until(then_ms, now_ms)));
            }
            download::Step::Refuse => {
                format!("{} is no file that we have", request.spec.target.kind)
            }
            download::Step::Answer(artifact) => {
                let location = self.location(&request).await?;
                let of = &request.spec.target.name;
                match self
                    .0
                    .coordinator
                    .download_url(artifact, of, &location)
                    .await
                {
                    Ok(answer) => {
                        let patch = json!({"status": {
                            "phase": "Processed", "downloadURL": answer.url,
                            "expiration": clock::text(answer.expires_ms),
                        }});
                        kept.patch(name, &patch).await?;
                        return Ok(Next::After(clock::until(answer.expires_ms, now_ms)));
                    }
                    Err(status) if is_passing(&status) => return Err(status.into()),
                    Err(status) => status.message().to_owned(),
                }
            }
        };
        // Its status has no place for that.
        if names::annotation(&request, names::PROBLEM) != Some(&why) {
            tracing::warn!(name, reason = why, "a file cannot be downloaded");
            kept.patch(
                name,
                &json!({"metadata": {"annotations": {names::PROBLEM: why}}}),
            )
            .await?;
        }
        Ok(Next::After(AGAIN))
    }
}

impl Downloads {
    /// The location of the backup that is asked about, or of that of the restore; empty if it is not known here.
    async fn location(&self, request: &DownloadRequest) -> Result<String, Trouble> {
        let target = &request.spec.target;
        let mut of = target.name.clone();
        if download::is_of_restore(&target.kind) {
            match self.0.restores.get(&of).await? {
                Some(restore) => of = restore.spec.backup_name,
                None => return Ok(String::new()),
            }
        }
        // One that was not seen yet may well be there: right after our start none was.
        let backup = self.0.backups.get(&of).await?;
        Ok(backup.map_or_else(String::new, |backup| backup.spec.storage_location))
    }
}

/// Looks after `ServerStatusRequest` objects.
pub(crate) struct Statuses(pub(crate) Arc<Parts>);

impl Reconciler for Statuses {
    type Object = ServerStatusRequest;

    fn concerns(&self, _request: &ServerStatusRequest) -> bool {
        true
    }

    async fn reconcile(
        &self,
        name: &str,
        object: Option<ServerStatusRequest>,
    ) -> Result<Next, Trouble> {
        let Some(request) = object else {
            return Ok(Next::Done);
        };
        let now_ms = clock::now_ms();
        match status::next(&request, &self.0.config.server_version, now_ms) {
            status::Step::Answer(answer) => {
                self.0
                    .statuses
                    .patch(name, &json!({"status": answer}))
                    .await?;
                // Its change brings us here again.
                Ok(Next::Done)
            }
            status::Step::Remove => {
                self.0
                    .statuses
                    .delete(name, request.metadata.uid.as_deref())
                    .await?;
                Ok(Next::Done)
            }
            status::Step::LaterAt(then_ms) => Ok(Next::After(clock::until(then_ms, now_ms))),
        }
    }
}
