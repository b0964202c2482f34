//! What lies in the store frame by frame, whatever the index says, and which sessions are open: for tests.

use crate::{error::Result, repository::Repository, secret::ChunkId};

impl Repository {
    /// Every frame of every pack in the store: the pack's name and the chunk's id.
    ///
    /// # Errors
    /// A pack cannot be read.
    pub async fn frames(&self) -> Result<Vec<(String, ChunkId)>> {
        let mut frames = Vec::new();
        for class in ["p/", "m/"] {
            for object in self.store().list(class).await? {
                let table = self.read_pack_table(&object.name, object.size).await?;
                let ids = table.into_iter().map(|frame| frame.id);
                frames.extend(ids.map(|id| (object.name.clone(), id)));
            }
        }
        Ok(frames)
    }

    /// How many sessions are open.
    ///
    /// # Errors
    /// The log cannot be read.
    pub async fn open_sessions(&self) -> Result<usize> {
        Ok(self.newest_state().await?.open.len())
    }
}
