//! What the test server keeps: objects in memory or as files, created atomically.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;

/// Where objects are.
pub(super) enum Objects {
    Memory(Mutex<BTreeMap<String, Bytes>>),
    /// One file for each object, named by its key with slashes escaped.
    Directory {
        root: PathBuf,
        next: AtomicU64,
    },
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn escape(key: &str) -> String {
    key.replace('%', "%25").replace('/', "%2F")
}

fn unescape(name: &str) -> String {
    name.replace("%2F", "/").replace("%25", "%")
}

impl Objects {
    pub(super) fn memory() -> Self {
        Self::Memory(Mutex::default())
    }

    pub(super) fn directory(root: &Path) -> io::Result<Self> {
        fs::create_dir_all(root.join("tmp"))?;
        fs::create_dir_all(root.join("objects"))?;
        Ok(Self::Directory {
            root: root.to_owned(),
            next: AtomicU64::new(0),
        })
    }

    /// Stores an object; whether it did. With `create` not if there is one of that key, however many
    /// try at once.
    pub(super) fn put(&self, key: &str, bytes: Bytes, create: bool) -> io::Result<bool> {
        match self {
            Self::Memory(objects) => {
                let mut objects = lock(objects);
                if create && objects.contains_key(key) {
                    return Ok(false);
                }
                objects.insert(key.to_owned(), bytes);
                Ok(true)
            }
            Self::Directory { root, next } => {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let temporary = root
                    .join("tmp")
                    .join(format!("{}-{number}", std::process::id()));
                let path = root.join("objects").join(escape(key));
                fs::File::create(&temporary)?.write_all(&bytes)?;
                if !create {
                    return fs::rename(temporary, path).map(|()| true);
                }
                let linked = fs::hard_link(&temporary, path);
                fs::remove_file(temporary)?;
                match linked {
                    Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(false),
                    other => other.map(|()| true),
                }
            }
        }
    }

    pub(super) fn get(&self, key: &str) -> io::Result<Option<Bytes>> {
        match self {
            Self::Memory(objects) => Ok(lock(objects).get(key).cloned()),
            Self::Directory { root, .. } => {
                match fs::read(root.join("objects").join(escape(key))) {
                    Ok(bytes) => Ok(Some(bytes.into())),
                    Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
                    Err(e) => Err(e),
                }
            }
        }
    }

    pub(super) fn delete(&self, key: &str) -> io::Result<()> {
        match self {
            Self::Memory(objects) => {
                lock(objects).remove(key);
                Ok(())
            }
            Self::Directory { root, .. } => {
                match fs::remove_file(root.join("objects").join(escape(key))) {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
                    _ => Ok(()),
                }
            }
        }
    }

    /// Keys with their sizes, by key: those that begin with `prefix` and come after `after`.
    pub(super) fn list(&self, prefix: &str, after: Option<&str>) -> io::Result<Vec<(String, u64)>> {
        let wanted = |key: &str| key.starts_with(prefix) && after.is_none_or(|after| key > after);
        let mut found = Vec::new();
        match self {
            Self::Memory(objects) => {
                let objects = lock(objects);
                let all = objects.iter().filter(|(key, _)| wanted(key));
                found.extend(all.map(|(key, bytes)| (key.clone(), bytes.len() as u64)));
            }
            Self::Directory { root, .. } => {
                for entry in fs::read_dir(root.join("objects"))? {
                    let entry = entry?;
                    let key = unescape(&entry.file_name().to_string_lossy());
                    if wanted(&key) {
                        found.push((key, entry.metadata()?.len()));
                    }
                }
                found.sort();
            }
        }
        Ok(found)
    }
}
