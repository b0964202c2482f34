//! What a manifest knows of one file, directory, link or special of a volume.

use orlop_core::Timestamp;

use crate::secret::Secret;

/// The type of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum EntryKind {
    /// A regular file.
    File = 1,
    /// A directory.
    Directory = 2,
    /// A symbolic link.
    Symlink = 3,
    /// A named pipe.
    Fifo = 4,
    /// A UNIX socket.
    Socket = 5,
    /// A character device.
    CharDevice = 6,
    /// A block device.
    BlockDevice = 7,
}

/// One extended attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Xattr {
    /// The full name with its namespace, such as `security.capability`, without the NUL.
    pub name: Vec<u8>,
    /// The value, at most 64 KiB.
    pub value: Vec<u8>,
}

/// Owner, permissions, times and attributes of an entry, as `lstat` and `listxattr` show them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Metadata {
    /// Permission bits with setuid, setgid and sticky: 0 to 0o7777.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last modification of the content.
    pub mtime: Timestamp,
    /// Inode flags of `FS_IOC_GETFLAGS` that are kept (immutable, append, nodump, …); 0 if none.
    pub flags: u32,
    /// Device number (major << 32 | minor) of character and block devices, else 0.
    pub rdev: u64,
    /// Sorted by name.
    pub xattrs: Vec<Xattr>,
}

/// A run of a file's bytes. Extents follow one another from offset 0 without gaps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Extent {
    /// `len` bytes that are the whole of a chunk.
    Data {
        /// Content secret of the chunk.
        secret: Secret,
        /// Bytes, 1 to 16 MiB.
        len: u32,
    },
    /// `len` bytes at `offset` of a bundle chunk.
    Bundle {
        /// Content secret of the bundle.
        secret: Secret,
        /// Offset in the bundle in bytes.
        offset: u32,
        /// Bytes.
        len: u32,
    },
    /// Bytes kept in the manifest itself.
    Inline(Vec<u8>),
    /// A hole of `len` bytes: nothing is allocated.
    Hole(u64),
    /// `len` zero bytes that were written.
    Zero(u64),
}

impl Extent {
    /// Bytes of the file that the extent covers.
    pub fn len(&self) -> u64 {
        match self {
            Self::Data { len, .. } | Self::Bundle { len, .. } => u64::from(*len),
            Self::Inline(bytes) => bytes.len() as u64,
            Self::Hole(len) | Self::Zero(len) => *len,
        }
    }

    /// Whether it covers nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Where a regular file's bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Not a regular file, or one that could not be read.
    None,
    /// All extents.
    Extents(Vec<Extent>),
    /// The extents are in chunks of their own, in order.
    Pages(Vec<ExtentPage>),
}

/// A run of a long extent list, kept in a chunk of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExtentPage {
    /// Content secret of the page.
    pub secret: Secret,
    /// Content secret of the reference page that lists the page's chunks.
    pub refs: Secret,
}

/// How well the entry could be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EntryStatus {
    /// As it was.
    #[default]
    Ok,
    /// Its data changed while it was read.
    Changed,
    /// Its data, or a directory's listing, could not be read: the error number.
    Unreadable(i32),
}

/// One entry of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Path below the volume's root: components joined by `/`, no leading slash, any bytes but NUL;
    /// empty for the root.
    pub path: Vec<u8>,
    /// Type.
    pub kind: EntryKind,
    /// Owner, permissions, times, attributes.
    pub meta: Metadata,
    /// Size in bytes of a regular file as stored (the sum of its extents); 0 for others.
    pub size: u64,
    /// Target of a symbolic link, else empty.
    pub target: Vec<u8>,
    /// Names of one regular file share a group (never 0) and all carry the file's content.
    pub hardlink: Option<HardlinkGroup>,
    /// A regular file's bytes.
    pub content: Content,
    /// Keyed digest of the whole of a small file (bundled or inline), to know its content again
    /// after its times moved; zero if there is none.
    pub digest: [u8; 16],
    /// How well it could be read.
    pub status: EntryStatus,
}

/// Names of one regular file within the snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HardlinkGroup {
    /// The group, unique in the snapshot.
    pub id: u64,
    /// How many names the file had when it was read; some may be outside the volume.
    pub links: u32,
}

impl Entry {
    /// An entry of which nothing is known but its metadata: without target, links and content.
    pub fn bare(path: Vec<u8>, kind: EntryKind, meta: Metadata) -> Self {
        Self {
            path,
            kind,
            meta,
            size: 0,
            target: Vec::new(),
            hardlink: None,
            content: Content::None,
            digest: [0; 16],
            status: EntryStatus::Ok,
        }
    }

    /// The last component of the path; empty for the root.
    pub fn name(&self) -> &[u8] {
        split_path(&self.path).1
    }

    /// The path of the directory that holds the entry.
    pub fn parent(&self) -> &[u8] {
        split_path(&self.path).0
    }
}

/// Directory and last component of a path.
pub fn split_path(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}
