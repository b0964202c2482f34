//! Records of finished runs in the object store: what is left when the state database is gone.
//!
//! `records/backups/NAME` and `records/restores/NAME` are JSON documents, `records/backup-logs/NAME` and
//! `records/restore-logs/NAME` the logs as lines of JSON. They hold names and counts, no data.

use std::sync::Arc;

use bytes::Bytes;
use orlop_core::run::{Run, RunKind, RunSpec};
use orlop_repository::{ObjectStore, Result, store::Durability};
use serde::{Deserialize, Serialize};

use crate::{runs::RunKey, state::LogLine};

const VERSION: u32 = 1;

/// A run with what was asked of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Document {
    /// Version of the format.
    version: u32,
    /// What was asked.
    pub(crate) spec: RunSpec,
    /// What became of it.
    pub(crate) run: Run,
    /// Whether it was put together again from what agents told, so that its tasks may have snapshots that
    /// it does not know of.
    #[serde(default)]
    pub(crate) recovered: bool,
}

impl Document {
    /// A document of this version.
    pub(crate) fn new(spec: RunSpec, run: Run) -> Self {
        Self {
            version: VERSION,
            spec,
            run,
            recovered: false,
        }
    }

    /// When a backup's time to live is over, milliseconds since 1970; `None` for never.
    pub(crate) fn expires_ms(&self) -> Option<i64> {
        let RunSpec::Backup(spec) = &self.spec else {
            return None;
        };
        let ttl_ms = i64::try_from(spec.ttl_seconds).ok()?.checked_mul(1000)?;
        (ttl_ms > 0).then(|| self.run.created_ms.saturating_add(ttl_ms))
    }

    /// As text.
    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string(self).expect("names and numbers are always JSON")
    }

    /// The document in `json`, unless it is damaged or newer than this program.
    pub(crate) fn from_json(json: &[u8]) -> Option<Self> {
        let document: Self = serde_json::from_slice(json).ok()?;
        (document.version <= VERSION && document.spec.kind() == document.run.kind)
            .then_some(document)
    }
}

/// The records in one store.
#[derive(Clone)]
pub(crate) struct Records {
    store: Arc<dyn ObjectStore>,
}

impl Records {
    /// The records in `store`.
    pub(crate) fn new(store: Arc<dyn ObjectStore>) -> Self {
        Self { store }
    }

    /// Makes a run and its log durable. A record that exists stays as it is.
    pub(crate) async fn put(&self, document: &Document, log: &[LogLine]) -> Result<()> {
        let (kind, name) = (document.run.kind, &document.run.name);
        let mut lines = Vec::new();
        for line in log {
            serde_json::to_writer(&mut lines, line).expect("a log line is always JSON");
            lines.push(b'\n');
        }
        let lines = vec![Bytes::from(lines)];
        self.store
            .put(&log_name(kind, name), lines, Durability::Now)
            .await?;
        let json = vec![Bytes::from(document.to_json())];
        self.store
            .put(&record_name(kind, name), json, Durability::Now)
            .await?;
        Ok(())
    }

    /// Removes a run's log and record; what is not there is no error. The record goes last: as long as it is
    /// there, the removal can be asked for again.
    pub(crate) async fn remove(&self, kind: RunKind, name: &str) -> Result<()> {
        self.store.delete(&log_name(kind, name)).await?;
        self.store.delete(&record_name(kind, name)).await
    }

    /// Whether a run is recorded.
    pub(crate) async fn has(&self, key: &RunKey) -> Result<bool> {
        let name = record_name(key.kind, &key.name);
        Ok(self.store.stat(&name).await?.is_some())
    }

    /// Names of all recorded runs of a kind.
    pub(crate) async fn names(&self, kind: RunKind) -> Result<Vec<String>> {
        let prefix = format!("records/{kind}s/");
        let objects = self.store.list(&prefix).await?;
        let name = |name: &str| name.strip_prefix(&prefix).map(str::to_owned);
        Ok(objects
            .iter()
            .filter_map(|object| name(&object.name))
            .collect())
    }

    /// A run's record; `None` if it is damaged or newer than this program.
    pub(crate) async fn get(&self, kind: RunKind, name: &str) -> Result<Option<Document>> {
        let json = self.store.get(&record_name(kind, name)).await?;
        Ok(Document::from_json(&json).filter(|d| d.run.kind == kind && d.run.name == name))
    }

    /// A run's log; empty if it has none.
    pub(crate) async fn log(&self, kind: RunKind, name: &str) -> Result<Vec<LogLine>> {
        let lines = match self.store.get(&log_name(kind, name)).await {
            Ok(lines) => lines,
            Err(error) if error.is_not_found() => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let lines = lines.split(|byte| *byte == b'\n');
        Ok(lines
            .filter_map(|line| serde_json::from_slice(line).ok())
            .collect())
    }
}

fn record_name(kind: RunKind, name: &str) -> String {
    format!("records/{kind}s/{name}")
}

fn log_name(kind: RunKind, name: &str) -> String {
    format!("records/{kind}-logs/{name}")
}
