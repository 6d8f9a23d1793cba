//! The opened root directory of a tree; every path below it is resolved from its descriptor and follows no link.

use super::meta::{self, Stat};
use super::{Timestamp, fault};
use nbws_core::path::{self, TEMPORARY_PREFIX};
use nbws_core::{Error, ErrorKind, Result};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Longest path given to one call: `PATH_MAX` of Linux less its NUL.
const MAX_CALL_PATH_BYTES: usize = 4_095;
/// Tries of a resolution that raced with a rename.
const RESOLVE_TRIES: usize = 16;
/// How a directory on the way to a path is opened.
const STEP: OFlags = OFlags::PATH
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);
/// Resolution that stays below the directory it starts from.
const BENEATH: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS);

/// What makes a root the same as before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RootIdentity {
    /// Device number of its file system; may change when the machine starts anew.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// Mount that it was reached through, where the kernel tells it.
    pub mnt_id: Option<u64>,
    /// When it was made, where the file system tells it: seconds since 1970 UTC, and nanoseconds.
    pub birth: Option<(i64, u32)>,
}

/// An opened directory; all work is relative to its descriptor, whatever happens to its name.
#[derive(Debug)]
pub(crate) struct Root {
    fd: OwnedFd,
    path: PathBuf,
    /// Whether the kernel resolves whole paths without following links (openat2, Linux 5.6; some sandboxes refuse it).
    resolves: bool,
}

impl Root {
    /// Opens the directory at `path`; links on the way to it are followed, for the caller chose them.
    ///
    /// Fails with `NotFound` if nothing is there, `InvalidInput` if it is not a directory, else `LocalIo`.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(|errno| {
            let bytes = path.as_os_str().as_bytes();
            let known = |kind, text: &'static str| {
                Error::new(kind, "open workspace", text)
                    .at_path(bytes)
                    .caused_by(std::io::Error::from(errno))
            };
            match errno {
                Errno::NOENT => known(ErrorKind::NotFound, "does not exist"),
                Errno::NOTDIR => known(ErrorKind::InvalidInput, "is not a directory"),
                _ => fault("open workspace", bytes, errno),
            }
        })?;
        let resolves = rustix::fs::openat2(&fd, c".", STEP, Mode::empty(), BENEATH).is_ok();
        Ok(Root {
            fd,
            path: path.to_owned(),
            resolves,
        })
    }

    /// Opens the directory at `path`, made with its parents if it is missing.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        match std::fs::create_dir_all(path) {
            Ok(()) => {}
            // Something that is no directory: `open` words it.
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => {
                let bytes = path.as_os_str().as_bytes();
                return Err(Error::local("create workspace", bytes, error));
            }
        }
        Root::open(path)
    }

    /// The path that it was opened by, for messages.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The descriptor, for a lock on the directory.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Whether nothing lies in the directory.
    pub(crate) fn is_empty(&self) -> Result<bool> {
        let failed = |e| fault("list workspace", b"", e);
        for entry in rustix::fs::Dir::read_from(&self.fd).map_err(failed)? {
            if !matches!(entry.map_err(failed)?.file_name().to_bytes(), b"." | b"..") {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What makes this directory the same as before.
    pub(crate) fn identity(&self) -> Result<RootIdentity> {
        let raw = meta::statx_with_birth(&self.fd).map_err(|e| fault("stat workspace", b"", e))?;
        Ok(RootIdentity {
            dev: meta::device(&raw),
            ino: raw.stx_ino,
            mnt_id: meta::mount(&raw),
            birth: meta::birth(&raw),
        })
    }

    /// Mode, times and owner of the directory itself.
    pub(crate) fn stat_root(&self) -> Result<Stat> {
        let raw = meta::statx_of(&self.fd).map_err(|e| fault("stat workspace", b"", e))?;
        Ok(Stat::from_statx(&raw))
    }

    /// What the file system's clock says now: the time of a fresh file, which has no name where the file system allows it.
    /// Falls back to the local clock where nothing can be written.
    pub(crate) fn file_system_clock(&self) -> Result<Timestamp> {
        let fresh = OFlags::WRONLY | OFlags::TMPFILE | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        if let Ok(file) = rustix::fs::openat(&self.fd, c".", fresh, mode)
            && let Ok(raw) = meta::statx_of(&file)
        {
            return Ok(Stat::from_statx(&raw).ctime);
        }
        if let Ok(time) = self.clock_by_name() {
            return Ok(time);
        }
        let now = crate::clock::now_ms();
        Ok(Timestamp {
            seconds: i64::try_from(now / 1_000).unwrap_or(i64::MAX),
            nanos: u32::try_from(now % 1_000).unwrap_or(0) * 1_000_000,
        })
    }

    fn clock_by_name(&self) -> Result<Timestamp, Errno> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|_| Errno::IO)?;
        let mut name = [TEMPORARY_PREFIX, b"clock-"].concat();
        name.extend_from_slice(format!("{:016x}", u64::from_le_bytes(random)).as_bytes());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.fd, &name[..], flags, Mode::RUSR | Mode::WUSR)?;
        let raw = meta::statx_of(&file);
        rustix::fs::unlinkat(&self.fd, &name[..], AtFlags::empty())?;
        Ok(Stat::from_statx(&raw?).ctime)
    }

    /// Opens `path` below the root without following a link anywhere on it, in steps if it is long.
    pub(super) fn open_beneath(
        &self,
        path: &[u8],
        flags: OFlags,
        mode: Mode,
    ) -> Result<OwnedFd, Errno> {
        let mut reached: Option<OwnedFd> = None;
        let mut rest = path;
        loop {
            let from = reached.as_ref().map_or(self.fd.as_fd(), AsFd::as_fd);
            let Some(at) = self.step(rest) else {
                return self.open_at(from, rest, flags, mode, ResolveFlags::empty());
            };
            let next = self.open_at(
                from,
                &rest[..at],
                STEP,
                Mode::empty(),
                ResolveFlags::empty(),
            )?;
            reached = Some(next);
            rest = &rest[at + 1..];
        }
    }

    /// Where the part of `path` ends that is opened first; `None` when one call does.
    fn step(&self, path: &[u8]) -> Option<usize> {
        if !self.resolves {
            return path.iter().position(|byte| *byte == b'/');
        }
        if path.len() <= MAX_CALL_PATH_BYTES {
            return None;
        }
        path[..MAX_CALL_PATH_BYTES]
            .iter()
            .rposition(|byte| *byte == b'/')
    }

    /// Opens `path` below `directory`: of one component unless the kernel resolves whole paths. `more` adds to the resolution.
    pub(super) fn open_at(
        &self,
        directory: BorrowedFd<'_>,
        path: &[u8],
        flags: OFlags,
        mode: Mode,
        more: ResolveFlags,
    ) -> Result<OwnedFd, Errno> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if !self.resolves {
            return rustix::fs::openat(directory, path, flags, mode);
        }
        for _ in 1..RESOLVE_TRIES {
            match rustix::fs::openat2(directory, path, flags, mode, BENEATH | more) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                outcome => return outcome,
            }
        }
        rustix::fs::openat2(directory, path, flags, mode, BENEATH | more)
    }

    /// Calls `act` with the descriptor of the parent of `path`, and its name there.
    pub(super) fn in_parent<T>(
        &self,
        path: &[u8],
        act: impl FnOnce(BorrowedFd<'_>, &[u8]) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        match path::parent(path) {
            None => act(self.fd.as_fd(), path),
            Some(parent) => {
                let directory = self.open_beneath(parent, STEP, Mode::empty())?;
                act(directory.as_fd(), path::name(path))
            }
        }
    }

    /// A root that resolves component by component, as on old kernels.
    #[cfg(test)]
    pub(super) fn open_stepwise(path: &Path) -> Result<Self> {
        Ok(Root {
            resolves: false,
            ..Root::open(path)?
        })
    }
}
