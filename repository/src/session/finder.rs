//! Looks for entries in many snapshots; a page that several have is read once.

use std::{collections::HashMap, rc::Rc};

use orlop_core::Timestamp;

use super::{ReadSession, Scope, entries::MAX_DEPTH};
use crate::{
    error::{Error, Result},
    manifest::{Entry, EntryKind, ManifestPage},
    secret::Secret,
};

/// Pages that are remembered, and matches in them, at most: some 100 MB.
const PAGES: usize = 1 << 20;
const MATCHES: usize = 1 << 19;
/// A page with more matches is read again.
const MATCHES_OF_PAGE: usize = 4096;

/// An entry that was looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Path below the volume's root.
    pub path: Vec<u8>,
    /// Type.
    pub kind: EntryKind,
    /// Size in bytes of a regular file, else 0.
    pub size: u64,
    /// Last modification of the content.
    pub mtime: Timestamp,
}

type Matches = Rc<Vec<Rc<Found>>>;

/// Looks for the same in one snapshot after the other.
pub struct Finder<'f> {
    scope: Scope,
    wants: Box<dyn Fn(&Entry) -> bool + 'f>,
    pages: HashMap<Secret, Matches>,
    /// Matches that are remembered.
    kept: usize,
    none: Matches,
    read: u64,
}

/// A page on the way, and the first path behind it.
struct Place<'p> {
    secret: &'p Secret,
    next: Option<&'p [u8]>,
    depth: u32,
}

impl<'f> Finder<'f> {
    /// Looks for entries of `scope` that `wants` says yes to; the answer must be the same for equal entries.
    pub fn new(scope: Scope, wants: impl Fn(&Entry) -> bool + 'f) -> Self {
        Self {
            scope,
            wants: Box::new(wants),
            pages: HashMap::new(),
            kept: 0,
            none: Rc::default(),
            read: 0,
        }
    }

    /// Pages that were read so far.
    pub fn pages_read(&self) -> u64 {
        self.read
    }

    /// Gives each entry of the snapshot that is looked for to `found`, in listing order.
    ///
    /// # Errors
    /// A page cannot be read, the work was cancelled, or `found` fails.
    pub fn search<E: From<Error>>(
        &mut self,
        session: &ReadSession,
        found: &mut dyn FnMut(&Found) -> Result<(), E>,
    ) -> Result<(), E> {
        let root = session.grant.root;
        let place = Place {
            secret: &root,
            next: None,
            depth: 0,
        };
        self.visit(session, &place, found).map(drop)
    }

    /// The matches of a page, unless there are too many to remember.
    fn visit<E: From<Error>>(
        &mut self,
        session: &ReadSession,
        place: &Place<'_>,
        found: &mut dyn FnMut(&Found) -> Result<(), E>,
    ) -> Result<Option<Matches>, E> {
        if session.cancel.is_cancelled() {
            return Err(Error::Cancelled.into());
        }
        if let Some(matches) = self.pages.get(place.secret) {
            let matches = Rc::clone(matches);
            matches.iter().try_for_each(|one| found(one))?;
            return Ok(Some(matches));
        }
        self.read += 1;
        let mut all = Some(Vec::new());
        match session.page(place.secret, 0)? {
            ManifestPage::Leaf(entries) => {
                for entry in entries {
                    if !self.scope.wants(&entry.path) || !(self.wants)(&entry) {
                        continue;
                    }
                    let one = Rc::new(Found {
                        path: entry.path,
                        kind: entry.kind,
                        size: entry.size,
                        mtime: entry.meta.mtime,
                    });
                    found(&one)?;
                    add(&mut all, std::iter::once(one));
                }
            }
            ManifestPage::Node(_) if place.depth >= MAX_DEPTH => {
                return Err(Error::damaged("manifest", "its tree is too deep").into());
            }
            ManifestPage::Node(children) => {
                let unknown = children.iter().map(|child| &child.secret);
                let unknown = unknown.filter(|secret| !self.pages.contains_key(secret));
                let unknown: Vec<_> = unknown.map(Secret::id).collect();
                session.pages.expect(unknown.into_iter());
                for (at, child) in children.iter().enumerate() {
                    let next = children.get(at + 1).map(|next| next.first_path.as_slice());
                    let next = next.or(place.next);
                    if !self.scope.touches(&child.first_path, next) {
                        continue;
                    }
                    let place = Place {
                        secret: &child.secret,
                        next,
                        depth: place.depth + 1,
                    };
                    match self.visit(session, &place, found)? {
                        Some(matches) => add(&mut all, matches.iter().cloned()),
                        None => all = None,
                    }
                }
            }
        }
        Ok(all.map(|all| self.remember(*place.secret, all)))
    }

    fn remember(&mut self, page: Secret, matches: Vec<Rc<Found>>) -> Matches {
        let matches = if matches.is_empty() {
            Rc::clone(&self.none)
        } else {
            Rc::new(matches)
        };
        if self.pages.len() < PAGES && self.kept + matches.len() <= MATCHES {
            self.kept += matches.len();
            self.pages.insert(page, Rc::clone(&matches));
        }
        matches
    }
}

/// Adds matches, unless that makes too many.
fn add(all: &mut Option<Vec<Rc<Found>>>, more: impl Iterator<Item = Rc<Found>>) {
    if let Some(matches) = all {
        matches.extend(more);
        if matches.len() > MATCHES_OF_PAGE {
            *all = None;
        }
    }
}
