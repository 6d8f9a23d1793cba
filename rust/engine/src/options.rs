//! What a caller may ask of each verb; defaults are what `docs/` promises.

use crate::store::StoreOptions;
pub use nbws_core::plan::admit::{Count, Over, Quota};
pub use nbws_core::record::Retention;
use std::path::PathBuf;
use std::time::Duration;

/// How to open a repository.
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    /// Make the repository if nothing is there.
    pub create: bool,
    /// For a new repository: compare and restore uid and gid.
    pub numeric_ids: bool,
    /// Newest record known to have been committed: an older head is `RollbackDetected`.
    pub floor: Option<u64>,
    /// Directory of local state instead of `NBWS_STATE` and the XDG default.
    pub state_dir: Option<PathBuf>,
    /// Configuration of the store.
    pub store: StoreOptions,
    /// For a new repository: measure the store first and keep the outcome in `format`.
    pub probe: bool,
    /// The caller sees to it that there is one writer at a time, so that creates need not be atomic.
    pub exclusive: bool,
}

/// Compression level of a save.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Level {
    /// Follows the number of cores.
    #[default]
    Auto,
    /// Least CPU time.
    Fast,
    /// A zstd level, 1 to 19.
    Fixed(i32),
}

/// How to save.
#[derive(Clone, Debug, Default)]
pub struct SaveOptions {
    /// A note kept with the snapshot, at most 1,024 bytes.
    pub comment: Option<String>,
    /// Patterns (gitignore syntax) of paths to leave out.
    pub exclude: Vec<String>,
    /// Leave out directories that hold a valid CACHEDIR.TAG.
    pub cachedir_tag: bool,
    /// Limits on bytes and files.
    pub quota: Quota,
    /// Nothing but the last pack, with the tree, is sent after this long: what is in the store by then is committed, the rest is
    /// listed as omitted or kept from before.
    pub deadline: Option<Duration>,
    /// Compression level.
    pub level: Level,
    /// Read every file, whatever its stat says.
    pub reread: bool,
    /// The last save of a run: files that were modified shortly before the last one are read again, because writes through shared
    /// mappings move no timestamp for a while; and a quota never refuses it.
    pub is_last: bool,
    /// Save over a workspace head that this directory is not proven to descend from.
    pub take_over: bool,
    /// Worker threads; default: the cores this process may use.
    pub threads: Option<usize>,
    /// Memory budget in bytes; default: an eighth of the cgroup limit, 64 to 256 MiB.
    pub memory_bytes: Option<u64>,
    /// Upload rate in bytes per second.
    pub limit_rate: Option<u64>,
    /// What the snapshot says of the notebook.
    pub label: Label,
    /// The save belongs to the session that claimed this target: if a newer epoch is in force it is `Fenced`, and the work a rescue.
    pub in_session: bool,
}

/// What a snapshot says of the notebook that it was saved from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Label {
    /// What made it, such as `autosave`; default `save`.
    pub origin: Option<String>,
    /// Framework and its version.
    pub framework: Option<String>,
    /// Version of Python.
    pub python: Option<String>,
}

impl Label {
    /// The label of work that becomes the head, or of work that is kept beside it.
    pub(crate) fn of(&self, is_head: bool) -> Self {
        let origin = match is_head {
            true => self.origin.clone().unwrap_or_else(|| "save".to_owned()),
            false => "rescue".to_owned(),
        };
        Label {
            origin: Some(origin),
            ..self.clone()
        }
    }
}

/// What a preview looks at.
#[derive(Clone, Debug, Default)]
pub struct PreviewOptions {
    /// The save that is previewed. Deadline, comment and rate have no effect.
    pub save: SaveOptions,
    /// Look at names, times and sizes only; nothing is read.
    pub estimate: bool,
}

/// What a restore may remove (`docs/consistency.md`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Delete {
    /// Only where the target was empty or is proven to come from this repository; otherwise ask.
    #[default]
    Auto,
    /// Remove what the snapshot does not have.
    Yes,
    /// Keep what the snapshot does not have.
    No,
}

/// How to restore.
#[derive(Clone, Debug)]
pub struct RestoreOptions {
    /// `latest`, `latest~N`, a full id, or a unique prefix of an id; rescues are found by id too.
    pub snapshot: String,
    /// Only these paths and what lies below them.
    pub paths: Option<Vec<Vec<u8>>>,
    /// What may be removed.
    pub delete: Delete,
    /// Read the written files again and compare.
    pub verify: bool,
    /// Restore uid and gid.
    pub numeric_ids: bool,
    /// Give up unsaved local work instead of keeping it as a rescue.
    pub discard_changes: bool,
    /// Worker threads; default: the cores this process may use.
    pub threads: Option<usize>,
    /// Memory budget in bytes; default: an eighth of the cgroup limit, 64 to 256 MiB.
    pub memory_bytes: Option<u64>,
}

impl Default for RestoreOptions {
    fn default() -> Self {
        RestoreOptions {
            snapshot: "latest".to_owned(),
            paths: None,
            delete: Delete::Auto,
            verify: false,
            numeric_ids: false,
            discard_changes: false,
            threads: None,
            memory_bytes: None,
        }
    }
}

/// How to check.
#[derive(Clone, Copy, Debug, Default)]
pub struct CheckOptions {
    /// Fraction of the packs whose data is read and verified, 0 to 1; structure is always checked.
    pub read_data: f64,
}

/// How to prune.
#[derive(Clone, Debug)]
pub struct PruneOptions {
    /// Do it; otherwise only tell what would be done.
    pub apply: bool,
    /// Also if more than 20 % of the stored bytes would go.
    pub force: bool,
    /// Time between a Mark and its deletes; default 24 hours, at least one (7 days where a lock keeps writers apart).
    pub grace: Option<Duration>,
    /// Rules instead of those of the repository.
    pub retention: Option<Retention>,
    /// Rules of the container, for a repository without rules of its own.
    pub default_retention: Option<Retention>,
    /// Copy what is needed out of packs that are mostly dead.
    pub repack: bool,
    /// Ends after so long wherever it is, with `Unavailable`; the next prune goes on.
    pub time_limit: Option<Duration>,
}

impl Default for PruneOptions {
    fn default() -> Self {
        PruneOptions {
            apply: false,
            force: false,
            grace: None,
            retention: None,
            default_retention: None,
            repack: true,
            time_limit: None,
        }
    }
}

/// What to add up.
#[derive(Clone, Debug)]
pub struct UsageOptions {
    /// `latest`, `latest~2`, an id or a unique prefix.
    pub snapshot: String,
    /// What is looked at; nothing is the top of the workspace.
    pub path: Vec<u8>,
    /// How many names below the path have sums of their own.
    pub depth: u32,
    /// Of each directory only so many entries, the largest ones.
    pub largest: Option<u64>,
    /// Names of categories and their patterns (gitignore syntax), the first one that matches a path or a directory above it counts.
    pub categories: Vec<(String, Vec<String>)>,
}

impl Default for UsageOptions {
    fn default() -> Self {
        UsageOptions {
            snapshot: "latest".to_owned(),
            path: Vec::new(),
            depth: 1,
            largest: None,
            categories: Vec::new(),
        }
    }
}
