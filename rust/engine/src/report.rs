//! What a verb did, as plain values. `python/nbws/reports.py` mirrors the fields; a test compares both.

mod doctor;
mod usage;

pub use doctor::DoctorReport;
pub use usage::{CategoryGrowth, CategoryUsage, GrowthReport, PathGrowth, PathUsage, UsageReport};

use crate::store::RequestTotals;
pub use nbws_core::tree::OmitReason;
use nbws_core::tree::{self, Body};

/// Requests that a verb sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// Objects written, create-only ones included.
    pub put: u64,
    /// Objects or ranges read.
    pub get: u64,
    /// Listings.
    pub list: u64,
    /// Metadata reads.
    pub head: u64,
    /// Deletions.
    pub delete: u64,
}

impl Requests {
    /// Those sent since `earlier`.
    pub(crate) fn since(&self, earlier: &Requests) -> Requests {
        Requests {
            put: self.put - earlier.put,
            get: self.get - earlier.get,
            list: self.list - earlier.list,
            head: self.head - earlier.head,
            delete: self.delete - earlier.delete,
        }
    }
}

impl From<RequestTotals> for Requests {
    fn from(t: RequestTotals) -> Self {
        Requests {
            put: t.put,
            get: t.get,
            list: t.list,
            head: t.head,
            delete: t.delete,
        }
    }
}

/// A path that was not stored or not restored, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Relative to the workspace.
    pub path: Vec<u8>,
    /// One sentence for people.
    pub reason: String,
}

/// A path whose content a partial save left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Omitted {
    /// Relative to the workspace.
    pub path: Vec<u8>,
    /// Size in bytes.
    pub size: u64,
    /// Why.
    pub reason: OmitReason,
}

/// What a save did. Byte counts are plain (uncompressed) unless the name says otherwise.
#[derive(Clone, Debug, Default)]
pub struct SaveReport {
    /// Id of the snapshot that now is the workspace head.
    pub snapshot: String,
    /// Sequence number of the record that holds it.
    pub seq: u64,
    /// Everything that should be stored is stored as it is now.
    pub complete: bool,
    /// The deadline or a quota left work out.
    pub partial: bool,
    /// Files and symlinks in the snapshot.
    pub files_total: u64,
    /// Of these, new since the base.
    pub files_new: u64,
    /// Of these, stored again because they changed.
    pub files_changed: u64,
    /// Of these, taken over from the base.
    pub files_unchanged: u64,
    /// Files and symlinks of the base that are gone.
    pub files_removed: u64,
    /// Regular files opened, `.nbwsignore` included.
    pub files_opened: u64,
    /// Logical bytes of the snapshot.
    pub bytes_total: u64,
    /// Bytes read from files.
    pub bytes_read: u64,
    /// Plain bytes of chunks that were not stored before.
    pub bytes_new: u64,
    /// Bytes sent to the store, compressed, metadata included.
    pub bytes_uploaded: u64,
    /// Requests sent.
    pub requests: Requests,
    /// Chunks that the files read consist of.
    pub chunks_total: u64,
    /// Of these, not stored before.
    pub chunks_new: u64,
    /// Files that changed while they were read.
    pub unstable: Vec<Vec<u8>>,
    /// Paths kept from the base because they could not be read.
    pub stale: Vec<Vec<u8>>,
    /// Paths that a partial save left out.
    pub omitted: Vec<Omitted>,
    /// Paths that are never stored, or could not be.
    pub skipped: Vec<Skipped>,
    /// Things a person should know.
    pub warnings: Vec<String>,
    /// Snapshot id of a rescue that this call made.
    pub rescue: Option<String>,
    /// Wall time in seconds.
    pub duration_s: f64,
}

/// What a save would do.
#[derive(Clone, Debug, Default)]
pub struct Preview {
    /// Files and symlinks of the tree.
    pub files_total: u64,
    /// Files that are not in the base.
    pub files_new: u64,
    /// Files that differ from the base.
    pub files_changed: u64,
    /// Files that would not be read.
    pub files_unchanged: u64,
    /// Files of the base that are gone.
    pub files_removed: u64,
    /// Logical bytes of the tree.
    pub bytes_total: u64,
    /// Bytes that would be read from files.
    pub bytes_read: u64,
    /// Plain bytes of chunks that are not stored yet; for an estimate the most that it can be.
    pub bytes_new: u64,
    /// Bytes that would be sent, after compression and with all metadata; none for an estimate.
    pub bytes_uploaded: Option<u64>,
    /// Requests that the save would send; for an estimate those of the preview.
    pub requests: Requests,
    /// Chunks that are not stored yet; none for an estimate.
    pub chunks_new: Option<u64>,
    /// Everything was read, cut, hashed and compressed as by a save.
    pub exact: bool,
    /// Why the work would become a rescue instead of the head.
    pub rescue: Option<String>,
    /// Paths that a quota would leave out.
    pub omitted: Vec<Omitted>,
    /// Paths that would not be stored.
    pub skipped: Vec<Skipped>,
    /// Files that kept changing while they were read.
    pub unstable: Vec<Vec<u8>>,
    /// Paths that can't be read now: their last version would be kept.
    pub stale: Vec<Vec<u8>>,
    /// Things a person should know.
    pub warnings: Vec<String>,
    /// Wall time in seconds.
    pub duration_s: f64,
}

/// What a restore did.
#[derive(Clone, Debug, Default)]
pub struct RestoreReport {
    /// Id of the restored snapshot.
    pub snapshot: String,
    /// Everything that was asked for is there.
    pub complete: bool,
    /// Files and symlinks written.
    pub files_written: u64,
    /// Files and symlinks that were right already.
    pub files_kept: u64,
    /// Entries removed.
    pub files_removed: u64,
    /// Plain bytes written.
    pub bytes_written: u64,
    /// Bytes received from the store.
    pub bytes_downloaded: u64,
    /// Requests sent.
    pub requests: Requests,
    /// Root of the restored tree.
    pub tree_root: String,
    /// Paths that were not restored.
    pub skipped: Vec<Skipped>,
    /// Things a person should know.
    pub warnings: Vec<String>,
    /// Snapshot id of the rescue that keeps the local work found in the target.
    pub rescue: Option<String>,
    /// Wall time in seconds.
    pub duration_s: f64,
}

/// One snapshot, or one rescue.
#[derive(Clone, Debug, Default)]
pub struct SnapshotInfo {
    /// Full id.
    pub snapshot: String,
    /// Sequence number of its record.
    pub seq: u64,
    /// When, in milliseconds since 1970 UTC by the writer's clock.
    pub time_ms: u64,
    /// The note given by the user.
    pub comment: Option<String>,
    /// Files and symlinks.
    pub files: u64,
    /// Logical bytes.
    pub bytes: u64,
    /// Root of the tree.
    pub tree_root: String,
    /// Framework that wrote it, if known.
    pub framework: Option<String>,
    /// Python version that wrote it, if known.
    pub python: Option<String>,
    /// Work was left out.
    pub partial: bool,
    /// What made it: `save`, `rescue`, ...
    pub origin: String,
    /// For a rescue: why it is one.
    pub reason: Option<String>,
    /// For a snapshot: nothing may drop it before this time, in milliseconds since 1970 UTC.
    pub pinned_until_ms: Option<u64>,
    /// For a snapshot: from when on the rules and pins let it go, in milliseconds since 1970 UTC; none if time alone never does.
    pub eviction_ms: Option<u64>,
}

/// An object that is not what it should be, and what that hits.
#[derive(Clone, Debug, Default)]
pub struct Damage {
    /// Name of the object.
    pub object: String,
    /// What is wrong.
    pub problem: String,
    /// Snapshot id and path of every file hit.
    pub files: Vec<(String, Vec<u8>)>,
}

/// What a check found.
#[derive(Clone, Debug, Default)]
pub struct CheckReport {
    /// Objects looked at.
    pub objects: u64,
    /// Snapshots looked at.
    pub snapshots: u64,
    /// Stored bytes read.
    pub bytes_read: u64,
    /// Nothing is damaged.
    pub complete: bool,
    /// What is damaged.
    pub damaged: Vec<Damage>,
    /// Requests sent.
    pub requests: Requests,
    /// Wall time in seconds.
    pub duration_s: f64,
}

/// One path of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Relative to the workspace.
    pub path: Vec<u8>,
    /// `directory`, `file`, `symlink`, or `omitted` for what a partial save left out.
    pub kind: String,
    /// Bytes of a file, or those that an omitted one had; 0 for everything else.
    pub size: u64,
    /// The low 12 permission bits.
    pub mode: u64,
    /// Owner.
    pub uid: u64,
    /// Group.
    pub gid: u64,
    /// Modification time, nanoseconds since 1970 UTC.
    pub mtime_ns: i128,
    /// Where a symbolic link points.
    pub target: Option<Vec<u8>>,
    /// The first path of the hard link group that a file belongs to.
    pub link: Option<Vec<u8>>,
    /// Names of the extended attributes.
    pub xattrs: Vec<String>,
}

impl From<&tree::Entry> for Entry {
    fn from(entry: &tree::Entry) -> Self {
        let (kind, size, target) = match &entry.body {
            Body::Directory => ("directory", 0, None),
            Body::File { size, .. } => ("file", *size, None),
            Body::Symlink { target } => ("symlink", 0, Some(target.clone())),
            Body::Omitted { size, .. } => ("omitted", *size, None),
        };
        let name = |x: &tree::Xattr| String::from_utf8_lossy(&x.name).into_owned();
        Entry {
            path: entry.path.clone(),
            kind: kind.to_owned(),
            size,
            mode: u64::from(entry.mode),
            uid: u64::from(entry.uid),
            gid: u64::from(entry.gid),
            mtime_ns: i128::from(entry.mtime.seconds) * 1_000_000_000
                + i128::from(entry.mtime.nanos),
            target,
            link: entry.link.clone(),
            xattrs: entry.xattrs.iter().map(name).collect(),
        }
    }
}

/// A path that both sides of a diff have, and not alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// Relative to the workspace.
    pub path: Vec<u8>,
    /// What differs: `kind`, `content`, `target`, `link`, `mode`, `mtime`, `xattrs`, `owner`.
    pub what: Vec<String>,
    /// How it was.
    pub before: Entry,
    /// How it is.
    pub after: Entry,
}

/// What differs between a snapshot and another one or a directory; each list is sorted by path bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diff {
    /// Only the other side has them.
    pub added: Vec<Entry>,
    /// Both have them.
    pub changed: Vec<Changed>,
    /// Only the snapshot has them.
    pub removed: Vec<Entry>,
    /// Paths of a directory that could not be compared.
    pub skipped: Vec<Skipped>,
}

/// What an export wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExportReport {
    /// Id of the snapshot.
    pub snapshot: String,
    /// Everything that was asked for is in the stream.
    pub complete: bool,
    /// Files and symlinks in the stream.
    pub files: u64,
    /// Bytes of the stream.
    pub bytes: u64,
    /// Paths that are not in the stream.
    pub skipped: Vec<Skipped>,
}
