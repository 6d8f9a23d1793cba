//! Step 2 of a restore, for one entry: what is on the disk in its place, and what has to happen.

use super::disk::OnDisk;
use super::finish::mode_to_set;
use super::plan::Planner;
use super::verify::file_holds;
use super::wanted::Action;
use crate::local::{FileKind, Stat};
use crate::save::seen;
use nbws_core::Result;
use nbws_core::diff::{StatKey, unchanged};
use nbws_core::tree::{Body, Entry, Run};

impl Planner<'_> {
    /// What has to happen, and the old version of the file if its content is known.
    pub(super) fn compare(
        &mut self,
        entry: &Entry,
        runs: &[Run],
        on_disk: Option<OnDisk>,
        ordinal: u32,
    ) -> Result<(Action, Option<Entry>)> {
        let Some((i, known)) = on_disk else {
            return Ok((Action::Write, None));
        };
        let stat = self.inputs.scanned.stat(i);
        let known = known
            .filter(|(base, key)| {
                unchanged(
                    base,
                    *key,
                    &seen(&entry.path, &stat),
                    self.inputs.numeric_ids,
                )
            })
            .map(|(base, _)| base);
        let has_content = match (&entry.body, stat.kind) {
            (Body::Directory, FileKind::Directory) => true,
            (Body::Symlink { target }, FileKind::Symlink) => self
                .inputs
                .root
                .read_link(&entry.path)
                .is_ok_and(|found| found == *target),
            (Body::File { size, .. }, FileKind::File) if stat.size == *size => match &known {
                Some(base) => base.content() == entry.content(),
                None => self.holds(&entry.path, runs),
            },
            _ => false,
        };
        let is_linked_right = known
            .as_ref()
            .map_or(entry.link.is_none() && stat.nlink == 1, |base| {
                base.link == entry.link
            })
            || entry.is_directory();
        if !has_content || !is_linked_right {
            self.plan.differing += 1;
            return Ok((Action::Write, known.filter(|_| stat.kind == FileKind::File)));
        }
        // A symbolic link has no mode and no attributes.
        let is_link = matches!(entry.body, Body::Symlink { .. });
        let same_metadata = (is_link || stat.mode == self.mode_of(entry))
            && stat.mtime == entry.mtime
            && match &known {
                Some(base) => base.xattrs == entry.xattrs,
                None => self.has_xattrs(entry),
            }
            && (!self.inputs.numeric_ids || (stat.uid, stat.gid) == (entry.uid, entry.gid));
        if same_metadata {
            self.plan.keys[ordinal as usize] = key_of(&stat);
            if stat.kind == FileKind::File && stat.nlink > 1 {
                self.plan.linked.insert(self.plan.wanted.items.len() as u32);
            }
            return Ok((Action::Keep, None));
        }
        // Times of directories move with every restore; they are put right without being called a difference.
        self.plan.differing += u64::from(!entry.is_directory());
        Ok((Action::Metadata, None))
    }

    fn mode_of(&self, entry: &Entry) -> u16 {
        mode_to_set(entry.mode, entry.is_directory(), self.inputs.numeric_ids)
    }

    fn has_xattrs(&self, entry: &Entry) -> bool {
        let root = self.inputs.root;
        let found = match entry.body {
            Body::File { .. } => root.open_file(&entry.path).and_then(|file| file.xattrs()),
            _ => root.xattrs_of_link_or_directory(&entry.path),
        };
        found.is_ok_and(|found| found == entry.xattrs)
    }

    /// Whether the file on disk has exactly these chunks; it is read for that.
    fn holds(&self, path: &[u8], runs: &[Run]) -> bool {
        let Ok(file) = self.inputs.root.open_file(path) else {
            return false;
        };
        file_holds(&file, runs, &self.plan.zero).unwrap_or(false)
    }
}

pub(crate) fn key_of(stat: &Stat) -> StatKey {
    StatKey {
        ino: stat.ino,
        ctime: stat.ctime,
    }
}
