//! `orlop schedule update`.

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

/// As a value: none of it.
const NONE: &str = "none";

/// What to change.
#[derive(Debug, Args)]
pub(crate) struct UpdateArgs {
    /// Name of the schedule
    name: String,
    /// When: '0 2 * * *', @daily, '@every 6h' and so on
    #[arg(long, value_name = "EXPRESSION")]
    cron: Option<String>,
    /// Time zone of --cron and --keep
    #[arg(long, value_name = "NAME")]
    time_zone: Option<String>,
    /// Which of its backups to keep, such as daily=7,weekly=4; none: no rules, all are kept
    #[arg(long, value_name = "RULES", value_parser = policy)]
    keep: Option<RetentionPolicy>,
    /// How long to keep each new backup, such as 720h or 30d; none: for ever
    #[arg(long, value_name = "TIME", value_parser = seconds_or_none)]
    ttl: Option<u64>,
    /// Skip a turn that would begin so much too late, such as 2h; none: however late
    #[arg(long, value_name = "TIME", value_parser = seconds_or_none)]
    starting_deadline: Option<u64>,
    /// Location of new backups
    #[arg(long)]
    location: Option<String>,
    /// Back up every eligible volume again, instead of those that were named
    #[arg(long, conflicts_with_all = ["namespaces", "pods", "volumes"])]
    everything: bool,
    #[command(flatten)]
    what: WhatArgs,
    /// Whether to read every file again each time
    #[arg(long, value_name = "BOOL")]
    force_full: Option<bool>,
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    output: OutputArgs,
}

fn policy(text: &str) -> Result<RetentionPolicy> {
    match text {
        NONE => Ok(RetentionPolicy::default()),
        text => Ok(text.parse()?),
    }
}

fn seconds_or_none(text: &str) -> Result<u64> {
    match text {
        NONE => Ok(0),
        text => seconds(text),
    }
}

fn replace<T>(old: &mut T, new: Option<T>) {
    if let Some(new) = new {
        *old = new;
    }
}

fn given<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

impl UpdateArgs {
    pub(super) async fn run(self) -> Result<Outcome> {
        let mut schedules = self.client.connect().await?.schedules();
        let name = self.name.clone();
        let request = v1::GetScheduleRequest { name };
        let found = schedules.get(request).await.map_err(refused)?.into_inner();
        let found = found.schedule.unwrap_or_default();
        let output = self.output;
        let request = v1::UpdateScheduleRequest {
            name: found.name.clone(),
            version: found.version,
            spec: Some(self.changed(found.spec.unwrap_or_default())),
        };
        let answer = schedules.update(request).await.map_err(refused)?;
        print_one(output, answer.into_inner().schedule)
    }

    fn changed(self, mut spec: v1::ScheduleSpec) -> v1::ScheduleSpec {
        let mut backup = spec.backup.take().unwrap_or_default();
        let volumes: Vec<v1::VolumeRef> = self.what.volumes.into_iter().map(to_wire).collect();
        let (namespaces, pods) = (self.what.namespaces, self.what.pods);
        // Whatever selects volumes replaces everything that did.
        if self.everything || !(namespaces.is_empty() && pods.is_empty() && volumes.is_empty()) {
            (backup.namespaces, backup.pods, backup.volumes) = (namespaces, pods, volumes);
        }
        replace(&mut backup.location, self.location);
        replace(&mut backup.ttl_seconds, self.ttl);
        replace(&mut backup.exclude, given(self.what.exclude));
        replace(&mut backup.tags, given(self.what.tags));
        replace(&mut backup.force_full, self.force_full);
        replace(&mut spec.cron, self.cron);
        replace(&mut spec.time_zone, self.time_zone);
        replace(&mut spec.keep, self.keep.map(|keep| keep.to_string()));
        replace(&mut spec.starting_deadline_seconds, self.starting_deadline);
        spec.backup = Some(backup);
        spec
    }
}
