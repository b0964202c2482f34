//! A new epoch of keys: what is written from now on, and the roots of all snapshots, can be read with the
//! new keys only.
//!
//! ```text
//! key objects with the new root key ──► entry `keys` ──► new snapshot objects ──► entries `reseal` ──► old
//! (durable)                              the epoch begins  (under a session)        they are named      keys go
//! ```
//! Whatever is interrupted, everything can be read with the keys that were kept, and the next call goes on.

use futures_util::future::join_all;
use orlop_core::{Monitor, Progress};
use tokio_util::sync::CancellationToken;

use super::{
    Repository, UNLOGGED,
    key_objects::{self, KeyObject},
};
use crate::{
    error::{Error, Result},
    keys::{MAX_EPOCHS, Unlock},
    protocol::{Body, KeysBody, Replaced, ResealBody, SessionKind},
    secret::Key,
    session::{Committer as _, SessionId},
    snapshot,
    store::Durability,
};

/// Snapshots that are sealed anew at once, and that one entry of the log names.
const AT_ONCE: usize = 16;
const IN_ENTRY: usize = 2048;
/// Times that a session may be shut out by collections before it is given up.
const SESSIONS: usize = 4;

/// Who is to open the repository after a rotation.
#[derive(Debug, Clone, Default)]
pub struct RotateOptions {
    /// Passphrases and key files that go on opening it, besides the one that it was opened with.
    pub keep: Vec<Unlock>,
    /// Leave all others behind; without it there must not be any.
    pub drop_others: bool,
}

/// What a rotation has done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RotateReport {
    /// Number of the epoch that is current now; the first of all was 0.
    pub epoch: u32,
    /// Whether it finished an earlier rotation instead of beginning a new epoch.
    pub resumed: bool,
    /// Snapshots that were sealed anew.
    pub resealed: u64,
    /// Snapshot objects that are damaged and were left as they are.
    pub damaged: Vec<String>,
    /// Ids of the key objects that open the repository now.
    pub kept: Vec<String>,
    /// Ids of the key objects that were removed.
    pub removed: Vec<String>,
}

/// A key object of before, and what opens it.
struct Kept {
    unlock: Unlock,
    label: String,
}

impl Repository {
    /// Begins a new epoch of keys, seals the roots of all snapshots anew, and removes the old key objects; or
    /// finishes an earlier rotation that was cut short. Backups and restores go on meanwhile: those that have
    /// begun with the old keys are committed for the new epoch. When it is cancelled, everything can still
    /// be read, and the next call goes on.
    ///
    /// # Errors
    /// Somebody else would be shut out who was not named; somebody else rotates; or the store failed.
    pub async fn rotate(
        &self,
        options: &RotateOptions,
        monitor: &dyn Monitor,
        cancel: &CancellationToken,
    ) -> Result<RotateReport> {
        self.refresh().await?;
        let objects = key_objects::read(&*self.store).await?;
        let current = self.keys.current();
        let left_behind = |object: &&KeyObject| object.epochs() <= current;
        let resumed = current > 0
            && (objects.iter().any(|object| left_behind(&object)) || self.is_stale(cancel).await?);
        if !resumed {
            let made = self.begin_rotation(&objects, options).await?;
            self.remove_stillborn(&objects, &made).await?;
        }
        let mut report = self.reseal(monitor, cancel).await?;
        report.resumed = resumed;
        report.epoch = self.keys.current() as u32;
        for object in key_objects::read(&*self.store).await? {
            let id = object.id().to_owned();
            if object.epochs() > self.keys.current() {
                report.kept.push(id);
            } else if object.wrapped.is_ok() {
                self.store.delete(&object.name).await?;
                report.removed.push(id);
            }
        }
        Ok(report)
    }

    /// Removes key objects of rotations that were cut short before their epoch began: they look like those of this epoch, and
    /// open nothing. Those were all there before it began.
    async fn remove_stillborn(&self, before: &[KeyObject], made: &[String]) -> Result<()> {
        let current = self.keys.current();
        let stillborn =
            |object: &&KeyObject| object.epochs() > current && !made.contains(&object.name);
        for object in before.iter().filter(stillborn) {
            self.store.delete(&object.name).await?;
        }
        Ok(())
    }

    /// Makes the new key objects, whose names it returns, and then the new epoch.
    async fn begin_rotation(
        &self,
        objects: &[KeyObject],
        options: &RotateOptions,
    ) -> Result<Vec<String>> {
        let opened = self.opened_by().ok_or_else(|| {
            Error::Invalid("the repository was opened without a key object".to_owned())
        })?;
        let mut unlocks = vec![opened.unlock];
        unlocks.extend(options.keep.iter().cloned());
        let kept = kept(objects, &unlocks, options.drop_others).await?;
        let mut roots = self.keys.roots();
        if roots.len() == MAX_EPOCHS {
            return Err(Error::Invalid(format!(
                "the keys were rotated {} times, more is not possible: copy the snapshots into a new repository with `orlop repo copy`",
                MAX_EPOCHS - 1
            )));
        }
        let prepared = self.keys.prepared();
        roots.push(prepared.map_or_else(Key::random, Ok)?);
        let (mut made, mut own) = (Vec::with_capacity(kept.len()), Vec::new());
        for Kept { unlock, label } in &kept {
            // A rotation that was cut short may have made it.
            if let Some(name) = holding(objects, unlock, &roots).await {
                made.push(name);
            } else {
                let name = self.wrap_for(unlock, label, roots.clone()).await?;
                own.push(name.clone());
                made.push(name);
            }
        }
        self.keys.learn(roots);
        let lost = match self.begin_epoch().await {
            Ok(true) => {
                self.note_opened(&made[0], &unlocks[0]);
                return Ok(made);
            }
            Ok(false) => Error::Invalid(
                "somebody else rotates the keys at this moment: run it again when that is done"
                    .to_owned(),
            ),
            Err(error @ Error::LeftBehind { .. }) => error,
            Err(error) => return Err(error),
        };
        // They look as good as those of the rotation that came first, and open nothing.
        for name in own {
            self.store.delete(&name).await?;
        }
        Err(lost)
    }

    /// Makes the epoch current whose root key is known already; false if somebody else's came first.
    pub(crate) async fn begin_epoch(&self) -> Result<bool> {
        let mut state = self.newest_state().await?;
        let epoch = state.read_keys.len() + 1;
        let Some(next) = self.keys.prepared() else {
            // What was prepared is void.
            return Ok(false);
        };
        let (_, public) = crate::seal::key_pair(&next.derive("read", &[]));
        let body = KeysBody {
            epoch: epoch as u32,
            read_public_key: public.to_vec(),
        };
        let appended = self
            .append(&mut state, |state| {
                let next = state.read_keys.len() + 1 == epoch;
                Ok(next.then(|| Body::Keys(body.clone())))
            })
            .await?;
        self.catch_up(&mut state).await?;
        Ok(appended.is_some() || state.read_keys.get(epoch - 1) == Some(&body.read_public_key))
    }

    /// Whether a snapshot is sealed to a key of an earlier epoch.
    async fn is_stale(&self, cancel: &CancellationToken) -> Result<bool> {
        let names: Vec<String> = {
            let state = self.newest_state().await?;
            let commits = state.snapshots.iter();
            commits.map(|commit| commit.snapshot.clone()).collect()
        };
        for batch in names.chunks(AT_ONCE) {
            if cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            for opened in join_all(batch.iter().map(|name| self.open_snapshot(name))).await {
                match opened {
                    Ok(opened) if opened.epoch < self.keys.current() => return Ok(true),
                    Ok(_) | Err(Error::Damaged { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(false)
    }

    /// Seals the roots of all snapshots of earlier epochs anew. What takes their place is stored under a session
    /// that collections wait for; should one shut it out, another session does the rest.
    pub(crate) async fn reseal(
        &self,
        monitor: &dyn Monitor,
        cancel: &CancellationToken,
    ) -> Result<RotateReport> {
        let mut report = RotateReport::default();
        let mut sessions = 0;
        loop {
            sessions += 1;
            let session = {
                let mut state = self.newest_state().await?;
                if self.keys.current() == 0 {
                    return Ok(report);
                }
                self.log_reader(&mut state, SessionKind::ReadAll, &[])
                    .await?
            };
            if session & UNLOGGED != 0 {
                return Err(Error::Store {
                    action: "write",
                    name: "the log".to_owned(),
                    store: self.store().description(),
                    source: std::io::Error::other("nothing was sealed anew: rotate again"),
                });
            }
            let sealed = self.reseal_in(session, &mut report, monitor, cancel).await;
            match sealed {
                Err(Error::Fenced { .. }) if sessions < SESSIONS => {}
                other => {
                    let ended = self.end(session).await;
                    other?;
                    ended?;
                    return Ok(report);
                }
            }
        }
    }

    async fn reseal_in(
        &self,
        session: SessionId,
        report: &mut RotateReport,
        monitor: &dyn Monitor,
        cancel: &CancellationToken,
    ) -> Result<()> {
        let names: Vec<String> = {
            let state = self.newest_state().await?;
            let commits = state.snapshots.iter();
            commits.map(|commit| commit.snapshot.clone()).collect()
        };
        let mut done = 0;
        report.damaged.clear();
        for batch in names.chunks(IN_ENTRY) {
            let mut objects = Vec::new();
            for few in batch.chunks(AT_ONCE) {
                if cancel.is_cancelled() {
                    return Err(Error::Cancelled);
                }
                for result in join_all(few.iter().map(|n| self.reseal_one(session, n))).await {
                    match result {
                        Ok(replaced) => objects.extend(replaced),
                        Err(Error::Damaged { name, reason }) => {
                            tracing::error!(name, reason, "a snapshot cannot be sealed anew");
                            report.damaged.push(name);
                        }
                        Err(error) => return Err(error),
                    }
                }
                done += few.len() as u64;
                monitor.progress(Progress {
                    entries_done: done,
                    entries_total: names.len() as u64,
                    ..Progress::default()
                });
            }
            report.resealed += self.name_resealed(session, &objects).await?;
        }
        Ok(())
    }

    /// Stores what takes the place of a snapshot object; `None` if it is of the current epoch, or was
    /// forgotten.
    async fn reseal_one(&self, session: SessionId, name: &str) -> Result<Option<Replaced>> {
        let bytes = match self.store.get(name).await {
            Err(error) if error.is_not_found() => {
                let live = self.newest_state().await?.is_live(name);
                let missing = || Error::damaged(name, "the log names it but it does not exist");
                return if live { Err(missing()) } else { Ok(None) };
            }
            other => other?,
        };
        let replaced = Replaced::by(session, name);
        let Some(sealed) = snapshot::reseal(&self.keys, name, &replaced.to, &bytes)? else {
            return Ok(None);
        };
        self.store
            .put(&replaced.to, vec![sealed.into()], Durability::Now)
            .await?;
        Ok(Some(replaced))
    }

    /// Gives the snapshots their new objects, but for those that were forgotten meanwhile; their number.
    async fn name_resealed(&self, session: SessionId, objects: &[Replaced]) -> Result<u64> {
        if objects.is_empty() {
            return Ok(0);
        }
        let mut state = self.newest_state().await?;
        let mut named = 0;
        self.append(&mut state, |state| {
            if !state.open.contains_key(&session) {
                return Err(Error::Fenced { session });
            }
            let there = objects.iter().filter(|object| state.is_live(&object.from));
            let objects: Vec<Replaced> = there.cloned().collect();
            named = objects.len() as u64;
            let body = ResealBody { session, objects };
            Ok((named > 0).then_some(Body::Reseal(body)))
        })
        .await?;
        Ok(named)
    }
}

/// The key object that holds just these root keys for `unlock`.
async fn holding(objects: &[KeyObject], unlock: &Unlock, roots: &[Key]) -> Option<String> {
    for object in objects
        .iter()
        .filter(|object| object.epochs() == roots.len())
    {
        if let Ok(Some(held)) = object.unwrap(unlock).await
            && held == roots
        {
            return Some(object.name.clone());
        }
    }
    None
}

/// What is to open the repository from now on, the first of `unlocks` first.
async fn kept(objects: &[KeyObject], unlocks: &[Unlock], drop_others: bool) -> Result<Vec<Kept>> {
    let mut found: Vec<Option<Kept>> = unlocks.iter().map(|_| None).collect();
    let mut others = Vec::new();
    for object in objects {
        let mut known = false;
        for (unlock, kept) in unlocks.iter().zip(&mut found) {
            if object
                .unwrap(unlock)
                .await
                .is_ok_and(|roots| roots.is_some())
            {
                let label = object.wrapped.as_ref().map(|w| w.label.clone());
                kept.get_or_insert_with(|| Kept {
                    unlock: unlock.clone(),
                    label: label.unwrap_or_default(),
                });
                known = true;
                break;
            }
        }
        if !known && object.wrapped.is_ok() {
            others.push(object.id());
        }
    }
    if let Some(at) = found.iter().position(Option::is_none) {
        return Err(Error::Invalid(format!(
            "a {} that is to be kept opens none of the repository's keys, or is given twice: add it with `orlop repo key add` first",
            unlocks[at].what()
        )));
    }
    if !others.is_empty() && !drop_others {
        return Err(Error::Invalid(format!(
            "{} would not open the repository any more: give what opens {} with --keep-password-file or --keep-key-file, or say --drop-others",
            others.join(", "),
            if others.len() == 1 { "it" } else { "them" }
        )));
    }
    Ok(found.into_iter().flatten().collect())
}
