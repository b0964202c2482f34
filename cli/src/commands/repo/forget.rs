//! `orlop repo forget`.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use clap::Args;
use jiff::tz::TimeZone;
use orlop_core::{
    SnapshotId, VolumeRef,
    retention::{
        Completeness, Decision, Guard, Item, KeepSpan, Reason, RetentionPolicy, decide_among,
        decide_named, parse_count,
    },
    run::not_found,
};
use orlop_repository::{Repository, SnapshotInfo, SnapshotState};
use tokio_util::sync::CancellationToken;

use super::WriteArgs;
use crate::{
    exit::{self, Outcome},
    output::OutputArgs,
    shapes::ForgetShape,
};

/// Which snapshots to forget: those that no rule keeps, or those that are named.
#[derive(Debug, Args)]
pub(crate) struct ForgetArgs {
    /// Forget exactly these snapshots: an id or the beginning of one
    #[arg(value_name = "ID", conflicts_with_all = ["rules", "tags", "volumes"])]
    ids: Vec<String>,
    #[command(flatten)]
    repo: WriteArgs,
    #[command(flatten)]
    rules: RuleArgs,
    /// Look only at snapshots with this tag
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// Look only at snapshots of this volume
    #[arg(long = "volume", value_name = "NS/POD/VOL")]
    volumes: Vec<VolumeRef>,
    /// Time zone in which days begin
    #[arg(long, value_name = "NAME", default_value = "UTC")]
    time_zone: String,
    /// Say what would be forgotten and why, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Let go of the snapshots that this backup holds, so that rules may take them
    #[arg(long = "release-backup", value_name = "NAME")]
    released: Vec<String>,
    /// Let rules take even the newest complete snapshot of a volume
    #[arg(long)]
    allow_last: bool,
    #[command(flatten)]
    output: OutputArgs,
}

/// What to keep. Rules count each volume for itself, and each keeps what it keeps whatever the others do.
#[derive(Debug, Args)]
#[group(id = "rules", multiple = true)]
struct RuleArgs {
    /// Keep the newest N
    #[arg(long = "keep-last", value_name = "N", value_parser = parse_count, default_value = "0", hide_default_value = true)]
    last: u32,
    /// Keep the newest of each of the newest N hours that have any
    #[arg(long = "keep-hourly", value_name = "N", value_parser = parse_count, default_value = "0", hide_default_value = true)]
    hourly: u32,
    /// Keep the newest of each of the newest N days
    #[arg(long = "keep-daily", value_name = "N", value_parser = parse_count, default_value = "0", hide_default_value = true)]
    daily: u32,
    /// Keep the newest of each of the newest N weeks
    #[arg(long = "keep-weekly", value_name = "N", value_parser = parse_count, default_value = "0", hide_default_value = true)]
    weekly: u32,
    /// Keep the newest of each of the newest N months
    #[arg(long = "keep-monthly", value_name = "N", value_parser = parse_count, default_value = "0", hide_default_value = true)]
    monthly: u32,
    /// Keep the newest of each of the newest N years
    #[arg(long = "keep-yearly", value_name = "N", value_parser = parse_count, default_value = "0", hide_default_value = true)]
    yearly: u32,
    /// Keep what is at most so much older than the newest, such as 36h, 30d, 2w, 6m or 1y6m
    #[arg(long = "keep-within", value_name = "TIME")]
    within: Option<KeepSpan>,
    /// As --keep-within, but only the newest of each hour
    #[arg(long = "keep-within-hourly", value_name = "TIME")]
    within_hourly: Option<KeepSpan>,
    /// As --keep-within, but only the newest of each day
    #[arg(long = "keep-within-daily", value_name = "TIME")]
    within_daily: Option<KeepSpan>,
    /// As --keep-within, but only the newest of each week
    #[arg(long = "keep-within-weekly", value_name = "TIME")]
    within_weekly: Option<KeepSpan>,
    /// As --keep-within, but only the newest of each month
    #[arg(long = "keep-within-monthly", value_name = "TIME")]
    within_monthly: Option<KeepSpan>,
    /// As --keep-within, but only the newest of each year
    #[arg(long = "keep-within-yearly", value_name = "TIME")]
    within_yearly: Option<KeepSpan>,
    /// Keep all that have this tag
    #[arg(long = "keep-tag", value_name = "TAG")]
    wanted_tags: Vec<String>,
}

impl RuleArgs {
    fn policy(self) -> RetentionPolicy {
        RetentionPolicy {
            last: self.last,
            hourly: self.hourly,
            daily: self.daily,
            weekly: self.weekly,
            monthly: self.monthly,
            yearly: self.yearly,
            within: self.within,
            within_hourly: self.within_hourly,
            within_daily: self.within_daily,
            within_weekly: self.within_weekly,
            within_monthly: self.within_monthly,
            within_yearly: self.within_yearly,
            tags: self.wanted_tags,
        }
    }
}

impl ForgetArgs {
    pub(crate) async fn run(self, cancel: CancellationToken) -> Result<Outcome> {
        let policy = self.rules.policy();
        if self.ids.is_empty() && policy.is_empty() {
            return Err(exit::usage(
                "say what to keep: --keep-last, --keep-daily, --keep-within and so on; or name the snapshots to forget",
            ));
        }
        let zone = TimeZone::get(&self.time_zone).map_err(|_| {
            exit::usage(format!(
                "{:?} is not a time zone: write a name such as UTC or Europe/Berlin",
                self.time_zone
            ))
        })?;
        let repository = self.repo.open().await?;
        let snapshots = repository.snapshots().await?;
        check_released(&self.released, &snapshots)?;
        let guard = Guard {
            zone,
            allow_last: self.allow_last,
            released: self.released.into_iter().collect(),
            ..Guard::new(jiff::Timestamp::now().as_millisecond())
        };
        let groups: Vec<String> = snapshots.iter().map(group).collect();
        let items: Vec<Item<'_, SnapshotId>> = snapshots
            .iter()
            .zip(&groups)
            .map(|(s, g)| item(s, g))
            .collect();
        let infos: BTreeMap<SnapshotId, &SnapshotInfo> =
            snapshots.iter().map(|s| (s.id, s)).collect();
        let decisions = if self.ids.is_empty() {
            decide_among(&policy, &items, &guard, |item| {
                let info = infos[&item.id];
                (self.volumes.is_empty() || self.volumes.contains(&info.volume))
                    && (self.tags.is_empty() || self.tags.iter().any(|t| info.tags.contains(t)))
            })
        } else {
            let mut named = BTreeSet::new();
            for id in &self.ids {
                named.insert(repository.resolve(id).await?.id);
            }
            let decisions = decide_named(&items, &guard, |id| named.contains(id));
            refuse_guarded(&decisions)?;
            decisions
        };
        if !self.dry_run {
            tokio::select! {
                forgotten = forget(&repository, &decisions) => forgotten?,
                () = cancel.cancelled() => return Err(exit::failure(
                    exit::INTERRUPTED,
                    "interrupted: all of them are forgotten, or none; see `orlop repo snapshots`",
                )),
            }
        }
        let shapes: Vec<ForgetShape> = decisions
            .iter()
            .map(|decision| ForgetShape::new(infos[&decision.id], decision))
            .collect();
        self.output
            .print(&shapes, |list| ForgetShape::table(list, self.dry_run))?;
        Ok(Outcome::Done)
    }
}

async fn forget(repository: &Repository, decisions: &[Decision<SnapshotId>]) -> Result<()> {
    let unwanted = decisions.iter().filter(|decision| !decision.keep);
    let ids: Vec<SnapshotId> = unwanted.map(|decision| decision.id).collect();
    if ids.is_empty() {
        return Ok(());
    }
    repository.forget(&ids).await.context("forget snapshots")?;
    Ok(())
}

/// The lineage with its namespace: two namespaces share none.
fn group(info: &SnapshotInfo) -> String {
    format!("{}/{}", info.volume.namespace, info.lineage)
}

fn item<'a>(info: &'a SnapshotInfo, group: &'a str) -> Item<'a, SnapshotId> {
    Item {
        id: info.id,
        group,
        time_ms: info.time_ms,
        sequence: info.session,
        completeness: match info.state {
            SnapshotState::Complete => Completeness::Complete,
            SnapshotState::Inconsistent => Completeness::Flawed,
            SnapshotState::Partial => Completeness::Partial,
        },
        tags: &info.tags,
        held_by: &info.backup,
    }
}

/// Refuses the name of a backup that holds nothing: it may be mistyped.
fn check_released(released: &[String], snapshots: &[SnapshotInfo]) -> Result<()> {
    let holders: BTreeSet<&str> = snapshots
        .iter()
        .map(|info| info.backup.as_str())
        .filter(|backup| !backup.is_empty())
        .collect();
    match released
        .iter()
        .find(|name| !holders.contains(name.as_str()))
    {
        None => Ok(()),
        Some(name) => Err(exit::not_found(format!(
            "no snapshot is held: {}",
            not_found("backup", name, holders)
        ))),
    }
}

/// Forgets none of the snapshots that were named when one of them must stay.
fn refuse_guarded(decisions: &[Decision<SnapshotId>]) -> Result<()> {
    let Some(kept) = decisions.iter().find(|decision| decision.keep) else {
        return Ok(());
    };
    let remedy = match &kept.reasons[0] {
        Reason::Held(backup) => format!("--release-backup {backup} lets go of it"),
        _ => "--allow-last forgets it all the same".to_owned(),
    };
    let reasons: Vec<String> = kept.reasons.iter().map(ToString::to_string).collect();
    Err(exit::failure(
        exit::FAILED,
        format!(
            "snapshot {} is guarded ({}), and nothing was forgotten: {remedy}",
            kept.id,
            reasons.join(", ")
        ),
    ))
}
