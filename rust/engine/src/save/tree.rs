//! Step 9 of a save, first half: the new tree from base, scan and what became of each file.

use super::chunks::TypedChunks;
use super::pipeline::{Content as Read, Outcome, StoredFile};
use super::plan::{Decision, Planned, entries};
use super::tree_writer::{NewTree, TreeWriter};
use crate::local::Root;
use crate::local::cache::KnownTree;
use crate::local::{FileKind, SkipReason, Stat, is_gone};
use crate::report::{Omitted, Skipped};
use nbws_core::diff::{Merge, Pair, StatKey};
use nbws_core::id::ChunkId;
use nbws_core::tree::{Body, Content, Entry, OmitReason, Run};
use nbws_core::{Error, Result};
use std::collections::HashMap;

/// What the new tree is made from, beside what became of each file.
pub(crate) struct Sources<'b> {
    pub(crate) root: &'b Root,
    pub(crate) planned: &'b Planned,
    pub(crate) base: Option<&'b KnownTree>,
    pub(crate) numeric_ids: bool,
}

/// Builds the new tree and stores its segments.
struct TreeBuilder<'b, 'p, 'a> {
    root: &'b Root,
    planned: &'b Planned,
    numeric_ids: bool,
    outcomes: &'b mut [Outcome],
    /// Contents of files with several names, by work number, once they are built.
    shared: HashMap<u32, Content>,
    /// What hard link leaders that made it into the tree hold.
    stored_leaders: HashMap<u32, Body>,
    writer: TreeWriter<'b, 'p, 'a>,
}

/// Walks base and scan once more and writes the tree. Blocks.
pub(crate) fn build_tree<'b>(
    sources: &Sources<'b>,
    outcomes: &'b mut [Outcome],
    chunks: &'b mut TypedChunks<'_, '_>,
) -> Result<NewTree> {
    let planned = sources.planned;
    let mut builder = TreeBuilder {
        root: sources.root,
        planned,
        numeric_ids: sources.numeric_ids,
        outcomes,
        shared: HashMap::new(),
        stored_leaders: HashMap::new(),
        writer: TreeWriter::new(chunks, sources.base),
    };
    builder.writer.reserve(planned.scanned.len());
    let saved_here = sources.base.is_some_and(|b| b.saved_here);
    let scanned = &planned.scanned;
    for pair in Merge::new(entries(sources.base), scanned.len(), |i| scanned.path(i)) {
        match pair? {
            Pair::Base(entry, _) if planned.shields.cover(&entry.path) => {
                builder.keep_stale(entry)?
            }
            Pair::Base(entry, _) if entry.is_omitted() && !saved_here => {
                builder.writer.push(entry, StatKey::UNKNOWN)?;
            }
            Pair::Base(..) => {}
            Pair::Both(entry, key, i) => builder.scanned(i, Some((entry, key)))?,
            Pair::Seen(i) => builder.scanned(i, None)?,
        }
    }
    builder.writer.finish()
}

fn key_of(stat: &Stat) -> StatKey {
    StatKey {
        ino: stat.ino,
        ctime: stat.ctime,
    }
}

impl TreeBuilder<'_, '_, '_> {
    fn scanned(&mut self, i: usize, base: Option<(Entry, StatKey)>) -> Result<()> {
        let stat = self.planned.scanned.stat(i);
        match (self.planned.decisions[i], base) {
            (Decision::Keep, Some((mut entry, _))) => {
                entry.link = None;
                self.push_file(i, entry, key_of(&stat))
            }
            (Decision::Content(work), base) => self.file(i, work, base.map(|(entry, _)| entry)),
            (_, base) => self.metadata(i, &stat, base.map(|(entry, _)| entry)),
        }
    }

    /// An entry with what the scan saw; owners come from the base unless the repository keeps them.
    fn entry(&self, i: usize, stat: &Stat, base: Option<&Entry>, body: Body) -> Entry {
        let owner = match base {
            Some(base) if !self.numeric_ids => (base.uid, base.gid),
            _ => (stat.uid, stat.gid),
        };
        Entry {
            path: self.planned.scanned.path(i).to_vec(),
            mode: stat.mode,
            uid: owner.0,
            gid: owner.1,
            mtime: stat.mtime,
            stale: false,
            unstable: false,
            xattrs: Vec::new(),
            link: None,
            body,
        }
    }

    /// A directory or symlink that is new or changed.
    fn metadata(&mut self, i: usize, stat: &Stat, base: Option<Entry>) -> Result<()> {
        let path = self.planned.scanned.path(i);
        let body = if stat.kind == FileKind::Directory {
            Body::Directory
        } else {
            match self.root.read_link(path) {
                Ok(target) => Body::Symlink { target },
                Err(e) if is_gone(&e) => return self.vanished(i),
                Err(e) => return self.unreadable(path.to_vec(), e.message().to_owned(), base),
            }
        };
        let mut entry = self.entry(i, stat, base.as_ref(), body);
        let mut is_known = stat.ctime < self.planned.settled;
        match self.root.xattrs_of_link_or_directory(path) {
            Ok(xattrs) => entry.xattrs = xattrs,
            // A directory stays in the tree in any case: what lies in it needs a parent.
            Err(e) if is_gone(&e) => {}
            Err(e) => {
                is_known = false;
                entry.xattrs = base.map(|b| b.xattrs).unwrap_or_default();
                if !self.planned.shields.cover(path) {
                    self.lacks_xattrs(i, e.message());
                }
            }
        }
        let key = if is_known {
            key_of(stat)
        } else {
            StatKey::UNKNOWN
        };
        self.writer.push(entry, key)
    }

    fn lacks_xattrs(&mut self, i: usize, why: &str) {
        let path = self.planned.scanned.path(i).to_vec();
        let reason = format!("stored without the present extended attributes: {why}");
        self.writer.tree.lack(path, reason);
    }

    fn file(&mut self, i: usize, work: u32, base: Option<Entry>) -> Result<()> {
        let read_as = self.planned.work[work as usize] as usize;
        match std::mem::replace(&mut self.outcomes[work as usize], Outcome::Pending) {
            Outcome::AsScanned(id) => {
                // Names of one file may have been looked at before and after a change: the one that was read counts.
                let stat = self.planned.scanned.stat(read_as);
                let content = small_content(id, stat.size);
                self.outcomes[work as usize] = Outcome::AsScanned(id);
                let body = Body::File {
                    size: stat.size,
                    content,
                    holes: Vec::new(),
                };
                let entry = self.entry(i, &stat, base.as_ref(), body);
                self.push_file(i, entry, key_of(&stat))
            }
            Outcome::Stored(file)
                if i != read_as && !file.found.stat.is_same_file(&self.planned.scanned.stat(i)) =>
            {
                self.outcomes[work as usize] = Outcome::Stored(file);
                let why = "all names of its hard link group were replaced while it was saved";
                self.unreadable(self.planned.scanned.path(i).to_vec(), why.to_owned(), base)
            }
            Outcome::Stored(file) => {
                let entry = self.stored_file(i, work, &file, base.as_ref())?;
                let key = if file.found.trusted {
                    key_of(&file.found.stat)
                } else {
                    StatKey::UNKNOWN
                };
                if let Some(why) = &file.found.lacks_xattrs {
                    self.lacks_xattrs(i, why);
                }
                self.outcomes[work as usize] = Outcome::Stored(file);
                self.push_file(i, entry, key)
            }
            Outcome::Unreadable(why) => {
                let text = why.to_string();
                self.outcomes[work as usize] = Outcome::Unreadable(why);
                self.unreadable(self.planned.scanned.path(i).to_vec(), text, base)
            }
            Outcome::LeftOut(reason) => {
                self.outcomes[work as usize] = Outcome::LeftOut(reason);
                self.left_out(i, &self.planned.scanned.stat(i), reason, base)
            }
            Outcome::Kept => {
                self.outcomes[work as usize] = Outcome::Kept;
                let Some(mut entry) = base else {
                    return Err(Error::internal("save", "nothing to keep"));
                };
                entry.link = None;
                self.push_file(i, entry, key_of(&self.planned.scanned.stat(i)))
            }
            Outcome::Vanished => {
                self.outcomes[work as usize] = Outcome::Vanished;
                self.vanished(i)
            }
            Outcome::Pending => Err(Error::internal("save", "a file was never read")),
        }
    }

    /// Gone since the scan, as a later scan would have found it; said, because it may have only moved.
    fn vanished(&mut self, i: usize) -> Result<()> {
        self.writer.tree.skipped.push(Skipped {
            path: self.planned.scanned.path(i).to_vec(),
            reason: SkipReason::Vanished.text().into_owned(),
        });
        Ok(())
    }

    fn stored_file(
        &mut self,
        i: usize,
        work: u32,
        file: &StoredFile,
        base: Option<&Entry>,
    ) -> Result<Entry> {
        let content = match (&file.content, self.shared.get(&work)) {
            (_, Some(content)) => content.clone(),
            (Read::Small(id), None) => small_content(*id, file.found.stat.size),
            (Read::Large(large), None) => {
                let content = self.writer.store_content(large.take())?;
                if self.planned.leaders.contains_key(&(i as u32)) {
                    self.shared.insert(work, content.clone());
                }
                content
            }
        };
        let found = &file.found;
        let body = Body::File {
            size: found.stat.size,
            content,
            holes: file.holes.clone(),
        };
        let mut entry = self.entry(i, &found.stat, base, body);
        entry.xattrs = found.xattrs.clone();
        entry.unstable = found.unstable;
        Ok(entry)
    }

    /// Stores a file under its hard link group, if its leader made it into the tree.
    fn push_file(&mut self, i: usize, mut entry: Entry, key: StatKey) -> Result<()> {
        if let Some(leader) = self.planned.leaders.get(&(i as u32)) {
            if *leader == i as u32 {
                self.stored_leaders.insert(*leader, entry.body.clone());
            }
            // Changed between the looks at two of its names: what they hold differs in this snapshot.
            if self
                .stored_leaders
                .get(leader)
                .is_some_and(|b| holds_same(b, &entry.body))
            {
                entry.link = Some(self.planned.scanned.path(*leader as usize).to_vec());
            }
        }
        self.writer.push(entry, key)
    }

    fn unreadable(&mut self, path: Vec<u8>, why: String, base: Option<Entry>) -> Result<()> {
        self.writer.tree.lack(path, format!("unreadable: {why}"));
        match base {
            Some(entry) if !entry.is_directory() => self.keep_stale(entry),
            _ => Ok(()),
        }
    }

    fn keep_stale(&mut self, mut entry: Entry) -> Result<()> {
        if !entry.is_omitted() {
            entry.stale = true;
            if !entry.is_directory() {
                self.writer.tree.stale.push(entry.path.clone());
            }
        }
        self.drop_lost_link(&mut entry);
        self.writer.push(entry, StatKey::UNKNOWN)
    }

    /// A link group whose leader is not in this tree is none.
    fn drop_lost_link(&self, entry: &mut Entry) {
        if let Some(leader) = &entry.link
            && *leader != entry.path
        {
            entry.link = None;
        }
    }

    fn left_out(
        &mut self,
        i: usize,
        stat: &Stat,
        reason: OmitReason,
        base: Option<Entry>,
    ) -> Result<()> {
        self.writer.tree.is_partial = true;
        let path = self.planned.scanned.path(i).to_vec();
        self.writer.tree.omitted.push(Omitted {
            path,
            size: stat.size,
            reason,
        });
        match base {
            Some(mut entry) if matches!(entry.body, Body::File { .. }) => {
                self.drop_lost_link(&mut entry);
                self.writer.push(entry, StatKey::UNKNOWN)
            }
            _ => {
                let entry = self.entry(
                    i,
                    stat,
                    None,
                    Body::Omitted {
                        size: stat.size,
                        reason,
                    },
                );
                self.writer.push(entry, StatKey::UNKNOWN)
            }
        }
    }
}

fn holds_same(a: &Body, b: &Body) -> bool {
    match (a, b) {
        (
            Body::File { size, content, .. },
            Body::File {
                size: other_size,
                content: other,
                ..
            },
        ) => size == other_size && content == other,
        _ => false,
    }
}

fn small_content(id: Option<ChunkId>, size: u64) -> Content {
    Content::Inline(
        id.map(|id| Run {
            id,
            length: size as u32,
            count: 1,
        })
        .into_iter()
        .collect(),
    )
}
