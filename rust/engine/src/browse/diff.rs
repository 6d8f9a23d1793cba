//! What differs between a snapshot and another one, or a directory.

use super::local_side::{LocalSide, linked_paths};
use super::reader::SnapshotReader;
use crate::cancel::CancelToken;
use crate::local::{Root, Scanned};
use crate::local::{ScanOptions, scan};
use crate::report::{Changed, Diff, Entry, Skipped};
use crate::stored_tree::list_ids;
use nbws_core::chunker::ChunkerParams;
use nbws_core::filter::Rules;
use nbws_core::id::ChunkId;
use nbws_core::tree::{self, Body, SegmentReader};
use nbws_core::{Error, Result};
use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::iter::Peekable;
use std::path::Path;

impl SnapshotReader {
    /// What changes from this snapshot to `other`.
    ///
    /// Segments that both trees share are not read. Times of directories don't count: they move with every entry.
    pub async fn diff(&self, other: &SnapshotReader) -> Result<Diff> {
        let (mut ours, mut theirs) = (self.parts(b"", None).await?, other.parts(b"", None).await?);
        let id = |part: &super::reader::Part| part.reference.id;
        let (left, right): (HashSet<ChunkId>, HashSet<ChunkId>) = (
            ours.iter().map(id).collect(),
            theirs.iter().map(id).collect(),
        );
        ours.retain(|part| !right.contains(&id(part)));
        theirs.retain(|part| !left.contains(&id(part)));
        let (ours, theirs) = (self.segments(&ours).await?, other.segments(&theirs).await?);
        let mut after = entries(&theirs).peekable();
        let mut found = Differences::new(self);
        for before in entries(&ours) {
            let before = before?;
            found.add_below(&before.path, &mut after)?;
            match next_if(&mut after, &before.path)? {
                Some(after) => found.compare(&before, &after),
                None => found.remove(&before),
            }
        }
        for after in after {
            found.add(&after?);
        }
        Ok(found.diff)
    }

    /// What changes from this snapshot to what `directory` holds now. `exclude`: patterns as for a save.
    ///
    /// Every file whose size did not change is read and compared with its hashes. `NotFound` if there is no such directory;
    /// what can't be read is listed in `skipped`.
    pub async fn diff_directory(
        &self,
        directory: &Path,
        exclude: Vec<String>,
        cancel: CancelToken,
    ) -> Result<Diff> {
        let parts = self.parts(b"", None).await?;
        let segments = self.segments(&parts).await?;
        let ids = list_ids(&segments)?;
        let opened = self.opened();
        let lists = crate::stored_chunks::chunks(&opened.access, &opened.index, &ids).await?;
        let lists: HashMap<ChunkId, Vec<u8>> = ids.into_iter().zip(lists).collect();
        let (snapshot, path) = (self.clone(), directory.to_path_buf());
        crate::save::blocking(move || {
            let root = Root::open(&path)?;
            let threads = crate::budget::Resources::choose(None, None).threads;
            let rules = Rules::new(&exclude, false)?;
            let options = ScanOptions {
                rules: &rules,
                threads,
                cancel: &cancel,
            };
            let scanned = scan(&root, &options)?;
            let params = ChunkerParams::from(&snapshot.opened().access.inner.format.chunker);
            let side = LocalSide::new(&root, &scanned, &lists, params)?;
            with_directory(&snapshot, &segments, &side, &cancel)
        })
        .await
    }
}

/// Walks the snapshot and the scan in step.
fn with_directory(
    snapshot: &SnapshotReader,
    segments: &[bytes::Bytes],
    side: &LocalSide<'_>,
    cancel: &CancelToken,
) -> Result<Diff> {
    let mut found = Differences::new(snapshot);
    let scanned: &Scanned = side.scanned;
    let mut at = 0;
    for before in entries(segments) {
        cancel.check()?;
        let before = before?;
        while at < scanned.len() && scanned.path(at) < before.path.as_slice() {
            found.add_local(side, at);
            at += 1;
        }
        if at < scanned.len() && scanned.path(at) == before.path {
            match side.entry(at, Some(&before)) {
                Ok(after) => found.compare(&before, &after),
                Err(error) => found.skip(&before.path, &error),
            }
            at += 1;
        } else if !side.is_unknown(&before.path) {
            found.remove(&before);
        }
    }
    while at < scanned.len() {
        found.add_local(side, at);
        at += 1;
    }
    let skipped = scanned.skipped.iter().map(|s| Skipped {
        path: s.path.clone(),
        reason: s.reason.text().into_owned(),
    });
    found.diff.skipped.extend(skipped);
    found.diff.skipped.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found.diff)
}

/// The differences so far.
struct Differences {
    diff: Diff,
    /// The repository keeps owners.
    numeric_ids: bool,
}

impl Differences {
    fn new(snapshot: &SnapshotReader) -> Self {
        Differences {
            diff: Diff::default(),
            numeric_ids: snapshot.opened().access.inner.format.numeric_ids,
        }
    }

    fn add(&mut self, entry: &tree::Entry) {
        self.diff.added.push(Entry::from(entry));
    }

    fn remove(&mut self, entry: &tree::Entry) {
        self.diff.removed.push(Entry::from(entry));
    }

    fn skip(&mut self, path: &[u8], error: &Error) {
        self.diff.skipped.push(Skipped {
            path: path.to_vec(),
            reason: error.message().to_owned(),
        });
    }

    fn add_local(&mut self, side: &LocalSide<'_>, at: usize) {
        match side.entry(at, None) {
            Ok(entry) => self.add(&entry),
            Err(error) => self.skip(side.scanned.path(at), &error),
        }
    }

    /// Takes what lies before `path` on the other side: it is new.
    fn add_below<I>(&mut self, path: &[u8], after: &mut Peekable<I>) -> Result<()>
    where
        I: Iterator<Item = Result<tree::Entry>>,
    {
        let is_before =
            |e: &Result<tree::Entry>| e.as_ref().map_or(true, |e| e.path.as_slice() < path);
        while let Some(entry) = after.next_if(is_before) {
            self.add(&entry?);
        }
        Ok(())
    }

    fn compare(&mut self, before: &tree::Entry, after: &tree::Entry) {
        let what = differing(before, after, self.numeric_ids);
        if what.is_empty() {
            return;
        }
        self.diff.changed.push(Changed {
            path: before.path.clone(),
            what: what.into_iter().map(str::to_owned).collect(),
            before: Entry::from(before),
            after: Entry::from(after),
        });
    }
}

fn next_if<I>(after: &mut Peekable<I>, path: &[u8]) -> Result<Option<tree::Entry>>
where
    I: Iterator<Item = Result<tree::Entry>>,
{
    let is_same = |e: &Result<tree::Entry>| {
        e.as_ref()
            .map_or(true, |e| e.path.as_slice().cmp(path) == Ordering::Equal)
    };
    after.next_if(is_same).transpose()
}

fn entries(segments: &[bytes::Bytes]) -> impl Iterator<Item = Result<tree::Entry>> + '_ {
    segments.iter().flat_map(|bytes| {
        let (reader, failure) = match SegmentReader::new(bytes) {
            Ok(reader) => (Some(reader), None),
            Err(error) => (None, Some(Err(error))),
        };
        reader.into_iter().flatten().chain(failure)
    })
}

/// In what two entries of one path differ.
fn differing(before: &tree::Entry, after: &tree::Entry, numeric_ids: bool) -> Vec<&'static str> {
    let mut what = Vec::new();
    match (&before.body, &after.body) {
        (Body::Directory, Body::Directory) => {}
        (
            Body::File { size, content, .. },
            Body::File {
                size: new_size,
                content: new_content,
                ..
            },
        ) => {
            if (size, content) != (new_size, new_content) {
                what.push("content");
            }
            if linked_paths(before) != linked_paths(after) {
                what.push("link");
            }
        }
        (Body::Symlink { target }, Body::Symlink { target: new }) => {
            if target != new {
                what.push("target");
            }
        }
        (Body::Omitted { size, .. }, Body::Omitted { size: new, .. }) => {
            if size != new {
                what.push("content");
            }
        }
        _ => return vec!["kind"],
    }
    let is_link = matches!(before.body, Body::Symlink { .. });
    if before.mode != after.mode && !is_link {
        what.push("mode");
    }
    if before.mtime != after.mtime && !before.is_directory() {
        what.push("mtime");
    }
    if before.xattrs != after.xattrs {
        what.push("xattrs");
    }
    if numeric_ids && (before.uid, before.gid) != (after.uid, after.gid) {
        what.push("owner");
    }
    what
}
