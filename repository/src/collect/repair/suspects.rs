//! Packs that are damaged or missing, and what is known to lie in them.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Mutex,
};

use super::Repair;
use crate::{
    check::{CheckDepth, now},
    coverage::{Seen, pack_key},
    error::{Error, Result},
    mark::{Marked, mark},
    pack,
    reader::lock,
    repository::Repository,
    secret::Prefix,
};

/// A place in a damaged pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) offset: u32,
    pub(super) len: u32,
}

/// What is known of a pack.
#[derive(Debug, Default)]
pub(super) struct Suspect {
    /// It is not there.
    pub(super) missing: bool,
    /// What was copied from it.
    pub(super) saved: HashSet<Prefix>,
}

/// Packs that are damaged or missing.
#[derive(Debug, Default)]
pub(super) struct Suspects {
    pub(super) packs: BTreeMap<String, Suspect>,
    /// Where chunks lie, or should, in those that are there.
    pub(super) places: HashMap<Prefix, Vec<(String, Place)>>,
    /// Chunks that would be copied, were it no dry run.
    pub(super) pretended: HashSet<Prefix>,
    /// Why the index could not be read.
    failed: Mutex<Option<Error>>,
}

impl Suspects {
    pub(super) fn names(&self) -> Vec<String> {
        self.packs.keys().cloned().collect()
    }

    /// Whether the chunk is in no pack but damaged ones. Whoever asks must ask [`Self::prove_answers`] in the end.
    pub(super) fn is_lost(&self, repository: &Repository, prefix: &Prefix) -> bool {
        if self.pretended.contains(prefix) {
            return false;
        }
        match repository.with_index(|index| index.holders(prefix)) {
            Ok(holders) => holders
                .iter()
                .all(|(pack, _)| self.packs.contains_key(&**pack)),
            Err(error) => {
                lock(&self.failed).get_or_insert(error);
                false
            }
        }
    }

    /// Whether the index could be read whenever it was asked.
    pub(super) fn prove_answers(&self) -> Result<()> {
        lock(&self.failed).take().map_or(Ok(()), Err)
    }
}

impl Repair<'_> {
    /// Finds packs that are damaged: by their sizes, by what earlier checks found, by reading those that
    /// were asked for, and by reading reference pages.
    pub(super) async fn find_suspects(&mut self, listing: &HashMap<String, u64>) -> Result<()> {
        let repository = self.collector.repository;
        let loaded = repository.load_coverage().await?;
        // In a dry run nothing is removed, but it is said.
        let damaged = loaded.damaged.iter().map(crate::check::object_of);
        self.report.records = damaged.collect();
        let coverage = loaded.coverage;
        let (mut ends, mut packs): (HashMap<String, u64>, Vec<_>) = Default::default();
        repository.with_index(|index| {
            let mut last: HashMap<u32, u64> = HashMap::new();
            index.each_place(|place| {
                let end = last.entry(place.pack).or_default();
                *end = (*end).max(u64::from(place.offset) + u64::from(place.len));
                Ok(())
            })?;
            index.each_pack(|ordinal, pack, _| {
                let end = ends.entry(pack.name.to_string()).or_default();
                *end = (*end).max(last.get(&ordinal).copied().unwrap_or_default());
            })
        })?;
        let mut read = BTreeSet::new();
        for (name, end) in &ends {
            let key = pack_key(name);
            match listing.get(name) {
                None => {
                    read.insert(name.clone());
                }
                Some(size) => {
                    let seen = key.map_or_else(Seen::default, |key| coverage.get(&key));
                    if size < end || seen.is_damaged() {
                        read.insert(name.clone());
                    }
                    packs.extend(key.map(|key| (name.clone(), key, *size)));
                }
            }
        }
        if let Some(sample) = self.options.read {
            let (chosen, _) = sample.choose(packs, CheckDepth::Scrub, &coverage, None);
            read.extend(chosen.into_iter().map(|(name, _)| name));
        }
        for name in read {
            let flagged = pack_key(&name).is_some_and(|key| {
                let seen = coverage.get(&key);
                seen.bad_chunks > seen.verified
            });
            self.suspect(&name, flagged).await?;
        }
        self.suspect_pages().await
    }

    /// Reads all reference pages; packs in which some cannot be read are damaged.
    async fn suspect_pages(&mut self) -> Result<()> {
        let repository = self.collector.repository;
        let state = repository.newest_state().await?.clone();
        let needed: Vec<_> = state.needed().cloned().collect();
        let (mut marked, mut broken) = (Marked::default(), Vec::new());
        mark(repository, &needed, &mut marked, &mut |one| {
            broken.push(one.error);
        })
        .await?;
        for error in broken {
            self.suspect_of(&error).await?;
        }
        Ok(())
    }

    /// Suspects the pack in which something could not be read; whether that is new.
    pub(super) async fn suspect_of(&mut self, error: &Error) -> Result<bool> {
        let (Error::Damaged { name, .. } | Error::NotFound { name, .. }) = error else {
            return Ok(false);
        };
        if self.suspects.packs.contains_key(name) || !self.repository().has_pack(name) {
            return Ok(false);
        }
        self.suspect(&name.clone(), true).await?;
        Ok(true)
    }

    /// Reads a pack, and counts it as damaged if it is, or if it is known to be.
    async fn suspect(&mut self, name: &str, known: bool) -> Result<()> {
        self.go_on()?;
        let repository = self.collector.repository;
        let mut table = Vec::new();
        let missing = match repository.store().get_fresh(name).await {
            Ok(bytes) => {
                if let Ok((_, session)) = pack::parse_name(name) {
                    let key = repository.keys.session(session);
                    table = pack::read_table(name, &bytes, &key).unwrap_or_default();
                }
                false
            }
            Err(Error::NotFound { .. }) => true,
            Err(error) if error.is_loss() => false,
            Err(error) => return Err(error),
        };
        if !missing && !known {
            match repository.read_pack(name).await {
                Ok(()) => {
                    let scrubbed = Seen {
                        scrubbed: now(),
                        ..Seen::default()
                    };
                    if let Some(key) = pack_key(name) {
                        self.learnt.note(key, &scrubbed);
                    }
                    return Ok(());
                }
                Err(error) if error.is_loss() => {}
                Err(error) => return Err(error),
            }
        }
        if !missing {
            let mut add = |prefix, offset, len| {
                let place = Place { offset, len };
                let places = self.suspects.places.entry(prefix).or_default();
                if !places.iter().any(|(pack, at)| pack == name && *at == place) {
                    places.push((name.to_owned(), place));
                }
            };
            for entry in &table {
                add(entry.id.prefix(), entry.offset, entry.len);
            }
            repository.with_index(|index| {
                let mut ordinals: HashSet<u32> = HashSet::new();
                index.each_pack(|ordinal, pack, _| {
                    if *pack.name == *name {
                        ordinals.insert(ordinal);
                    }
                })?;
                index.each_place(|place| {
                    if ordinals.contains(&place.pack) {
                        add(place.prefix, place.offset, place.len);
                    }
                    Ok(())
                })
            })?;
        }
        let suspect = Suspect {
            missing,
            ..Suspect::default()
        };
        self.suspects.packs.insert(name.to_owned(), suspect);
        Ok(())
    }
}
