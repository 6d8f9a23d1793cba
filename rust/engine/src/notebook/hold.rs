//! One process at a time runs a notebook in one directory of this machine.

use crate::local::Root;
use crate::local::lock::FileLock;
use crate::place::place_of;
use crate::save::blocking;
use crate::workspace::Access;
use nbws_core::{Error, ErrorKind, Result};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The right to run the notebook in a directory, among the processes of this machine. It ends when dropped, also by a crash.
#[derive(Debug)]
pub struct Hold {
    path: PathBuf,
    _lock: Option<FileLock>,
}

impl Hold {
    /// The directory, resolved.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether there is local state that outlives the process; without it only the claim keeps others out.
    pub fn is_kept(&self) -> bool {
        self._lock.is_some()
    }
}

pub(super) async fn hold(access: &Arc<Access>, directory: &Path) -> Result<Hold> {
    let (access, directory) = (Arc::clone(access), directory.to_path_buf());
    blocking(move || {
        Root::create(&directory)?;
        let place = place_of(&access.inner, &directory)?;
        let lock = match &place.folder {
            None => None,
            Some(folder) => Some(folder.lock_session()?.ok_or_else(|| {
                Error::new(
                    ErrorKind::Conflict,
                    "start",
                    "another process of this machine runs the notebook in this directory",
                )
                .at_path(place.path.as_os_str().as_bytes())
            })?),
        };
        Ok(Hold {
            path: place.path,
            _lock: lock,
        })
    })
    .await
}
