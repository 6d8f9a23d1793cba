//! The local tree: the only code that names the file system. All work is relative to one opened root directory.

pub(crate) mod cache;
mod directory;
pub(crate) mod lock;
mod meta;
mod order;
mod read;
mod root;
mod scan;
mod scanned;
pub(crate) mod state_place;
mod tree_file;
mod walker;
mod write;

pub(crate) use self::{
    meta::{FileKind, Metadata, Stat, Unapplied},
    read::OpenFile,
    root::Root,
    scan::{ScanOptions, scan},
    scanned::Scanned,
    write::NewFile,
};

use nbws_core::tree::{Timestamp, Xattr};
use nbws_core::{Error, ErrorKind};
use rustix::io::Errno;
use std::borrow::Cow;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A path that exists but is not in the scan, and why.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Skipped {
    /// Path below the root; the root itself is "".
    pub path: Vec<u8>,
    /// Why it was left out.
    pub reason: SkipReason,
}

/// Why a path was left out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum SkipReason {
    /// A socket: it has no content to keep.
    Socket,
    /// A FIFO: it has no content to keep.
    Fifo,
    /// A character or block device.
    Device,
    /// Another file system or a bind mount begins here.
    Mount,
    /// The file system refused; holds the text of its error.
    Unreadable(String),
    /// It was there and went away while it was read.
    Vanished,
    /// It turned into something else while it was read.
    Replaced,
    /// Its path is longer than a snapshot may hold.
    PathTooLong,
}

impl SkipReason {
    /// Why a file of that kind is never stored; `None` if it is.
    fn of_kind(kind: FileKind) -> Option<SkipReason> {
        match kind {
            FileKind::Directory | FileKind::File | FileKind::Symlink => None,
            FileKind::Fifo => Some(SkipReason::Fifo),
            FileKind::Socket => Some(SkipReason::Socket),
            FileKind::Device => Some(SkipReason::Device),
        }
    }

    /// A stable word for reports and JSON.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            SkipReason::Socket => "socket",
            SkipReason::Fifo => "fifo",
            SkipReason::Device => "device",
            SkipReason::Mount => "mount",
            SkipReason::Unreadable(_) => "unreadable",
            SkipReason::Vanished => "vanished",
            SkipReason::Replaced => "replaced",
            SkipReason::PathTooLong => "path_too_long",
        }
    }

    /// The text for people: the word, and what the file system said if it said something.
    pub(crate) fn text(&self) -> Cow<'static, str> {
        match self {
            SkipReason::Unreadable(why) => format!("unreadable: {why}").into(),
            other => other.name().into(),
        }
    }

    /// Whether the last stored state of the path still counts, because what is there could not be read.
    pub(crate) fn keeps_base(&self) -> bool {
        matches!(self, SkipReason::Unreadable(_) | SkipReason::Replaced)
    }
}

/// Whether a call failed because nothing is at the path any more.
pub(crate) fn is_gone(error: &Error) -> bool {
    error.os_error() == Some(Errno::NOENT.raw_os_error())
}

/// Whether a call failed because modes forbid it.
pub(crate) fn is_closed(error: &Error) -> bool {
    error.os_error() == Some(Errno::ACCESS.raw_os_error())
}

/// The text of an error number.
fn errno_text(errno: Errno) -> String {
    std::io::Error::from(errno).to_string()
}

/// The error of a refused call on `path`.
fn fault(operation: &'static str, path: &[u8], errno: Errno) -> Error {
    let cause = std::io::Error::from(errno);
    let known = |kind, text: &'static str| Error::new(kind, operation, text);
    match errno {
        Errno::EXIST => known(ErrorKind::AlreadyExists, "something is there already"),
        Errno::LOOP => known(
            ErrorKind::LocalIo,
            "a symbolic link is in the way; links inside a workspace are never followed",
        ),
        Errno::MFILE | Errno::NFILE => known(
            ErrorKind::LocalIo,
            "no file descriptor is left; raise the limit of open files",
        ),
        _ => return Error::local(operation, path, cause),
    }
    .at_path(path)
    .caused_by(cause)
}

#[cfg(test)]
mod tests;

/// `path` without links and dots.
pub(crate) fn real_path(path: &Path) -> nbws_core::Result<PathBuf> {
    std::fs::canonicalize(path).map_err(|e| Error::local("open", path.as_os_str().as_bytes(), e))
}
