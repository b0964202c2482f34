//! Writes down what a check has read, so that the next one knows.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use crate::{
    clock::{now_ms, uptime},
    coverage::{Coverage, PackKey, Run, Seen},
    error::Result,
    reader::lock,
    repository::Repository,
    secret::random_bytes,
};

use super::CheckOptions;

/// What was read is recorded after so many bytes, or so long.
const SAVE_BYTES: u64 = 2 << 30;
const SAVE_EVERY: Duration = Duration::from_mins(1);

/// Now, as records have it.
pub(crate) fn now() -> u64 {
    now_ms().max(1).unsigned_abs()
}

/// Writes down what was read.
pub(super) struct Recorder {
    repository: Arc<Repository>,
    run: Run,
    /// Packs that were read since then count as read.
    pub(super) since: Option<u64>,
    news: Mutex<News>,
    saving: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct News {
    /// All that was noted.
    all: Coverage,
    /// Of it what is in no record yet.
    unsaved: Coverage,
    bytes: u64,
    saved_at: Duration,
}

impl Recorder {
    /// Begins a run, or goes on with one that was cut short.
    pub(super) fn begin(
        repository: Arc<Repository>,
        options: &CheckOptions,
        known: &Coverage,
    ) -> Result<Self> {
        let what = options.what();
        let earlier = known.unfinished(&what).filter(|_| options.resume);
        let since = earlier.map(|run| run.begun);
        let run = match earlier {
            Some(run) => run.clone(),
            None => Run {
                id: random_bytes::<16>()?.to_vec(),
                begun: now(),
                what,
                ended: 0,
            },
        };
        let mut news = News {
            saved_at: uptime(),
            ..News::default()
        };
        news.all.note_run(&run);
        news.unsaved.note_run(&run);
        Ok(Self {
            repository,
            run,
            since,
            news: Mutex::new(news),
            saving: tokio::sync::Mutex::default(),
        })
    }

    /// Notes what came of a pack.
    pub(super) fn note(&self, key: PackKey, seen: &Seen, bytes: u64) {
        let mut news = lock(&self.news);
        news.all.note(key, seen);
        news.unsaved.note(key, seen);
        news.bytes += bytes;
    }

    /// All of the sample was read.
    pub(super) fn end(&mut self) {
        self.run.ended = now();
        let mut news = lock(&self.news);
        news.all.note_run(&self.run);
        news.unsaved.note_run(&self.run);
    }

    /// Writes a record if there is enough to write, or it is the last. Where nothing can be written, the check
    /// is worth as much, only the next one knows nothing of it.
    pub(super) async fn save(&self, last: bool) {
        let _saving = self.saving.lock().await;
        let unsaved = {
            let mut news = lock(&self.news);
            let due =
                news.bytes >= SAVE_BYTES || uptime().saturating_sub(news.saved_at) >= SAVE_EVERY;
            if !(last || due) {
                return;
            }
            news.bytes = 0;
            news.saved_at = uptime();
            std::mem::take(&mut news.unsaved)
        };
        if unsaved.is_empty() {
            return;
        }
        if let Err(error) = self.repository.save_coverage(&unsaved).await {
            tracing::warn!(%error, "what was read is not recorded: the next check reads it again");
        }
    }

    /// All that was noted.
    pub(super) fn into_coverage(self) -> Coverage {
        let news = self.news.into_inner();
        news.unwrap_or_else(PoisonError::into_inner).all
    }
}
