//! `orlop status`.

use std::fmt::Write as _;

use anyhow::Result;
use clap::Args;
use orlop_proto::v1;
use serde::Serialize;

use crate::{
    client::{ClientArgs, refused},
    exit::Outcome,
    output::OutputArgs,
    shapes::{LocationShape, ScheduleShape, present, time},
    text,
};

/// Which server.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Serialize)]
struct StatusShape {
    version: String,
    started: Option<String>,
    running_backups: u32,
    running_restores: u32,
    nodes: Vec<NodeShape>,
    locations: Vec<LocationShape>,
    schedules: Vec<ScheduleShape>,
}

#[derive(Serialize)]
struct NodeShape {
    node: String,
    version: String,
    connected: bool,
    last_seen: Option<String>,
    running_tasks: u32,
    task_limit: u32,
    volumes: Vec<VolumeShape>,
}

#[derive(Serialize)]
struct VolumeShape {
    namespace: String,
    pod: String,
    volume: String,
    pod_uid: Option<String>,
    plugin: Option<String>,
    lineage: String,
    selected: bool,
    skip_reason: Option<String>,
}

impl StatusArgs {
    /// Everything is in order (exit 0) if each agent is connected, each location available, and no schedule waits or
    /// fails.
    pub(crate) async fn run(self) -> Result<Outcome> {
        let mut system = self.client.connect().await?.system();
        let answer = system
            .get_status(v1::GetStatusRequest {})
            .await
            .map_err(refused)?;
        let status = StatusShape::from(answer.into_inner());
        self.output.print(&status, StatusShape::table)?;
        let healthy = status.nodes.iter().all(|node| node.connected)
            && status.locations.iter().all(LocationShape::is_healthy)
            && status.schedules.iter().all(ScheduleShape::is_healthy);
        Ok(Outcome::with_errors(!healthy))
    }
}

impl From<v1::GetStatusResponse> for StatusShape {
    fn from(status: v1::GetStatusResponse) -> Self {
        Self {
            version: status.version,
            started: time(status.started_ms),
            running_backups: status.running_backups,
            running_restores: status.running_restores,
            nodes: status.nodes.into_iter().map(NodeShape::from).collect(),
            locations: status.locations.into_iter().map(Into::into).collect(),
            schedules: status.schedules.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<v1::NodeStatus> for NodeShape {
    fn from(node: v1::NodeStatus) -> Self {
        Self {
            node: node.node,
            version: node.version,
            connected: node.connected,
            last_seen: time(node.last_seen_ms),
            running_tasks: node.running_tasks,
            task_limit: node.task_limit,
            volumes: node.volumes.into_iter().map(VolumeShape::from).collect(),
        }
    }
}

impl From<v1::FoundVolume> for VolumeShape {
    fn from(found: v1::FoundVolume) -> Self {
        let volume = found.volume.unwrap_or_default();
        Self {
            namespace: volume.namespace,
            pod: volume.pod,
            volume: volume.volume,
            pod_uid: present(&found.pod_uid),
            plugin: present(&found.plugin),
            lineage: found.lineage,
            selected: found.selected,
            skip_reason: present(&found.skip_reason),
        }
    }
}

impl StatusShape {
    fn table(&self) -> String {
        let mut out = String::new();
        let started = self.started.as_deref().unwrap_or("-");
        let _ = writeln!(out, "coordinator {}, started {started}", self.version);
        let _ = writeln!(
            out,
            "{} and {} running\n",
            text::count(u64::from(self.running_backups), "backup"),
            text::count(u64::from(self.running_restores), "restore")
        );
        out.push_str(&LocationShape::table(&self.locations));
        out.push('\n');
        if !self.schedules.is_empty() {
            out.push_str(&ScheduleShape::table(&self.schedules));
            out.push('\n');
        }
        let nodes: Vec<Vec<String>> = self
            .nodes
            .iter()
            .map(|node| {
                vec![
                    node.node.clone(),
                    node.version.clone(),
                    if node.connected { "connected" } else { "gone" }.to_owned(),
                    format!("{}/{}", node.running_tasks, node.task_limit),
                    node.volumes.len().to_string(),
                ]
            })
            .collect();
        out.push_str(&text::table(
            &["NODE", "VERSION", "AGENT", "TASKS", "VOLUMES"],
            &nodes,
        ));
        out.push('\n');
        let volumes: Vec<Vec<String>> = self
            .nodes
            .iter()
            .flat_map(|node| node.volumes.iter().map(move |volume| (node, volume)))
            .map(|(node, volume)| {
                vec![
                    format!("{}/{}/{}", volume.namespace, volume.pod, volume.volume),
                    node.node.clone(),
                    match &volume.skip_reason {
                        Some(reason) => format!("no: {reason}"),
                        None if volume.selected => "yes".to_owned(),
                        None => "only by name".to_owned(),
                    },
                ]
            })
            .collect();
        out.push_str(&text::table(&["VOLUME", "NODE", "BACKED UP"], &volumes));
        out
    }
}
