//! Reads packs and compares their bytes with their names: no key is needed for that.

use std::{
    collections::HashSet,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::join_all;
use orlop_core::Progress;

use super::{
    Check, CheckDepth, DamageKind,
    recorder::{Recorder, now},
};
use crate::{
    clock::{sleep, uptime},
    coverage::{Seen, pack_key},
    error::{Error, Result},
    pack,
    repository::Repository,
    session::Location,
};

/// Packs that are read at once.
const WORKERS: usize = 4;
/// Bytes of packs whose chunks are decrypted together: for each such group all manifests are read.
const GROUP: u64 = 64 << 30;

/// Packs that are read, in their order, and how far that is.
struct Reading<'c> {
    packs: &'c [(String, u64)],
    next: AtomicUsize,
    total: u64,
    begun: Duration,
}

impl Check {
    /// Reads the packs of the sample.
    pub(super) async fn read_chosen(&mut self, recorder: &Recorder) -> Result<()> {
        let packs = self.packs()?.into_iter();
        let keyed = packs.filter_map(|(name, size)| Some((pack_key(&name)?, name, size)));
        let keyed = keyed.map(|(key, name, size)| (name, key, size)).collect();
        let depth = self.options.depth;
        let (chosen, resumed) =
            self.options
                .sample
                .choose(keyed, depth, &self.loaded.coverage, recorder.since);
        self.resumed = resumed;
        let total = chosen.iter().map(|(_, size)| size).sum();
        let begun = uptime();
        let group = match depth {
            CheckDepth::Data => GROUP,
            _ => u64::MAX,
        };
        let mut rest = &chosen[..];
        while !rest.is_empty() {
            let mut bytes = 0_u64;
            let fits = |(_, size): &&(String, u64)| {
                let before = bytes;
                bytes = bytes.saturating_add(*size);
                before < group
            };
            let (now, later) = rest.split_at(rest.iter().take_while(fits).count());
            rest = later;
            let reading = Reading {
                packs: now,
                next: AtomicUsize::new(0),
                total,
                begun,
            };
            self.read_packs(&reading, recorder).await?;
            if depth == CheckDepth::Data {
                self.verify_chunks(now, recorder).await?;
            }
        }
        Ok(())
    }

    async fn read_packs(&self, reading: &Reading<'_>, recorder: &Recorder) -> Result<()> {
        // Who is to be slow gains nothing by asking for several at once.
        let workers = if self.options.bytes_per_second > 0 {
            1
        } else {
            WORKERS
        };
        let workers = (0..workers).map(|_| async {
            while let Some((name, size)) = reading
                .packs
                .get(reading.next.fetch_add(1, Ordering::Relaxed))
            {
                self.go_on()?;
                self.read_one(name, *size, recorder).await?;
                let read = self.read.fetch_add(*size, Ordering::Relaxed) + size;
                self.monitor.progress(Progress {
                    bytes_done: read,
                    bytes_total: reading.total,
                    transferred_bytes: read,
                    ..Progress::default()
                });
                recorder.save(false).await;
                let due = reading.begun + self.options.takes(read);
                tokio::select! {
                    () = self.cancel.cancelled() => {}
                    () = sleep(due.saturating_sub(uptime())) => {}
                }
            }
            Ok(())
        });
        join_all(workers)
            .await
            .into_iter()
            .collect::<Result<()>>()?;
        self.go_on()
    }

    async fn read_one(&self, name: &str, size: u64, recorder: &Recorder) -> Result<()> {
        let Some(key) = pack_key(name) else {
            return Ok(());
        };
        let at = now();
        let seen = match self.repository.read_pack(name).await {
            Ok(()) => Seen {
                scrubbed: at,
                ..Seen::default()
            },
            Err(Error::Cancelled) => return Err(Error::Cancelled),
            Err(error) if error.is_loss() => {
                // Without a session in the log a collection may have deleted it just now.
                self.repository.refresh().await?;
                if !self.repository.has_pack(name) {
                    return Ok(());
                }
                tracing::debug!(name, %error, "a pack is damaged");
                let kind = match error {
                    Error::NotFound { .. } => DamageKind::MissingPack,
                    _ => DamageKind::DamagedPack,
                };
                self.found(name, kind, None, None);
                Seen {
                    bad_bytes: at,
                    ..Seen::default()
                }
            }
            Err(error) => return Err(error),
        };
        recorder.note(key, &seen, size);
        Ok(())
    }
}

impl Repository {
    /// Proves that a pack holds the bytes that were stored, and that the index knows its chunks.
    pub(crate) async fn read_pack(&self, name: &str) -> Result<()> {
        let bytes = self.store().get_fresh(name).await?;
        let table = self.scrub_pack(name, bytes).await?;
        let indexed = self.with_index(|index| {
            for entry in &table {
                let place = Location {
                    pack: name.to_owned(),
                    offset: entry.offset,
                    len: entry.len,
                    condemned: false,
                };
                if !index.holds(&entry.id.prefix(), &place)? {
                    return Ok(false);
                }
            }
            Ok::<_, Error>(true)
        })?;
        // It may be gone from the index by now; who asks looks that up.
        if indexed {
            Ok(())
        } else {
            Err(Error::damaged(
                name,
                "the index has other places for its chunks",
            ))
        }
    }

    /// The table of a pack whose bytes are those that its name promises.
    pub(crate) async fn scrub_pack(
        &self,
        name: &str,
        bytes: Bytes,
    ) -> Result<Vec<pack::TableEntry>> {
        let (_, session) = pack::parse_name(name)?;
        let (owned, key) = (name.to_owned(), self.keys.session(session));
        let read = tokio::task::spawn_blocking(move || {
            pack::scrub(&owned, &bytes)?;
            pack::read_table(&owned, &bytes, &key)
        });
        read.await.map_err(|e| Error::System {
            action: "read a pack",
            source: std::io::Error::other(e),
        })?
    }
}

/// Names of packs as a set.
pub(super) fn names(packs: &[(String, u64)]) -> HashSet<&str> {
    packs.iter().map(|(name, _)| &**name).collect()
}
