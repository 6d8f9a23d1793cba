//! Where local state goes: never inside the workspace, and only where it can be written.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Where local state goes, and why it is not where the caller expected.
#[derive(Clone, Debug, Default)]
pub(crate) struct StatePlace {
    /// `None`: there is no place; everything is read again, and proofs live in this process only.
    pub(crate) root: Option<PathBuf>,
    /// A sentence for the report.
    pub(crate) notice: Option<String>,
}

/// Chooses the state directory: `wished`, else `NBWS_STATE`, else `$XDG_STATE_HOME/nbws`, else `~/.local/state/nbws`; never
/// inside `workspace`, and only where it can be written: otherwise a private directory below the system's temporary one.
pub(crate) fn choose_state_place(wished: Option<&Path>, workspace: &Path) -> StatePlace {
    let preferred = preferred(wished);
    let why = match &preferred {
        Some(path) if is_inside(path, workspace) => "it would lie inside the workspace",
        Some(path) if usable(path) => {
            return StatePlace {
                root: preferred,
                notice: None,
            };
        }
        Some(_) => "it can't be written",
        None => "HOME is not set",
    };
    let (fallback, user) = fallback();
    if !is_inside(&fallback, workspace) && usable(&fallback) && is_private(&fallback, user) {
        let notice = format!("local state is kept in {}: {why}", fallback.display());
        return StatePlace {
            root: Some(fallback),
            notice: Some(notice),
        };
    }
    StatePlace {
        root: None,
        notice: Some(format!(
            "no local state ({why}, and the temporary directory is no better): every file is read again"
        )),
    }
}

/// Everywhere that state may have been put, for a workspace that is not known.
pub(crate) fn state_places(wished: Option<&Path>) -> Vec<PathBuf> {
    let (fallback, user) = fallback();
    let private = is_private(&fallback, user).then_some(fallback);
    preferred(wished).into_iter().chain(private).collect()
}

fn preferred(wished: Option<&Path>) -> Option<PathBuf> {
    let variable = |name: &str| {
        std::env::var_os(name)
            .filter(|v| !v.is_empty())
            .map(PathBuf::from)
    };
    wished
        .map(Path::to_path_buf)
        .or_else(|| variable("NBWS_STATE"))
        .or_else(|| variable("XDG_STATE_HOME").map(|p| p.join("nbws")))
        .or_else(|| variable("HOME").map(|p| p.join(".local/state/nbws")))
}

fn fallback() -> (PathBuf, u32) {
    let user = rustix::process::geteuid().as_raw();
    let path = std::env::temp_dir().join(format!("nbws-state-{user}"));
    (path, user)
}

fn is_inside(path: &Path, workspace: &Path) -> bool {
    // The state directory may not exist yet: its nearest existing ancestor decides.
    let existing = path.ancestors().find_map(|p| fs::canonicalize(p).ok());
    let workspace = fs::canonicalize(workspace).unwrap_or_else(|_| workspace.to_path_buf());
    path.starts_with(&workspace) || existing.is_some_and(|p| p.starts_with(&workspace))
}

fn usable(path: &Path) -> bool {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .is_ok()
        && rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok()
}

fn is_private(path: &Path, user: u32) -> bool {
    fs::symlink_metadata(path).is_ok_and(|m| m.is_dir() && m.uid() == user && m.mode() & 0o077 == 0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn state_never_lies_inside_the_workspace() {
        let dir = tempfile::tempdir().unwrap();
        let inside = dir.path().join("a/b/state");
        let place = choose_state_place(Some(&inside), dir.path());
        assert!(place.root.is_none_or(|root| !root.starts_with(dir.path())));
        assert!(place.notice.unwrap().contains("inside the workspace"));
        assert!(!inside.exists());
    }
}
