//! Records of schedules in the object store: what is left when the state database is gone.
//!
//! `records/schedules/NAME/VERSION` is a JSON document. Objects are never overwritten: a change is a new version, and
//! the older ones are removed after it. Two coordinators cannot make the same version.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use orlop_core::schedule::ScheduleSpec;
use orlop_repository::{
    ObjectStore, Result,
    store::{Durability, Put},
};
use serde::{Deserialize, Serialize};

const FORMAT: u32 = 1;
const PREFIX: &str = "records/schedules/";

/// A schedule as somebody wants it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Version of the document.
    format: u32,
    /// Its name.
    pub(crate) name: String,
    /// Rises with each change, from 1.
    pub(crate) version: u64,
    /// What it does.
    pub(crate) spec: ScheduleSpec,
    /// Whether turns pass without a backup.
    pub(crate) paused: bool,
    /// When it was made, milliseconds since 1970.
    pub(crate) created_ms: i64,
    /// When it was changed last.
    pub(crate) updated_ms: i64,
    /// Turns up to then are nobody's business: it was made, resumed, or got another timetable.
    pub(crate) from_ms: i64,
}

impl Record {
    /// A schedule that is made now.
    pub(crate) fn new(name: String, spec: ScheduleSpec, paused: bool, now_ms: i64) -> Self {
        Self {
            format: FORMAT,
            name,
            version: 1,
            spec,
            paused,
            created_ms: now_ms,
            updated_ms: now_ms,
            from_ms: now_ms,
        }
    }

    /// The record in `json`, unless it is damaged or newer than this program.
    pub(crate) fn from_json(json: &[u8]) -> Option<Self> {
        let record: Self = serde_json::from_slice(json).ok()?;
        (record.format <= FORMAT).then_some(record)
    }

    /// As text.
    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string(self).expect("names and numbers are always JSON")
    }
}

fn object(name: &str, version: u64) -> String {
    format!("{PREFIX}{name}/{version}")
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

    /// Makes a new version durable. False if somebody else has made it.
    pub(crate) async fn put(&self, record: &Record) -> Result<bool> {
        let name = object(&record.name, record.version);
        let json = vec![Bytes::from(record.to_json())];
        let put = self.store.put(&name, json, Durability::Now).await?;
        Ok(put == Put::Created)
    }

    /// Removes the versions of a schedule up to `last`, the newest at the end: as long as one is there, the removal
    /// can be asked for again.
    pub(crate) async fn remove_up_to(&self, name: &str, last: u64) -> Result<()> {
        let versions = self.versions().await?.remove(name).unwrap_or_default();
        for version in versions.into_iter().filter(|version| *version <= last) {
            self.store.delete(&object(name, version)).await?;
        }
        Ok(())
    }

    /// The newest versions of all schedules.
    pub(crate) async fn load(&self) -> Result<Vec<Record>> {
        let mut records = Vec::new();
        for (name, versions) in self.versions().await? {
            let Some(version) = versions.last() else {
                continue;
            };
            let json = self.store.get(&object(&name, *version)).await?;
            let record = Record::from_json(&json);
            if let Some(record) = record.filter(|r| r.name == name && r.version == *version) {
                records.push(record);
            } else {
                tracing::warn!(
                    schedule = name,
                    "the record of a schedule cannot be read: the schedule is left alone"
                );
            }
        }
        Ok(records)
    }

    /// The versions of each schedule, ascending.
    async fn versions(&self) -> Result<BTreeMap<String, Vec<u64>>> {
        let mut found: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for info in self.store.list(PREFIX).await? {
            let name = info
                .name
                .strip_prefix(PREFIX)
                .and_then(|n| n.split_once('/'));
            if let Some((name, version)) = name
                && let Ok(version) = version.parse()
            {
                found.entry(name.to_owned()).or_default().push(version);
            }
        }
        for versions in found.values_mut() {
            versions.sort_unstable();
        }
        Ok(found)
    }
}
