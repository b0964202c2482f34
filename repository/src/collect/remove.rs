//! Deletes what the log says is deleted.

use futures_util::future::join_all;
use orlop_core::Progress;

use super::Collector;
use crate::{
    error::{Error, Result},
    mistake::{Mistake, makes},
    protocol::{Body, DeletingBody, DoneBody, LogState},
};

/// Deletions at once.
const AT_ONCE: usize = 16;

impl Collector<'_> {
    /// Logs the list, unless something was committed since it was made, and deletes its `objects`.
    pub(super) async fn delete(
        &mut self,
        made_from: &LogState,
        listed: Vec<String>,
        objects: &[String],
    ) -> Result<bool> {
        let epoch = made_from.epoch.as_ref().map_or(0, |epoch| epoch.seq);
        let body = DeletingBody {
            leader: self.term,
            epoch,
            objects: listed,
        };
        if makes(Mistake::EarlyDelete) {
            self.delete_objects(objects).await?;
        }
        let commits = made_from.commits;
        let list = {
            let mut state = self.repository.newest_state().await?;
            let list = self
                .append(&mut state, |state| {
                    let same = state.commits == commits;
                    Ok(same.then(|| Body::Deleting(body.clone())))
                })
                .await?;
            let Some(list) = list else {
                return Ok(false);
            };
            list
        };
        // Nobody in this process may be sent to these packs any more.
        self.repository.refresh().await?;
        self.delete_list(list, objects).await?;
        Ok(true)
    }

    /// Deletes what earlier collectors had logged and not come to.
    pub(super) async fn finish_lists(&mut self) -> Result<()> {
        let lists = self.repository.newest_state().await?.deleting.clone();
        for (list, objects) in lists {
            self.delete_list(list, &objects).await?;
        }
        Ok(())
    }

    pub(super) async fn delete_list(&mut self, list: u64, objects: &[String]) -> Result<()> {
        self.delete_objects(objects).await?;
        let body = DoneBody {
            leader: self.term,
            list,
        };
        let mut state = self.repository.newest_state().await?;
        self.append(&mut state, |_| Ok(Some(Body::Done(body.clone()))))
            .await?;
        Ok(())
    }

    async fn delete_objects(&mut self, objects: &[String]) -> Result<()> {
        let mut done = 0;
        for batch in objects.chunks(AT_ONCE) {
            if self.cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            let sizes = join_all(batch.iter().map(|name| self.delete_object(name))).await;
            for size in sizes {
                let size = size?;
                self.report.removed_objects += u64::from(size.is_some());
                self.report.removed_bytes += size.unwrap_or_default();
            }
            done += batch.len() as u64;
            self.monitor.progress(Progress {
                entries_done: done,
                entries_total: objects.len() as u64,
                ..Progress::default()
            });
        }
        Ok(())
    }

    /// Deletes an object; its size if it was there.
    async fn delete_object(&self, name: &str) -> Result<Option<u64>> {
        let store = self.repository.store();
        let info = store.stat(name).await?;
        if info.is_some() {
            store.delete(name).await?;
        }
        Ok(info.map(|info| info.size))
    }
}
