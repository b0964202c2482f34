//! Who may touch which objects of which store.

use std::sync::Arc;

use orlop_core::{Lineage, TaskId, VolumeRef, run::RunKind};
use orlop_repository::{Error, ObjectStore, OwnedKind, OwnedName, Repository, SessionId};

use crate::runs::{Refusal, Runs};

/// Decides for a node, a task and a session what a call may do.
pub(crate) type Doorkeeper =
    Arc<dyn Fn(&str, TaskId, SessionId) -> Result<Access, Refusal> + Send + Sync>;

/// Lets a session do what is its own, in the name of the task that has begun it.
pub(crate) fn for_sessions(runs: &Arc<Runs>) -> Doorkeeper {
    let runs = Arc::clone(runs);
    Arc::new(move |node, task, session| {
        // A session of which nothing is known (the state database was lost) writes only if the repository says that
        // it was begun for the task's volume, and reads what every session may.
        let (holder, _) = runs.session_holder(node, task, session)?;
        let repository = runs.repository_of(&holder)?;
        let store = Arc::clone(repository.store());
        let rules = match (holder.spec.kind(), holder.task.lineage) {
            (RunKind::Backup, Some(lineage)) => Rules::Write(Writer {
                session,
                repository,
                volume: holder.task.volume,
                lineage,
            }),
            _ => Rules::Read,
        };
        Ok(Access { store, rules })
    })
}

/// What a call may do.
#[derive(Clone)]
pub(crate) struct Access {
    /// The store of the session's repository.
    pub(crate) store: Arc<dyn ObjectStore>,
    /// With which names.
    pub(crate) rules: Rules,
}

/// With which names a call may come.
#[derive(Clone)]
pub(crate) enum Rules {
    /// A session that writes.
    Write(Writer),
    /// A session that reads.
    Read,
    /// All of them: for tests of the way, not of the rules.
    #[cfg(feature = "testing")]
    Everything,
}

/// A session that writes.
#[derive(Clone)]
pub(crate) struct Writer {
    /// The session.
    pub(crate) session: SessionId,
    /// Where it was begun.
    pub(crate) repository: Arc<Repository>,
    /// The volume for which it must have been begun.
    pub(crate) volume: VolumeRef,
    /// The volume's lineage.
    pub(crate) lineage: Lineage,
}

impl Writer {
    /// Whether the session goes on.
    ///
    /// # Errors
    /// It was committed, ended or fenced, or is not of this volume.
    pub(crate) async fn check_open(&self) -> Result<(), Error> {
        let open = self
            .repository
            .check_open(self.session, &self.volume, &self.lineage);
        open.await
    }
}

impl Rules {
    fn owns(&self, name: &OwnedName) -> bool {
        matches!(self, Self::Write(writer) if writer.session == name.session)
    }

    /// The session's own name that is to be put; `None` with nothing to prove. An error says what is allowed.
    pub(crate) fn put(&self, name: &str) -> Result<Option<OwnedName>, &'static str> {
        match self {
            #[cfg(feature = "testing")]
            Self::Everything => Ok(None),
            Self::Read => Err("a session that reads puts nothing"),
            Self::Write(_) => {
                let parsed = OwnedName::parse(name).filter(|parsed| self.owns(parsed));
                parsed
                    .map(Some)
                    .ok_or("a session puts only packs, index segments and journals of its own")
            }
        }
    }

    /// Whether the object may be read. An error says what is allowed.
    pub(crate) fn get(&self, name: &str) -> Result<(), &'static str> {
        #[cfg(feature = "testing")]
        if matches!(self, Self::Everything) {
            return Ok(());
        }
        let parsed = OwnedName::parse(name);
        let allowed =
            parsed.is_some_and(|parsed| parsed.kind == OwnedKind::Pack || self.owns(&parsed));
        allowed
            .then_some(())
            .ok_or("a session reads only packs and what it has put itself")
    }

    /// Whether names may be listed. An error says what is allowed.
    pub(crate) fn list(&self, prefix: &str) -> Result<(), &'static str> {
        match self {
            #[cfg(feature = "testing")]
            Self::Everything => Ok(()),
            // What comes after the slash cannot lead anywhere else: the store knows no "..".
            Self::Write(writer) if prefix.starts_with(&format!("w/{}/", writer.session)) => Ok(()),
            _ => Err("a session lists only its own journal"),
        }
    }
}

#[cfg(test)]
mod tests {
    use orlop_repository::{InitOptions, Unlock, store::MemoryStore};

    use super::*;

    async fn writer(session: SessionId) -> Rules {
        let store = Arc::new(MemoryStore::new());
        let unlock = Unlock::KeyFile(vec![7; 32]);
        let repository = Repository::init(store, &unlock, InitOptions::default()).await;
        Rules::Write(Writer {
            session,
            repository: repository.unwrap(),
            volume: VolumeRef::new("ns", "p", "v"),
            lineage: Lineage("l".to_owned()),
        })
    }

    fn object(class: &str, session: u64) -> String {
        let hash = "ab".repeat(32);
        format!("{class}/{hash}.{session}")
    }

    #[tokio::test]
    async fn a_writer_puts_what_is_its_own() {
        let rules = writer(7).await;
        for class in ["p/ab", "m/ab", "i/0"] {
            assert!(rules.put(&object(class, 7)).unwrap().is_some(), "{class}");
            assert!(rules.put(&object(class, 8)).is_err(), "{class}");
        }
        assert!(rules.put("w/7/1").unwrap().is_some());
        for name in [
            "w/8/1",
            "w/7",
            "repo.cfg",
            "keys/1",
            "log/0000000000000009",
            "s/a/b/c",
            "r/a/b/c",
            "records/x",
            "state/1",
            "w/7/../8/1",
        ] {
            assert!(rules.put(name).is_err(), "{name}");
        }
    }

    #[tokio::test]
    async fn packs_and_own_things_are_readable_and_nothing_else() {
        for (rules, own) in [(writer(7).await, true), (Rules::Read, false)] {
            assert!(rules.get(&object("p/ab", 9)).is_ok());
            assert!(rules.get(&object("m/ab", 9)).is_ok());
            assert_eq!(rules.get(&object("i/0", 7)).is_ok(), own);
            assert_eq!(rules.get("w/7/1").is_ok(), own);
            assert_eq!(rules.list("w/7/").is_ok(), own);
            for name in [
                "repo.cfg",
                "keys/1",
                "log/0000000000000001",
                "s/a/b/c",
                "r/a/b/c",
                "records/backups/b.json",
                "backups/b",
                "w/8/1",
                "i/0/x",
                "",
            ] {
                assert!(rules.get(name).is_err(), "{name}");
            }
            for prefix in ["", "w/", "w/7", "w/70/", "p/", "keys/", "log/"] {
                assert!(rules.list(prefix).is_err(), "{prefix}");
            }
            assert!(rules.get(&object("i/0", 9)).is_err());
        }
    }

    #[test]
    fn a_reader_puts_nothing() {
        assert!(Rules::Read.put(&object("p/ab", 7)).is_err());
        assert!(Rules::Read.put("w/7/1").is_err());
    }

    #[tokio::test]
    async fn a_session_that_nobody_began_is_not_open() {
        let Rules::Write(writer) = writer(7).await else {
            panic!("it writes");
        };
        let error = writer.check_open().await.unwrap_err();
        assert!(matches!(error, Error::NoSession { session: 7 }), "{error}");
    }
}
