//! One writer at a time on one directory of this machine: an advisory lock on the directory itself.

use crate::cancel::CancelToken;
use nbws_core::{Error, ErrorKind, Result};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

/// Held from before the scan until local state is written; let go when dropped, also by a crash.
#[derive(Debug)]
pub(crate) struct DirectoryLock(#[allow(dead_code)] File);

/// Locks `directory`; waits for another holder until cancelled.
pub(crate) fn lock_directory(directory: &Path, cancel: &CancelToken) -> Result<DirectoryLock> {
    let failed = |e: std::io::Error| Error::local("lock", directory.as_os_str().as_bytes(), e);
    let file = File::open(directory).map_err(failed)?;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(DirectoryLock(file)),
            Err(Errno::WOULDBLOCK) => {}
            Err(Errno::INTR) => continue,
            // Some network file systems have no locks; the log still keeps writers apart.
            Err(Errno::NOSYS | Errno::OPNOTSUPP | Errno::NOLCK) => return Ok(DirectoryLock(file)),
            Err(e) => return Err(failed(e.into())),
        }
        if cancel.is_cancelled() {
            return Err(Error::new(
                ErrorKind::Cancelled,
                "lock",
                "cancelled while another save or restore of this directory was running",
            )
            .at_path(directory.as_os_str().as_bytes()));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A lock on a file of its own; let go when dropped, also by a crash.
#[derive(Debug)]
pub(crate) struct FileLock(#[allow(dead_code)] File);

/// Locks `path`, which is made if it is missing; none if somebody holds it.
pub(crate) fn try_lock_file(path: &Path) -> Result<Option<FileLock>> {
    let failed = |e: std::io::Error| Error::local("lock", path.as_os_str().as_bytes(), e);
    let mut options = File::options();
    let file = options
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)
        .map_err(failed)?;
    loop {
        return match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(Errno::INTR) => continue,
            Ok(()) | Err(Errno::NOSYS | Errno::OPNOTSUPP | Errno::NOLCK) => {
                Ok(Some(FileLock(file)))
            }
            Err(e) => Err(failed(e.into())),
        };
    }
}
