//! How a large file is cut: by its content, in small chunks if it is an image of a disk, or at fixed places if it is
//! a database's, whose pages change where they lie.
//!
//! A wrong guess costs room, never bytes: a reader is told where each chunk is, not how it was cut.

use std::fs::File;

use orlop_core::Chunking;
use orlop_repository::{Chunker, Extent, ParentEntry, WriteSession};

use super::{feed::parent_of, read::Reading};

/// Chunks of a file of pages begin at multiples of this, in bytes.
pub(super) const PAGE_CHUNK: u64 = 64 << 10;
/// Smaller files are cut by content: they are a few chunks in either case.
const SIZE_MIN: u64 = 1 << 20;
/// Page headers that are looked at.
const SAMPLES: u64 = 8;
/// What is read of a page: more than any header.
const HEADER: usize = 64;

/// Names of images of disks end so.
const IMAGES: [&[u8]; 8] = [
    b".raw", b".img", b".qcow2", b".vmdk", b".vdi", b".vhd", b".vhdx", b".vma",
];

/// How a file is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// By its content.
    Content,
    /// By its content, in small chunks.
    Fine,
    /// At multiples of [`PAGE_CHUNK`].
    Page,
}

impl Class {
    /// What finds the cuts; `None` for fixed places.
    pub(super) fn chunker(self, session: &WriteSession) -> Option<&Chunker> {
        match self {
            Self::Content => Some(session.chunker()),
            Self::Fine => Some(session.finer_chunker()),
            Self::Page => None,
        }
    }

    /// That of an open file of so many bytes.
    pub(super) fn of(
        (chunking, session): (Chunking, &WriteSession),
        (name, found): (&[u8], Option<&ParentEntry>),
        (file, size): (&File, u64),
        reading: &Reading,
    ) -> Self {
        match chunking {
            Chunking::Page => Self::Page,
            Chunking::Content => Self::Content,
            Chunking::Fine => Self::Fine,
            Chunking::Auto if size < SIZE_MIN => Self::Content,
            // The same file is cut in the same way again, or nothing of it would be known.
            Chunking::Auto => Self::of_parent(session, found).unwrap_or_else(|| {
                if look_paged(size, |at, into| reading.fill(file, into, at).ok()) {
                    Self::Page
                } else if IMAGES.iter().any(|end| name.ends_with(end)) {
                    Self::Fine
                } else {
                    Self::Content
                }
            }),
        }
    }

    /// How the parent cut it; `None` if that does not show.
    fn of_parent(session: &WriteSession, found: Option<&ParentEntry>) -> Option<Self> {
        let entry = parent_of(session, found)?;
        if entry.size < SIZE_MIN {
            return None;
        }
        let (min, fine_max) = (session.chunker().min(), session.finer_chunker().max());
        match session.first_extents(&entry) {
            Ok(extents) => Self::of_extents(&extents, min, fine_max),
            Err(error) => {
                tracing::debug!(%error, "the parent's extents cannot be read: the file is judged anew");
                None
            }
        }
    }

    /// How these extents were cut, the first ones of a file, if there are enough of them. Of chunks cut by content
    /// `min` is the smallest, of small ones `fine_max` the largest.
    fn of_extents(extents: &[Extent], min: usize, fine_max: usize) -> Option<Self> {
        let (mut at, mut pages, mut data) = (0_u64, 0, 0);
        let (mut has_small, mut has_large) = (false, false);
        for (number, extent) in extents.iter().enumerate() {
            if let Extent::Data { len, .. } = extent {
                let size = *len as usize;
                data += 1;
                pages += u32::from(u64::from(*len) == PAGE_CHUNK && at.is_multiple_of(PAGE_CHUNK));
                // The last one before a hole, or of all, may be as small as it likes.
                let goes_on = matches!(extents.get(number + 1), Some(Extent::Data { .. }));
                has_small |= goes_on && size < min;
                has_large |= size > fine_max;
            }
            at += extent.len();
        }
        match data {
            _ if has_large => Some(Self::Content),
            4.. if pages * 2 > data => Some(Self::Page),
            4.. if has_small => Some(Self::Fine),
            4.. => Some(Self::Content),
            _ => None,
        }
    }
}

/// Whether a file looks like one of a database. `read` fills a buffer from an offset on and returns how much
/// there was.
fn look_paged(size: u64, read: impl Fn(u64, &mut [u8]) -> Option<usize>) -> bool {
    let header = |at: u64| {
        let mut bytes = [0; HEADER];
        (read(at, &mut bytes) == Some(HEADER)).then_some(bytes)
    };
    let Some(first) = header(0) else {
        return false;
    };
    if is_sqlite(&first) || is_bbolt(&first) {
        return true;
    }
    // Of pages of this size, enough must be what `is_page` says; those of zeros were never written.
    let sampled = |page: u64, is_page: &dyn Fn(u64, &[u8; HEADER]) -> bool| {
        let pages = size / page;
        if !size.is_multiple_of(page) || pages < SAMPLES || !is_page(0, &first) {
            return false;
        }
        let (mut good, mut bad) = (1, 0);
        for sample in 1..SAMPLES {
            let number = sample * (pages - 1) / (SAMPLES - 1);
            match header(number * page) {
                Some(bytes) if is_page(number, &bytes) => good += 1,
                Some(bytes) if bytes == [0; HEADER] => {}
                _ => bad += 1,
            }
        }
        good >= 2 && bad == 0
    };
    sampled(POSTGRES_PAGE, &|_, bytes| is_postgres(bytes))
        || INNODB_PAGES.iter().any(|page| {
            let space = number(&first, 34);
            sampled(*page, &|at, bytes| is_innodb(at, space, bytes))
        })
}

fn is_sqlite(first: &[u8; HEADER]) -> bool {
    first.starts_with(b"SQLite format 3\0")
}

/// A page header of 16 bytes that says "meta", then the magic number, then the version (etcd's database).
fn is_bbolt(first: &[u8; HEADER]) -> bool {
    first[8..10] == [4, 0] && first[16..24] == [0xed, 0xda, 0x0c, 0xed, 2, 0, 0, 0]
}

const POSTGRES_PAGE: u64 = 8192;

/// The header of a page of `PostgreSQL` (`PageHeaderData`, layout 4): where free space begins and ends and what is
/// behind it, in order, and size and layout in one word.
fn is_postgres(page: &[u8; HEADER]) -> bool {
    let word = |at: usize| u16::from_le_bytes([page[at], page[at + 1]]);
    let (lower, upper, special) = (word(12), word(14), word(16));
    word(18) == 0x2004 && 24 <= lower && lower <= upper && upper <= special && special <= 8192
}

const INNODB_PAGES: [u64; 5] = [16 << 10, 8 << 10, 4 << 10, 32 << 10, 64 << 10];

/// The header of a page of `InnoDB`: its number, a kind that there is, and its tablespace.
fn is_innodb(at: u64, space: u32, page: &[u8; HEADER]) -> bool {
    let kind = u16::from_be_bytes([page[24], page[25]]);
    let is_known = matches!(kind, 1..=45 | 17853..=17855);
    // The first page of a tablespace describes it.
    let is_first = at != 0 || (matches!(kind, 8 | 5) && number(page, 38) == space);
    u64::from(number(page, 4)) == at && number(page, 34) == space && is_known && is_first
}

fn number(page: &[u8; HEADER], at: usize) -> u32 {
    u32::from_be_bytes([page[at], page[at + 1], page[at + 2], page[at + 3]])
}

#[cfg(test)]
mod tests {
    use orlop_repository::{Key, Secret};
    use proptest::prelude::*;

    use super::*;

    fn look(bytes: &[u8]) -> bool {
        look_paged(bytes.len() as u64, |at, into| {
            let from = usize::try_from(at).unwrap();
            into.copy_from_slice(bytes.get(from..from + into.len())?);
            Some(into.len())
        })
    }

    fn postgres(pages: usize) -> Vec<u8> {
        let mut page = vec![7; 8192];
        page[12..20].copy_from_slice(&[0x30, 0, 0x40, 0x10, 0, 0x20, 0x04, 0x20]);
        page.repeat(pages)
    }

    fn innodb(size: usize, pages: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        for number in 0..pages {
            let mut page = vec![9; size];
            page[4..8].copy_from_slice(&number.to_be_bytes());
            page[24..26].copy_from_slice(&(if number == 0 { 8_u16 } else { 17855 }).to_be_bytes());
            page[34..38].copy_from_slice(&77_u32.to_be_bytes());
            page[38..42].copy_from_slice(&77_u32.to_be_bytes());
            bytes.extend(page);
        }
        bytes
    }

    #[test]
    fn databases_are_known_by_their_pages() {
        assert!(look(&postgres(130)));
        assert!(look(&innodb(16 << 10, 70)));
        assert!(look(&innodb(4 << 10, 70)));
        let mut sqlite = vec![1; 1 << 20];
        sqlite[..16].copy_from_slice(b"SQLite format 3\0");
        assert!(look(&sqlite));
        let mut bbolt = vec![0; 1 << 20];
        bbolt[8] = 4;
        bbolt[16..24].copy_from_slice(&[0xed, 0xda, 0x0c, 0xed, 2, 0, 0, 0]);
        assert!(look(&bbolt));
    }

    #[test]
    fn pages_that_were_never_written_are_neither_for_nor_against() {
        let mut bytes = postgres(130);
        bytes[8192 * 100..].fill(0);
        assert!(look(&bytes));
        bytes[8192..].fill(0);
        assert!(!look(&bytes));
    }

    #[test]
    fn what_only_begins_as_a_database_is_none() {
        let mut bytes = postgres(130);
        bytes[8192 * 60..].fill(3);
        assert!(!look(&bytes));
        assert!(!look(&postgres(130)[..8192 * 129 + 5]));
        let mut bytes = innodb(16 << 10, 70);
        bytes.rotate_left(16 << 10);
        assert!(!look(&bytes));
        assert!(!look(b"SQLite"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged(bytes in proptest::collection::vec(any::<u8>(), 0..2000), times in 1_usize..200) {
            let bytes = bytes.repeat(times);
            let is_magic = bytes.len() >= HEADER
                && bytes.first_chunk().is_some_and(|first| is_sqlite(first) || is_bbolt(first) || is_postgres(first));
            prop_assert!(!look(&bytes) || is_magic);
        }
    }

    #[test]
    fn how_a_file_was_cut_shows_in_its_extents() {
        let secret = Secret::of(&Key::from_bytes([1; 32]), b"");
        let data = |len| Extent::Data { secret, len };
        let class = |extents: &[Extent]| Class::of_extents(extents, 256 << 10, 1 << 20);
        let page = PAGE_CHUNK as u32;
        let pages = vec![data(page); 5];
        assert_eq!(class(&pages), Some(Class::Page));
        assert_eq!(class(&pages[..3]), None);
        let shifted = [vec![data(page - 4096), Extent::Hole(4096)], pages.clone()].concat();
        assert_eq!(class(&shifted), Some(Class::Page));
        assert_eq!(
            class(&[pages, vec![data(2 << 20)]].concat()),
            Some(Class::Content)
        );
        assert_eq!(class(&[data(2 << 20)]), Some(Class::Content));
        assert_eq!(class(&[Extent::Zero(1 << 30)]), None);
        let fine = [300_000, 100_000, 80_000, 900_000].map(data);
        assert_eq!(class(&fine), Some(Class::Fine));
        let content = [300_000, 400_000, 500_000, 80_000].map(data);
        assert_eq!(class(&content), Some(Class::Content));
    }
}
