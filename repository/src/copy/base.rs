//! A snapshot that both repositories have: it tells what need not be read.

use crate::{
    error::{Error, Result},
    manifest::{Entry, compare_listing, split_path},
    session::{EntryIter, ReadSession},
};

/// One side's listing, asked for paths in listing order.
struct Side<'s> {
    entries: EntryIter<'s>,
    head: Option<Entry>,
}

impl<'s> Side<'s> {
    fn new(session: &'s ReadSession) -> Self {
        Self {
            entries: session.entries(),
            head: None,
        }
    }

    fn find(&mut self, path: &[u8]) -> Result<Option<Entry>> {
        loop {
            if self.head.is_none() {
                self.head = self.entries.next().transpose()?;
            }
            let Some(head) = &self.head else {
                return Ok(None);
            };
            let order = compare_listing(split_path(&head.path), split_path(path));
            if order.is_gt() {
                return Ok(None);
            }
            let head = self.head.take();
            if order.is_eq() {
                return Ok(head);
            }
        }
    }
}

/// The listings of both.
pub(super) struct Base<'s> {
    pub(super) here: &'s ReadSession,
    pub(super) there: &'s ReadSession,
    sides: Option<(Side<'s>, Side<'s>)>,
}

impl<'s> Base<'s> {
    pub(super) fn new(here: &'s ReadSession, there: &'s ReadSession) -> Self {
        Self {
            here,
            there,
            sides: Some((Side::new(here), Side::new(there))),
        }
    }

    /// The entry of that path here and there; calls come in listing order. Where the listings cannot be read
    /// they tell nothing from then on.
    ///
    /// # Errors
    /// It was cancelled.
    pub(super) fn find(&mut self, path: &[u8]) -> Result<Option<(Entry, Entry)>> {
        let Some((here, there)) = &mut self.sides else {
            return Ok(None);
        };
        let both = here
            .find(path)
            .and_then(|here| Ok(here.zip(there.find(path)?)));
        match both {
            Ok(both) => {
                Ok(both.filter(|(here, there)| here.kind == there.kind && here.size == there.size))
            }
            Err(Error::Cancelled) => Err(Error::Cancelled),
            Err(error) => {
                tracing::warn!(%error, "a snapshot that was copied before cannot be read: more is read anew");
                self.sides = None;
                Ok(None)
            }
        }
    }
}
