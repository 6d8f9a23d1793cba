//! A snapshot as a tar stream. The tree is read and checked as a whole first; contents come window by window, in the order of paths.

mod tar;

use crate::browse::{FileReader, SnapshotReader, clean};
use crate::report::{ExportReport, Skipped};
use crate::stored_tree;
use crate::whole_tree::WholeTree;
use bytes::Bytes;
use nbws_core::path::is_within;
use nbws_core::tree::{Body, Content, Entry, SegmentReader};
use nbws_core::{Error, ErrorKind, Result};
use std::collections::{HashMap, VecDeque};
use tar::{BLOCK_BYTES, Kind, RECORD_BYTES, pad, put_headers};

/// Bytes of the stream that are handed out together, about. Whole blocks: what follows is padded without looking back.
const PIECE_BYTES: usize = 8 << 20;

/// A tar stream that is made as it is read: [`TarReader::next`] until it has no more.
pub struct TarReader {
    snapshot: SnapshotReader,
    /// None: everything.
    paths: Option<Vec<Vec<u8>>>,
    segments: std::vec::IntoIter<Bytes>,
    /// Entries of the segment at hand that are still to come.
    entries: VecDeque<Entry>,
    /// Directories that wait for what lies in them, by path.
    held: Vec<Entry>,
    /// What comes before anything else.
    ready: VecDeque<Entry>,
    /// How many of `entries` need no fetching any more.
    fetched: usize,
    /// Leader of a hard link group to the path under which its content is in the stream.
    linked: HashMap<Vec<u8>, Vec<u8>>,
    open: Option<Writing>,
    skipped: Vec<Skipped>,
    files: u64,
    bytes: u64,
    is_finished: bool,
}

/// A file whose content is being written.
struct Writing {
    file: FileReader,
    at: u64,
}

impl SnapshotReader {
    /// The snapshot as a pax tar stream: all of it, or `paths` and what lies below them.
    ///
    /// Kept are modes, owners, times to the nanosecond, hard links, extended attributes and names of any bytes; holes are
    /// written as zeros. `NotFound` if one of `paths` is not there, `Corrupt` if the tree is not the one that was saved.
    pub async fn export(&self, paths: Option<Vec<Vec<u8>>>) -> Result<TarReader> {
        let opened = self.opened();
        let segments =
            stored_tree::segments(&opened.access, &opened.index, &opened.root, None).await?;
        let paths = paths
            .map(|paths| {
                paths
                    .iter()
                    .map(|path| clean(path))
                    .collect::<Result<Vec<_>>>()
            })
            .transpose()?;
        let mut missing = paths.clone().unwrap_or_default();
        missing.retain(|path| !path.is_empty());
        let mut tree = WholeTree::default();
        for segment in &segments {
            for entry in SegmentReader::new(segment)? {
                let entry = entry?;
                tree.push(&entry)?;
                missing.retain(|path| *path != entry.path);
            }
        }
        tree.finish(&opened.root)?;
        if let Some(path) = missing.first() {
            let why = "the snapshot has no such path";
            return Err(Error::new(ErrorKind::NotFound, "export", why).at_path(path));
        }
        Ok(TarReader {
            snapshot: self.clone(),
            paths,
            segments: segments.into_iter(),
            entries: VecDeque::new(),
            held: Vec::new(),
            ready: VecDeque::new(),
            fetched: 0,
            linked: HashMap::new(),
            open: None,
            skipped: Vec::new(),
            files: 0,
            bytes: 0,
            is_finished: false,
        })
    }
}

impl TarReader {
    /// The next bytes of the stream, some megabytes; `None` after its end.
    ///
    /// After an error the stream is cut short and has no end marks, so that tar notices.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>> {
        let mut out = Vec::new();
        while out.len() < PIECE_BYTES && !self.is_finished {
            if let Some(content) = self.open.take() {
                self.open = self.write_content(content, &mut out).await?;
                continue;
            }
            match self.next_entry().await? {
                Some(entry) => self.write_entry(&entry, &mut out).await?,
                None => {
                    // Two empty blocks end it. What was handed out before are whole blocks, not whole records.
                    out.resize(out.len() + 2 * BLOCK_BYTES, 0);
                    let total = self.bytes + out.len() as u64;
                    let rest = total.next_multiple_of(RECORD_BYTES as u64) - total;
                    out.resize(out.len() + rest as usize, 0);
                    self.is_finished = true;
                }
            }
        }
        self.bytes += out.len() as u64;
        Ok((!out.is_empty()).then_some(out))
    }

    /// What was written so far.
    pub fn report(&self) -> ExportReport {
        ExportReport {
            snapshot: self.snapshot.id(),
            complete: self.is_finished && self.skipped.is_empty(),
            files: self.files,
            bytes: self.bytes,
            skipped: self.skipped.clone(),
        }
    }

    /// The next entry of the stream. A directory comes right before what lies in it, which is not where its path sorts: `a`, `a-b`,
    /// `a/c`. Tar sets the times of a directory when the first entry outside of it comes.
    async fn next_entry(&mut self) -> Result<Option<Entry>> {
        loop {
            if let Some(entry) = self.ready.pop_front() {
                return Ok(Some(entry));
            }
            let Some(entry) = self.next_by_path().await? else {
                self.ready.extend(self.held.drain(..));
                return Ok(self.ready.pop_front());
            };
            let held = std::mem::take(&mut self.held);
            for directory in held {
                if sorts_before_content(&entry.path, &directory.path) {
                    self.held.push(directory);
                } else {
                    self.ready.push_back(directory);
                }
            }
            if entry.is_directory() {
                self.held.push(entry);
            } else {
                self.ready.push_back(entry);
            }
        }
    }

    async fn next_by_path(&mut self) -> Result<Option<Entry>> {
        loop {
            if self.fetched == 0 && !self.entries.is_empty() {
                self.fetch_ahead().await;
            }
            self.fetched = self.fetched.saturating_sub(1);
            if let Some(entry) = self.entries.pop_front() {
                if self.wants(&entry.path) {
                    return Ok(Some(entry));
                }
                continue;
            }
            let Some(segment) = self.segments.next() else {
                return Ok(None);
            };
            self.entries = SegmentReader::new(&segment)?.collect::<Result<_>>()?;
        }
    }

    /// Fetches the chunks of the small files that come next, several requests at a time, for the cache.
    async fn fetch_ahead(&mut self) {
        let (mut ids, mut bytes) = (Vec::new(), 0);
        self.fetched = 0;
        for entry in &self.entries {
            self.fetched += 1;
            let is_known = entry
                .link
                .as_ref()
                .is_some_and(|l| self.linked.contains_key(l));
            if let Some(Content::Inline(runs)) = entry.content()
                && entry.size() < PIECE_BYTES as u64
                && !is_known
                && self.wants(&entry.path)
            {
                bytes += entry.size();
                ids.extend(runs.iter().map(|run| run.id));
            }
            if bytes >= PIECE_BYTES as u64 {
                break;
            }
        }
        // What fails here fails again where the file is read, and then it is said which one.
        let _ = self.snapshot.chunks(&ids).await;
    }

    fn wants(&self, path: &[u8]) -> bool {
        self.paths
            .as_ref()
            .is_none_or(|paths| paths.iter().any(|top| is_within(path, top)))
    }

    async fn write_entry(&mut self, entry: &Entry, out: &mut Vec<u8>) -> Result<()> {
        match &entry.body {
            Body::Directory => put_headers(out, entry, Kind::Directory),
            Body::Symlink { target } => {
                put_headers(out, entry, Kind::Symlink(target));
                self.files += 1;
            }
            Body::Omitted { .. } => {
                let reason = "was left out of this partial snapshot by a deadline or quota";
                self.skipped.push(Skipped {
                    path: entry.path.clone(),
                    reason: reason.to_owned(),
                });
            }
            Body::File { size, .. } => {
                self.files += 1;
                if let Some(leader) = &entry.link {
                    if let Some(first) = self.linked.get(leader) {
                        put_headers(out, entry, Kind::HardLink(first));
                        return Ok(());
                    }
                    // The first wanted member has the content: the group's own leader may not be wanted.
                    self.linked.insert(leader.clone(), entry.path.clone());
                }
                let runs = self.snapshot.runs(entry).await?;
                put_headers(out, entry, Kind::File(*size));
                let snapshot = self.snapshot.clone();
                let file = FileReader::new(snapshot, entry.path.clone(), *size, runs)?;
                self.open = Some(Writing { file, at: 0 });
            }
        }
        Ok(())
    }

    /// Writes as much of the content as fits; returns it if something is left.
    async fn write_content(
        &self,
        mut content: Writing,
        out: &mut Vec<u8>,
    ) -> Result<Option<Writing>> {
        let size = content.file.size();
        let room = PIECE_BYTES.saturating_sub(out.len()).max(1) as u64;
        let bytes = content.file.read_at(content.at, room).await?;
        content.at += bytes.len() as u64;
        out.extend_from_slice(&bytes);
        if content.at < size {
            return Ok(Some(content));
        }
        pad(out, BLOCK_BYTES);
        Ok(None)
    }
}

/// Whether `path` sorts between `directory` and what lies in it.
fn sorts_before_content(path: &[u8], directory: &[u8]) -> bool {
    path.strip_prefix(directory)
        .and_then(<[u8]>::first)
        .is_some_and(|byte| *byte < b'/')
}
