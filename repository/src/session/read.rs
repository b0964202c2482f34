//! A read session: one snapshot's entries and bytes.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use orlop_core::SnapshotId;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::{
    Committer, EntryIter, ExtentIter, ReadGrant, Scope, near, pages::PageReader, small::Bundles,
};
use crate::{
    error::{Error, Result},
    manifest::Entry,
    secret::{EpochKeys, Secret},
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
    pub(super) bundles: Bundles,
    pub(super) fetched: AtomicU64,
    digest_keys: EpochKeys,
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
            digest_keys: grant
                .domain_keys
                .map(|key| key.derive("small file digest", &[])),
            committer,
            store,
            grant,
            handle,
            cancel,
            pages,
            bundles: Bundles::default(),
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
        self.entries_in(Scope::all())
    }

    /// The entries of a scope in listing order; pages that hold none of them are not read.
    pub fn entries_in(&self, scope: Scope) -> EntryIter<'_> {
        EntryIter::new(self, scope)
    }

    /// The entry `path` and everything below it, in listing order; nothing if there is no such entry.
    pub fn entries_below(&self, path: &[u8]) -> EntryIter<'_> {
        self.entries_in(Scope::default().tree(path))
    }

    /// The entry `path` itself, if there is one.
    ///
    /// # Errors
    /// A page cannot be read.
    pub fn find(&self, path: &[u8]) -> Result<Option<Entry>> {
        self.entries_in(Scope::default().entry(path))
            .next()
            .transpose()
    }

    /// The entry `path` itself.
    ///
    /// # Errors
    /// There is none: the error names the nearest; or a page cannot be read.
    pub fn entry(&self, path: &[u8]) -> Result<Entry> {
        if let Some(entry) = self.find(path)? {
            return Ok(entry);
        }
        Err(Error::NoPath {
            path: String::from_utf8_lossy(path).into_owned(),
            snapshot: self.grant.snapshot.to_string(),
            hint: self.near(path)?,
        })
    }

    /// What a person may have meant by a path that does not exist: a hint for an error, with its own
    /// leading punctuation.
    ///
    /// # Errors
    /// A page cannot be read.
    pub fn near(&self, path: &[u8]) -> Result<String> {
        near::hint(self, path)
    }

    /// The extents of a file, from wherever they are kept.
    pub fn extents<'a>(&'a self, entry: &'a Entry) -> ExtentIter<'a> {
        ExtentIter::new(self, &entry.content)
    }

    /// Whether `plain` is the chunk of that secret.
    pub fn is_chunk(&self, secret: &Secret, plain: &[u8]) -> bool {
        let mut keys = self.grant.domain_keys.all().iter();
        keys.any(|key| Secret::of(key, plain) == *secret)
    }

    /// Whether a small file's content has that digest ([`Entry::digest`]).
    pub fn has_digest(&self, content: &[u8], digest: &[u8; 16]) -> bool {
        let mut keys = self.digest_keys.all().iter();
        keys.any(|key| key.digest16(content) == *digest)
    }

    /// Another reader of pages for the session.
    pub(super) fn page_reader(&self) -> Result<PageReader> {
        PageReader::new(
            Arc::clone(&self.committer),
            Arc::clone(&self.store),
            self.grant.session,
            self.handle.clone(),
        )
    }

    /// Ends the session.
    pub fn end(self) {
        if let Err(error) = self.handle.block_on(self.committer.end(self.grant.session)) {
            tracing::debug!(session = self.grant.session, %error, "cannot end the session");
        }
    }
}
