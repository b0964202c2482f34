//! Repair: saves what is whole, takes what is damaged out of the index, and marks the snapshots that lack
//! something, so that the next backup stores it again.
//!
//! It is a collection by other means: what is whole in a damaged pack is copied, the snapshots that lack
//! something are marked, the pack is *condemned*, and, when every session that may have built upon it has ended,
//! deleted. A snapshot of a session that builds upon a marked one is marked too. So at any time each committed
//! snapshot either has all its chunks in packs that stay, or is marked. Cut short anywhere, the next repair
//! begins again and finds what is left to do.

mod damage;
mod index;
mod report;
mod salvage;
mod suspects;

use std::{collections::HashMap, sync::Arc};

use orlop_core::Monitor;
use tokio_util::sync::CancellationToken;

use super::{CollectOptions, CollectReport, Collector};
use crate::{
    coverage::Coverage,
    error::{Error, Result},
    index::Index,
    protocol::{Body, DeletingBody, LogState, SessionKind},
    repository::Repository,
};

pub use report::{LostParts, RepairOptions, RepairReport, RepairState, RepairedPack};
use suspects::Suspects;

impl Repository {
    /// Repairs what can be repaired. Backups and restores may run meanwhile; of two repairs or collections the one
    /// that began first stops.
    ///
    /// Nothing is deleted that could still be read. Cancelled or killed at any time it leaves a repository that is
    /// no worse than before; the next repair goes on.
    ///
    /// # Errors
    /// The log or the keys cannot be read; [`Error::Deposed`]; the store failed; or the work was cancelled. That
    /// something is lost is no error: it is in the report.
    pub async fn repair(
        &self,
        options: RepairOptions,
        monitor: Arc<dyn Monitor>,
        cancel: CancellationToken,
    ) -> Result<RepairReport> {
        let limits = CollectOptions {
            patience: options.patience,
            fence_after: options.fence_after,
            ..CollectOptions::default()
        };
        let mut repair = Repair {
            collector: Collector {
                repository: self,
                options: limits,
                monitor,
                cancel,
                term: 0,
                report: CollectReport::default(),
            },
            options,
            suspects: Suspects::default(),
            learnt: Coverage::default(),
            report: RepairReport::default(),
        };
        repair.run().await?;
        let mut report = repair.report;
        report.fenced = repair.collector.report.fenced;
        report.waiting = repair.collector.report.waiting;
        Ok(report)
    }
}

struct Repair<'r> {
    collector: Collector<'r>,
    options: RepairOptions,
    suspects: Suspects,
    /// What was learnt of packs that were read.
    learnt: Coverage,
    report: RepairReport,
}

impl Repair<'_> {
    fn repository(&self) -> &Repository {
        self.collector.repository
    }

    fn go_on(&self) -> Result<()> {
        if self.collector.cancel.is_cancelled() {
            Err(Error::Cancelled)
        } else {
            Ok(())
        }
    }

    async fn run(&mut self) -> Result<()> {
        let dry_run = self.options.dry_run;
        self.report.dry_run = dry_run;
        if !dry_run {
            self.collector.lead().await?;
            let readers = |kind| kind != SessionKind::Write;
            self.collector.shut_out_old(readers).await?;
            self.collector.finish_lists().await?;
            if !self.close_epoch().await? {
                self.report.state = RepairState::Waiting;
                return Ok(());
            }
        }
        let listing = self.list().await?;
        self.restore_index(&listing).await?;
        self.restore_refsets().await?;
        self.find_suspects(&listing).await?;
        self.settle().await?;
        if dry_run {
            self.report.state = RepairState::Planned;
            return Ok(());
        }
        if !self.take_out(&listing).await? {
            self.report.state = RepairState::Waiting;
            return Ok(());
        }
        self.finish_records().await?;
        if self.report.found_any() {
            self.report.state = RepairState::Repaired;
        }
        Ok(())
    }

    /// Packs, with their sizes.
    async fn list(&self) -> Result<HashMap<String, u64>> {
        let mut listing = HashMap::new();
        for class in ["p/", "m/", "i/"] {
            let objects = self.repository().store().list(class).await?;
            listing.extend(objects.into_iter().map(|object| (object.name, object.size)));
        }
        Ok(listing)
    }

    /// Lets the packs live that an earlier collector or repair condemned, as what it knew is not known any more;
    /// false if sessions are running that it waited for.
    async fn close_epoch(&mut self) -> Result<bool> {
        let open = self.repository().newest_state().await?.epoch.is_some();
        if !open {
            return Ok(true);
        }
        if !self.collector.wait().await? {
            return Ok(false);
        }
        let state = self.repository().newest_state().await?.clone();
        if let Some(epoch) = &state.epoch {
            let seq = epoch.seq;
            self.log_list(seq, Vec::new()).await?;
        }
        Ok(true)
    }

    /// Logs a list and deletes what is on it.
    async fn log_list(&mut self, epoch: u64, objects: Vec<String>) -> Result<()> {
        let body = DeletingBody {
            leader: self.collector.term,
            epoch,
            objects: objects.clone(),
        };
        let list = {
            let mut state = self.repository().newest_state().await?;
            let make = |_: &LogState| Ok(Some(Body::Deleting(body.clone())));
            let appended = self.collector.append(&mut state, make).await?;
            appended.ok_or(Error::Cancelled)?
        };
        self.repository().refresh().await?;
        self.collector.delete_list(list, &objects).await
    }

    /// Takes the damaged packs out of the index; false if sessions that may build upon them are running.
    async fn take_out(&mut self, listing: &HashMap<String, u64>) -> Result<bool> {
        loop {
            // More may turn out to be damaged on the way.
            let mut packs = self.suspects.names();
            let there = self.repository().with_index(Index::pack_names)?;
            packs.retain(|name| there.contains(&**name));
            if packs.is_empty() {
                return Ok(true);
            }
            self.collector.condemn(packs).await?;
            if !self.collector.wait().await? {
                return Ok(false);
            }
            // Who was waited for may have committed what relies on them.
            self.settle().await?;
            let state = self.repository().newest_state().await?.clone();
            let epoch = state.epoch.ok_or(Error::Deposed)?;
            let packs = epoch.packs.into_iter().collect();
            self.log_list(epoch.seq, packs).await?;
            self.collector.compact(listing).await?;
        }
    }

    /// Removes records that cannot be read, and writes down what was learnt.
    async fn finish_records(&mut self) -> Result<()> {
        let damaged = self.repository().load_coverage().await?.damaged;
        let names = damaged.iter().map(crate::check::object_of);
        self.report.records = names.collect();
        if !self.learnt.is_empty() {
            self.repository().save_coverage(&self.learnt).await?;
        }
        self.repository().tidy_coverage(1, true).await
    }
}
