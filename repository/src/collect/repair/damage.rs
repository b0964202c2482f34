//! Marks snapshots that lack something, and those that do not any more.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::{LostParts, Repair, RepairedPack};
use crate::{
    error::{Error, Result},
    frame::FrameKind,
    mark::snapshot_id,
    protocol::{Body, CommitBody, IndexBody, LogState},
    reader::FrameReader,
    secret::Prefix,
    walk::{Needs, Piece, Walk},
};

/// What became of a snapshot.
enum State {
    Whole,
    /// Only pages are lost that a restore does not read; these chunks and pages it still has.
    Bare(Vec<Prefix>),
    Hurt(LostParts),
}

/// Paths that are named of a snapshot.
const MAX_PATHS: usize = 100;

impl Repair<'_> {
    /// Marks the snapshots that lack something by now, and takes the mark off the others; false if something was
    /// committed meanwhile.
    pub(super) async fn mark_damage(&mut self) -> Result<bool> {
        let repository = self.collector.repository;
        let state = repository.newest_state().await?.clone();
        let mut needs = Needs::new(FrameReader::new(repository)?);
        let mut walk = Walk::new(FrameReader::new(repository)?);
        let (mut hurt, mut lost) = (Vec::new(), HashSet::new());
        let (mut parts, mut bare) = (Vec::new(), Vec::new());
        for commit in state.needed() {
            self.go_on()?;
            match self
                .state_of(commit, &mut needs, &mut walk, &mut lost)
                .await?
            {
                State::Whole => {}
                State::Bare(ids) => bare.push((commit.clone(), ids)),
                State::Hurt(one) => {
                    hurt.push(commit.snapshot.clone());
                    parts.push(one);
                }
            }
        }
        for (commit, ids) in bare {
            self.restore_references(&commit, ids).await?;
        }
        self.report.lost = parts;
        self.say_packs(&lost)?;
        let hurt_names: BTreeSet<&String> = hurt.iter().collect();
        let healed: Vec<&String> = state
            .lost
            .iter()
            .filter(|name| !hurt_names.contains(name))
            .collect();
        self.say_whole(&state, &healed);
        let body = IndexBody {
            leader: self.collector.term,
            lost: hurt
                .iter()
                .filter(|name| !state.lost.contains(*name))
                .cloned()
                .collect(),
            whole: healed.into_iter().cloned().collect(),
            ..IndexBody::default()
        };
        if self.options.dry_run {
            return Ok(true);
        }
        if body.lost.is_empty() && body.whole.is_empty() {
            return Ok(repository.newest_state().await?.commits == state.commits);
        }
        let mut newest = repository.newest_state().await?;
        let appended = self
            .collector
            .append(&mut newest, |now| {
                // What was forgotten meanwhile needs no mark.
                let mut body = body.clone();
                body.lost
                    .retain(|name| now.needed().any(|c| c.snapshot == *name));
                body.whole.retain(|name| now.lost.contains(name));
                Ok((now.commits == state.commits).then_some(Body::Index(body)))
            })
            .await?;
        Ok(appended.is_some())
    }

    async fn state_of(
        &self,
        commit: &CommitBody,
        needs: &mut Needs<'_>,
        walk: &mut Walk<'_>,
        lost: &mut HashSet<Prefix>,
    ) -> Result<State> {
        let repository = self.collector.repository;
        let Some(snapshot) = snapshot_id(commit) else {
            return Ok(State::Whole);
        };
        let is_lost = |prefix: &Prefix| self.suspects.is_lost(repository, prefix);
        let mut parts = LostParts {
            snapshot,
            volume: String::new(),
            unreadable: true,
            paths: Vec::new(),
            paths_total: 0,
        };
        let opened = match repository.prove_snapshot(&commit.snapshot).await {
            Ok(opened) => opened,
            Err(error) if error.is_loss() => return Ok(State::Hurt(parts)),
            Err(error) => return Err(error),
        };
        if !needs.any(commit, &is_lost).await? {
            self.suspects.prove_answers()?;
            return Ok(State::Whole);
        }
        parts.volume = opened.info.volume.to_string();
        parts.unreadable = false;
        let (mut kept, mut hurt) = (Vec::new(), false);
        let mut last: Option<Vec<u8>> = None;
        walk.forget();
        walk.snapshot(&opened, &mut |piece| {
            let (secret, path, kind) = match piece {
                Piece::Page {
                    secret, path, kind, ..
                } => (secret, path, kind),
                Piece::Chunk { secret, path, .. } => (secret, path, FrameKind::Data),
                Piece::Lost { .. } => return,
            };
            let prefix = secret.id().prefix();
            if !is_lost(&prefix) {
                if kind != FrameKind::Refs {
                    kept.push(prefix);
                }
                return;
            }
            lost.insert(prefix);
            // Pages that only the next backup or a collection reads hit no file.
            if matches!(kind, FrameKind::Refs | FrameKind::Sidecar) {
                return;
            }
            hurt = true;
            if last.as_deref() != Some(path) {
                last = Some(path.to_vec());
                parts.paths_total += 1;
                if parts.paths.len() < MAX_PATHS {
                    let path = String::from_utf8_lossy(path);
                    parts.paths.push(format!("/{path}"));
                }
            }
        })
        .await?;
        self.suspects.prove_answers()?;
        Ok(if hurt {
            State::Hurt(parts)
        } else {
            State::Bare(kept)
        })
    }

    fn say_packs(&mut self, lost: &HashSet<Prefix>) -> Result<()> {
        let repository = self.collector.repository;
        let mut counts: HashMap<String, u64> = HashMap::new();
        repository.with_index(|index| {
            for prefix in lost {
                for (pack, _) in index.holders(prefix)? {
                    *counts.entry(pack.to_string()).or_default() += 1;
                }
            }
            Ok::<_, Error>(())
        })?;
        let packs = self
            .suspects
            .packs
            .iter()
            .map(|(object, suspect)| RepairedPack {
                object: object.clone(),
                missing: suspect.missing,
                saved: suspect.saved.len() as u64,
                lost: counts.get(object).copied().unwrap_or_default(),
            });
        self.report.packs = packs.collect();
        Ok(())
    }

    fn say_whole(&mut self, state: &LogState, healed: &[&String]) {
        let healed: HashSet<&str> = healed.iter().map(|name| name.as_str()).collect();
        let commits = state.needed().filter(|c| healed.contains(&*c.snapshot));
        for id in commits.filter_map(snapshot_id) {
            if !self.report.whole.contains(&id) {
                self.report.whole.push(id);
            }
        }
    }
}
