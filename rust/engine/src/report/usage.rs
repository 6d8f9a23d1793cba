//! What fills a workspace, and what made it grow.

use super::Requests;

/// Totals of a repository, and what a path of one snapshot holds.
#[derive(Clone, Debug, Default)]
pub struct UsageReport {
    /// Bytes of the files of the snapshot.
    pub logical_bytes: u64,
    /// Plain bytes of all distinct chunks of the repository.
    pub unique_bytes: u64,
    /// Bytes of all objects written.
    pub stored_bytes: u64,
    /// Objects.
    pub objects: u64,
    /// Snapshots.
    pub snapshots: u64,
    /// Files and symlinks of the snapshot.
    pub files: u64,
    /// Bytes of the files of all snapshots, each counted whole.
    pub snapshot_bytes: u64,
    /// What lies below the path, down to the depth that was asked for, sorted by path.
    pub by_path: Vec<PathUsage>,
    /// Id of the snapshot; none without snapshots.
    pub snapshot: Option<String>,
    /// All at and below the path that was asked for.
    pub total: PathUsage,
    /// The same by category, in the order of the categories; those without files too.
    pub by_category: Vec<CategoryUsage>,
    /// Stored bytes of the parts of the tree that describe the path.
    pub metadata_bytes: u64,
    /// Stored bytes of all other chunks that the index knows.
    pub other_bytes: u64,
    /// Stored bytes beside chunks: index, directories and headers of packs, records, and chunks that the index does not name
    /// (any more). Below zero if records count less than the index knows.
    pub overhead_bytes: i64,
    /// What it took to find out.
    pub requests: Requests,
}

/// What lies at and below one path of a workspace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PathUsage {
    /// Path of the entry.
    pub path: Vec<u8>,
    /// Bytes of its files; each name of a hard link group counts.
    pub logical_bytes: u64,
    /// Files and symlinks.
    pub files: u64,
    /// Plain bytes of its distinct chunks. One that several paths have counts for the first of them.
    pub unique_bytes: u64,
    /// Stored bytes of these chunks: of each frame the part by plain bytes.
    pub stored_bytes: u64,
}

/// What belongs to one category.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CategoryUsage {
    /// Its name.
    pub category: String,
    /// As for a path.
    pub logical_bytes: u64,
    /// As for a path.
    pub files: u64,
    /// As for a path.
    pub unique_bytes: u64,
    /// As for a path.
    pub stored_bytes: u64,
}

/// What changed in size from one snapshot to another. Numbers are those of the second minus those of the first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GrowthReport {
    /// Id of the first snapshot.
    pub before: String,
    /// Id of the second one.
    pub after: String,
    /// All at and below the path that was asked for.
    pub total: PathGrowth,
    /// What lies below the path, down to the depth that was asked for, as far as it changed; most first.
    pub by_path: Vec<PathGrowth>,
    /// By category, as far as it changed; most first.
    pub by_category: Vec<CategoryGrowth>,
    /// Stored bytes of the parts of the tree.
    pub metadata_bytes: i64,
    /// What this step took; the first one of several includes what all of them need.
    pub requests: Requests,
}

/// By how much a path grew.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PathGrowth {
    /// Path of the entry.
    pub path: Vec<u8>,
    /// Bytes of files.
    pub logical_bytes: i64,
    /// Files and symlinks.
    pub files: i64,
    /// Plain bytes of chunks that only the second snapshot has, minus those that only the first one has.
    pub unique_bytes: i64,
    /// Stored bytes of these chunks.
    pub stored_bytes: i64,
    /// Stored bytes of chunks that only the second snapshot has.
    pub new_stored_bytes: u64,
    /// Stored bytes of chunks that only the first snapshot has. They stay stored while a snapshot needs them.
    pub gone_stored_bytes: u64,
}

/// By how much a category grew.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CategoryGrowth {
    /// Its name.
    pub category: String,
    /// As for a path.
    pub logical_bytes: i64,
    /// As for a path.
    pub files: i64,
    /// As for a path.
    pub unique_bytes: i64,
    /// As for a path.
    pub stored_bytes: i64,
    /// As for a path.
    pub new_stored_bytes: u64,
    /// As for a path.
    pub gone_stored_bytes: u64,
}
