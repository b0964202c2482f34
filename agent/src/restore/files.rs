//! Regular files on their way into windows: which are there already, and what is to be written.

use std::{fs::File, sync::Arc};

use orlop_core::IssueKind;
use orlop_repository::{Content, Entry, Error, Extent, Metadata};

use super::{
    dirs::Dir,
    existing::{Candidate, Found, Looker},
    file::{PendingFile, Piece},
    links::{Link, Name},
    plan::{End, Planner},
    tally::Denied,
};

/// Files that are looked for together.
const CANDIDATES: usize = 4096;

impl Planner<'_> {
    pub(super) fn file(&mut self, dir: &Arc<Dir>, entry: Entry) -> Result<(), End> {
        if matches!(entry.content, Content::None)
            && !self.shared.tally.is_read(&entry, IssueKind::Skipped)
        {
            return Ok(());
        }
        self.window.count_entry(dir, &entry);
        let dir = Arc::clone(dir);
        if let Some(group) = entry.hardlink {
            match self.groups.name(group, &entry) {
                Name::First => {}
                Name::Unknown => self.shared.tally.denied(Denied::Group, &entry.path, 0),
                Name::Further(first) => {
                    self.names.push(Link { dir, first, entry });
                    return Ok(());
                }
            }
        }
        if !self.shared.replaces() {
            return self.write(dir, entry, None, None);
        }
        self.candidates.push(Candidate { dir, entry });
        if self.candidates.len() >= CANDIDATES {
            self.settle()?;
        }
        Ok(())
    }

    /// Looks which of the waiting files are there already, and plans the others; then their further names.
    pub(super) fn settle(&mut self) -> Result<(), End> {
        self.look()?;
        self.window.links.append(&mut self.names);
        Ok(())
    }

    fn look(&mut self) -> Result<(), End> {
        let candidates = std::mem::take(&mut self.candidates);
        if candidates.is_empty() {
            return Ok(());
        }
        let (cancel, tally) = (self.cancel, &self.shared.tally);
        let given_up = || cancel.is_cancelled() || tally.is_stopped();
        let looker = Looker {
            shared: self.shared,
            source: self.source,
            workers: self.workers,
            given_up: &given_up,
        };
        let found = looker.look(&candidates);
        if given_up() {
            return Err(End::Stopped);
        }
        for (Candidate { dir, entry }, found) in candidates.into_iter().zip(found) {
            match found {
                Found::Kept => {}
                Found::Nothing => self.write(dir, entry, None, None)?,
                Found::Changed(file, differs) => {
                    self.write(dir, entry, Some(file), Some(&differs))?;
                }
            }
        }
        Ok(())
    }

    /// Plans what of a file is to be written: all of a new one, of one that is there what differs.
    fn write(
        &mut self,
        dir: Arc<Dir>,
        mut entry: Entry,
        existing: Option<File>,
        differs: Option<&[bool]>,
    ) -> Result<(), End> {
        let meta = std::mem::take(&mut entry.meta);
        let (path, size) = (std::mem::take(&mut entry.path), entry.size);
        if let Content::Extents(extents) = entry.content {
            let is_hole = |extent: &Extent| matches!(extent, Extent::Hole(_));
            let sparse = extents.iter().any(is_hole);
            let file = planned(dir, path, meta, size, sparse, existing);
            return self.extents(&file, extents.into_iter().map(Ok), differs);
        }
        let file = planned(dir, path, meta, size, true, existing);
        self.extents(&file, self.source.extents(&entry), differs)
    }

    /// Plans the extents of one file, over several windows if need be.
    fn extents(
        &mut self,
        file: &Arc<PendingFile>,
        extents: impl Iterator<Item = Result<Extent, Error>>,
        differs: Option<&[bool]>,
    ) -> Result<(), End> {
        let (mut offset, mut pieces) = (0_u64, 0_usize);
        if differs.is_some() {
            self.window.count_open_file();
        }
        for (number, extent) in extents.enumerate() {
            let extent = match extent {
                Ok(extent) => extent,
                Err(error) if error.is_cancelled() => return Err(error.into()),
                Err(error) => {
                    file.fail(self.shared, 0, &format!("read where its data is: {error}"));
                    break;
                }
            };
            let len = extent.len();
            let needed = match differs {
                // One that was not compared is written.
                Some(differs) => differs.get(number).copied().unwrap_or(true),
                None => !matches!(extent, Extent::Hole(_)),
            };
            if needed {
                pieces += 1;
                if pieces == 2 && differs.is_none() {
                    self.window.count_open_file();
                }
                self.window.add(file, offset, extent);
            }
            offset = offset.saturating_add(len);
            if self.window.is_full(self.budget) {
                self.send()?;
                // It stays open in the next window, too.
                self.window.count_open_file();
            }
        }
        if offset != file.size {
            file.fail(
                self.shared,
                0,
                "restore it: its extents do not add up to its size",
            );
        }
        if pieces == 0 {
            self.window.add_piece(file, 0, Piece::Inline(Vec::new()));
        }
        file.piece_done(self.shared);
        if self.window.is_full(self.budget) {
            self.send()?;
        }
        Ok(())
    }
}

/// A file that nothing was planned of yet; `sparse` if it may have holes.
fn planned(
    dir: Arc<Dir>,
    path: Vec<u8>,
    meta: Metadata,
    size: u64,
    sparse: bool,
    existing: Option<File>,
) -> Arc<PendingFile> {
    Arc::new(PendingFile::new(dir, path, meta, size, sparse, existing))
}
