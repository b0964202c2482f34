//! Which entry may follow, and what it changes.

mod rules;

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Body, CommitBody, CondemnBody, LogState, Replaced, SessionKind,
    state::{Closed, Epoch, Open, session_of, volume_of},
};

/// Why an entry may not follow.
type Refused = &'static str;

impl LogState {
    /// Whether a snapshot is there and was not forgotten.
    pub(crate) fn is_live(&self, snapshot: &str) -> bool {
        self.snapshots.iter().any(|c| c.snapshot == snapshot)
    }

    /// Makes `body` the next entry's effect. The entry's number and hash are up to the caller.
    ///
    /// # Errors
    /// As [`Self::check`]; nothing is changed then.
    pub(crate) fn apply(&mut self, body: Body, time_ms: i64) -> Result<(), Refused> {
        self.check(&body)?;
        self.apply_unchecked(body, time_ms);
        Ok(())
    }

    /// As [`Self::apply`], for an entry that was checked (or, in a model, for one that breaks the rules).
    pub(super) fn apply_unchecked(&mut self, body: Body, time_ms: i64) {
        let seq = self.next;
        if matches!(body, Body::Condemn(_) | Body::Deleting(_) | Body::Index(_)) {
            self.judged = seq;
        }
        match body {
            Body::Begin(begin) => {
                let open = Open {
                    kind: begin.kind(),
                    volume: begin.volume,
                    pins: begin.pins,
                    adopts: begin.adopts,
                    taken: false,
                    since_ms: time_ms,
                };
                self.open.insert(seq, open);
            }
            Body::Commit(commit) => self.commit(commit),
            Body::End(session) => self.close(session, false),
            Body::Leader(_) => self.leader = seq,
            Body::Fence(fence) => {
                for session in fence.sessions {
                    self.close(session, true);
                }
            }
            Body::Forget(forget) => {
                let gone: BTreeSet<String> = forget.snapshots.into_iter().collect();
                self.retire(|commit| gone.contains(&commit.snapshot));
                self.drop_lost();
            }
            Body::Index(index) => {
                let removed: BTreeSet<String> = index.removed.into_iter().collect();
                self.segments.retain(|name| !removed.contains(name));
                self.segments.extend(index.added);
                self.lost.extend(index.lost);
                for snapshot in &index.whole {
                    self.lost.remove(snapshot);
                }
                // Who has adopted a session may look for its packs at any time: a name that comes back by a
                // request that was late must not be taken for a pack that can be used.
                let adopted: BTreeSet<u64> = self.adopted().collect();
                for pack in &index.gone {
                    if !session_of(pack).is_some_and(|of| adopted.contains(&of)) {
                        self.dead.remove(pack);
                    }
                }
            }
            Body::Condemn(condemn) => self.condemn(seq, condemn),
            Body::Deleting(deleting) => {
                if let Some(epoch) = self.epoch.take() {
                    let packs = deleting.objects.iter().filter(|o| epoch.packs.contains(*o));
                    self.dead.extend(packs.cloned());
                }
                // A deleted name must not come back to life through someone who adopts its writer.
                for session in deleting.objects.iter().filter_map(|name| session_of(name)) {
                    self.closed.remove(&session);
                }
                self.deleting.insert(seq, deleting.objects);
            }
            Body::Done(done) => {
                self.deleting.remove(&done.list);
            }
            Body::Keys(keys) => self.read_keys.push(keys.read_public_key),
            Body::Reseal(reseal) => self.replace(&reseal.objects),
        }
        self.next += 1;
    }

    /// Gives snapshots the objects that take the place of theirs, also where they are pinned.
    fn replace(&mut self, objects: &[Replaced]) {
        let to: BTreeMap<&String, &String> = objects.iter().map(|o| (&o.from, &o.to)).collect();
        let pins = self.open.values_mut().flat_map(|open| &mut open.pins);
        let commits = self.snapshots.iter_mut().map(|commit| &mut commit.snapshot);
        self.lost = self
            .lost
            .iter()
            .map(|name| (*to.get(name).unwrap_or(&name)).clone())
            .collect();
        for name in commits.chain(pins) {
            if let Some(new) = to.get(name) {
                (*new).clone_into(name);
            }
        }
    }

    fn commit(&mut self, commit: CommitBody) {
        self.commits += 1;
        for segment in &commit.segments {
            if !self.segments.contains(segment) {
                self.segments.push(segment.clone());
            }
        }
        // A checkpoint takes the place of the session's earlier ones, a whole snapshot that of all.
        let (session, partial) = (commit.session, commit.partial);
        let volume = volume_of(&commit.snapshot).unwrap_or_default().to_owned();
        // What a parent turned out to lack, the session may have taken for stored.
        let pins = self.open.get(&session).map(|open| &open.pins);
        if pins.is_some_and(|pins| pins.iter().any(|pin| self.lost.contains(pin))) {
            self.lost.insert(commit.snapshot.clone());
        }
        self.retire(|old| {
            let same = volume_of(&old.snapshot) == Some(&volume);
            old.partial && same && (!partial || old.session == session)
        });
        self.snapshots.push(commit);
        if partial {
            self.drop_lost();
            return;
        }
        let Some(open) = self.open.remove(&session) else {
            return;
        };
        for from in open.adopts {
            self.closed.remove(&from);
            if let Some(other) = self.open.get_mut(&from) {
                other.taken = true;
            }
        }
        self.left(session);
    }

    fn close(&mut self, session: u64, fenced: bool) {
        let Some(open) = self.open.remove(&session) else {
            return;
        };
        if open.kind == SessionKind::Write && !open.taken {
            let volume = open.volume;
            self.closed.insert(session, Closed { volume, fenced });
        }
        self.left(session);
    }

    /// A session is not open any more: what waited for it or was kept for it is free.
    fn left(&mut self, session: u64) {
        if let Some(epoch) = &mut self.epoch {
            epoch.waits.remove(&session);
        }
        let open = &self.open;
        self.retired.retain(|commit| is_pinned(open, commit));
        self.drop_lost();
    }

    /// Forgets the damage of snapshots that nobody needs any more.
    fn drop_lost(&mut self) {
        if self.lost.is_empty() {
            return;
        }
        let needed = self.snapshots.iter().chain(&self.retired);
        let needed: BTreeSet<&String> = needed.map(|commit| &commit.snapshot).collect();
        self.lost.retain(|name| needed.contains(name));
    }

    /// Sessions whose packs open ones may use.
    fn adopted(&self) -> impl Iterator<Item = u64> {
        let open = self.open.values();
        open.flat_map(|open| open.adopts.iter().copied())
    }

    /// Takes snapshots out; those that are pinned are kept aside.
    fn retire(&mut self, gone: impl Fn(&CommitBody) -> bool) {
        let (mut kept, mut retired) = (Vec::with_capacity(self.snapshots.len()), Vec::new());
        for commit in std::mem::take(&mut self.snapshots) {
            if !gone(&commit) {
                kept.push(commit);
            } else if is_pinned(&self.open, &commit) {
                retired.push(commit);
            }
        }
        self.snapshots = kept;
        self.retired.extend(retired);
    }

    fn condemn(&mut self, seq: u64, condemn: CondemnBody) {
        let waiting = self.open.iter();
        let waiting = waiting.filter(|(_, open)| open.kind != SessionKind::Read);
        let waits: BTreeSet<u64> = waiting.map(|(session, _)| *session).collect();
        let mut spared: BTreeSet<u64> = self.adopted().chain(waits.iter().copied()).collect();
        spared.insert(self.leader);
        // What the others left behind is garbage from now on: nobody may adopt it any more.
        self.closed.retain(|session, _| spared.contains(session));
        self.epoch = Some(Epoch {
            seq,
            packs: condemn.packs.into_iter().collect(),
            waits,
            spared,
        });
    }
}

/// Whether an open session builds upon a snapshot or reads it.
fn is_pinned(open: &BTreeMap<u64, Open>, commit: &CommitBody) -> bool {
    open.values()
        .any(|open| open.kind == SessionKind::ReadAll || open.pins.contains(&commit.snapshot))
}
