//! Where the tables of an index are: a directory that several processes share, or nowhere that has a name.
//!
//! The process that holds the lock keeps the directory: it alone names, replaces and removes tables. Others read
//! what is there, and what they add has no name, so that nothing of it is left when they end. A table is written
//! under a name of its own and renamed when it is whole; what was left by a process that was killed is removed
//! by the next one that keeps the directory.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use super::{
    layout::Links,
    limits::Limits,
    table::{Shared, Table},
};
use crate::{
    error::{Error, Result},
    secret::{Key, hex, random_bytes, unhex},
};

const LOCK: &str = "lock";
/// Of which log the tables are: `number hash` of an entry that was read before they were made.
const HEAD: &str = "head";
/// How often the directory is read again when tables vanish meanwhile.
const ATTEMPTS: usize = 5;

/// Makes tables and finds those that are there.
pub(crate) struct TableDirectory {
    path: Option<PathBuf>,
    pub(super) shared: Arc<Shared>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Held while this process keeps the directory.
    lock: Option<File>,
    /// Nothing is to be kept that comes from now on.
    private: bool,
    chain: u64,
}

/// An entry of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    /// 0 if there was none.
    pub(crate) number: u64,
    /// Of its bytes.
    pub(crate) hash: Vec<u8>,
}

impl Head {
    /// That of the tables in a directory; `None` if there are none, or it cannot be told.
    pub(crate) fn of_tables(directory: &Path) -> Option<Self> {
        let text = fs::read_to_string(directory.join(HEAD)).ok()?;
        let (number, hash) = text.trim_end().split_once(' ')?;
        Some(Self {
            number: number.parse().ok()?,
            hash: unhex(hash)?,
        })
    }
}

/// A file for a table.
pub(super) struct NewFile {
    pub(super) file: File,
    /// Its name until it is whole; `None` if it has none.
    temporary: Option<PathBuf>,
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if let Some(path) = &self.temporary {
            let _ = fs::remove_file(path);
        }
    }
}

fn failed(source: io::Error) -> Error {
    Error::System {
        action: "make a local table of the index",
        source,
    }
}

fn new_file() -> fs::OpenOptions {
    let mut options = fs::OpenOptions::new();
    options.read(true).write(true).create_new(true).mode(0o600);
    options
}

impl TableDirectory {
    /// Tables below `path`, or without names. `key` proves what is read from them.
    pub(crate) fn new(path: Option<PathBuf>, key: Key, limits: Limits) -> Self {
        Self {
            path,
            shared: Arc::new(Shared::new(limits, key)),
            state: Mutex::default(),
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The tables that are there, the oldest first; none if there is no directory yet.
    pub(super) fn open(&self) -> Vec<Arc<Table>> {
        let mut state = self.state();
        state.private = false;
        state.chain = 0;
        let Some(path) = self.path.as_deref().filter(|path| path.is_dir()) else {
            return Vec::new();
        };
        state.take_lock(path);
        let (names, tables) = (0..ATTEMPTS)
            .find_map(|_| self.read_chain(path).ok())
            .unwrap_or_default();
        state.chain = tables.last().map_or(0, |last| last.map.links.chain);
        if state.lock.is_some() {
            let used = |name: &PathBuf| tables.iter().any(|t| t.path.as_ref() == Some(name));
            // The newest first: what is left of a chain is then always a beginning of it.
            for name in names.iter().rev().filter(|name| !used(name)) {
                let _ = fs::remove_file(name);
            }
        }
        tables
    }

    /// All files of the directory but the lock, and the longest chain of whole tables.
    ///
    /// # Errors
    /// A table vanished meanwhile.
    fn read_chain(&self, path: &Path) -> io::Result<(Vec<PathBuf>, Vec<Arc<Table>>)> {
        let mut files = Vec::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            if entry.file_name() != LOCK && entry.file_name() != HEAD {
                files.push(entry.path());
            }
        }
        files.sort();
        let mut named: Vec<(Links, &PathBuf)> = Vec::new();
        named.extend(
            files
                .iter()
                .filter_map(|file| Some((links_of(file)?, file))),
        );
        // Of those that begin with the same the one that goes furthest was merged from the others.
        named.sort_by_key(|(links, _)| (links.chain, links.first, std::cmp::Reverse(links.last)));
        let mut best: Vec<Arc<Table>> = Vec::new();
        let mut chains: Vec<u64> = named.iter().map(|(links, _)| links.chain).collect();
        chains.dedup();
        for chain in chains {
            let mut tables: Vec<Arc<Table>> = Vec::new();
            for (links, file) in named.iter().filter(|(links, _)| links.chain == chain) {
                let next = tables.last().map_or(1, |table| table.map.links.last + 1);
                if links.first != next {
                    continue;
                }
                let opened = File::open(file)?;
                let table = Table::open(opened, Some((*file).clone()), Arc::clone(&self.shared));
                // A wider one that is damaged may have left those that it was merged from.
                if let Ok(table) = table
                    && same_range(&table.map.links, links)
                {
                    tables.push(Arc::new(table));
                }
            }
            let records = |tables: &[Arc<Table>]| tables.iter().map(|t| t.map.records).sum::<u64>();
            if best.is_empty() || records(&tables) > records(&best) {
                best = tables;
            }
        }
        Ok((files, best))
    }

    /// A file for a new table; it gets a name only in a directory that this process keeps.
    pub(super) fn create(&self) -> Result<NewFile> {
        let mut state = self.state();
        let Some(path) = &self.path else {
            return unnamed(&std::env::temp_dir());
        };
        let mut builder = fs::DirBuilder::new();
        builder
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(failed)?;
        if !state.private && state.chain == 0 && state.take_lock(path) {
            state.chain = u64::from_le_bytes(random_bytes()?).max(1);
            // Nobody keeps what others have left.
            for file in fs::read_dir(path).map_err(failed)?.flatten() {
                if file.file_name() != LOCK {
                    let _ = fs::remove_file(file.path());
                }
            }
        }
        if state.private || state.lock.is_none() {
            return unnamed(path);
        }
        let temporary = path.join(format!("tmp-{}", hex(&random_bytes::<8>()?)));
        let file = new_file().open(&temporary).map_err(failed)?;
        Ok(NewFile {
            file,
            temporary: Some(temporary),
        })
    }

    /// The chain that new tables belong to.
    pub(super) fn chain(&self) -> u64 {
        self.state().chain
    }

    /// Opens a table that was written to `new`, and names it if it shall stay.
    pub(super) fn publish(&self, mut new: NewFile, file: File, links: Links) -> Result<Table> {
        let mut path = None;
        if let (Some(directory), Some(temporary)) = (&self.path, &new.temporary) {
            let name = directory.join(name_of(&links));
            fs::rename(temporary, &name).map_err(failed)?;
            new.temporary = None;
            path = Some(name);
        }
        Table::open(file, path, Arc::clone(&self.shared))
    }

    /// Notes the end of the log that is known before a table is made of what it names.
    pub(super) fn keep_head(&self, head: &Head) -> Result<()> {
        let state = self.state();
        let Some(path) = self.path.as_deref().filter(|_| state.lock.is_some()) else {
            return Ok(());
        };
        let temporary = path.join("tmp-head");
        fs::write(&temporary, format!("{} {}\n", head.number, hex(&head.hash))).map_err(failed)?;
        fs::rename(&temporary, path.join(HEAD)).map_err(failed)
    }

    /// Removes the files of tables that are not used any more; the newest must come last.
    pub(super) fn remove(&self, tables: &[Arc<Table>]) {
        let state = self.state();
        if state.lock.is_some() {
            for path in tables.iter().rev().filter_map(|table| table.path.as_ref()) {
                let _ = fs::remove_file(path);
            }
        }
    }

    /// There are no tables any more: the next one begins another chain.
    pub(super) fn begin_chain(&self) {
        self.state().chain = 0;
    }

    /// Nothing that comes from now on is to be found by others, or later, until [`Self::open`] is called again.
    pub(super) fn keep_no_more(&self) {
        self.state().private = true;
    }
}

impl State {
    /// Whether this process keeps the directory.
    fn take_lock(&mut self, directory: &Path) -> bool {
        if self.lock.is_none() {
            let mut options = fs::OpenOptions::new();
            options
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600);
            let file = options.open(directory.join(LOCK)).ok();
            self.lock = file.filter(|file| file.try_lock().is_ok());
        }
        self.lock.is_some()
    }
}

/// A file that vanishes with its process.
fn unnamed(directory: &Path) -> Result<NewFile> {
    let path = directory.join(format!("tmp-{}", hex(&random_bytes::<8>()?)));
    let file = new_file().open(&path).map_err(failed)?;
    let _ = fs::remove_file(&path);
    Ok(NewFile {
        file,
        temporary: None,
    })
}

fn name_of(links: &Links) -> String {
    format!("{:016x}-{:08}-{:08}", links.chain, links.first, links.last)
}

/// What a name says of its table.
fn links_of(path: &Path) -> Option<Links> {
    let name = path.file_name()?.to_str()?;
    let mut words = name.split('-');
    let chain = u64::from_str_radix(words.next()?, 16).ok()?;
    let (first, last) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let links = Links {
        chain,
        first,
        last,
        level: 0,
    };
    (name_of(&links) == name).then_some(links)
}

fn same_range(a: &Links, b: &Links) -> bool {
    (a.chain, a.first, a.last) == (b.chain, b.first, b.last)
}
