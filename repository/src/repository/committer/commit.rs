//! Commits a snapshot: proves what its writer says, seals it for the epoch of keys and stores it.

use std::collections::HashSet;

use orlop_core::SnapshotId;

use super::{already, gone};
use crate::{
    clock::now_ms,
    error::{Error, Result},
    pack,
    protocol::{Body, CommitBody},
    repository::Repository,
    secret::{Secret, random_bytes},
    session::{CommitRequest, SessionId},
    snapshot::{self, SnapshotState},
    store::Durability,
};

/// Bounds of what a writer says of its snapshot.
const MAX_CAPSULE: usize = 4096;
const MAX_TAGS: usize = 256;
const MAX_TEXT: usize = 1024;

/// A snapshot that is about to be committed, for an epoch of keys.
pub(super) struct Sealed {
    request: CommitRequest,
    epoch: usize,
}

impl Repository {
    /// The snapshot as it has to be for the epoch of keys that is known to be current; its writer may know of
    /// an earlier one only.
    pub(super) fn seal_for_epoch(
        &self,
        request: &CommitRequest,
        (root, epoch): (Secret, usize),
    ) -> Result<Sealed> {
        let current = self.keys.current();
        let mut request = request.clone();
        if epoch != current {
            let volume_keys = self
                .keys
                .volume(&request.volume.namespace, &request.lineage);
            let public = self.keys.read_public();
            request.sealed_root = snapshot::seal_root(&public, &root, &request.volume)?;
            request.capsule = snapshot::renew_capsule(&volume_keys, request.capsule)?;
        }
        Ok(Sealed {
            request,
            epoch: current,
        })
    }

    /// Stores and commits a snapshot; `None` if a new epoch of keys began before.
    pub(super) async fn try_commit(
        &self,
        session: SessionId,
        sealed: &Sealed,
        segments: &[String],
    ) -> Result<Option<SnapshotId>> {
        let Sealed { request, epoch } = sealed;
        let volume = self.pseudonyms(&request.volume, &request.lineage);
        let partial = request.state == SnapshotState::Partial;
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
        let root = snapshot::encode(&self.keys, &root_name, session, *epoch, request)?;
        self.store
            .put(&root_name, vec![root.into()], Durability::Now)
            .await?;
        let body = CommitBody {
            session,
            snapshot: root_name,
            refset: refset_name,
            segments: segments.to_vec(),
            partial,
        };
        let mut state = self.state.lock().await;
        let mut overtaken = false;
        let appended = self
            .append(&mut state, |state| {
                if !partial && already(state, session)?.is_some() {
                    return Ok(None);
                }
                if !state.open.contains_key(&session) {
                    return Err(gone(state, session));
                }
                overtaken = state.read_keys.len() != *epoch;
                Ok((!overtaken).then(|| Body::Commit(body.clone())))
            })
            .await?;
        if appended.is_none() && overtaken {
            return Ok(None);
        }
        self.load_segments(&mut state).await?;
        if partial {
            self.adoption_is_committed(session);
        } else {
            self.drop_adoption(session);
        }
        match appended {
            Some(_) => Ok(Some(id)),
            None => already(&state, session)?
                .map(Some)
                .ok_or_else(|| gone(&state, session)),
        }
    }

    /// Proves that a commit names only what is there and can be read: the log is never taken back.
    /// The manifest's root, and the epoch of the key that it is sealed to.
    pub(super) async fn validate(
        &self,
        session: SessionId,
        request: &CommitRequest,
    ) -> Result<(Secret, usize)> {
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
        let sane = request.capsule.len() <= MAX_CAPSULE
            && request.tags.len() <= MAX_TAGS
            && fields.into_iter().all(|text| text.len() <= MAX_TEXT);
        root.filter(|_| sane).ok_or_else(|| {
            Error::Invalid(format!(
                "the snapshot of session {session} cannot be opened or has fields that are too long"
            ))
        })
    }
}
