//! Copies what is whole of damaged packs to new ones.

use std::collections::{BTreeMap, HashMap};

use super::{Repair, suspects::Place};
use crate::{
    error::{Error, Result},
    frame::{Decoder, FrameKind},
    pack::{PackClass, TableEntry},
    reader::FrameReader,
    secret::{Key, Prefix, Secret},
    walk::{Needs, Piece, Walk},
};

use super::super::repack::Mover;

/// What opens a chunk or page, and proves that it is the right one.
#[derive(Clone)]
pub(super) struct Wanted {
    secret: Secret,
    kind: FrameKind,
    keys: Vec<Key>,
}

impl Repair<'_> {
    /// Saves what can be saved and marks what is lost, for all snapshots that there are by now.
    pub(super) async fn settle(&mut self) -> Result<()> {
        loop {
            self.go_on()?;
            let Some(wanted) = self.wanted().await? else {
                // More packs are damaged than was known.
                continue;
            };
            self.save(wanted).await?;
            if self.mark_damage().await? {
                return Ok(());
            }
            // Something was committed in between.
        }
    }

    /// What snapshots need that lies in damaged packs only; `None` if other packs turned out to be damaged.
    async fn wanted(&mut self) -> Result<Option<HashMap<Prefix, Wanted>>> {
        let repository = self.collector.repository;
        let state = repository.newest_state().await?.clone();
        let mut needs = Needs::new(FrameReader::new(repository)?);
        let mut walk = Walk::new(FrameReader::new(repository)?);
        let (mut wanted, mut errors) = (HashMap::new(), BTreeMap::new());
        for commit in state.needed() {
            self.go_on()?;
            let suspects = &self.suspects;
            let lost = |prefix: &Prefix| suspects.is_lost(repository, prefix);
            if !needs.any(commit, &lost).await? {
                continue;
            }
            let opened = match repository.open_snapshot(&commit.snapshot).await {
                Ok(opened) => opened,
                Err(error) if error.is_loss() => continue,
                Err(error) => return Err(error),
            };
            walk.snapshot(&opened, &mut |piece| {
                let (secret, kind, keys) = match piece {
                    Piece::Page {
                        kind, secret, keys, ..
                    } => (secret, kind, keys),
                    Piece::Chunk { secret, keys, .. } => (secret, FrameKind::Data, keys),
                    Piece::Lost { error } => {
                        if let Error::Damaged { name, reason } = error {
                            errors.insert(name.clone(), reason.clone());
                        }
                        return;
                    }
                };
                let prefix = secret.id().prefix();
                if suspects.places.contains_key(&prefix) && lost(&prefix) {
                    let (secret, keys) = (*secret, keys.to_vec());
                    wanted
                        .entry(prefix)
                        .or_insert(Wanted { secret, kind, keys });
                }
            })
            .await?;
        }
        self.suspects.prove_answers()?;
        let mut more = false;
        for (name, reason) in errors {
            more |= self.suspect_of(&Error::Damaged { name, reason }).await?;
        }
        Ok((!more).then_some(wanted))
    }

    /// Copies what is whole of `wanted`, and makes the copies known.
    async fn save(&mut self, wanted: HashMap<Prefix, Wanted>) -> Result<()> {
        let mut by_pack: BTreeMap<String, Vec<(Prefix, Place)>> = BTreeMap::new();
        for prefix in wanted.keys() {
            for (pack, place) in self.suspects.places.get(prefix).into_iter().flatten() {
                let places = by_pack.entry(pack.clone()).or_default();
                places.push((*prefix, *place));
            }
        }
        let mut decoder = Decoder::new()?;
        let mut mover = Mover::default();
        for (pack, mut places) in by_pack {
            self.go_on()?;
            let repository = self.collector.repository;
            let bytes = match repository.store().get_fresh(&pack).await {
                Ok(bytes) => bytes,
                Err(error) if error.is_loss() => continue,
                Err(error) => return Err(error),
            };
            places.sort_unstable_by_key(|(_, place)| place.offset);
            let class = PackClass::of_name(&pack);
            for (prefix, place) in places {
                let begin = place.offset as usize;
                let frame = bytes.get(begin..begin.saturating_add(place.len as usize));
                let Some(one) = wanted.get(&prefix) else {
                    continue;
                };
                let (Some(frame), false) = (frame, self.suspects.pretended.contains(&prefix))
                else {
                    continue;
                };
                let (kind, secret) = (one.kind, &one.secret);
                let plain = decoder.decode(&|| pack.clone(), kind, secret, &one.keys, frame);
                if plain.is_err() {
                    continue;
                }
                // Until its segment is in the log only this repair knows of the copy.
                self.suspects.pretended.insert(prefix);
                if let Some(suspect) = self.suspects.packs.get_mut(&pack) {
                    suspect.saved.insert(prefix);
                }
                if self.options.dry_run {
                    continue;
                }
                if let Some(entry) = TableEntry::of_frame(secret.id(), frame) {
                    self.collector
                        .keep_frame(class, &entry, frame, &mut mover)
                        .await?;
                }
            }
        }
        if !self.options.dry_run {
            self.collector.finish_move(mover).await?;
            self.suspects.pretended.clear();
        }
        Ok(())
    }
}
