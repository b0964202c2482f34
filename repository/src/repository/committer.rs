//! The half of a session that holds the keys, in this process.

mod commit;

use std::collections::BTreeSet;

use async_trait::async_trait;
use orlop_core::{Lineage, SnapshotId, VolumeRef};

use super::{Repository, UNLOGGED};
use crate::{
    error::{Error, Result},
    index::Index,
    mark::snapshot_id,
    protocol::{BeginBody, Body, CommitBody, LogState, SessionKind},
    secret::{ChunkId, random_bytes},
    session::{
        BeginWrite, CommitRequest, Committer, Location, Parent, ReadGrant, SessionId, WriteGrant,
    },
    snapshot::{self, SnapshotState},
};

/// Snapshots that a writer may build upon at once: one that is whole, and checkpoints since.
const MAX_PARENTS: usize = 4;

#[async_trait]
impl Committer for Repository {
    async fn begin_write(&self, request: BeginWrite) -> Result<WriteGrant> {
        let volume = self.pseudonyms(&request.volume, &request.lineage);
        let nonce = random_bytes::<16>()?.to_vec();
        // A parent that cannot be opened must not be chosen: it would be lost work to find out later.
        let mut usable: Vec<(String, Parent)> = Vec::new();
        let mut unusable: BTreeSet<String> = BTreeSet::new();
        // What is known may be old: then the entry finds another one in its place, and all is read.
        let mut stale = false;
        let (session, begin, doomed) = loop {
            let mut state = if stale {
                self.newest_state().await?
            } else {
                self.known_state().await?
            };
            let wanted: Vec<String> = Self::parents(&state, &volume, &unusable);
            let known = |name: &String| usable.iter().any(|(n, _)| n == name);
            if let Some(name) = wanted.iter().find(|name| !known(name)).cloned() {
                drop(state);
                match self.open_snapshot(&name).await {
                    Ok(opened) => {
                        let parent = Parent {
                            snapshot: opened.info.id,
                            capsule: opened.capsule,
                            partial: opened.info.state == SnapshotState::Partial,
                        };
                        usable.push((name, parent));
                    }
                    Err(Error::Damaged { name, reason }) => {
                        tracing::warn!(
                            name,
                            reason,
                            "a snapshot cannot be built upon: what only it knows is read again"
                        );
                        unusable.insert(name);
                    }
                    Err(error) => return Err(error),
                }
                continue;
            }
            let mut begun = None;
            let session = self
                .append(&mut state, |state| {
                    if Self::parents(state, &volume, &unusable) != wanted {
                        return Ok(None);
                    }
                    let begin = BeginBody {
                        volume: volume.clone(),
                        nonce: nonce.clone(),
                        kind: SessionKind::Write.into(),
                        pins: wanted.clone(),
                        adopts: state.adoptable(&volume),
                    };
                    begun = Some(begin.clone());
                    Ok(Some(Body::Begin(begin)))
                })
                .await?;
            self.catch_up(&mut state).await?;
            stale = true;
            if let (Some(session), Some(begin)) = (session, begun) {
                break (session, begin, state.doomed());
            }
        };
        if !begin.adopts.is_empty() {
            self.adopt(session, &begin.adopts, &doomed, false).await?;
        }
        let volume_keys = self
            .keys
            .volume(&request.volume.namespace, &request.lineage);
        let mut parents = Vec::with_capacity(begin.pins.len());
        for pin in &begin.pins {
            if let Some((_, parent)) = usable.iter().find(|(name, _)| name == pin) {
                let capsule = snapshot::renew_capsule(&volume_keys, parent.capsule.clone())?;
                parents.push(Parent {
                    capsule,
                    ..parent.clone()
                });
            }
        }
        Ok(WriteGrant {
            session,
            domain_keys: self.keys.domain(&request.volume.namespace),
            volume_keys,
            refs_key: self.keys.refs(&request.volume.namespace, &request.lineage),
            session_key: self.keys.session(session),
            read_public_key: self.keys.read_public(),
            chunks: self.config.chunks(),
            pack_bytes: self.config.pack_bytes,
            parents,
        })
    }

    async fn begin_read(&self, snapshot: SnapshotId) -> Result<ReadGrant> {
        let mut state = self.newest_state().await?;
        let pins = [self.named(&state, snapshot)?];
        let session = self
            .log_reader(&mut state, SessionKind::Read, &pins)
            .await?;
        drop(state);
        let grant = self.grant_read(session, snapshot, &pins[0]).await;
        if grant.is_err() {
            self.end(session).await?;
        }
        grant
    }

    async fn locate(
        &self,
        session: SessionId,
        ids: &[ChunkId],
        fresh: bool,
    ) -> Result<Vec<Option<Location>>> {
        if fresh {
            self.refresh().await?;
        }
        let find = |index: &Index| ids.iter().map(|id| index.find(&id.prefix())).collect();
        let mut places: Vec<Option<Location>> = self.look_up(find).await?;
        if fresh {
            // They were looked for where they should be.
            let packs = places.iter().flatten().map(|place| place.pack.clone());
            if !self.find_missing(packs.collect()).await?.is_empty() {
                places = self.look_up(find).await?;
            }
        }
        self.adopted_places(session, ids, &mut places)?;
        Ok(places)
    }

    async fn commit(&self, session: SessionId, request: CommitRequest) -> Result<SnapshotId> {
        let volume = self.pseudonyms(&request.volume, &request.lineage);
        let partial = request.state == SnapshotState::Partial;
        let (adopts, doomed) = {
            let mut state = self.known_state().await?;
            if !state.open.contains_key(&session) {
                drop(state);
                state = self.newest_state().await?;
            }
            if !partial && let Some(snapshot) = already(&state, session)? {
                return Ok(snapshot);
            }
            let open = state
                .open
                .get(&session)
                .ok_or_else(|| gone(&state, session))?;
            if open.volume != volume {
                return Err(Error::Invalid(format!(
                    "session {session} was begun for another volume"
                )));
            }
            (open.adopts.clone(), state.doomed())
        };
        let root = match self.validate(session, &request).await {
            Ok(root) => root,
            Err(error) => {
                // What a session stored may be gone once it is not open any more: that is why, then.
                let state = self.newest_state().await?;
                if !partial && let Some(snapshot) = already(&state, session)? {
                    return Ok(snapshot);
                }
                let open = state.open.contains_key(&session);
                return Err(if open { error } else { gone(&state, session) });
            }
        };
        let mut segments = request.segments.clone();
        segments.extend(self.store_adopted(session, &adopts, &doomed).await?);
        // Whoever rotates the keys meanwhile must not miss it: then it is sealed anew, for the new epoch.
        loop {
            let sealed = self.seal_for_epoch(&request, root)?;
            let done = self.try_commit(session, &sealed, &segments).await?;
            if let Some(snapshot) = done {
                return Ok(snapshot);
            }
            self.refresh().await?;
        }
    }

    async fn end(&self, session: SessionId) -> Result<()> {
        self.drop_adoption(session);
        if session & UNLOGGED != 0 {
            return Ok(());
        }
        let mut state = self.state.lock().await;
        self.append(&mut state, |state| {
            let open = state.open.contains_key(&session);
            Ok(open.then_some(Body::End(session)))
        })
        .await?;
        Ok(())
    }
}

impl Repository {
    /// Whether a write session of this volume goes on, as far as the log has been read.
    ///
    /// # Errors
    /// [`Error::Fenced`] or [`Error::NoSession`] if it does not.
    pub async fn check_open(
        &self,
        session: SessionId,
        volume: &VolumeRef,
        lineage: &Lineage,
    ) -> Result<()> {
        let volume = self.pseudonyms(volume, lineage);
        let state = self.state.lock().await;
        let open = state.open.get(&session);
        match open.filter(|open| open.kind == SessionKind::Write && open.volume == volume) {
            Some(_) => Ok(()),
            None => Err(gone(&state, session)),
        }
    }

    /// The snapshots that a writer of the volume builds upon, but for those that cannot be opened.
    fn parents(state: &LogState, volume: &str, unusable: &BTreeSet<String>) -> Vec<String> {
        let names = state.parents(volume, MAX_PARENTS + unusable.len());
        let names = names.into_iter().map(|commit| commit.snapshot.clone());
        let usable = names.filter(|name| !unusable.contains(name));
        usable.take(MAX_PARENTS).collect()
    }

    /// The object of a snapshot.
    pub(super) fn named(&self, state: &LogState, snapshot: SnapshotId) -> Result<String> {
        self.name_among(state.snapshots.iter(), snapshot)
    }

    /// The object of one of these snapshots.
    pub(super) fn name_among<'c>(
        &self,
        mut commits: impl Iterator<Item = &'c CommitBody>,
        snapshot: SnapshotId,
    ) -> Result<String> {
        let found = commits.find(|commit| snapshot_id(commit) == Some(snapshot));
        let name = found.map(|commit| commit.snapshot.clone());
        name.ok_or_else(|| self.no_snapshot(&snapshot.to_string()))
    }

    fn no_snapshot(&self, wanted: &str) -> Error {
        Error::NoSnapshot {
            wanted: wanted.to_owned(),
            store: self.store.description(),
            hint: String::new(),
        }
    }

    /// What a reader needs of a snapshot.
    pub(super) async fn grant_read(
        &self,
        session: SessionId,
        snapshot: SnapshotId,
        name: &str,
    ) -> Result<ReadGrant> {
        let opened = self.open_snapshot(name).await?;
        Ok(ReadGrant {
            session,
            snapshot,
            root: opened.root,
            domain_keys: self.keys.domain(&opened.info.volume.namespace),
            stats: opened.info.stats,
            partial: opened.info.state == SnapshotState::Partial,
        })
    }

    /// Begins a reader's session. Where nothing can be written a reader goes on without protection from
    /// a collection by somebody else.
    pub(crate) async fn log_reader(
        &self,
        state: &mut LogState,
        kind: SessionKind,
        pins: &[String],
    ) -> Result<SessionId> {
        let begin = BeginBody {
            nonce: random_bytes::<16>()?.to_vec(),
            kind: kind.into(),
            pins: pins.to_vec(),
            ..BeginBody::default()
        };
        let appended = self
            .append(state, |state| {
                // It may have been forgotten in this moment.
                match pins.iter().find(|pin| !state.is_live(pin)) {
                    Some(pin) => Err(self.no_snapshot(pin.rsplit('/').next().unwrap_or(pin))),
                    None => Ok(Some(Body::Begin(begin.clone()))),
                }
            })
            .await;
        match appended {
            Ok(Some(session)) => {
                // On the way entries of others were read.
                self.catch_up(state).await?;
                Ok(session)
            }
            Ok(None) => Err(Error::Cancelled),
            // Who may not write can still read.
            Err(Error::NeedsExclusive { .. } | Error::UnknownFeature { .. }) => {
                Ok(UNLOGGED | u64::from_le_bytes(random_bytes()?))
            }
            Err(error @ (Error::Store { .. } | Error::Full { .. } | Error::Access { .. })) => {
                tracing::warn!(
                    %error,
                    "reading without a session in the log: do not collect this repository meanwhile"
                );
                Ok(UNLOGGED | u64::from_le_bytes(random_bytes()?))
            }
            Err(error) => Err(error),
        }
    }
}

/// The whole snapshot that a session has committed.
fn already(state: &LogState, session: SessionId) -> Result<Option<SnapshotId>> {
    let commit = state.committed(session).filter(|commit| !commit.partial);
    commit.map_or(Ok(None), |commit| {
        snapshot_id(commit)
            .map(Some)
            .ok_or_else(|| Error::damaged(&commit.snapshot, "its name is no snapshot id"))
    })
}

/// Why a session is not open.
fn gone(state: &LogState, session: SessionId) -> Error {
    match state.closed.get(&session) {
        Some(closed) if closed.fenced => Error::Fenced { session },
        _ => Error::NoSession { session },
    }
}
