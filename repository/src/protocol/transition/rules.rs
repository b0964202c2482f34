//! The rules by which an entry may follow.

use std::collections::BTreeSet;

use super::Refused;
use crate::{
    keys::MAX_EPOCHS,
    mistake::{Mistake, makes},
    protocol::{
        BeginBody, Body, CommitBody, CondemnBody, DeletingBody, DoneBody, FenceBody, ForgetBody,
        IndexBody, KeysBody, LogState, Replaced, ResealBody, SessionKind, Standing,
        state::{session_of, volume_of},
    },
};

/// Refuses with `reason` unless `rule` holds.
fn must(rule: bool, reason: Refused) -> Result<(), Refused> {
    if rule { Ok(()) } else { Err(reason) }
}

impl LogState {
    /// Whether `body` may be the next entry.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub(crate) fn check(&self, body: &Body) -> Result<(), Refused> {
        if lets_pass(body) {
            return Ok(());
        }
        match body {
            Body::Begin(begin) => self.check_begin(begin),
            Body::Commit(commit) => self.check_commit(commit),
            Body::End(session) => must(
                self.open.contains_key(session),
                "it ends a session that is not open",
            ),
            Body::Leader(_) => Ok(()),
            Body::Fence(FenceBody { sessions }) => must(
                sessions
                    .iter()
                    .all(|session| self.open.contains_key(session)),
                "it fences a session that is not open",
            ),
            Body::Forget(ForgetBody { snapshots }) => must(
                snapshots.iter().all(|name| self.is_live(name)),
                "it forgets a snapshot that is not there",
            ),
            Body::Index(index) => self.check_index(index),
            Body::Condemn(CondemnBody { leader, packs }) => {
                must(*leader == self.leader, OLD_LEADER)?;
                must(self.epoch.is_none(), "packs are condemned already")?;
                must(
                    packs.iter().all(|p| self.standing(p) == Standing::Live),
                    "it condemns a pack that is not live",
                )
            }
            Body::Deleting(deleting) => self.check_deleting(deleting),
            Body::Done(DoneBody { leader, list }) => {
                must(*leader == self.leader, OLD_LEADER)?;
                must(self.deleting.contains_key(list), "no such list is open")
            }
            Body::Keys(KeysBody {
                epoch,
                read_public_key,
            }) => {
                let next = self.read_keys.len() + 1;
                must(
                    *epoch as usize == next && next < MAX_EPOCHS,
                    "its epoch is not the next one",
                )?;
                must(read_public_key.len() == 32, "its public key is none")
            }
            Body::Reseal(reseal) => self.check_reseal(reseal),
        }
    }

    fn check_reseal(&self, reseal: &ResealBody) -> Result<(), Refused> {
        let open = self.open.get(&reseal.session);
        must(
            open.is_some_and(|open| open.kind == SessionKind::ReadAll),
            "it seals anew for a session that does not read everything",
        )?;
        let live: BTreeSet<&String> = self.snapshots.iter().map(|c| &c.snapshot).collect();
        let mut seen = BTreeSet::new();
        for replaced in &reseal.objects {
            must(
                live.contains(&replaced.from) && seen.insert(&replaced.from),
                "it replaces a snapshot that is not there",
            )?;
            must(
                *replaced == Replaced::by(reseal.session, &replaced.from)
                    && !live.contains(&replaced.to),
                "its snapshot is not the same one",
            )?;
        }
        Ok(())
    }

    fn check_begin(&self, begin: &BeginBody) -> Result<(), Refused> {
        let kind =
            SessionKind::try_from(begin.kind).map_err(|_| "the session's kind is unknown")?;
        must(
            begin.pins.iter().all(|pin| self.is_live(pin)),
            "it builds upon a snapshot that is not there",
        )?;
        must(
            kind == SessionKind::Write || (begin.volume.is_empty() && begin.adopts.is_empty()),
            "a reader has no volume and adopts nothing",
        )?;
        let adoptable = self.adoptable(&begin.volume);
        must(
            begin.adopts.iter().all(|from| adoptable.contains(from)),
            "it adopts a session that is not there",
        )
    }

    fn check_commit(&self, commit: &CommitBody) -> Result<(), Refused> {
        let open = self.open.get(&commit.session);
        let open = open.filter(|open| open.kind == SessionKind::Write);
        let open = open.ok_or("it commits a session that is not open")?;
        must(
            volume_of(&commit.snapshot) == Some(&open.volume),
            "its snapshot is of another volume",
        )?;
        must(
            !self.needed().any(|c| c.snapshot == commit.snapshot),
            "its snapshot is there already",
        )?;
        let own = |name: &String| session_of(name) == Some(commit.session);
        must(
            commit.segments.iter().all(own),
            "a segment is of another session",
        )
    }

    fn check_index(&self, index: &IndexBody) -> Result<(), Refused> {
        must(index.leader == self.leader, OLD_LEADER)?;
        let known: BTreeSet<&String> = self.segments.iter().collect();
        must(
            index.removed.iter().all(|name| known.contains(name)),
            "it removes a segment that is not there",
        )?;
        must(
            !index.added.iter().any(|name| known.contains(name)),
            "it adds a segment that is there",
        )?;
        must(
            index.gone.iter().all(|pack| self.dead.contains(pack)),
            "it drops a pack that was not deleted",
        )?;
        let needed = |name: &String| self.needed().any(|commit| commit.snapshot == *name);
        must(
            index.lost.iter().all(needed),
            "it calls a snapshot damaged that is not there",
        )?;
        must(
            index.whole.iter().all(|name| self.lost.contains(name)),
            "it calls a snapshot whole that was not damaged",
        )
    }

    fn check_deleting(&self, deleting: &DeletingBody) -> Result<(), Refused> {
        must(deleting.leader == self.leader, OLD_LEADER)?;
        let epoch = self.epoch.as_ref().ok_or("no packs are condemned")?;
        must(epoch.seq == deleting.epoch, "other packs are condemned")?;
        must(
            epoch.waits.is_empty(),
            "sessions that began before are open",
        )?;
        let leftovers = deleting
            .objects
            .iter()
            .filter(|o| !epoch.packs.contains(*o));
        for object in leftovers {
            must(
                self.is_leftover(epoch, object),
                "it deletes an object that may be needed",
            )?;
        }
        Ok(())
    }
}

/// Whether a mistake lets an entry pass that the rules refuse.
fn lets_pass(body: &Body) -> bool {
    match body {
        Body::Deleting(_) => makes(Mistake::NoWait) || makes(Mistake::Zombie),
        Body::Index(_) | Body::Condemn(_) | Body::Done(_) => makes(Mistake::Zombie),
        _ => false,
    }
}

const OLD_LEADER: Refused = "a newer collector has taken over";
