//! The half of a session that holds the keys, in this process.

use std::collections::HashSet;

use async_trait::async_trait;
use orlop_core::SnapshotId;

use super::{READ_SESSION, Repository, now_ms};
use crate::{
    error::{Error, Result},
    log::{self, BeginBody, Body, CommitBody, LogState},
    pack,
    secret::{ChunkId, random_bytes},
    session::{BeginWrite, CommitRequest, Committer, Location, ReadGrant, SessionId, WriteGrant},
    snapshot,
    store::Durability,
};

/// Bounds of what a writer says of its snapshot.
const MAX_CAPSULE: usize = 4096;
const MAX_TAGS: usize = 256;
const MAX_TEXT: usize = 1024;

#[async_trait]
impl Committer for Repository {
    async fn begin_write(&self, request: BeginWrite) -> Result<WriteGrant> {
        let volume = self.pseudonyms(&request.volume, &request.lineage);
        let session = {
            let mut state = self.state.lock().await;
            let begin = Body::Begin(BeginBody {
                volume: volume.clone(),
                nonce: random_bytes::<16>()?.to_vec(),
            });
            let session = self.append(&mut state, |_| Ok(Some(begin.clone()))).await?;
            self.load_segments(&state).await?;
            session.ok_or(Error::Cancelled)?
        };
        let parent = self.newest(&volume).await?;
        Ok(WriteGrant {
            session,
            domain_key: self.keys.domain(&request.volume.namespace),
            volume_key: self
                .keys
                .volume(&request.volume.namespace, &request.lineage),
            refs_key: self.keys.refs(&request.volume.namespace, &request.lineage),
            session_key: self.keys.session(session),
            read_public_key: *self.keys.read_public(),
            chunks: self.config.chunks(),
            pack_bytes: self.config.pack_bytes,
            parents: parent.into_iter().collect(),
        })
    }

    async fn begin_read(&self, snapshot: SnapshotId) -> Result<ReadGrant> {
        self.refresh().await?;
        let suffix = format!("/{snapshot}");
        let name = self
            .state
            .lock()
            .await
            .snapshots
            .iter()
            .find(|c| c.snapshot.ends_with(&suffix))
            .map(|c| c.snapshot.clone());
        let name = name.ok_or_else(|| Error::NoSnapshot {
            wanted: snapshot.to_string(),
            store: self.store.description(),
            hint: String::new(),
        })?;
        let opened = self.open_snapshot(&name).await?;
        Ok(ReadGrant {
            session: READ_SESSION | u64::from_le_bytes(random_bytes()?),
            snapshot,
            root: opened.root,
            domain_key: self.keys.domain(&opened.info.volume.namespace),
            stats: opened.info.stats,
        })
    }

    async fn locate(
        &self,
        _session: SessionId,
        ids: &[ChunkId],
        fresh: bool,
    ) -> Result<Vec<Option<Location>>> {
        if fresh {
            self.refresh().await?;
        }
        Ok(self.with_index(|index| ids.iter().map(|id| index.find(&id.prefix())).collect()))
    }

    async fn commit(&self, session: SessionId, request: CommitRequest) -> Result<SnapshotId> {
        let volume = self.pseudonyms(&request.volume, &request.lineage);
        let mut state = self.state.lock().await;
        log::replay(&*self.store, &self.keys.mac(), &mut state).await?;
        if let Some(snapshot) = already(&state, session)? {
            return Ok(snapshot);
        }
        if state
            .open
            .get(&session)
            .is_some_and(|begun| *begun != volume)
        {
            return Err(Error::Invalid(format!(
                "session {session} was begun for another volume"
            )));
        }
        self.validate(session, &request).await?;
        let id = SnapshotId::new(now_ms().unsigned_abs(), random_bytes()?);
        let (root_name, refset_name) = (format!("s/{volume}/{id}"), format!("r/{volume}/{id}"));
        let refset = snapshot::encode_refset(
            &self.keys,
            &refset_name,
            &request.volume.namespace,
            &request.lineage,
            &request.refs_root,
        )?;
        self.store
            .put(&refset_name, vec![refset.into()], Durability::Now)
            .await?;
        let root = snapshot::encode(&self.keys, &root_name, session, &request)?;
        self.store
            .put(&root_name, vec![root.into()], Durability::Now)
            .await?;
        let body = CommitBody {
            session,
            snapshot: root_name,
            refset: refset_name,
            segments: request.segments,
        };
        let appended = self
            .append(&mut state, |state| match already(state, session)? {
                Some(_) => Ok(None),
                None => Ok(Some(Body::Commit(body.clone()))),
            })
            .await?;
        self.load_segments(&state).await?;
        match appended {
            Some(_) => Ok(id),
            None => already(&state, session)?.ok_or(Error::NoSession { session }),
        }
    }

    async fn end(&self, session: SessionId) -> Result<()> {
        if session & READ_SESSION != 0 {
            return Ok(());
        }
        let mut state = self.state.lock().await;
        self.append(&mut state, |state| {
            Ok(state
                .open
                .contains_key(&session)
                .then_some(Body::End(session)))
        })
        .await?;
        Ok(())
    }
}

impl Repository {
    /// Proves that a commit names only what is there and can be read: the log is never taken back.
    async fn validate(&self, session: SessionId, request: &CommitRequest) -> Result<()> {
        let mut seen = HashSet::new();
        for name in &request.segments {
            let (hash, of) = pack::parse_name(name)?;
            if of != session || *name != format!("i/0/{hash}.{of}") || !seen.insert(name) {
                return Err(Error::damaged(name, "it is not a segment of this session"));
            }
            self.read_segment(name).await?;
        }
        let root = snapshot::open_root(&self.keys, &request.sealed_root, &request.volume);
        let fields = [&request.node, &request.backup]
            .into_iter()
            .chain(&request.tags);
        let sane = root.is_some()
            && request.capsule.len() <= MAX_CAPSULE
            && request.tags.len() <= MAX_TAGS
            && fields.into_iter().all(|text| text.len() <= MAX_TEXT);
        if sane {
            Ok(())
        } else {
            Err(Error::Invalid(format!(
                "the snapshot of session {session} cannot be opened or has fields that are too long"
            )))
        }
    }
}

/// The snapshot that a session has committed; an error if the session is not open either.
fn already(state: &LogState, session: SessionId) -> Result<Option<SnapshotId>> {
    match state.committed.get(&session) {
        Some(name) => {
            let id = name.rsplit('/').next().and_then(|leaf| leaf.parse().ok());
            id.map(Some)
                .ok_or_else(|| Error::damaged(name, "its name is no snapshot id"))
        }
        None if state.open.contains_key(&session) => Ok(None),
        None => Err(Error::NoSession { session }),
    }
}
