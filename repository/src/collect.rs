//! Collection: frees what no snapshot needs while backups and restores go on.
//!
//! One epoch: list everything → mark what is needed → move what is left of half-empty packs → *condemn* →
//! wait until every session that began before has ended → mark again → *deleting* → delete → write the
//! index anew without what is gone. Each step is an entry of the log; whoever collects next goes on where
//! the last one stopped. `protocol` says why nothing is lost.

mod compact;
mod gather;
mod remove;
mod repack;
pub(crate) mod repair;
mod report;

use std::{sync::Arc, time::Duration};

use orlop_core::{Monitor, Progress};
use tokio_util::sync::CancellationToken;

use crate::{
    clock::{now_ms, sleep, uptime},
    config::Feature,
    error::{Error, Result},
    mark::Marked,
    mistake::{Mistake, makes},
    protocol::{Body, CondemnBody, FenceBody, LeaderBody, LogState, Plan, SessionKind},
    repository::Repository,
    secret::random_bytes,
    store::ObjectInfo,
};

use gather::Gathered;
pub use repair::{LostParts, RepairOptions, RepairReport, RepairState, RepairedPack};
pub use report::{CollectOptions, CollectReport, CollectState, WaitingSession};

impl Repository {
    /// Frees the space of what no snapshot needs. Any number of backups, restores and checks may run
    /// meanwhile; of two collections the one that began first stops.
    ///
    /// Cancelled or killed at any time it leaves a repository that is whole; the next collection goes on.
    ///
    /// # Errors
    /// The references of a snapshot or a part of the index cannot be read (then nothing is deleted);
    /// [`Error::TooMuch`]; [`Error::Deposed`]; the store failed; or the work was cancelled.
    pub async fn collect(
        &self,
        options: CollectOptions,
        monitor: Arc<dyn Monitor>,
        cancel: CancellationToken,
    ) -> Result<CollectReport> {
        let mut collector = Collector {
            repository: self,
            options,
            monitor,
            cancel,
            term: 0,
            report: CollectReport::default(),
        };
        collector.run().await?;
        if !options.dry_run {
            // Records of packs that are gone go too. They are hints: that they cannot be joined now is no failure.
            if let Err(error) = self.tidy_coverage(1, true).await {
                tracing::warn!(%error, "the records of checks are not joined");
            }
            match self.store().sweep().await {
                Ok(0) => {}
                Ok(files) => tracing::info!(files, "what killed writers left is removed"),
                Err(error) => tracing::warn!(%error, "what killed writers left stays"),
            }
        }
        Ok(collector.report)
    }
}

struct Collector<'r> {
    repository: &'r Repository,
    options: CollectOptions,
    monitor: Arc<dyn Monitor>,
    cancel: CancellationToken,
    /// Number of our leader entry.
    term: u64,
    report: CollectReport,
}

impl Collector<'_> {
    async fn run(&mut self) -> Result<()> {
        self.repository.prove_feature(Feature::Maintain)?;
        self.report.dry_run = self.options.dry_run;
        if self.options.dry_run {
            let gathered = self.gather().await?;
            self.say(&gathered.plan, gathered.leftover_bytes());
            self.guard(&gathered)?;
            self.report.state = CollectState::Planned;
            return Ok(());
        }
        self.lead().await?;
        self.shut_out_old(|kind| kind != SessionKind::Write).await?;
        self.finish_lists().await?;
        // What an earlier collector condemned comes first.
        if self.epoch_is_open().await? && !self.finish_epoch(&[], Marked::default()).await? {
            return Ok(());
        }
        let gathered = self.gather().await?;
        self.say(&gathered.plan, gathered.leftover_bytes());
        self.guard(&gathered)?;
        let Gathered {
            plan,
            listing,
            leftovers,
            marked,
            ..
        } = gathered;
        if plan.dead.is_empty() && plan.repack.is_empty() && leftovers.is_empty() {
            // Nobody will wait for a writer that is dead.
            self.shut_out_old(|_| true).await?;
            self.report.state = CollectState::Clean;
            return self.compact(&listing).await;
        }
        let moved = self.repack(&plan.repack, &marked).await?;
        let dead = plan.dead.into_iter().map(|pack| pack.name);
        self.condemn(dead.chain(moved).collect()).await?;
        if self.finish_epoch(&leftovers, marked).await? {
            self.compact(&listing).await?;
        }
        Ok(())
    }

    /// Appends an entry of ours, unless somebody else leads by now.
    async fn append(
        &self,
        state: &mut LogState,
        mut make: impl FnMut(&LogState) -> Result<Option<Body>> + Send,
    ) -> Result<Option<u64>> {
        let term = self.term;
        self.repository
            .append(state, |state| {
                if state.leader != term && !makes(Mistake::Zombie) {
                    return Err(Error::Deposed);
                }
                make(state)
            })
            .await
    }

    async fn lead(&mut self) -> Result<()> {
        let nonce = random_bytes::<16>()?.to_vec();
        let mut state = self.repository.newest_state().await?;
        let body = Body::Leader(LeaderBody { nonce });
        let term = self
            .repository
            .append(&mut state, |_| Ok(Some(body.clone())))
            .await?;
        self.term = term.ok_or(Error::Cancelled)?;
        Ok(())
    }

    async fn epoch_is_open(&self) -> Result<bool> {
        Ok(self.repository.newest_state().await?.epoch.is_some())
    }

    /// Refuses to remove more than the set share.
    fn guard(&self, gathered: &Gathered) -> Result<()> {
        let gone = gathered.plan.removed() + gathered.leftover_packs();
        let removed = gone.saturating_sub(gathered.plan.moved());
        let limit = u64::from(self.options.max_removed_percent);
        if u128::from(removed) * 100 > u128::from(gathered.total) * u128::from(limit) {
            return Err(Error::TooMuch {
                removed,
                total: gathered.total,
                percent: (u128::from(removed) * 100).div_ceil(u128::from(gathered.total.max(1)))
                    as u64,
                limit,
            });
        }
        Ok(())
    }

    fn say(&mut self, plan: &Plan, leftover_bytes: u64) {
        let report = &mut self.report;
        report.dead_packs = plan.dead.len() as u64;
        report.moved_packs = plan.repack.len() as u64;
        report.moved_bytes = plan.moved();
        report.postponed_bytes = plan.postponed;
        report.removable_bytes = plan.removed() + leftover_bytes;
    }

    async fn condemn(&mut self, mut packs: Vec<String>) -> Result<()> {
        packs.truncate(CONDEMNED_MAX);
        let body = CondemnBody {
            leader: self.term,
            packs,
        };
        let mut state = self.repository.newest_state().await?;
        self.append(&mut state, |_| Ok(Some(Body::Condemn(body.clone()))))
            .await?;
        drop(state);
        // Look-ups of sessions that begin from now on must know.
        self.repository.refresh().await
    }

    /// Waits, marks again, deletes; false if sessions are still running after all patience.
    async fn finish_epoch(&mut self, leftovers: &[ObjectInfo], mut marked: Marked) -> Result<bool> {
        if !makes(Mistake::NoWait) && !self.wait().await? {
            self.report.state = CollectState::Waiting;
            return Ok(false);
        }
        loop {
            let state = self.repository.newest_state().await?.clone();
            if !makes(Mistake::NoRemark) {
                self.mark_again(&state, &mut marked).await?;
            }
            let going = self.condemned_for_good(&state, leftovers, &marked).await?;
            let Some((objects, rescued)) = going else {
                return Ok(true);
            };
            let mut listed = objects.clone();
            if makes(Mistake::LateRescue) {
                let none = Marked::default();
                let all = self.condemned_for_good(&state, leftovers, &none).await?;
                listed = all.unwrap_or_default().0;
            }
            self.report.rescued_packs += rescued;
            if self.delete(&state, listed, &objects).await? {
                self.report.state = CollectState::Collected;
                return Ok(true);
            }
            // Somebody committed in between: mark that too.
        }
    }

    /// Marks what was committed since it was marked.
    async fn mark_again(&self, state: &LogState, marked: &mut Marked) -> Result<()> {
        self.mark_needed(state, marked).await?.map_or(Ok(()), Err)
    }

    /// Waits for the sessions that began before the packs were condemned; shuts out those that are too
    /// old; false when the patience is over.
    async fn wait(&mut self) -> Result<bool> {
        let begun = uptime();
        let mut pause = Duration::from_millis(20);
        loop {
            if self.cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            let mut state = self.repository.newest_state().await?;
            if state.leader != self.term && !makes(Mistake::Zombie) {
                return Err(Error::Deposed);
            }
            let waits = state.epoch.as_ref().map(|epoch| &epoch.waits);
            let waiting: Vec<WaitingSession> = waits
                .into_iter()
                .flatten()
                .filter_map(|session| {
                    let open = state.open.get(session)?;
                    Some(WaitingSession {
                        session: *session,
                        since_ms: open.since_ms,
                        successor: open.taken,
                    })
                })
                .collect();
            if waiting.is_empty() {
                self.report.waiting.clear();
                return Ok(true);
            }
            let silent: Vec<u64> = waiting
                .iter()
                .filter(|waiting| self.is_silent(waiting.since_ms, waiting.successor))
                .map(|waiting| waiting.session)
                .collect();
            if silent.is_empty() {
                drop(state);
                self.monitor.progress(Progress {
                    entries_total: waiting.len() as u64,
                    ..Progress::default()
                });
                self.report.waiting = waiting;
                if uptime().saturating_sub(begun) >= self.options.patience {
                    return Ok(false);
                }
                tokio::select! {
                    () = self.cancel.cancelled() => return Err(Error::Cancelled),
                    () = sleep(pause) => {}
                }
                pause = (pause * 2).min(Duration::from_secs(2));
                continue;
            }
            self.shut_out(&mut state, silent).await?;
        }
    }

    /// Shuts out sessions of some kinds whose processes are dead, by all appearances: a reader would pin its
    /// snapshot for ever, and what a writer left behind would be spared for ever.
    ///
    /// A writer that lives must be shut out after packs were condemned, not right before: what it stored
    /// is spared only then, for the session that takes it over.
    async fn shut_out_old(&mut self, which: impl Fn(SessionKind) -> bool + Send) -> Result<()> {
        let mut state = self.repository.newest_state().await?;
        let silent: Vec<u64> = state
            .open
            .iter()
            .filter(|(_, open)| which(open.kind) && self.is_silent(open.since_ms, open.taken))
            .map(|(session, _)| *session)
            .collect();
        if silent.is_empty() {
            return Ok(());
        }
        self.shut_out(&mut state, silent).await
    }

    async fn shut_out(&mut self, state: &mut LogState, silent: Vec<u64>) -> Result<()> {
        self.append(state, |state| {
            let open = silent.iter().filter(|s| state.open.contains_key(s));
            let sessions: Vec<u64> = open.copied().collect();
            Ok((!sessions.is_empty()).then_some(Body::Fence(FenceBody { sessions })))
        })
        .await?;
        self.report.fenced.extend(silent);
        Ok(())
    }

    /// Whether a session may be shut out: it loses no work, it only has to begin again. So a clock may
    /// decide.
    fn is_silent(&self, since_ms: i64, successor: bool) -> bool {
        let age = now_ms().saturating_sub(since_ms).max(0) as u128;
        successor || age >= self.options.fence_after.as_millis()
    }
}

/// Packs in one epoch: their names must fit in an entry of the log.
const CONDEMNED_MAX: usize = 100_000;
