//! Locations: where repositories are, which of them are open, and how they are.
//!
//! One is given at the start (then it is the default one), others are made by calls and kept in files. A location
//! that does not open or answer is unavailable and holds up no other; it is looked at again and again.

mod change;
mod check;
mod known;
mod open;
mod record;

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use orlop_core::{LocationSpec, run::not_found};
use orlop_repository::{
    Error as RepositoryError, ObjectStore, Repository, SnapshotInfo, Unlock, open_store, url_below,
};

pub(crate) use check::{Checked, Health};
use open::{Opener, Opening};
use record::{Files, Record};

use crate::{clock::Clock, error::Result, runs::Refusal};

/// The file of the data directory that says which repository each place held: a text of JSON with ids by URLs.
pub const PLACES_FILE: &str = "repositories.json";

/// The location that a coordinator is started with.
pub struct Home {
    /// Its name.
    pub location: String,
    /// URL of its store.
    pub url: String,
    /// Its repository if it is open already; else it is opened, and made if there is none.
    pub repository: Option<Arc<Repository>>,
}

/// All locations.
pub(crate) struct Locations {
    files: Files,
    opener: Arc<Opener>,
    clock: Arc<dyn Clock>,
    table: Mutex<BTreeMap<String, Entry>>,
    /// Changes are made one after the other.
    changing: tokio::sync::Mutex<()>,
}

struct Entry {
    record: Record,
    /// Whether the coordinator was started with it.
    fixed: bool,
    repository: Option<Arc<Repository>>,
    /// Where artifacts are kept, if they are.
    artifacts: Option<Arc<dyn ObjectStore>>,
    health: Health,
    /// Held by who looks at it: nobody opens it twice at once.
    looking: Arc<tokio::sync::Mutex<Option<Opening>>>,
}

impl Entry {
    fn new(record: Record, fixed: bool, repository: Option<Arc<Repository>>) -> Self {
        Self {
            record,
            fixed,
            repository,
            artifacts: None,
            health: Health::default(),
            looking: Arc::default(),
        }
    }
}

/// What is shown of a location.
pub(crate) struct View {
    /// Its name.
    pub(crate) name: String,
    /// Where it is, without credentials.
    pub(crate) place: String,
    /// The repository's id; empty as long as it was never opened.
    pub(crate) repository_id: String,
    /// How it is.
    pub(crate) health: Health,
    /// What somebody wants of it.
    pub(crate) spec: LocationSpec,
    /// Whether it is the default one.
    pub(crate) is_default: bool,
    /// Whether the coordinator was started with it.
    pub(crate) fixed: bool,
    /// Rises with each change.
    pub(crate) version: u64,
}

/// What a task needs to know of its location.
pub(crate) struct Reach {
    /// URL of the store.
    pub(crate) url: String,
    /// Keys to it, if it has any of its own.
    pub(crate) keys: Option<orlop_core::S3Keys>,
    /// Authorities to trust; empty for those of the system.
    pub(crate) ca_pem: String,
}

impl Locations {
    /// Reads the files below `directory`; nothing is opened yet.
    ///
    /// # Errors
    /// The files cannot be listed.
    pub(crate) fn load(
        directory: &Path,
        home: Option<Home>,
        unlock: Option<Unlock>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let files = Files::new(directory.join("locations"));
        let mut table = BTreeMap::new();
        for record in files.load()? {
            table.insert(record.name.clone(), Entry::new(record, false, None));
        }
        if let Some(home) = home {
            let spec = LocationSpec {
                url: home.url,
                is_default: true,
                ..LocationSpec::default()
            };
            let record = Record::new(home.location.clone(), spec, 0);
            let entry = Entry::new(record, true, home.repository);
            if table.insert(home.location.clone(), entry).is_some() {
                tracing::warn!(
                    location = home.location,
                    "the location that the coordinator is started with hides one of the same name"
                );
            }
        }
        Ok(Self {
            files,
            opener: Arc::new(Opener::new(unlock, directory)),
            clock,
            table: Mutex::new(table),
            changing: tokio::sync::Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Names of all locations.
    pub(crate) fn names(&self) -> Vec<String> {
        self.lock().keys().cloned().collect()
    }

    /// The name of the default location, if there is one.
    pub(crate) fn default_name(&self) -> Option<String> {
        default_of(&self.lock()).map(str::to_owned)
    }

    /// The location's full name: an empty one is the default's.
    pub(crate) fn name_of(&self, name: &str) -> Result<String, Refusal> {
        let table = self.lock();
        if name.is_empty() {
            let none = "there is no default location yet: make one with `orlop location create`";
            return default_of(&table)
                .map(str::to_owned)
                .ok_or_else(|| Refusal::Precondition(none.to_owned()));
        }
        match table.get(name) {
            Some(_) => Ok(name.to_owned()),
            None => Err(unknown(name, &table)),
        }
    }

    /// The repository of a location; an empty name is the default's.
    ///
    /// # Errors
    /// There is no such location, or it was never available since the start.
    pub(crate) fn repository(&self, name: &str) -> Result<Arc<Repository>, Refusal> {
        let name = self.name_of(name)?;
        let table = self.lock();
        let entry = table.get(&name).ok_or_else(|| unknown(&name, &table))?;
        entry
            .repository
            .clone()
            .ok_or_else(|| unavailable(&name, &entry.health))
    }

    /// The repository of a location that is to be written to by something new.
    ///
    /// # Errors
    /// As [`Self::repository`]; it is read-only, or did not answer when it was last looked at.
    pub(crate) fn writable(&self, name: &str) -> Result<Arc<Repository>, Refusal> {
        let name = self.name_of(name)?;
        let table = self.lock();
        let entry = table.get(&name).ok_or_else(|| unknown(&name, &table))?;
        if entry.record.spec.read_only {
            return Err(Refusal::Precondition(format!(
                "location {name} is read-only: choose another one"
            )));
        }
        match &entry.repository {
            Some(repository) if entry.health.available => Ok(Arc::clone(repository)),
            _ => Err(unavailable(&name, &entry.health)),
        }
    }

    /// Where the artifacts of a location are kept; `None` if they are not, or it was never available.
    pub(crate) fn artifacts(&self, name: &str) -> Option<Arc<dyn ObjectStore>> {
        self.lock().get(name)?.artifacts.clone()
    }

    /// Whether nothing is written to a location.
    pub(crate) fn is_read_only(&self, name: &str) -> bool {
        let table = self.lock();
        table
            .get(name)
            .is_some_and(|entry| entry.record.spec.read_only)
    }

    /// All repositories that were opened, with the names of their locations; the default one's first.
    pub(crate) fn open_ones(&self) -> Vec<(String, Arc<Repository>)> {
        let table = self.lock();
        let default = default_of(&table);
        let open = |(name, entry): (&String, &Entry)| {
            Some((name.clone(), Arc::clone(entry.repository.as_ref()?)))
        };
        let mut all: Vec<_> = table.iter().filter_map(open).collect();
        all.sort_by_key(|(name, _)| Some(name.as_str()) != default);
        all
    }

    /// How tasks reach a location that they open themselves.
    pub(crate) fn reach(&self, name: &str) -> Option<Reach> {
        let table = self.lock();
        let spec = &table.get(name)?.record.spec;
        Some(Reach {
            url: url_below(&spec.url, &spec.repository_path),
            keys: spec.keys.clone(),
            ca_pem: spec.ca_pem.clone(),
        })
    }

    /// One location, or why there is none; an empty name is the default's.
    pub(crate) fn get(&self, name: &str) -> Result<View, Refusal> {
        let name = self.name_of(name)?;
        let table = self.lock();
        let entry = table.get(&name).ok_or_else(|| unknown(&name, &table))?;
        Ok(view(entry, default_of(&table)))
    }

    /// All locations, by name.
    pub(crate) fn list(&self) -> Vec<View> {
        let table = self.lock();
        let default = default_of(&table);
        table.values().map(|entry| view(entry, default)).collect()
    }

    /// Finds a snapshot by its id, a prefix of it, or `latest:NAMESPACE/POD/VOLUME`: in one location, or in all that
    /// are open.
    pub(crate) async fn resolve(
        &self,
        location: &str,
        text: &str,
    ) -> Result<(String, SnapshotInfo), Refusal> {
        if !location.is_empty() {
            let name = self.name_of(location)?;
            let found = self.repository(&name)?.resolve(text).await?;
            return Ok((name, found));
        }
        let (mut found, mut failed): (Vec<(String, SnapshotInfo)>, _) = (Vec::new(), None);
        for (name, repository) in self.open_ones() {
            match repository.resolve(text).await {
                Ok(snapshot) => found.push((name, snapshot)),
                Err(error) if error.is_not_found() => {
                    failed.get_or_insert(error);
                }
                // Another location may have it.
                Err(error) => failed = Some(error),
            }
        }
        if found.is_empty() {
            return Err(self.nowhere(text, failed));
        }
        let is_latest = text == "latest" || text.starts_with("latest:");
        let away = self.away();
        if is_latest && !away.is_empty() {
            return Err(Refusal::Unavailable(format!(
                "a newer snapshot may be in what is not available now: {}; name the location whose newest one is meant",
                away.join(", ")
            )));
        }
        let newest = found.iter().map(|(_, snapshot)| snapshot.id).max();
        // A copy of a repository has the same snapshots.
        let same = found.iter().all(|(_, s)| Some(s.id) == newest);
        if !same && !is_latest {
            let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
            return Err(Refusal::Precondition(format!(
                "{text} is the beginning of snapshots in locations {}: give more of it, or the location",
                names.join(", ")
            )));
        }
        let best = found.into_iter().find(|(_, s)| Some(s.id) == newest);
        best.ok_or_else(|| self.nowhere(text, None))
    }

    /// Locations that cannot be read now.
    fn away(&self) -> Vec<String> {
        let table = self.lock();
        let shut = table
            .values()
            .filter(|entry| entry.repository.is_none() || !entry.health.available);
        shut.map(|entry| entry.record.name.clone()).collect()
    }

    fn nowhere(&self, text: &str, failed: Option<RepositoryError>) -> Refusal {
        let away = self.away();
        match failed {
            Some(error) if away.is_empty() || !error.is_not_found() => Refusal::Repository(error),
            _ if away.is_empty() => Refusal::Precondition("there is no location yet".to_owned()),
            _ => Refusal::Unavailable(format!(
                "no snapshot {text:?} in what can be read now; not available: {}",
                away.join(", ")
            )),
        }
    }
}

fn default_of(table: &BTreeMap<String, Entry>) -> Option<&str> {
    let fixed = table.values().find(|entry| entry.fixed);
    let wanted = || {
        let wanted = table.values().filter(|entry| entry.record.spec.is_default);
        wanted.max_by_key(|entry| (entry.record.updated_ms, &entry.record.name))
    };
    fixed
        .or_else(wanted)
        .map(|entry| entry.record.name.as_str())
}

fn view(entry: &Entry, default: Option<&str>) -> View {
    let repository = entry.repository.as_ref();
    let place = match repository {
        Some(repository) => repository.store().description(),
        None => open_store(&entry.record.spec.url)
            .map(|store| store.description())
            .unwrap_or_default(),
    };
    View {
        name: entry.record.name.clone(),
        place,
        repository_id: repository.map(|open| open.id()).unwrap_or_default(),
        health: entry.health.clone(),
        spec: entry.record.spec.clone(),
        is_default: default == Some(entry.record.name.as_str()),
        fixed: entry.fixed,
        version: entry.record.version,
    }
}

/// There is no such location; near misses are among the names.
fn unknown(name: &str, table: &BTreeMap<String, Entry>) -> Refusal {
    Refusal::NotFound {
        kind: "location",
        name: name.to_owned(),
        message: not_found("location", name, table.keys().map(String::as_str)),
    }
}

fn unavailable(name: &str, health: &Health) -> Refusal {
    let reason = if health.message.is_empty() {
        "it was not looked at yet"
    } else {
        &health.message
    };
    Refusal::Unavailable(format!("location {name} is unavailable: {reason}"))
}
