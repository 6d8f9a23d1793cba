//! Where a target directory really lies, and where what is known of it is kept.

use crate::local::Root;
use crate::local::cache::StateFolder;
use crate::local::state_place::{StatePlace, choose_state_place};
use crate::workspace::Inner;
use nbws_core::{Error, Result};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Where a target really lies, and where what is known of it is kept.
pub(crate) struct Place {
    pub(crate) path: PathBuf,
    /// None: nothing can be kept.
    pub(crate) folder: Option<StateFolder>,
    /// A sentence for the report.
    pub(crate) notice: Option<String>,
}

/// Resolves `directory`, which must exist.
pub(crate) fn place_of(inner: &Inner, directory: &Path) -> Result<Place> {
    let path = std::path::absolute(directory)
        .map_err(|e| Error::local("open", directory.as_os_str().as_bytes(), e))?;
    Root::open(&path)?;
    let path = crate::local::real_path(&path)?;
    let StatePlace { root, notice } = choose_state_place(inner.options.state_dir.as_deref(), &path);
    let folder = root.map(|state| StateFolder::new(&state, inner.repository(), &path));
    Ok(Place {
        path,
        folder,
        notice,
    })
}
