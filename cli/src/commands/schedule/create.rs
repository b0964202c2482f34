//! `orlop schedule create`.

use anyhow::Result;
use clap::Args;
use orlop_core::retention::RetentionPolicy;
use orlop_proto::v1;

use super::{WhatArgs, print_one};
use crate::{
    client::{ClientArgs, refused},
    commands::backup::{seconds, to_wire},
    exit::Outcome,
    output::OutputArgs,
};

/// When to back up what; without -n, --pod and --volume every eligible volume.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// Name of the schedule; its backups are called NAME-YYYYMMDDhhmmss
    name: String,
    /// When: '0 2 * * *', @daily, '@every 6h' and so on
    #[arg(long, value_name = "EXPRESSION")]
    cron: String,
    /// Time zone of --cron and --keep
    #[arg(long, value_name = "NAME", default_value = "UTC")]
    time_zone: String,
    /// Which of its backups to keep, such as daily=7,weekly=4; all if left out
    #[arg(long, value_name = "RULES")]
    keep: Option<RetentionPolicy>,
    /// How long to keep each backup, such as 720h or 30d; for ever if left out
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    ttl: Option<u64>,
    /// Skip a turn that would begin so much too late, such as 2h; however late if left out
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    starting_deadline: Option<u64>,
    /// Location of the backups
    #[arg(long, default_value = "", hide_default_value = true)]
    location: String,
    #[command(flatten)]
    what: WhatArgs,
    /// Read every file again each time
    #[arg(long)]
    force_full: bool,
    /// Begin paused
    #[arg(long)]
    paused: bool,
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl CreateArgs {
    pub(super) async fn run(self) -> Result<Outcome> {
        let backup = v1::CreateBackupRequest {
            namespaces: self.what.namespaces,
            pods: self.what.pods,
            volumes: self.what.volumes.into_iter().map(to_wire).collect(),
            location: self.location,
            ttl_seconds: self.ttl.unwrap_or(0),
            exclude: self.what.exclude,
            tags: self.what.tags,
            force_full: self.force_full,
            ..Default::default()
        };
        let spec = v1::ScheduleSpec {
            cron: self.cron,
            time_zone: self.time_zone,
            backup: Some(backup),
            keep: self.keep.map(|keep| keep.to_string()).unwrap_or_default(),
            starting_deadline_seconds: self.starting_deadline.unwrap_or(0),
        };
        let request = v1::CreateScheduleRequest {
            name: self.name,
            spec: Some(spec),
            paused: self.paused,
        };
        let mut schedules = self.client.connect().await?.schedules();
        let answer = schedules.create(request).await.map_err(refused)?;
        print_one(self.output, answer.into_inner().schedule)
    }
}
