//! Finds damage and says whom it hits.

mod attribute;
mod bytes;
mod found;
mod keyless;
mod recorder;
mod report;
mod sample;
mod structure;
mod verify;

use std::{
    collections::{HashMap, HashSet},
    future::Future,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use orlop_core::{Monitor, NoMonitor, SnapshotId};
use tokio_util::sync::CancellationToken;

use crate::{
    clock::now_ms,
    coverage::{Coverage, Loaded, Seen, pack_key},
    error::{Error, Result},
    index::Index,
    mark::{BrokenRefs, Marked, mark},
    protocol::{CommitBody, SessionKind},
    repository::{Repository, UNLOGGED},
    secret::Prefix,
};

use found::Found;
pub(crate) use found::object_of;
pub use keyless::scrub_without_key;
use recorder::Recorder;
pub(crate) use recorder::now;
pub use report::{CheckDepth, CheckOptions, CheckReport, Covered, Damage, DamageKind, Known};
pub use sample::{ParseSampleError, Sample};

/// Records of checks above which they are joined.
const RECORDS: usize = 16;

impl Repository {
    /// Looks for damage. The log, every snapshot, every reference page, and that each chunk that is needed is
    /// indexed, are looked at in any case; how far the packs, [`CheckOptions::depth`] says. What was read is
    /// recorded in the repository, where it can be written, every now and then and at the end, also when it is
    /// cancelled.
    ///
    /// A collection waits for a check while it looks at everything, and not while it only reads bytes.
    ///
    /// # Errors
    /// Log or index cannot be read (without them nothing else can be judged), or the work was
    /// cancelled. Damage is no error: it is in the report.
    pub async fn check(
        self: &Arc<Self>,
        options: CheckOptions,
        monitor: Arc<dyn Monitor>,
        cancel: CancellationToken,
    ) -> Result<CheckReport> {
        let mut check = Check::new(self, options, monitor, cancel);
        let deep = options.depth == CheckDepth::Data;
        self.protected(async {
            check.look().await?;
            if deep { check.read().await } else { Ok(()) }
        })
        .await?;
        if options.depth == CheckDepth::Scrub {
            check.read().await?;
        }
        if !check.is_sound() {
            self.protected(check.attribute()).await?;
        }
        check.report().await
    }

    /// What checks have read so far, without reading anything of it again, and when the last check of the depth and
    /// sample of `like` ended.
    ///
    /// # Errors
    /// The log or the records cannot be read.
    pub async fn covered(self: &Arc<Self>, like: &CheckOptions) -> Result<Known> {
        self.refresh().await?;
        let mut check = Check::new(self, *like, Arc::new(NoMonitor), CancellationToken::new());
        for class in ["p/", "m/"] {
            let objects = self.store().list(class).await?.into_iter();
            let sizes = objects.map(|object| (object.name, object.size));
            check.sizes.extend(sizes);
        }
        let coverage = self.load_coverage().await?.coverage;
        let ended = coverage.ended(&like.what());
        Ok(Known {
            covered: check.covered(&coverage)?,
            ended_ms: ended.map(u64::cast_signed),
        })
    }

    /// Does `work` while no collection deletes anything.
    async fn protected<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let session = {
            let mut state = self.newest_state().await?;
            self.log_reader(&mut state, SessionKind::ReadAll, &[])
                .await?
        };
        let done = work.await;
        let state = self.newest_state().await;
        let shut_out = state
            .as_ref()
            .is_ok_and(|state| session & UNLOGGED == 0 && !state.open.contains_key(&session));
        drop(state);
        let ended = crate::session::Committer::end(self, session).await;
        let done = done?;
        if shut_out {
            // What was missing may have been deleted with good reason.
            return Err(Error::Fenced { session });
        }
        ended.map(|()| done)
    }
}

struct Check {
    repository: Arc<Repository>,
    options: CheckOptions,
    monitor: Arc<dyn Monitor>,
    cancel: CancellationToken,
    commits: Vec<CommitBody>,
    /// All objects with their sizes; empty at the depth that does not ask for them.
    sizes: HashMap<String, u64>,
    objects: u64,
    marked: Marked,
    /// Snapshots of which it cannot be told what they need.
    unmarked: HashSet<SnapshotId>,
    loaded: Loaded,
    found: Mutex<Found>,
    /// Bytes of packs that were read.
    read: AtomicU64,
    resumed: u64,
}

impl Check {
    fn new(
        repository: &Arc<Repository>,
        options: CheckOptions,
        monitor: Arc<dyn Monitor>,
        cancel: CancellationToken,
    ) -> Self {
        Self {
            repository: Arc::clone(repository),
            options,
            monitor,
            cancel,
            commits: Vec::new(),
            sizes: HashMap::new(),
            objects: 0,
            marked: Marked::default(),
            unmarked: HashSet::new(),
            loaded: Loaded::default(),
            found: Mutex::default(),
            read: AtomicU64::new(0),
            resumed: 0,
        }
    }

    fn found(
        &self,
        object: &str,
        kind: DamageKind,
        chunk: Option<Prefix>,
        snapshot: Option<SnapshotId>,
    ) {
        crate::reader::lock(&self.found).add(object, kind, chunk, snapshot);
    }

    fn is_sound(&self) -> bool {
        crate::reader::lock(&self.found).is_empty()
    }

    fn go_on(&self) -> Result<()> {
        if self.cancel.is_cancelled() {
            Err(Error::Cancelled)
        } else {
            Ok(())
        }
    }

    /// All that needs no byte of packs of data.
    async fn look(&mut self) -> Result<()> {
        let store = Arc::clone(self.repository.store());
        if self.options.depth > CheckDepth::Structure {
            let objects = store.list("").await?;
            self.objects = objects.len() as u64;
            let sizes = objects.into_iter().map(|object| (object.name, object.size));
            self.sizes = sizes.collect();
        }
        // Not older than the index: what is committed is looked for there.
        let state = self.repository.newest_state().await?.clone();
        self.commits = state.needed().cloned().collect();
        self.loaded = self.repository.load_coverage().await?;
        self.check_log(&state).await?;
        self.check_keys().await?;
        self.check_records();
        self.check_roots().await?;
        self.check_segments(&state.segments).await?;
        self.go_on()?;
        let mut marked = Marked::default();
        let mut hurt = HashSet::new();
        let mut broken = |broken: BrokenRefs| {
            hurt.extend(broken.snapshot);
            let object = object_of(&broken.error);
            self.found(&object, DamageKind::DamagedSnapshot, None, broken.snapshot);
        };
        mark(&self.repository, &self.commits, &mut marked, &mut broken).await?;
        self.marked = marked;
        self.unmarked = hurt;
        self.check_places().await?;
        self.go_on()
    }

    /// Reads packs, and at the last depth their chunks.
    async fn read(&mut self) -> Result<()> {
        let known = &self.loaded.coverage;
        let mut recorder = Recorder::begin(Arc::clone(&self.repository), &self.options, known)?;
        let result = self.read_chosen(&recorder).await;
        if result.is_ok() {
            recorder.end();
        }
        // Also when it was cancelled: the next one goes on from here.
        recorder.save(true).await;
        let learnt = recorder.into_coverage();
        self.loaded.coverage.add(&learnt);
        result
    }

    async fn report(self) -> Result<CheckReport> {
        self.go_on()?;
        let covered = self.covered(&self.loaded.coverage)?;
        if self.options.depth.reads_data()
            && let Err(error) = self.repository.tidy_coverage(RECORDS, false).await
        {
            tracing::warn!(%error, "the records of checks are not joined");
        }
        let (damage, more_damage) = self
            .found
            .into_inner()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .into_damage();
        Ok(CheckReport {
            depth: self.options.depth,
            ok: damage.is_empty(),
            objects: self.objects,
            bytes: self.read.load(Ordering::Relaxed),
            resumed_bytes: self.resumed,
            damage,
            more_damage,
            covered,
        })
    }

    fn covered(&self, coverage: &Coverage) -> Result<Covered> {
        let packs = self.packs()?;
        let mut covered = Covered {
            since_ms: (!packs.is_empty()).then(now_ms),
            ..Covered::default()
        };
        for (name, size) in &packs {
            let seen = pack_key(name).map_or_else(Seen::default, |key| coverage.get(&key));
            covered.total_bytes += size;
            covered.damaged_packs += u64::from(seen.is_damaged());
            let at = seen.scrubbed.max(seen.verified);
            if at > 0 && !seen.is_damaged() {
                covered.read_bytes += size;
            }
            covered.since_ms = match at {
                0 => None,
                at => covered.since_ms.map(|since| since.min(at.cast_signed())),
            };
        }
        Ok(covered)
    }

    /// The packs that the index names and that are there, each once, with their sizes.
    fn packs(&self) -> Result<Vec<(String, u64)>> {
        let named: HashSet<Arc<str>> = self.repository.with_index(Index::pack_names)?;
        let there = named.into_iter().filter_map(|name| {
            let size = self.sizes.get(&*name)?;
            Some((name.to_string(), *size))
        });
        let mut packs: Vec<_> = there.collect();
        packs.sort_unstable();
        Ok(packs)
    }
}
