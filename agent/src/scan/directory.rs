//! An open directory of a volume, from which its entries are reached.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

use orlop_repository::{EntryKind, Xattr};
use rustix::{
    fs::{Mode, OFlags, openat, readlinkat_raw},
    io::Errno,
};

use super::{
    attributes::{Subject, read_flags, read_xattrs},
    error::{ScanError, c_name},
    open::{Opener, Want},
    stat::{FileStat, Stat},
    visit::WalkOptions,
};

/// Longest symbolic link that is read: Linux has none above `PATH_MAX`.
const LINK_MAX: usize = 4096;
/// How often an entry may be replaced between two looks at it.
pub(crate) const REPLACED_MAX: u32 = 4;

/// An open directory of a volume. Holds one file descriptor.
#[derive(Debug)]
pub struct Directory {
    /// Path below the volume's root, as in a manifest entry; empty for the root.
    pub path: Vec<u8>,
    fd: Arc<OwnedFd>,
    stat: FileStat,
    opener: Opener,
}

impl Directory {
    /// The root of a volume, from any descriptor of it (one opened with `O_PATH` will do).
    ///
    /// # Errors
    /// It is not a directory, or cannot be listed.
    pub fn open_root(fd: OwnedFd, options: &WalkOptions) -> Result<Arc<Self>, ScanError> {
        // An own open file: the position in the listing is shared with nobody.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let own = openat(&fd, c".", flags, Mode::empty()).map_err(ScanError::of_name)?;
        drop(fd);
        let opener = Opener::new(own.as_fd(), options.force_fallback)?;
        let stat = Stat::of_fd(&own).map_err(ScanError::of_fd)?.file;
        Ok(Arc::new(Self {
            path: Vec::new(),
            fd: Arc::new(own),
            stat,
            opener,
        }))
    }

    pub(crate) fn new(path: Vec<u8>, fd: Arc<OwnedFd>, stat: FileStat, opener: Opener) -> Self {
        Self {
            path,
            fd,
            stat,
            opener,
        }
    }

    pub(crate) fn shared_fd(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.fd)
    }

    pub(crate) fn opener(&self) -> Opener {
        self.opener
    }

    /// The directory's own stat, taken when it was opened.
    pub fn stat_self(&self) -> FileStat {
        self.stat
    }

    /// The present stat of the directory itself.
    ///
    /// # Errors
    /// As for [`ScanError`].
    pub fn stat_again(&self) -> Result<FileStat, ScanError> {
        Ok(Stat::of_fd(&self.fd).map_err(ScanError::of_fd)?.file)
    }

    /// The path of an entry of this directory below the volume's root.
    pub fn join(&self, name: &[u8]) -> Vec<u8> {
        let mut path = Vec::with_capacity(self.path.len() + 1 + name.len());
        path.extend_from_slice(&self.path);
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        path
    }

    /// Opens the regular file `name` for reading, without touching its access time where allowed,
    /// and returns the stat of what was opened.
    ///
    /// # Errors
    /// `Vanished`, `Changed` if the name is no longer the object of `expected`, `Unreadable`.
    pub fn open_file(
        &self,
        name: &[u8],
        expected: &FileStat,
    ) -> Result<(File, FileStat), ScanError> {
        if expected.kind != EntryKind::File {
            return Err(ScanError::Changed);
        }
        let name = c_name(name)?;
        let (fd, stat) = self
            .opener
            .open(self.fd(), &name, Want::File, Some(expected))?;
        Ok((File::from(fd), stat.file))
    }

    /// As [`Directory::open_file`], but a regular file that has taken the place of the other one will do: who replaces a
    /// file by a rename never leaves its name without one.
    ///
    /// # Errors
    /// `Vanished` if nothing has the name, `Changed` if it is no regular file of the volume any more or is replaced again
    /// and again, `Unreadable`.
    pub fn open_present(
        &self,
        name: &[u8],
        expected: &FileStat,
    ) -> Result<(File, FileStat), ScanError> {
        let mut expected = *expected;
        for _ in 0..REPLACED_MAX {
            match self.open_file(name, &expected) {
                Err(ScanError::Changed | ScanError::Vanished) => {}
                opened => return opened,
            }
            expected = self.present(name)?;
        }
        self.open_file(name, &expected)
    }

    /// What has the name now.
    ///
    /// # Errors
    /// `Vanished` if nothing has, `Changed` if it is not on the volume's own mount, `Unreadable`.
    pub fn present(&self, name: &[u8]) -> Result<FileStat, ScanError> {
        let stat = self.opener.stat(self.fd(), &c_name(name)?);
        let stat = stat.map_err(ScanError::of_name)?;
        if self.opener.is_inside(&stat) && !stat.automount {
            Ok(stat.file)
        } else {
            Err(ScanError::Changed)
        }
    }

    /// The target of the symbolic link `name`.
    ///
    /// # Errors
    /// `Vanished`, `Changed` if it is no link any more, `Unreadable`.
    pub fn read_link(&self, name: &[u8]) -> Result<Vec<u8>, ScanError> {
        let name = c_name(name)?;
        let mut buffer = vec![0; LINK_MAX + 1];
        match readlinkat_raw(self.fd(), &*name, buffer.as_mut_slice()) {
            Ok(len) if len <= LINK_MAX => {
                buffer.truncate(len);
                Ok(buffer)
            }
            Ok(_) => Err(ScanError::Unreadable(Errno::NAMETOOLONG.raw_os_error())),
            Err(Errno::INVAL) => Err(ScanError::Changed),
            Err(errno) => Err(ScanError::of_name(errno)),
        }
    }

    /// Why the directory `name` will not be listed by the walk, as an error number: it cannot be opened,
    /// or another file system is mounted on it. `None` for what can be listed or is gone.
    pub fn why_unlisted(&self, name: &[u8], expected: &FileStat) -> Option<i32> {
        if name.is_empty() || expected.kind != EntryKind::Directory {
            return None;
        }
        let name = c_name(name).ok()?;
        let open = self
            .opener
            .open(self.fd(), &name, Want::Directory, Some(expected));
        match open {
            Err(ScanError::Unreadable(errno)) => Some(errno),
            Err(ScanError::Changed) => {
                let stat = self.opener.stat(self.fd(), &name).ok()?;
                let mounted = !self.opener.is_inside(&stat) || stat.automount;
                mounted.then(|| Errno::XDEV.raw_os_error())
            }
            _ => None,
        }
    }

    /// Extended attributes (sorted by name) and inode flags of the entry `name`, or of the directory
    /// itself for an empty name. Pipes, sockets, devices and links are never opened for reading.
    ///
    /// # Errors
    /// As for [`Directory::open_file`], and `AttributesTooLarge`.
    pub fn attributes(
        &self,
        name: &[u8],
        expected: &FileStat,
    ) -> Result<(Vec<Xattr>, u32), ScanError> {
        if name.is_empty() {
            return attributes_of(self.fd());
        }
        let name = c_name(name)?;
        let want = match expected.kind {
            EntryKind::File => Want::File,
            EntryKind::Directory => Want::Directory,
            _ => Want::Handle,
        };
        if want != Want::Handle {
            match self.opener.open(self.fd(), &name, want, Some(expected)) {
                Ok((fd, _)) => return attributes_of(fd.as_fd()),
                // Its attributes may be readable even so.
                Err(ScanError::Unreadable(_)) => {}
                Err(error) => return Err(error),
            }
        }
        let (handle, _) = self
            .opener
            .open(self.fd(), &name, Want::Handle, Some(expected))?;
        Ok((read_xattrs(&Subject::handle(handle.as_fd()))?, 0))
    }

    /// Extended attributes (sorted by name) and inode flags of an open file.
    ///
    /// # Errors
    /// The system refuses, or they are larger than 64 KiB each or 1 MiB together.
    pub fn file_attributes(file: &File) -> io::Result<(Vec<Xattr>, u32)> {
        Ok(attributes_of(file.as_fd())?)
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn attributes_of(fd: BorrowedFd<'_>) -> Result<(Vec<Xattr>, u32), ScanError> {
    Ok((read_xattrs(&Subject::Open(fd))?, read_flags(fd)))
}
