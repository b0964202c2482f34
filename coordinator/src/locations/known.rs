//! Which repository each place held: a disk that is not mounted must not be taken for an empty one.

use std::{
    collections::BTreeMap,
    io::ErrorKind,
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use orlop_repository::Error;
use orlop_runtime::private;

use crate::runs::with_sources;

/// Why a location cannot be used.
#[derive(Debug)]
pub(super) struct Trouble {
    /// Why, for a person.
    pub(super) message: String,
    /// Whether waiting cannot help.
    pub(super) permanent: bool,
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self {
            permanent: error.is_permanent(),
            message: format!("{}{}", with_sources(&error), remedy(&error)),
        }
    }
}

/// What helps where a directory belongs to somebody else; empty for other troubles. KOTS tells people to give it to 1001.
fn remedy(error: &Error) -> String {
    let refused = matches!(error, Error::Store { source, .. } if source.kind() == ErrorKind::PermissionDenied);
    let own = refused.then(|| std::fs::metadata("/proc/self"));
    let Some(Ok(own)) = own else {
        return String::new();
    };
    let (uid, gid) = (own.uid(), own.gid());
    format!(
        "; the directory must belong to the user that Orlop runs as: `chown -R {uid}:{gid}` it where it is"
    )
}

/// The ids of repositories by the URLs of their places, in a file.
pub(super) struct Known {
    path: PathBuf,
    ids: Mutex<Option<BTreeMap<String, String>>>,
}

impl Known {
    /// What is in the file `path`, which need not exist; it is read when it is needed.
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            ids: Mutex::default(),
        }
    }

    fn with<T>(&self, work: impl FnOnce(&mut BTreeMap<String, String>) -> T) -> T {
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        work(ids.get_or_insert_with(|| {
            let text = private::read(&self.path).unwrap_or_else(|error| {
                let reason = with_sources(&error);
                tracing::warn!(path = %self.path.display(), reason, "cannot read which repositories there were");
                None
            });
            text.and_then(|text| serde_json::from_str(&text).ok())
                .unwrap_or_default()
        }))
    }

    /// The repository that the place held.
    pub(super) fn of(&self, url: &str) -> Option<String> {
        self.with(|ids| ids.get(url).cloned())
    }

    /// The URLs of all places.
    pub(super) fn urls(&self) -> Vec<String> {
        self.with(|ids| ids.keys().cloned().collect())
    }

    /// Remembers what the place holds. A failure is logged: the place is then as good as new at the next start.
    pub(super) fn remember(&self, url: &str, id: &str) {
        self.with(|ids| {
            if ids.get(url).is_some_and(|known| known == id) {
                return;
            }
            ids.insert(url.to_owned(), id.to_owned());
            self.save(ids);
        });
    }

    /// Forgets what the place held.
    pub(super) fn forget(&self, url: &str) {
        self.with(|ids| {
            if ids.remove(url).is_some() {
                self.save(ids);
            }
        });
    }

    fn save(&self, ids: &BTreeMap<String, String>) {
        let json = serde_json::to_vec(ids).expect("texts are always JSON");
        if let Err(error) = private::write(&self.path, &json) {
            let reason = with_sources(&error);
            tracing::error!(path = %self.path.display(), reason, "cannot write which repositories there are");
        }
    }

    /// The place is not what it was. It may become that again: a disk is mounted.
    pub(super) fn changed(&self, url: &str, now: &str) -> Trouble {
        let id = self.of(url).unwrap_or_default();
        let message = format!(
            "it held repository {id} and now {now}: is its file system mounted? To begin anew there, make the location \
             again, or remove it from {} (in a cluster: from the ConfigMap orlop-repositories) and restart the coordinator",
            self.path.display()
        );
        Trouble {
            message,
            permanent: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_the_directory_must_be_is_told() {
        let failed = |kind: ErrorKind| {
            let error = Error::Store {
                action: "write",
                name: "log/1".to_owned(),
                store: "/stores/default".to_owned(),
                source: kind.into(),
            };
            Trouble::from(error).message
        };
        let refused = failed(ErrorKind::PermissionDenied);
        assert!(refused.contains("chown -R "), "{refused}");
        let other = failed(ErrorKind::TimedOut);
        assert!(!other.contains("chown"), "{other}");
    }

    #[test]
    fn what_a_place_held_is_known_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("repositories.json");
        let known = Known::new(path.clone());
        assert_eq!(known.of("/a"), None);
        known.remember("/a", "1");
        known.remember("/b", "2");
        known.remember("/b", "3");
        let again = Known::new(path.clone());
        assert_eq!(again.of("/a").as_deref(), Some("1"));
        assert_eq!(again.of("/b").as_deref(), Some("3"));
        let trouble = again.changed("/a", "holds none");
        assert_eq!(again.urls(), ["/a", "/b"]);
        assert!(!trouble.permanent && trouble.message.contains("mounted"));
        again.forget("/a");
        assert_eq!(Known::new(path).of("/a"), None);
    }
}
