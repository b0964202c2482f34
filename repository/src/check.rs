//! Finds damage and says whom it hits.

mod report;
mod verify;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use orlop_core::{Monitor, Progress, SnapshotId};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::{
    error::{Error, Result},
    manifest::Extent,
    mark::{BrokenRefs, Marked, mark, snapshot_id},
    pack,
    protocol::{CommitBody, SessionKind},
    repository::Repository,
    secret::Prefix,
    session::{Committer as _, Location, ReadSession},
};

pub use report::{CheckOptions, CheckReport, Damage, DamageKind};

const MAX_PATHS: usize = 100;

impl Repository {
    /// Checks the log, every snapshot, every reference page, and that each chunk that is needed is
    /// indexed in a pack that exists; with `read_data` also every byte of every pack.
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
        // Collection waits for it, as it looks at everything.
        let session = {
            let mut state = self.newest_state().await?;
            self.log_reader(&mut state, SessionKind::ReadAll, &[])
                .await?
        };
        let report = self.checked(options, monitor, cancel).await;
        let ended = self.end(session).await;
        let report = report?;
        ended.map(|()| report)
    }

    async fn checked(
        self: &Arc<Self>,
        options: CheckOptions,
        monitor: Arc<dyn Monitor>,
        cancel: CancellationToken,
    ) -> Result<CheckReport> {
        let sizes: HashMap<String, u64> = self
            .store()
            .list("")
            .await?
            .into_iter()
            .map(|object| (object.name, object.size))
            .collect();
        let state = self.log_state().await;
        let check = Check {
            repository: Arc::clone(self),
            handle: Handle::current(),
            monitor,
            cancel,
            commits: state.snapshots,
            segments: state.segments,
            sizes,
            found: Mutex::default(),
            bytes: AtomicU64::new(0),
        };
        tokio::task::spawn_blocking(move || check.run(options))
            .await
            .map_err(|e| Error::System {
                action: "run the check",
                source: std::io::Error::other(e),
            })?
    }
}

/// What is known of a damaged object while it is collected.
#[derive(Default)]
struct Hit {
    chunks: HashSet<Prefix>,
    snapshots: BTreeSet<SnapshotId>,
    paths: BTreeSet<String>,
}

type Found = BTreeMap<(String, DamageKind), Hit>;

struct Check {
    repository: Arc<Repository>,
    handle: Handle,
    monitor: Arc<dyn Monitor>,
    cancel: CancellationToken,
    commits: Vec<CommitBody>,
    segments: Vec<String>,
    sizes: HashMap<String, u64>,
    found: Mutex<Found>,
    bytes: AtomicU64,
}

impl Check {
    fn run(self, options: CheckOptions) -> Result<CheckReport> {
        let mut marked = Marked::default();
        let mut broken = |broken: BrokenRefs| {
            let object = object_of(&broken.error);
            self.report(&object, DamageKind::DamagedSnapshot, None, broken.snapshot);
        };
        self.handle.block_on(mark(
            &self.repository,
            &self.commits,
            &mut marked,
            &mut broken,
        ))?;
        self.check_roots();
        self.check_segments();
        self.check_places(&marked);
        if options.read_data {
            self.read_packs()?;
            self.verify_chunks(&marked)?;
        }
        self.attribute()?;
        if self.cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        let found = self
            .found
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        let damage: Vec<Damage> = found
            .into_iter()
            .map(|((object, kind), hit)| Damage {
                object,
                kind,
                snapshots: hit.snapshots.into_iter().collect(),
                paths: hit.paths.into_iter().collect(),
                repairable: kind != DamageKind::DamagedSnapshot,
            })
            .collect();
        Ok(CheckReport {
            depth: if options.read_data {
                "data"
            } else {
                "structure"
            },
            ok: damage.is_empty(),
            objects: self.sizes.len() as u64,
            bytes: self.bytes.load(Ordering::Relaxed),
            damage,
        })
    }

    fn report(
        &self,
        object: &str,
        kind: DamageKind,
        chunk: Option<Prefix>,
        snapshot: Option<SnapshotId>,
    ) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let hit = found.entry((object.to_owned(), kind)).or_default();
        hit.chunks.extend(chunk);
        hit.snapshots.extend(snapshot);
    }

    fn check_roots(&self) {
        for commit in &self.commits {
            if let Err(error) = self
                .handle
                .block_on(self.repository.open_snapshot(&commit.snapshot))
            {
                self.report(
                    &object_of(&error),
                    DamageKind::DamagedSnapshot,
                    None,
                    snapshot_id(commit),
                );
            }
        }
    }

    fn check_segments(&self) {
        for name in &self.segments {
            if let Err(error) = self.handle.block_on(self.repository.read_segment(name)) {
                self.report(&object_of(&error), DamageKind::DamagedIndex, None, None);
            }
        }
    }

    /// Every needed chunk is indexed in a pack that exists and is long enough.
    fn check_places(&self, marked: &Marked) {
        self.repository.with_index(|index| {
            for prefix in &marked.ids {
                match index.find(prefix) {
                    None => self.report(
                        &crate::secret::hex(prefix),
                        DamageKind::MissingChunk,
                        Some(*prefix),
                        None,
                    ),
                    Some(place) => match self.sizes.get(&place.pack) {
                        None => {
                            self.report(&place.pack, DamageKind::MissingPack, Some(*prefix), None);
                        }
                        Some(size) if *size < u64::from(place.offset) + u64::from(place.len) => {
                            self.report(&place.pack, DamageKind::DamagedPack, Some(*prefix), None);
                        }
                        Some(_) => {}
                    },
                }
            }
        });
    }

    fn read_packs(&self) -> Result<()> {
        let packs: Vec<String> = self.repository.with_index(|index| {
            let named: BTreeSet<String> =
                index.packs().map(|(_, name, _)| name.to_string()).collect();
            named
                .into_iter()
                .filter(|p| self.sizes.contains_key(p))
                .collect()
        });
        let total: u64 = packs.iter().filter_map(|p| self.sizes.get(p)).sum();
        let next = AtomicUsize::new(0);
        let workers = std::thread::available_parallelism()
            .map_or(1, usize::from)
            .min(4);
        std::thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|| {
                    while let Some(pack) = packs.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if self.cancel.is_cancelled() {
                            return;
                        }
                        let size = self.sizes.get(pack).copied().unwrap_or_default();
                        if self.read_pack(pack).is_err() {
                            self.report(pack, DamageKind::DamagedPack, None, None);
                        }
                        let bytes = self.bytes.fetch_add(size, Ordering::Relaxed) + size;
                        self.monitor.progress(Progress {
                            bytes_done: bytes,
                            bytes_total: total,
                            transferred_bytes: bytes,
                            ..Progress::default()
                        });
                    }
                });
            }
        });
        if self.cancel.is_cancelled() {
            Err(Error::Cancelled)
        } else {
            Ok(())
        }
    }

    fn read_pack(&self, name: &str) -> Result<()> {
        let bytes = self.handle.block_on(self.repository.store().get(name))?;
        pack::scrub(name, &bytes)?;
        let (_, session) = pack::parse_name(name)?;
        let table = pack::read_table(name, &bytes, &self.repository.keys.session(session))?;
        let indexed = self.repository.with_index(|index| {
            table.iter().all(|entry| {
                let place = Location {
                    pack: name.to_owned(),
                    offset: entry.offset,
                    len: entry.len,
                    condemned: false,
                };
                index.holds(&entry.id.prefix(), &place)
            })
        });
        if indexed {
            Ok(())
        } else {
            Err(Error::damaged(
                name,
                "the index has other places for its chunks",
            ))
        }
    }

    /// Finds the snapshots and paths that damaged chunks belong to by reading the manifests.
    fn attribute(&self) -> Result<()> {
        let mut hit: HashMap<Prefix, Vec<(String, DamageKind)>> = HashMap::new();
        {
            let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
            let damaged: Vec<(String, DamageKind)> = found.keys().cloned().collect();
            if damaged.is_empty() {
                return Ok(());
            }
            self.repository.with_index(|index| {
                let packs: HashMap<u32, &str> =
                    index.packs().map(|(i, name, _)| (i, &**name)).collect();
                for (prefix, pack, ..) in index.iter() {
                    // A chunk that also lies elsewhere is read from the best of its places.
                    if index
                        .find_pack(&prefix)
                        .is_none_or(|(best, _)| best != pack)
                    {
                        continue;
                    }
                    let Some(name) = packs.get(&pack) else {
                        continue;
                    };
                    for kind in [DamageKind::MissingPack, DamageKind::DamagedPack] {
                        if let Some(hit) = found.get_mut(&((*name).to_owned(), kind)) {
                            hit.chunks.insert(prefix);
                        }
                    }
                }
            });
            for (key, object) in found.iter() {
                object
                    .chunks
                    .iter()
                    .for_each(|chunk| hit.entry(*chunk).or_default().push(key.clone()));
            }
        }
        for commit in &self.commits {
            let Some(id) = snapshot_id(commit) else {
                continue;
            };
            if let Err(error) = self.attribute_snapshot(id, &hit) {
                if error.is_cancelled() {
                    return Err(error);
                }
                self.report(
                    &object_of(&error),
                    DamageKind::DamagedSnapshot,
                    None,
                    Some(id),
                );
            }
        }
        Ok(())
    }

    fn read_session(&self, id: SnapshotId) -> Result<ReadSession> {
        ReadSession::open(
            self.repository.browser(),
            Arc::clone(self.repository.store()),
            id,
            self.handle.clone(),
            self.cancel.clone(),
        )
    }

    fn attribute_snapshot(
        &self,
        id: SnapshotId,
        hit: &HashMap<Prefix, Vec<(String, DamageKind)>>,
    ) -> Result<()> {
        let session = self.read_session(id)?;
        for entry in session.entries() {
            let entry = entry?;
            for extent in session.extents(&entry) {
                let (Extent::Data { secret, .. } | Extent::Bundle { secret, .. }) = extent? else {
                    continue;
                };
                for (object, kind) in hit.get(&secret.id().prefix()).into_iter().flatten() {
                    self.report(object, *kind, None, Some(id));
                    let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
                    if let Some(hit) = found.get_mut(&(object.clone(), *kind))
                        && hit.paths.len() < MAX_PATHS
                    {
                        hit.paths
                            .insert(format!("{id}:/{}", String::from_utf8_lossy(&entry.path)));
                    }
                }
            }
        }
        Ok(())
    }
}

/// The object that an error is about.
fn object_of(error: &Error) -> String {
    match error {
        Error::Damaged { name, .. } | Error::NotFound { name, .. } | Error::Store { name, .. } => {
            name.clone()
        }
        Error::MissingChunk { id } => id.clone(),
        other => other.to_string(),
    }
}
