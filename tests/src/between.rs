//! A committer between a backup and its repository.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::SeqCst},
};

use async_trait::async_trait;
use orlop_core::SnapshotId;
use orlop_repository::{
    BeginWrite, ChunkId, CommitRequest, Committer, Error, Location, ReadGrant, Repository, Result,
    SessionId, SnapshotState, WriteGrant,
};

use crate::Engine;

/// Passes everything on to a repository; what comes before a commit is up to a [`Before`].
pub struct Between<B> {
    repository: Arc<Repository>,
    before: B,
    commits: AtomicU64,
}

/// What happens before commits.
#[async_trait]
pub trait Before: Send + Sync {
    /// Called before a commit, with its number from 1 and whether it is a checkpoint.
    ///
    /// # Errors
    /// The commit is to fail.
    async fn commit(&self, repository: &Repository, number: u64, partial: bool) -> Result<()>;
}

impl<B: Before> Between<B> {
    /// Between backups and the repository of `engine`.
    pub fn new(engine: &Engine, before: B) -> Self {
        Self {
            repository: Arc::clone(engine.repository()),
            before,
            commits: AtomicU64::new(0),
        }
    }
}

#[async_trait]
impl<B: Before> Committer for Between<B> {
    async fn begin_write(&self, request: BeginWrite) -> Result<WriteGrant> {
        self.repository.begin_write(request).await
    }

    async fn begin_read(&self, snapshot: SnapshotId) -> Result<ReadGrant> {
        self.repository.begin_read(snapshot).await
    }

    async fn locate(
        &self,
        session: SessionId,
        ids: &[ChunkId],
        fresh: bool,
    ) -> Result<Vec<Option<Location>>> {
        self.repository.locate(session, ids, fresh).await
    }

    async fn commit(&self, session: SessionId, request: CommitRequest) -> Result<SnapshotId> {
        let number = self.commits.fetch_add(1, SeqCst) + 1;
        let partial = request.state == SnapshotState::Partial;
        self.before
            .commit(&self.repository, number, partial)
            .await?;
        self.repository.commit(session, request).await
    }

    async fn end(&self, session: SessionId) -> Result<()> {
        self.repository.end(session).await
    }
}

/// Ends the backup, as a crash would, when it has made so many checkpoints.
pub struct StopAfter(pub u64);

#[async_trait]
impl Before for StopAfter {
    async fn commit(&self, _: &Repository, number: u64, partial: bool) -> Result<()> {
        if number > self.0 || !partial {
            return Err(Error::Invalid("the test stops it".to_owned()));
        }
        Ok(())
    }
}
