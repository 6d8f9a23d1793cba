//! Everything that a restore does to the disk: relative to the root's descriptor, following no link, never outside the root.

use super::meta::{self, FileKind, Metadata, Stat, Unapplied};
use super::{Root, fault};
use nbws_core::limits::MAX_LINK_BYTES;
use nbws_core::{Error, ErrorKind, Result, path};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

/// Permission bits of a file until it is finished.
const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);

/// A regular file that this restore is writing; readable for its owner only until `finish`.
#[derive(Debug)]
pub(crate) struct NewFile {
    fd: OwnedFd,
    path: Box<[u8]>,
}

impl Root {
    /// Makes one directory, for the owner only until its metadata is set; `AlreadyExists` if something is there.
    pub(crate) fn make_directory(&self, path: &[u8]) -> Result<()> {
        path::check(path)?;
        self.in_parent(path, |directory, name| {
            rustix::fs::mkdirat(directory, name, Mode::RWXU)
        })
        .map_err(|errno| fault("make directory", path, errno))
    }

    /// Creates a file; `AlreadyExists` if something is there, a link included.
    pub(crate) fn create_file(&self, path: &[u8]) -> Result<NewFile> {
        path::check(path)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOCTTY;
        let fd = self
            .open_beneath(path, flags, FILE_MODE)
            .map_err(|errno| fault("create", path, errno))?;
        Ok(NewFile {
            fd,
            path: path.into(),
        })
    }

    /// Opens a file that this restore created, to write more of it.
    pub(crate) fn reopen_file(&self, path: &[u8]) -> Result<NewFile> {
        path::check(path)?;
        let failed = |errno| fault("reopen", path, errno);
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let fd = self
            .open_beneath(path, flags, Mode::empty())
            .map_err(failed)?;
        let file = NewFile {
            fd,
            path: path.into(),
        };
        if file.stat()?.kind != FileKind::File {
            let text = "is no longer a regular file";
            return Err(Error::new(ErrorKind::LocalIo, "reopen", text).at_path(path));
        }
        Ok(file)
    }

    /// Makes a symbolic link; its target is stored as it is and never looked at.
    pub(crate) fn make_symlink(&self, path: &[u8], target: &[u8]) -> Result<()> {
        path::check(path)?;
        if target.is_empty() || target.len() > MAX_LINK_BYTES || target.contains(&0) {
            return Err(
                Error::corrupt("make link", "its target is empty, too long or holds NUL")
                    .at_path(path),
            );
        }
        self.in_parent(path, |directory, name| {
            rustix::fs::symlinkat(target, directory, name)
        })
        .map_err(|errno| fault("make link", path, errno))
    }

    /// Gives the file at `existing` the further name `path`; links are not followed, neither may be outside the root.
    pub(crate) fn make_hard_link(&self, existing: &[u8], path: &[u8]) -> Result<()> {
        path::check(existing)?;
        path::check(path)?;
        self.in_parent(existing, |from, old| {
            self.in_parent(path, |to, new| {
                rustix::fs::linkat(from, old, to, new, AtFlags::empty())
            })
        })
        .map_err(|errno| fault("make hard link", path, errno))
    }

    /// Renames atomically; what is at `to` is replaced.
    pub(crate) fn rename(&self, from: &[u8], to: &[u8]) -> Result<()> {
        path::check(from)?;
        path::check(to)?;
        self.in_parent(from, |old_directory, old| {
            self.in_parent(to, |new_directory, new| {
                rustix::fs::renameat(old_directory, old, new_directory, new)
            })
        })
        .map_err(|errno| fault("rename", to, errno))
    }

    /// Removes anything but a directory, a link itself and not what it names; nothing there is no error.
    pub(crate) fn remove_file(&self, path: &[u8]) -> Result<()> {
        self.remove(path, AtFlags::empty())
    }

    /// Removes a directory if it is empty; nothing there is no error.
    pub(crate) fn remove_directory(&self, path: &[u8]) -> Result<()> {
        self.remove(path, AtFlags::REMOVEDIR)
    }

    fn remove(&self, path: &[u8], flags: AtFlags) -> Result<()> {
        path::check(path)?;
        match self.in_parent(path, |directory, name| {
            rustix::fs::unlinkat(directory, name, flags)
        }) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            // POSIX lets a file system say "exists" for "not empty".
            Err(Errno::EXIST) => Err(fault("remove", path, Errno::NOTEMPTY)),
            Err(errno) => Err(fault("remove", path, errno)),
        }
    }

    /// Sets the metadata of what is at `path` and must be of `kind`; other `user.` attributes are removed. Returns what could
    /// not be set for lack of rights or abilities of the file system. A symbolic link has an owner and a time only.
    pub(crate) fn set_metadata(
        &self,
        path: &[u8],
        kind: FileKind,
        metadata: &Metadata<'_>,
    ) -> Result<Vec<Unapplied>> {
        path::check(path)?;
        match kind {
            FileKind::Symlink => self.set_link_metadata(path, metadata),
            FileKind::Directory => self.set_opened_metadata(path, OFlags::DIRECTORY, metadata),
            _ => self.set_opened_metadata(path, OFlags::NONBLOCK, metadata),
        }
        .map_err(|errno| fault("set metadata", path, errno))
    }

    fn set_opened_metadata(
        &self,
        path: &[u8],
        flags: OFlags,
        metadata: &Metadata<'_>,
    ) -> Result<Vec<Unapplied>, Errno> {
        let flags = OFlags::RDONLY | OFlags::NOCTTY | flags;
        let fd = match self.open_beneath(path, flags, Mode::empty()) {
            Err(Errno::ACCESS) => {
                self.let_owner_in(path, flags.contains(OFlags::DIRECTORY))?;
                self.open_beneath(path, flags, Mode::empty())?
            }
            outcome => outcome?,
        };
        if !flags.contains(OFlags::DIRECTORY) {
            let raw = meta::statx_of(&fd)?;
            if Stat::from_statx(&raw).kind != FileKind::File {
                return Err(Errno::INVAL);
            }
        }
        meta::apply(fd.as_fd(), metadata, false)
    }

    /// Gives the owner access to a path whose mode forbids it.
    fn let_owner_in(&self, path: &[u8], is_directory: bool) -> Result<(), Errno> {
        let fd = self.open_beneath(path, OFlags::PATH, Mode::empty())?;
        let kind = Stat::from_statx(&meta::statx_of(&fd)?).kind;
        let mode = match kind {
            FileKind::Directory if is_directory => Mode::RWXU,
            FileKind::File if !is_directory => FILE_MODE,
            _ => return Err(Errno::INVAL),
        };
        chmod_opened(&fd, mode)
    }

    /// Sets the permission bits of the directory at `path`, whatever its present ones allow.
    pub(crate) fn set_directory_mode(&self, path: &[u8], mode: u16) -> Result<()> {
        path::check(path)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        self.open_beneath(path, flags, Mode::empty())
            .and_then(|fd| chmod_opened(&fd, Mode::from_raw_mode(mode.into())))
            .map_err(|errno| fault("set mode", path, errno))
    }

    fn set_link_metadata(
        &self,
        path: &[u8],
        metadata: &Metadata<'_>,
    ) -> Result<Vec<Unapplied>, Errno> {
        let mut unapplied = Vec::new();
        self.in_parent(path, |directory, name| {
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            if let Some(owner) = metadata.owner {
                let changed = match meta::owner_ids(owner) {
                    Some((uid, gid)) => {
                        rustix::fs::chownat(directory, name, Some(uid), Some(gid), flags)
                    }
                    None => Err(Errno::INVAL),
                };
                meta::tolerate(changed, "owner", &mut unapplied)?;
            }
            let times = meta::timestamps(metadata.mtime);
            rustix::fs::utimensat(directory, name, &times, flags)
        })?;
        Ok(unapplied)
    }

    /// Removes the directory `name` at the top, with everything in it; nothing there is no error. Links are removed, not followed.
    pub(crate) fn remove_tree(&self, name: &[u8]) -> Result<()> {
        path::check(name)?;
        let path = self.path().join(std::ffi::OsStr::from_bytes(name));
        match std::fs::remove_dir_all(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::local("remove", name, e))
            }
            _ => Ok(()),
        }
    }

    /// Sets the permission bits of the root directory itself; without the right to do so they stay as they are.
    pub(crate) fn set_root_mode(&self, mode: u16) -> Result<()> {
        match rustix::fs::fchmod(self.descriptor(), Mode::from_raw_mode(u32::from(mode))) {
            Ok(()) | Err(Errno::PERM | Errno::ROFS) => Ok(()),
            Err(errno) => Err(fault("set mode", b"", errno)),
        }
    }

    /// Waits until everything written to the root's file system is on disk.
    pub(crate) fn sync_file_system(&self) -> Result<()> {
        rustix::fs::syncfs(self.descriptor()).map_err(|errno| fault("sync", b"", errno))
    }
}

/// Changes the mode of what `fd` was opened as a path to: such a descriptor can't, its name under /proc can.
fn chmod_opened(fd: &OwnedFd, mode: Mode) -> Result<(), Errno> {
    let name = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(fd));
    rustix::fs::chmod(name, mode)
}

impl NewFile {
    /// Writes all of `bytes` at `offset`.
    pub(crate) fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        let mut written = 0;
        while written < bytes.len() {
            let at = offset.saturating_add(written as u64);
            match rustix::io::pwrite(&self.fd, &bytes[written..], at) {
                Ok(0) => return Err(self.failed("write", Errno::IO)),
                Ok(count) => written += count,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(self.failed("write", errno)),
            }
        }
        Ok(())
    }

    /// Cuts or extends the file; what is added is a hole.
    pub(crate) fn set_length(&self, length: u64) -> Result<()> {
        rustix::io::retry_on_intr(|| rustix::fs::ftruncate(&self.fd, length))
            .map_err(|errno| self.failed("set length", errno))
    }

    /// What the file is now.
    pub(crate) fn stat(&self) -> Result<Stat> {
        let raw = meta::statx_of(&self.fd).map_err(|errno| self.failed("stat", errno))?;
        Ok(Stat::from_statx(&raw))
    }

    /// Sets the metadata; returns the file's state after it, and what could not be set for lack of rights or abilities of
    /// the file system.
    pub(crate) fn finish(self, metadata: &Metadata<'_>) -> Result<(Stat, Vec<Unapplied>)> {
        let unapplied = meta::apply(self.fd.as_fd(), metadata, true)
            .map_err(|errno| self.failed("set metadata", errno))?;
        Ok((self.stat()?, unapplied))
    }

    fn failed(&self, operation: &'static str, errno: Errno) -> Error {
        fault(operation, &self.path, errno)
    }
}
