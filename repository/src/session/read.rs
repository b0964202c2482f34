//! A read session: one snapshot's entries and bytes.

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use orlop_core::SnapshotId;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::{Committer, ReadGrant, Wanted, pages::PageReader};
use crate::{
    error::{Error, Result},
    frame::FrameKind,
    manifest::{
        Content, Entry, EntryKind, Extent, ManifestPage, compare_listing, decode_extent_page,
        decode_manifest, split_path,
    },
    secret::Secret,
    store::ObjectStore,
};

/// An open read session. Its methods block and may be called from many threads, not from a runtime's.
pub struct ReadSession {
    committer: Arc<dyn Committer>,
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) grant: ReadGrant,
    pub(super) handle: Handle,
    pub(super) cancel: CancellationToken,
    pub(super) pages: PageReader,
    pub(super) fetched: AtomicU64,
}

impl ReadSession {
    /// Begins a session on one snapshot.
    ///
    /// # Errors
    /// There is no such snapshot, or the committer cannot be reached.
    pub fn open(
        committer: Arc<dyn Committer>,
        store: Arc<dyn ObjectStore>,
        snapshot: SnapshotId,
        handle: Handle,
        cancel: CancellationToken,
    ) -> Result<Self> {
        let grant = handle.block_on(committer.begin_read(snapshot))?;
        let pages = PageReader::new(
            Arc::clone(&committer),
            Arc::clone(&store),
            grant.session,
            handle.clone(),
        )?;
        Ok(Self {
            committer,
            store,
            grant,
            handle,
            cancel,
            pages,
            fetched: AtomicU64::new(0),
        })
    }

    /// What was granted.
    pub fn grant(&self) -> &ReadGrant {
        &self.grant
    }

    /// Bytes of chunks that were fetched from the store.
    pub fn fetched_bytes(&self) -> u64 {
        self.fetched.load(Ordering::Relaxed)
    }

    /// All entries in listing order.
    pub fn entries(&self) -> EntryIter<'_> {
        EntryIter {
            session: self,
            pending: vec![(self.grant.root, 0)],
            last: None,
            leaf: VecDeque::new(),
            only: None,
            failed: false,
        }
    }

    /// The entry `path` and everything below it, in listing order; nothing if there is no such entry.
    pub fn entries_below(&self, path: &[u8]) -> EntryIter<'_> {
        let only = (!path.is_empty()).then(|| path.to_vec());
        EntryIter {
            only,
            ..self.entries()
        }
    }

    /// The entry `path` itself.
    ///
    /// # Errors
    /// There is none, or a page cannot be read.
    pub fn entry(&self, path: &[u8]) -> Result<Entry> {
        for entry in self.entries_below(path) {
            let entry = entry?;
            if entry.path == path {
                return Ok(entry);
            }
        }
        Err(Error::NoPath {
            path: String::from_utf8_lossy(path).into_owned(),
            snapshot: self.grant.snapshot.to_string(),
            hint: "; list what is there with `orlop repo ls`".to_owned(),
        })
    }

    /// The extents of a file, from wherever they are kept.
    pub fn extents<'a>(&'a self, entry: &'a Entry) -> ExtentIter<'a> {
        ExtentIter {
            session: self,
            content: &entry.content,
            page: 0,
            position: 0,
            loaded: Vec::new().into_iter(),
        }
    }

    /// Writes a file's bytes in order and returns their number.
    ///
    /// # Errors
    /// The entry is no regular file, a chunk cannot be read, or `out` fails.
    pub fn read_file(&self, entry: &Entry, out: &mut dyn io::Write) -> Result<u64> {
        let path = || String::from_utf8_lossy(&entry.path).into_owned();
        if entry.kind != EntryKind::File {
            return Err(Error::Invalid(format!("{} is not a regular file", path())));
        }
        let mut total = 0;
        for extent in self.extents(entry) {
            if self.cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            let extent = extent?;
            self.write_extent(&extent, out).map_err(|e| match e {
                WriteError::Engine(error) => error,
                WriteError::Io(source) => Error::System {
                    action: "write the file's bytes",
                    source,
                },
            })?;
            total += extent.len();
        }
        Ok(total)
    }

    fn write_extent(&self, extent: &Extent, out: &mut dyn io::Write) -> Result<(), WriteError> {
        match extent {
            Extent::Inline(bytes) => out.write_all(bytes)?,
            Extent::Hole(len) | Extent::Zero(len) => {
                io::copy(&mut io::Read::take(io::repeat(0), *len), out)?;
            }
            Extent::Data { secret, len } => {
                let chunk = self.chunk(secret)?;
                if chunk.len() != *len as usize {
                    return Err(bad_range(secret));
                }
                out.write_all(&chunk)?;
            }
            Extent::Bundle {
                secret,
                offset,
                len,
            } => {
                let chunk = self.chunk(secret)?;
                let range = *offset as usize..(*offset as usize).saturating_add(*len as usize);
                out.write_all(chunk.get(range).ok_or_else(|| bad_range(secret))?)?;
            }
        }
        Ok(())
    }

    /// One chunk.
    fn chunk(&self, secret: &Secret) -> Result<Vec<u8>> {
        let slot = Mutex::new(Err(Error::Cancelled));
        self.fetch(
            &[Wanted {
                secret: *secret,
                len: 0,
            }],
            1,
            &|_, result| {
                if let Ok(mut slot) = slot.lock() {
                    *slot = result.map(<[u8]>::to_vec);
                }
            },
        )?;
        slot.into_inner().unwrap_or(Err(Error::Cancelled))
    }

    /// Ends the session.
    pub fn end(self) {
        if let Err(error) = self.handle.block_on(self.committer.end(self.grant.session)) {
            tracing::debug!(session = self.grant.session, %error, "cannot end the session");
        }
    }
}

enum WriteError {
    Engine(Error),
    Io(io::Error),
}

impl From<Error> for WriteError {
    fn from(error: Error) -> Self {
        Self::Engine(error)
    }
}

impl From<io::Error> for WriteError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn bad_range(secret: &Secret) -> WriteError {
    WriteError::Engine(Error::damaged(
        "manifest",
        format!("an extent does not fit chunk {}", secret.id()),
    ))
}

/// Nodes above a leaf at most: far more than 10^12 entries need.
const MAX_DEPTH: u32 = 12;

/// Entries in listing order; stops after an error.
pub struct EntryIter<'s> {
    session: &'s ReadSession,
    /// Pages to read with their depth in the tree, the next one last.
    pending: Vec<(Secret, u32)>,
    last: Option<Vec<u8>>,
    leaf: VecDeque<Entry>,
    only: Option<Vec<u8>>,
    failed: bool,
}

impl EntryIter<'_> {
    fn load(&mut self, secret: &Secret, depth: u32) -> Result<()> {
        if self.session.cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        let key = Some(&self.session.grant.domain_key);
        let bytes = self.session.pages.read(FrameKind::Manifest, secret, key)?;
        match decode_manifest(&bytes) {
            Some(ManifestPage::Leaf(entries)) => {
                // An entry that comes again, or a page that does, must not lead a reader astray.
                for entry in &entries {
                    let this = (entry.parent(), entry.name());
                    let last = self.last.as_deref().map(split_path);
                    if last.is_some_and(|last| compare_listing(last, this).is_ge()) {
                        return Err(Error::damaged("manifest", "its entries are out of order"));
                    }
                    self.last = Some(entry.path.clone());
                }
                self.leaf = entries.into();
            }
            Some(ManifestPage::Node(_)) if depth >= MAX_DEPTH => {
                return Err(Error::damaged("manifest", "its tree is too deep"));
            }
            Some(ManifestPage::Node(children)) => {
                // A child covers up to the next one's first path: skip those that end before `only`.
                let skip = self.only.as_ref().map_or(0, |only| {
                    children
                        .iter()
                        .skip(1)
                        .take_while(|c| {
                            compare_listing(split_path(&c.first_path), split_path(only)).is_le()
                        })
                        .count()
                });
                let children = children.iter().skip(skip).rev();
                self.pending.extend(children.map(|c| (c.secret, depth + 1)));
            }
            None => return Err(Error::damaged("manifest", "a page breaks the format")),
        }
        Ok(())
    }

    fn wants(&self, path: &[u8]) -> bool {
        self.only.as_ref().is_none_or(|only| {
            path.strip_prefix(only.as_slice())
                .is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
        })
    }
}

impl Iterator for EntryIter<'_> {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.failed {
            match self.leaf.pop_front() {
                Some(entry) if self.wants(&entry.path) => return Some(Ok(entry)),
                Some(_) => {}
                None => {
                    let (secret, depth) = self.pending.pop()?;
                    if let Err(error) = self.load(&secret, depth) {
                        self.failed = true;
                        return Some(Err(error));
                    }
                }
            }
        }
        None
    }
}

/// A file's extents in order; stops after an error.
pub struct ExtentIter<'s> {
    session: &'s ReadSession,
    content: &'s Content,
    page: usize,
    position: usize,
    loaded: std::vec::IntoIter<Extent>,
}

impl Iterator for ExtentIter<'_> {
    type Item = Result<Extent>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.content {
            Content::None => None,
            Content::Extents(list) => {
                self.position += 1;
                list.get(self.position - 1).cloned().map(Ok)
            }
            Content::Pages(pages) => loop {
                if let Some(extent) = self.loaded.next() {
                    return Some(Ok(extent));
                }
                let page = pages.get(self.page)?;
                self.page += 1;
                let key = Some(&self.session.grant.domain_key);
                let read = self
                    .session
                    .pages
                    .read(FrameKind::Extents, &page.secret, key)
                    .and_then(|bytes| {
                        decode_extent_page(&bytes).ok_or_else(|| {
                            Error::damaged("manifest", "an extent page breaks the format")
                        })
                    });
                match read {
                    Ok(extents) => self.loaded = extents.into_iter(),
                    Err(error) => {
                        self.page = pages.len();
                        return Some(Err(error));
                    }
                }
            },
        }
    }
}
