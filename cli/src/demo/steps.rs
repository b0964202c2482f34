//! What the demo asks of the server, as any client would.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use orlop_proto::v1;
use tokio_util::sync::CancellationToken;

use super::{FIRST, PATIENCE, SECOND, pod::Pod};
use crate::{
    client::{Client, refused},
    commands::run::{self, Kind},
    exit::{self, Outcome},
    shapes::Run,
};

/// Waits until an agent has told the server of the pod's volume.
pub(super) async fn found(client: &Client, pod: &Pod) -> Result<()> {
    let began = Instant::now();
    loop {
        let answer = client
            .system()
            .get_status(v1::GetStatusRequest {})
            .await
            .map_err(refused)?;
        let nodes = answer.into_inner().nodes;
        let mut volumes = nodes
            .iter()
            .flat_map(|node| &node.volumes)
            .filter_map(|v| v.volume.as_ref());
        if volumes
            .any(|v| v.namespace == pod.namespace && v.pod == pod.name && v.volume == pod.claim)
        {
            return Ok(());
        }
        if began.elapsed() > PATIENCE {
            return Err(exit::failure(
                exit::FAILED,
                format!("the agent did not find the volume of pod {}", pod.name),
            ));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Backs up the first pod's volume.
pub(super) async fn backup(client: &Client, name: &str, cancel: &CancellationToken) -> Result<Run> {
    let volume = v1::VolumeRef {
        namespace: FIRST.namespace.to_owned(),
        pod: FIRST.name.to_owned(),
        volume: FIRST.claim.to_owned(),
    };
    let request = v1::CreateBackupRequest {
        name: name.to_owned(),
        volumes: vec![volume],
        ..Default::default()
    };
    client.backups().create(request).await.map_err(refused)?;
    let run = run::wait(client, Kind::Backup, name, false, cancel).await?;
    completed(run)
}

/// Restores the first backup's snapshot into the second pod's volume.
pub(super) async fn restore(client: &Client, cancel: &CancellationToken) -> Result<Run> {
    let name = "demo-restore";
    let snapshots = v1::ListSnapshotsRequest {
        backup: "demo-1".to_owned(),
        ..Default::default()
    };
    let answer = client
        .snapshots()
        .list(snapshots)
        .await
        .map_err(refused)?
        .into_inner();
    let snapshot = answer
        .snapshots
        .first()
        .context("the first backup holds no snapshot")?;
    let target = v1::VolumeRef {
        namespace: SECOND.namespace.to_owned(),
        pod: SECOND.name.to_owned(),
        volume: SECOND.claim.to_owned(),
    };
    let volume = v1::RestoreVolume {
        snapshot: snapshot.snapshot_id.clone(),
        target: Some(target),
        claim: None,
    };
    let request = v1::CreateRestoreRequest {
        name: name.to_owned(),
        volumes: vec![volume],
        ..Default::default()
    };
    client.restores().create(request).await.map_err(refused)?;
    let run = run::wait(client, Kind::Restore, name, false, cancel).await?;
    completed(run)
}

fn completed(run: Run) -> Result<Run> {
    match run::verdict(&run)? {
        Outcome::Done => Ok(run),
        Outcome::WithErrors => {
            let why = run
                .tasks
                .iter()
                .map(|task| task.message.as_str())
                .find(|m| !m.is_empty());
            Err(exit::failure(
                exit::FAILED,
                format!(
                    "{} {} ended with errors: {}",
                    run.kind,
                    run.name,
                    why.unwrap_or("see its log")
                ),
            ))
        }
    }
}
