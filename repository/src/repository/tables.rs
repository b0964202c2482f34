//! Makes the tables of the index while the repository is in use.

use futures_util::{FutureExt as _, future::BoxFuture};

use super::{Repository, blocking};
use crate::{
    error::Result,
    index::{Done, IndexState},
};

/// A table that is being made, in a thread of its own. Whoever waits for it may give up: it is installed by the next
/// one who asks.
pub(super) struct Making {
    made: BoxFuture<'static, Result<Done>>,
    /// Whether it takes what is in memory: nothing is added there until it is done.
    takes_memory: bool,
}

impl Repository {
    /// Moves records from memory to tables, and merges tables, as far as that is due. What cannot be written
    /// now stays as it is. A merge of tables goes on by itself, and is waited for only when memory is full again;
    /// the end of the process waits for it too. The log must be locked, here and below.
    pub(super) async fn make_tables(&self) {
        loop {
            let full = self.read_next(IndexState::is_full);
            if !self.install_made(full).await {
                return;
            }
            let Some(work) = self.read_next(IndexState::work) else {
                return;
            };
            let takes_memory = work.takes_memory();
            *self.making.lock().await = Some(Making {
                made: Box::pin(blocking(move || work.run())),
                takes_memory,
            });
        }
    }

    /// Puts a table that was made in its place. One that takes what is in memory is waited for; any other one if
    /// `wait`. False if one is still being made.
    pub(super) async fn install_made(&self, wait: bool) -> bool {
        let mut making = self.making.lock().await;
        let Some(one) = &mut *making else { return true };
        let made = if wait || one.takes_memory {
            (&mut one.made).await
        } else {
            match (&mut one.made).now_or_never() {
                Some(made) => made,
                None => return false,
            }
        };
        *making = None;
        match made {
            Ok(done) => self.write_next(|index| index.install(done)),
            Err(error) => {
                tracing::warn!(%error, "the index takes more memory than it should");
                self.write_next(IndexState::postpone);
            }
        }
        true
    }
}
