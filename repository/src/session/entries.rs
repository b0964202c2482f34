//! Entries of a snapshot in listing order, and the extents of a file.

use std::collections::VecDeque;

use super::{ReadSession, Scope};
use crate::{
    error::{Error, Result},
    frame::FrameKind,
    manifest::{
        Content, Entry, Extent, ManifestPage, compare_listing, decode_extent_page, decode_manifest,
        split_path,
    },
    secret::Secret,
};

/// Nodes above a leaf at most: far more than 10^12 entries need.
pub(super) const MAX_DEPTH: u32 = 12;
/// Bytes of a manifest that an entry takes, about.
const ENTRY_BYTES: u64 = 48;
/// What is read in front of the root of a large manifest, at most: nearly all its pages may be there.
const BEFORE_ROOT_MAX: u64 = 8 << 20;

/// A page that is to be read.
struct Pending {
    secret: Secret,
    /// Path of its first entry.
    first: Vec<u8>,
    depth: u32,
    /// First path after it; `None` if it is the last.
    next: Option<Vec<u8>>,
}

/// Entries in listing order. A page that is lost is an [`Error::LostEntries`] in its place, and the listing goes
/// on behind it; after any other error it stops.
pub struct EntryIter<'s> {
    session: &'s ReadSession,
    scope: Scope,
    /// The next one is last.
    pending: Vec<Pending>,
    last: Option<Vec<u8>>,
    leaf: VecDeque<Entry>,
    failed: bool,
}

impl<'s> EntryIter<'s> {
    pub(super) fn new(session: &'s ReadSession, scope: Scope) -> Self {
        let root = Pending {
            secret: session.grant.root,
            first: Vec::new(),
            depth: 0,
            next: None,
        };
        Self {
            session,
            scope,
            pending: vec![root],
            last: None,
            leaf: VecDeque::new(),
            failed: false,
        }
    }

    fn load(&mut self, page: &Pending) -> Result<()> {
        let session = self.session;
        if session.cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        let before = if page.depth == 0 && self.scope.is_all() {
            let stats = &session.grant.stats;
            let entries = stats.files + stats.dirs + stats.others;
            entries.saturating_mul(ENTRY_BYTES).min(BEFORE_ROOT_MAX)
        } else {
            0
        };
        let read = session
            .page(&page.secret, before)
            .map_err(|error| match error {
                Error::Damaged { .. } | Error::MissingChunk { .. } if page.depth > 0 => {
                    Error::LostEntries {
                        first: page.first.clone(),
                        source: Box::new(error),
                    }
                }
                error => error,
            })?;
        match read {
            ManifestPage::Leaf(entries) => {
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
            ManifestPage::Node(_) if page.depth >= MAX_DEPTH => {
                return Err(Error::damaged("manifest", "its tree is too deep"));
            }
            ManifestPage::Node(children) => {
                let mut next = page.next.clone();
                let above = self.pending.len();
                for child in children.into_iter().rev() {
                    if self.scope.touches(&child.first_path, next.as_deref()) {
                        self.pending.push(Pending {
                            secret: child.secret,
                            first: child.first_path.clone(),
                            depth: page.depth + 1,
                            next,
                        });
                    }
                    next = Some(child.first_path);
                }
                let children = self.pending[above..].iter().rev();
                session
                    .pages
                    .expect(children.map(|child| child.secret.id()));
            }
        }
        Ok(())
    }

    /// What comes next, without reading it.
    pub(super) fn head(&self) -> Head<'_> {
        match (self.leaf.front(), self.pending.last()) {
            (Some(entry), _) => Head::Entry(entry),
            (None, Some(page)) => Head::Page(&page.secret, &page.first),
            (None, None) => Head::End,
        }
    }

    /// Passes over the page that comes next.
    pub(super) fn skip_page(&mut self) {
        self.pending.pop();
    }

    /// Reads the page that comes next: its entries or children come in its place.
    pub(super) fn open_page(&mut self) -> Result<()> {
        match self.pending.pop() {
            Some(page) => self.load(&page),
            None => Ok(()),
        }
    }

    /// The entry that comes next, if one was read.
    pub(super) fn take_entry(&mut self) -> Option<Entry> {
        self.leaf.pop_front()
    }
}

/// What an [`EntryIter`] comes to next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Head<'i> {
    Entry(&'i Entry),
    /// A page by its secret, and the path of its first entry.
    Page(&'i Secret, &'i [u8]),
    End,
}

impl ReadSession {
    /// A page of the manifest, with up to `before` bytes in front of it at hand from then on.
    pub(super) fn page(&self, secret: &Secret, before: u64) -> Result<ManifestPage> {
        let keys = self.grant.domain_keys.all();
        let bytes = self
            .pages
            .read_with(FrameKind::Manifest, secret, keys, before)?;
        decode_manifest(&bytes)
            .ok_or_else(|| Error::damaged("manifest", "a page breaks the format"))
    }
}

impl Iterator for EntryIter<'_> {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.failed {
            match self.leaf.pop_front() {
                Some(entry) if self.scope.wants(&entry.path) => return Some(Ok(entry)),
                Some(_) => {}
                None => {
                    let page = self.pending.pop()?;
                    if let Err(error) = self.load(&page) {
                        self.failed = !matches!(error, Error::LostEntries { .. });
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

impl<'s> ExtentIter<'s> {
    pub(super) fn new(session: &'s ReadSession, content: &'s Content) -> Self {
        Self {
            session,
            content,
            page: 0,
            position: 0,
            loaded: Vec::new().into_iter(),
        }
    }
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
                if self.page == 0 {
                    let ids = pages.iter().map(|page| page.secret.id());
                    self.session.pages.expect(ids);
                }
                self.page += 1;
                let keys = self.session.grant.domain_keys.all();
                let read = self
                    .session
                    .pages
                    .read(FrameKind::Extents, &page.secret, keys)
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
