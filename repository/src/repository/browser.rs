//! Reading without a session in the log: for looking around, where a log entry a glance would be too much,
//! and inside a session that protects everything.

use std::sync::Arc;

use async_trait::async_trait;
use orlop_core::SnapshotId;

use super::{Repository, UNLOGGED};
use crate::{
    error::{Error, Result},
    protocol::SessionKind,
    secret::{ChunkId, random_bytes},
    session::{BeginWrite, CommitRequest, Committer, Location, ReadGrant, SessionId, WriteGrant},
};

/// A committer that only reads.
struct Browser(Arc<Repository>);

impl Repository {
    /// A committer whose read sessions leave no trace. Collection does not wait for them: if the snapshot
    /// is forgotten and collected meanwhile, reading fails, and if its chunks move, it goes on.
    pub fn browser(self: &Arc<Self>) -> Arc<dyn Committer> {
        Arc::new(Browser(Arc::clone(self)))
    }

    /// Begins a session that keeps every snapshot readable until it is ended, for reading many with
    /// [`Self::browser`].
    ///
    /// # Errors
    /// The log cannot be read.
    pub async fn begin_read_all(&self) -> Result<SessionId> {
        let mut state = self.newest_state().await?;
        self.log_reader(&mut state, SessionKind::ReadAll, &[]).await
    }

    /// Ends such a session.
    ///
    /// # Errors
    /// The log cannot be appended to.
    pub async fn end_read_all(&self, session: SessionId) -> Result<()> {
        self.end(session).await
    }
}

fn read_only<T>() -> Result<T> {
    Err(Error::Invalid("this session only reads".to_owned()))
}

#[async_trait]
impl Committer for Browser {
    async fn begin_write(&self, _request: BeginWrite) -> Result<WriteGrant> {
        read_only()
    }

    async fn begin_read(&self, snapshot: SnapshotId) -> Result<ReadGrant> {
        let session = UNLOGGED | u64::from_le_bytes(random_bytes()?);
        let name = {
            let state = self.0.newest_state().await?;
            // One that is forgotten is there as long as somebody builds upon it, and a check reads it too.
            self.0.name_among(state.needed(), snapshot)?
        };
        self.0.grant_read(session, snapshot, &name).await
    }

    async fn locate(
        &self,
        session: SessionId,
        ids: &[ChunkId],
        fresh: bool,
    ) -> Result<Vec<Option<Location>>> {
        self.0.locate(session, ids, fresh).await
    }

    async fn commit(&self, _session: SessionId, _request: CommitRequest) -> Result<SnapshotId> {
        read_only()
    }

    async fn end(&self, _session: SessionId) -> Result<()> {
        Ok(())
    }
}
