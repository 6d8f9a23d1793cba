//! Steps 2 to 4 of a save: scan, merge with the base, order the work.

use super::reread::Reread;
use crate::local::cache::KnownTree;
use crate::local::{FileKind, SkipReason, Stat};
use crate::local::{ScanOptions, Scanned, scan};
use crate::options::SaveOptions;
use crate::session::Target;
use crate::workspace::Access;
use nbws_core::Result;
use nbws_core::diff::{Merge, Pair, Seen, SeenKind, StatKey, unchanged};
use nbws_core::filter::Rules;
use nbws_core::path::is_within;
use nbws_core::plan::admit::{Admission, Applicant, Quota, Totals, admit};
use nbws_core::plan::save_order::{Candidate, Unit, save_order};
use nbws_core::tree::{Body, Entry, OmitReason, SegmentReader, Timestamp};
use std::collections::HashMap;
use std::time::Duration;

/// What happens to one scanned entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// The base's entry is right.
    Keep,
    /// A directory or symlink whose metadata is read again.
    Metadata,
    /// A file whose content is read: number in [`Planned::work`]. Hard links of one file share it.
    Content(u32),
}

/// The outcome of scan and merge.
pub(crate) struct Planned {
    pub(crate) scanned: Scanned,
    /// One per scanned entry.
    pub(crate) decisions: Vec<Decision>,
    /// Scan positions of the files to read.
    pub(crate) work: Vec<u32>,
    /// By work number: bytes of the base's version, if it has one, and under how many names the file is stored.
    pub(crate) before: Vec<(Option<u64>, u64)>,
    /// By work number: nothing says that it has changed, and it is read to be sure.
    pub(crate) doubted: Vec<bool>,
    /// Scan position of the smallest path of each hard link group, for every member of a group of at least two.
    pub(crate) leaders: HashMap<u32, u32>,
    pub(crate) shields: Shields,
    /// Something differs from the base.
    pub(crate) is_changed: bool,
    /// Files are read to be sure, and nothing else is to be done.
    pub(crate) is_only_doubted: bool,
    pub(crate) files_new: u64,
    pub(crate) files_changed: u64,
    pub(crate) files_unchanged: u64,
    pub(crate) files_removed: u64,
    /// Files and logical bytes of entries that are not read again.
    pub(crate) kept: Totals,
    /// Stat keys with a ctime from this moment on are not trusted: the content may change within the same clock tick.
    pub(crate) settled: Timestamp,
}

/// Paths that could not be looked at: what the base has there is kept, not removed.
pub(crate) struct Shields(Vec<Vec<u8>>);

impl Shields {
    fn new(scanned: &Scanned) -> Self {
        let mut paths: Vec<Vec<u8>> = scanned
            .skipped
            .iter()
            .filter(|s| s.reason.keeps_base() || s.reason == SkipReason::Mount)
            .map(|s| s.path.clone())
            .collect();
        paths.sort();
        Shields(paths)
    }

    /// Whether `path` is one of them or lies below one.
    pub(crate) fn cover(&self, path: &[u8]) -> bool {
        !self.0.is_empty() && self.0.iter().any(|shield| is_within(path, shield))
    }
}

/// The entries of a tree with their stat keys; entries without a key get [`StatKey::UNKNOWN`].
pub(crate) fn entries(
    tree: Option<&KnownTree>,
) -> impl Iterator<Item = Result<(Entry, StatKey)>> + '_ {
    let segments = tree.map_or(&[][..], |t| &t.segments);
    let keys = tree.map_or(&[][..], |t| &t.keys);
    let all = segments.iter().flat_map(|bytes| {
        let (reader, failure) = match SegmentReader::new(bytes) {
            Ok(reader) => (Some(reader), None),
            Err(e) => (None, Some(Err(e))),
        };
        reader.into_iter().flatten().chain(failure)
    });
    all.enumerate()
        .map(|(i, entry)| entry.map(|e| (e, keys.get(i).copied().unwrap_or(StatKey::UNKNOWN))))
}

/// How the merge sees a scanned entry.
pub(crate) fn seen<'a>(path: &'a [u8], stat: &Stat) -> Seen<'a> {
    let kind = match stat.kind {
        FileKind::Directory => SeenKind::Directory,
        FileKind::Symlink => SeenKind::Symlink,
        _ => SeenKind::File,
    };
    Seen {
        path,
        kind,
        size: stat.size,
        mtime: stat.mtime,
        key: StatKey {
            ino: stat.ino,
            ctime: stat.ctime,
        },
        owner: (stat.uid, stat.gid),
    }
}

/// Scans the target and merges with `base`. Blocks; opens no regular file but `.nbwsignore`.
pub(crate) fn plan(
    access: &Access,
    target: &Target,
    base: Option<&KnownTree>,
    options: &SaveOptions,
    threads: usize,
) -> Result<Planned> {
    let rules = Rules::new(&options.exclude, options.cachedir_tag)?;
    let scanned = scan(
        &target.root,
        &ScanOptions {
            rules: &rules,
            threads,
            cancel: &access.cancel,
        },
    )?;
    let mut planned = Planned {
        decisions: vec![Decision::Metadata; scanned.len()],
        work: Vec::new(),
        before: Vec::new(),
        doubted: Vec::new(),
        leaders: hard_link_leaders(&scanned),
        shields: Shields::new(&scanned),
        is_changed: base.is_none(),
        is_only_doubted: false,
        files_new: 0,
        files_changed: 0,
        files_unchanged: 0,
        files_removed: 0,
        kept: Totals::default(),
        settled: scanned.clock,
        scanned,
    };
    let reread = Reread::of(options, base);
    planned.merge(base, reread, access.inner.format.numeric_ids)?;
    planned.settle(target)?;
    Ok(planned)
}

fn hard_link_leaders(scanned: &Scanned) -> HashMap<u32, u32> {
    let mut first: HashMap<(u64, u64), u32> = HashMap::new();
    let mut leaders = HashMap::new();
    for i in 0..scanned.len() {
        let stat = scanned.stat(i);
        if stat.kind == FileKind::File && stat.nlink > 1 {
            let leader = *first.entry((stat.dev, stat.ino)).or_insert(i as u32);
            if leader != i as u32 {
                leaders.insert(leader, leader);
                leaders.insert(i as u32, leader);
            }
        }
    }
    leaders
}

impl Planned {
    fn merge(&mut self, base: Option<&KnownTree>, reread: Reread, numeric_ids: bool) -> Result<()> {
        let saved_here = base.is_some_and(|b| b.saved_here);
        let scanned = std::mem::take(&mut self.scanned);
        for pair in Merge::new(entries(base), scanned.len(), |i| scanned.path(i)) {
            match pair? {
                Pair::Base(entry, _) => self.missing(&entry, saved_here),
                Pair::Both(entry, key, i) => {
                    let stat = scanned.stat(i);
                    let is_file = stat.kind == FileKind::File;
                    let same = unchanged(&entry, key, &seen(&entry.path, &stat), numeric_ids)
                        && self.has_same_link(&entry, i, &scanned);
                    let is_wanted = is_file && reread.wants(&stat);
                    if same && !is_wanted {
                        self.decisions[i] = Decision::Keep;
                        self.files_unchanged += u64::from(!entry.is_directory());
                        self.keep(&entry);
                        continue;
                    }
                    let was_there = !entry.is_directory() && !entry.is_omitted();
                    let is_file = matches!(entry.body, Body::File { .. });
                    let is_doubted = same && matches!(reread, Reread::Since(_));
                    self.is_changed |= !is_doubted;
                    self.count(&stat, was_there, is_doubted);
                    self.read_again(i, &stat, is_file.then(|| entry.size()), is_doubted);
                }
                Pair::Seen(i) => {
                    self.is_changed = true;
                    let stat = scanned.stat(i);
                    self.count(&stat, false, false);
                    self.read_again(i, &stat, None, false);
                }
            }
        }
        self.scanned = scanned;
        self.is_only_doubted = !self.is_changed && !self.work.is_empty();
        self.is_changed |= self.is_only_doubted;
        Ok(())
    }

    /// Counts an entry that is taken over.
    fn keep(&mut self, entry: &Entry) {
        if !entry.is_directory() && !entry.is_omitted() {
            self.kept.files += 1;
            self.kept.bytes += entry.size();
        }
    }

    /// The file that is read as `work`, as a quota sees it.
    pub(crate) fn applicant(&self, work: u32) -> Applicant<'_> {
        let i = self.work[work as usize] as usize;
        let (before, names) = self.before[work as usize];
        Applicant {
            path: self.scanned.path(i),
            size: self.scanned.stat(i).size,
            before,
            names,
        }
    }

    /// A base entry that the scan did not find.
    fn missing(&mut self, entry: &Entry, saved_here: bool) {
        if self.shields.cover(&entry.path) {
            // Flagged once; a base that was stale already is no news.
            self.is_changed |= !entry.stale && !entry.is_omitted();
            self.keep(entry);
        } else if entry.is_omitted() {
            self.is_changed |= saved_here;
        } else {
            self.is_changed = true;
            self.files_removed += u64::from(!entry.is_directory());
        }
    }

    /// Scan positions of the other names of the file that is read as `work`, in order.
    pub(crate) fn further_names(&self, work: u32) -> Vec<u32> {
        let own = self.work[work as usize];
        let Some(leader) = self.leaders.get(&own) else {
            return Vec::new();
        };
        let members = self.leaders.iter().filter(|(_, l)| *l == leader);
        let mut names: Vec<u32> = members.map(|(i, _)| *i).filter(|i| *i != own).collect();
        names.sort_unstable();
        names
    }

    fn has_same_link(&self, entry: &Entry, i: usize, scanned: &Scanned) -> bool {
        let leader = self
            .leaders
            .get(&(i as u32))
            .map(|l| scanned.path(*l as usize));
        entry.link.as_deref() == leader
    }

    /// Counts an entry that is read again, for the report.
    fn count(&mut self, stat: &Stat, was_there: bool, is_doubted: bool) {
        match stat.kind {
            FileKind::Directory => {}
            _ if is_doubted => self.files_unchanged += 1,
            _ if was_there => self.files_changed += 1,
            _ => self.files_new += 1,
        }
    }

    fn read_again(&mut self, i: usize, stat: &Stat, before: Option<u64>, is_doubted: bool) {
        if stat.kind != FileKind::File {
            self.kept.files += u64::from(stat.kind != FileKind::Directory);
            return;
        }
        let leader = self
            .leaders
            .get(&(i as u32))
            .map(|l| self.decisions[*l as usize]);
        self.decisions[i] = match leader {
            Some(shared @ Decision::Content(work)) => {
                self.before[work as usize].1 += 1;
                self.doubted[work as usize] &= is_doubted;
                shared
            }
            _ => {
                self.before.push((before, 1));
                self.doubted.push(is_doubted);
                self.work.push(i as u32);
                Decision::Content(self.work.len() as u32 - 1)
            }
        };
    }

    /// Waits until the file system's clock has left the tick of the newest change that is about to be read: a later change
    /// then gets another ctime, so that what is read now can be trusted next time. At most some 10 ms, and only then.
    fn settle(&mut self, target: &Target) -> Result<()> {
        let newest = (0..self.scanned.len())
            .filter(|i| self.decisions[*i] != Decision::Keep)
            .map(|i| self.scanned.stat(i).ctime)
            .max();
        let Some(newest) = newest else { return Ok(()) };
        for _ in 0..25 {
            if self.settled > newest {
                break;
            }
            std::thread::sleep(Duration::from_millis(2));
            self.settled = target.root.file_system_clock()?;
        }
        Ok(())
    }

    /// The files to read in order of worth, and what a quota does to them.
    pub(crate) fn order(
        &self,
        quota: &Quota,
        stored: u64,
        whole: u64,
        frame_bytes: u64,
    ) -> (Vec<Unit>, Admission) {
        let numbers = 0..self.work.len() as u32;
        let applicants: Vec<Applicant<'_>> = numbers.map(|work| self.applicant(work)).collect();
        let kept = Totals {
            stored,
            ..self.kept
        };
        let admission = admit(&applicants, kept, quota, whole);
        let order = |is_doubted: bool| -> Vec<Unit> {
            let numbers: Vec<u32> = (0..self.work.len() as u32)
                .filter(|i| self.doubted[*i as usize] == is_doubted)
                .filter(|i| admission.left_out.binary_search(i).is_err())
                .collect();
            let candidates: Vec<Candidate<'_>> = numbers
                .iter()
                .map(|i| &applicants[*i as usize])
                .map(|a| Candidate {
                    path: a.path,
                    size: a.size,
                })
                .collect();
            let mut units = save_order(&candidates, whole, frame_bytes);
            for unit in &mut units {
                match unit {
                    Unit::Large(i) => *i = numbers[*i as usize],
                    Unit::Small(files) => {
                        files.iter_mut().for_each(|i| *i = numbers[*i as usize]);
                    }
                }
            }
            units
        };
        let mut units = order(false);
        // What has hardly changed may wait for what has.
        units.append(&mut order(true));
        (units, admission)
    }
}

/// Why a path was left out, for people.
pub(crate) fn omit_text(reason: OmitReason) -> &'static str {
    match reason {
        OmitReason::Deadline => "the deadline came first",
        OmitReason::Quota => "it would pass the hard limit",
    }
}
