//! The local side of a diff: what a directory holds, in the words of a snapshot.

use crate::local::{FileKind, Root, Scanned};
use crate::restore::file_holds;
use crate::stored_tree::runs_of;
use nbws_core::Result;
use nbws_core::chunker::{Chunker, ChunkerParams};
use nbws_core::id::ChunkId;
use nbws_core::path::is_within;
use nbws_core::tree::{Body, Content, Entry};
use std::collections::HashMap;

/// A scanned directory, beside the chunk lists of the snapshot that it is compared with.
pub(super) struct LocalSide<'a> {
    root: &'a Root,
    pub(super) scanned: &'a Scanned,
    lists: &'a HashMap<ChunkId, Vec<u8>>,
    /// Device and inode to the first path of each file with several names.
    leaders: HashMap<(u64, u64), usize>,
    zero: ChunkId,
}

/// The leader of a hard link group, for all but the leader itself: who leads alone is linked to nothing.
pub(super) fn linked_paths(entry: &Entry) -> Option<&[u8]> {
    entry.link.as_deref().filter(|leader| *leader != entry.path)
}

impl<'a> LocalSide<'a> {
    pub(super) fn new(
        root: &'a Root,
        scanned: &'a Scanned,
        lists: &'a HashMap<ChunkId, Vec<u8>>,
        params: ChunkerParams,
    ) -> Result<Self> {
        let mut leaders = HashMap::new();
        for at in 0..scanned.len() {
            let stat = scanned.stat(at);
            if stat.kind == FileKind::File && stat.nlink > 1 {
                leaders.entry((stat.dev, stat.ino)).or_insert(at);
            }
        }
        Ok(LocalSide {
            root,
            scanned,
            lists,
            leaders,
            zero: Chunker::new(params)?.zero_chunk().0,
        })
    }

    /// Whether what is at `path` could not be looked at: it is not known to be gone.
    pub(super) fn is_unknown(&self, path: &[u8]) -> bool {
        self.scanned.is_below_mount(path)
            || self
                .scanned
                .skipped
                .iter()
                .any(|s| s.reason.keeps_base() && is_within(path, &s.path))
    }

    /// The scanned entry at position `at`. A file that has the content of `base` gets its chunks, any other one none.
    pub(super) fn entry(&self, at: usize, base: Option<&Entry>) -> Result<Entry> {
        let (path, stat) = (self.scanned.path(at), self.scanned.stat(at));
        let (body, xattrs) = match stat.kind {
            FileKind::Directory => (
                Body::Directory,
                self.root.xattrs_of_link_or_directory(path)?,
            ),
            FileKind::Symlink => {
                let target = self.root.read_link(path)?;
                (Body::Symlink { target }, Vec::new())
            }
            _ => {
                let file = self.root.open_file(path)?;
                let mut content = Content::Inline(Vec::new());
                if let Some(known) = base
                    .filter(|base| base.size() == stat.size)
                    .and_then(Entry::content)
                    && file_holds(&file, &runs_of(known, self.lists)?, &self.zero)?
                {
                    content = known.clone();
                }
                let body = Body::File {
                    size: stat.size,
                    content,
                    holes: Vec::new(),
                };
                (body, file.xattrs()?)
            }
        };
        let leader = self.leaders.get(&(stat.dev, stat.ino));
        let link = leader.filter(|_| stat.kind == FileKind::File && stat.nlink > 1);
        Ok(Entry {
            path: path.to_vec(),
            mode: stat.mode,
            uid: stat.uid,
            gid: stat.gid,
            mtime: stat.mtime,
            stale: false,
            unstable: false,
            xattrs,
            link: link.map(|at| self.scanned.path(*at).to_vec()),
            body,
        })
    }
}
