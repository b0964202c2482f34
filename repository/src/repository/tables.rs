//! Makes the tables of the index while the repository is in use.

use std::{fs, path::Path, sync::atomic::Ordering};

use futures_util::{FutureExt as _, future::BoxFuture};

use super::{Repository, blocking};
use crate::{
    error::Result,
    index::{Done, Head, IndexState},
    log,
    protocol::LogState,
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
    /// now stays as it is. In a process that goes on for long a merge of tables goes on by itself, and is waited for
    /// only when memory is full again. The log must be locked, here and below.
    pub(super) async fn make_tables(&self, state: &LogState) {
        loop {
            let wait = !self.merges_beside() || self.read_next(IndexState::is_full);
            if !self.install_made(wait).await {
                return;
            }
            let Some(work) = self.read_next(IndexState::work) else {
                return;
            };
            let takes_memory = work.takes_memory();
            let work = work.at(Head {
                number: state.next - 1,
                hash: state.last_hash.clone(),
            });
            *self.making.lock().await = Some(Making {
                made: Box::pin(blocking(move || work.run())),
                takes_memory,
            });
        }
    }

    fn merges_beside(&self) -> bool {
        self.stays_open.load(Ordering::Relaxed)
    }

    /// Says that this repository stays open for long.
    pub(super) fn stay_open(&self) {
        self.stays_open.store(true, Ordering::Relaxed);
    }

    /// Removes the tables in a directory unless this repository's log has the entry that was known when they were
    /// made: a store that was put back to an older state, or a copy of it, may hold other things in the same packs.
    ///
    /// # Errors
    /// The store does not answer.
    pub(super) async fn prove_tables(&self, directory: &Path) -> Result<()> {
        let same = match Head::of_tables(directory) {
            Some(head) if head.number > 0 => {
                let name = log::object_name(head.number);
                self.log_has(&name, &head.hash).await?
            }
            _ => false,
        };
        if !same && directory.exists() {
            tracing::info!(directory = %directory.display(), "local tables of the index are of another log: they are made again");
            let directory = directory.to_owned();
            // What cannot be removed is found again by nobody: a new chain of tables begins.
            blocking(move || {
                let _ = fs::remove_dir_all(directory);
                Ok(())
            })
            .await?;
        }
        Ok(())
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        keys::Unlock,
        repository::InitOptions,
        secret::hex,
        store::{Durability, MemoryStore, ObjectStore as _},
    };

    #[tokio::test]
    async fn tables_of_another_log_are_removed() {
        let store = Arc::new(MemoryStore::new());
        let unlock = Unlock::KeyFile(vec![7; 32]);
        let made = Repository::init(store.clone(), &unlock, InitOptions::default()).await;
        let repository = made.unwrap();
        let entry = b"an entry";
        store
            .put(
                &log::object_name(3),
                vec![entry.as_slice().into()],
                Durability::Now,
            )
            .await
            .unwrap();
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("tables");
        let hash = hex(blake3::hash(entry).as_bytes());
        let another = hex(blake3::hash(b"another entry").as_bytes());
        for (head, stays) in [
            (format!("3 {hash}\n"), true),
            (format!("3 {another}\n"), false),
            // The store was put back to an older state.
            (format!("4 {hash}\n"), false),
            ("0 \n".to_owned(), false),
            (format!("3 {hash}é"), false),
            (String::new(), false),
        ] {
            fs::create_dir_all(&directory).unwrap();
            fs::write(directory.join("head"), &head).unwrap();
            repository.prove_tables(&directory).await.unwrap();
            assert_eq!(directory.exists(), stays, "{head:?}");
        }
        fs::create_dir_all(&directory).unwrap();
        repository.prove_tables(&directory).await.unwrap();
        assert!(!directory.exists(), "it is not known of which log they are");
    }
}
