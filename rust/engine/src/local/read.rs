//! Reading single paths of the tree.

use super::meta::{self, Stat};
use super::{Root, Xattr, fault};
use nbws_core::{Error, ErrorKind, Result, path};
use rustix::fs::{Mode, OFlags, SeekFrom};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A regular file opened for reading.
#[derive(Debug)]
pub(crate) struct OpenFile {
    fd: OwnedFd,
    path: Box<[u8]>,
    opened: Stat,
}

impl Root {
    /// Opens the regular file at `path` for reading, without touching its access time where that is allowed.
    ///
    /// Follows no link and can't hang: what turned into a FIFO, a device or anything else fails with `LocalIo`.
    pub(crate) fn open_file(&self, path: &[u8]) -> Result<OpenFile> {
        path::check(path)?;
        let failed = |errno| fault("open", path, errno);
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let open = |more| self.open_beneath(path, flags | more, Mode::empty());
        let fd = match open(OFlags::NOATIME) {
            Err(Errno::PERM) => open(OFlags::empty()),
            outcome => outcome,
        }
        .map_err(failed)?;
        let opened = Stat::from_statx(&meta::statx_of(&fd).map_err(failed)?);
        if opened.kind != meta::FileKind::File {
            return Err(
                Error::new(ErrorKind::LocalIo, "open", "is no longer a regular file").at_path(path),
            );
        }
        Ok(OpenFile {
            fd,
            path: path.into(),
            opened,
        })
    }

    /// The target of the symbolic link at `path`.
    pub(crate) fn read_link(&self, path: &[u8]) -> Result<Vec<u8>> {
        path::check(path)?;
        self.in_parent(path, |directory, name| {
            rustix::fs::readlinkat(directory, name, Vec::with_capacity(256))
        })
        .map(std::ffi::CString::into_bytes)
        .map_err(|errno| fault("read link", path, errno))
    }

    /// What is at `path`, itself not followed; `None` if nothing is there or a parent is no directory.
    pub(crate) fn stat(&self, path: &[u8]) -> Result<Option<Stat>> {
        path::check(path)?;
        match self.in_parent(path, meta::statx_at) {
            Ok(raw) => Ok(Some(Stat::from_statx(&raw))),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(errno) => Err(fault("stat", path, errno)),
        }
    }

    /// The `user.` extended attributes of the directory at `path`, sorted; a symbolic link has none.
    ///
    /// Fails with `Unsupported` if they are more or larger than a snapshot may hold.
    pub(crate) fn xattrs_of_link_or_directory(&self, path: &[u8]) -> Result<Vec<Xattr>> {
        path::check(path)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        match self.open_beneath(path, flags, Mode::empty()) {
            Ok(fd) => xattrs_of(fd.as_fd(), path),
            Err(errno @ (Errno::LOOP | Errno::NOTDIR)) => match self.stat(path)? {
                Some(stat) if stat.kind == meta::FileKind::Symlink => Ok(Vec::new()),
                _ => Err(fault("read xattrs", path, errno)),
            },
            Err(errno) => Err(fault("read xattrs", path, errno)),
        }
    }
}

impl OpenFile {
    /// What the file was when it was opened.
    pub(crate) fn opened(&self) -> &Stat {
        &self.opened
    }

    /// What the file is now.
    pub(crate) fn stat(&self) -> Result<Stat> {
        let raw = meta::statx_of(&self.fd).map_err(|errno| self.failed("stat", errno))?;
        Ok(Stat::from_statx(&raw))
    }

    /// Reads from `offset` until `buffer` is full or the file ends; returns the number of bytes read.
    pub(crate) fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            let at = offset.saturating_add(filled as u64);
            match rustix::io::pread(&self.fd, &mut buffer[filled..], at) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(self.failed("read", errno)),
            }
        }
        Ok(filled)
    }

    /// The next range that holds data at or after `offset`, as start and end, within the first `size` bytes; `None` when only
    /// a hole is left. A file system that keeps no map of holes answers with all that is left.
    pub(crate) fn next_data(&self, offset: u64, size: u64) -> Result<Option<(u64, u64)>> {
        if offset >= size {
            return Ok(None);
        }
        let start = match rustix::fs::seek(&self.fd, SeekFrom::Data(offset)) {
            Ok(start) => start,
            Err(Errno::NXIO) => return Ok(None),
            Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => {
                return Ok(Some((offset, size)));
            }
            Err(errno) => return Err(self.failed("find data", errno)),
        };
        if start >= size {
            return Ok(None);
        }
        let end = match rustix::fs::seek(&self.fd, SeekFrom::Hole(start)) {
            Ok(end) if end > start => end.min(size),
            // The file changed in between; the caller finds out by its second stat.
            Ok(_) | Err(Errno::NXIO | Errno::INVAL | Errno::OPNOTSUPP) => size,
            Err(errno) => return Err(self.failed("find data", errno)),
        };
        Ok(Some((start, end)))
    }

    /// The `user.` extended attributes, sorted by name; fails with `Unsupported` beyond what a snapshot may hold.
    pub(crate) fn xattrs(&self) -> Result<Vec<Xattr>> {
        xattrs_of(self.fd.as_fd(), &self.path)
    }

    /// Waits until the content is on disk: only then have writes through a shared mapping moved the times.
    pub(crate) fn sync_data(&self) -> Result<()> {
        rustix::fs::fdatasync(&self.fd).map_err(|errno| self.failed("sync", errno))
    }

    fn failed(&self, operation: &'static str, errno: Errno) -> Error {
        fault(operation, &self.path, errno)
    }
}

fn xattrs_of(fd: BorrowedFd<'_>, path: &[u8]) -> Result<Vec<Xattr>> {
    match meta::read_xattrs(fd) {
        Ok(Some(xattrs)) => Ok(xattrs),
        Ok(None) => Err(Error::new(
            ErrorKind::Unsupported,
            "read xattrs",
            "are more or larger than a snapshot may hold",
        )
        .at_path(path)),
        Err(errno) => Err(fault("read xattrs", path, errno)),
    }
}
