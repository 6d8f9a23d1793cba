//! Reading one directory: its names, its own rules, and a look at each entry.

use super::meta::{self, FileKind, Stat};
use super::order::{Child, Gathered, Listing, Store, compare_contents};
use super::scan::{IgnoreStack, RuleProblem, Walk};
use super::scanned::{LastOwner, Place, Record};
use super::{SkipReason, Skipped, errno_text, fault};
use nbws_core::filter::{self, IgnoreFile, Verdict};
use nbws_core::limits::{MAX_IGNORE_FILE_BYTES, MAX_PATH_BYTES};
use nbws_core::path::{self, IGNORE_FILE, MARKER};
use nbws_core::{Error, Result};
use rustix::fs::{FileType, Mode, OFlags, RawDir, ResolveFlags, Statx};
use rustix::io::Errno;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

/// Buffer of one call that reads a directory.
const LIST_BYTES: usize = 64 << 10;
/// Entries between two looks at the cancel token.
const CANCEL_STRIDE: usize = 1_024;
/// The file that marks a directory as a cache (bford.info/cachedir).
const CACHE_TAG: &[u8] = b"CACHEDIR.TAG";
/// How it must begin to count.
const CACHE_TAG_TEXT: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55";

/// Why a directory was not read.
pub(super) enum Refusal {
    /// It went away.
    Gone,
    /// It is left out.
    Skip(SkipReason),
    /// The whole walk ends.
    Stop(Error),
}

impl Refusal {
    /// What an error number on the directory means.
    pub(super) fn of(errno: Errno, path: &[u8]) -> Self {
        match errno {
            Errno::NOENT => Refusal::Gone,
            Errno::LOOP | Errno::NOTDIR => Refusal::Skip(SkipReason::Replaced),
            Errno::XDEV => Refusal::Skip(SkipReason::Mount),
            Errno::MFILE | Errno::NFILE | Errno::NOMEM => Refusal::Stop(fault("scan", path, errno)),
            _ => Refusal::Skip(SkipReason::Unreadable(errno_text(errno))),
        }
    }
}

/// What ignore files and tags of the directory itself say of its entries.
struct LocalRules {
    ignores: IgnoreStack,
    /// Only the tag is kept.
    tagged: bool,
    /// No rule can match any entry.
    trivial: bool,
}

/// Reads directories into buffers that it keeps, and gathers what is left out.
pub(super) struct DirectoryReader<'a> {
    walk: &'a Walk<'a>,
    /// Path of the directory to read; while entries are looked at, that of one of them.
    pub(super) path: Vec<u8>,
    /// Length of the directory's own path.
    base: usize,
    list: Vec<u8>,
    names: Vec<u8>,
    listed: Vec<(Place, FileType)>,
    has_ignore_file: bool,
    has_tag: bool,
    records: Vec<Record>,
    /// Number of this thread, and all that it has listed.
    number: u32,
    store: Store,
    last_owner: LastOwner,
    skipped: Vec<Skipped>,
    excluded: Vec<Vec<u8>>,
    problems: Vec<RuleProblem>,
    files_opened: u64,
}

impl<'a> DirectoryReader<'a> {
    /// A reader for the thread `number` of `walk`.
    pub(super) fn new(walk: &'a Walk<'a>, number: u32) -> Self {
        DirectoryReader {
            walk,
            path: Vec::new(),
            base: 0,
            list: Vec::with_capacity(LIST_BYTES),
            names: Vec::new(),
            listed: Vec::new(),
            has_ignore_file: false,
            has_tag: false,
            records: Vec::new(),
            number,
            store: Store::default(),
            last_owner: LastOwner::default(),
            skipped: Vec::new(),
            excluded: Vec::new(),
            problems: Vec::new(),
            files_opened: 0,
        }
    }

    /// Gives away all that was noted.
    pub(super) fn hand_over(&mut self, gathered: &mut Gathered) {
        let number = self.number as usize;
        if gathered.stores.len() <= number {
            gathered.stores.resize_with(number + 1, Store::default);
        }
        gathered.stores[number] = std::mem::take(&mut self.store);
        gathered.skipped.append(&mut self.skipped);
        gathered.excluded.append(&mut self.excluded);
        gathered.problems.append(&mut self.problems);
        gathered.files_opened += std::mem::take(&mut self.files_opened);
    }

    /// All that this thread has listed.
    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    /// Reads the directory `fd`, whose path is in `self.path`. Returns its entries and the ignore files that count below it.
    pub(super) fn read(
        &mut self,
        fd: BorrowedFd<'_>,
        above: IgnoreStack,
    ) -> Result<(Listing, IgnoreStack), Refusal> {
        self.base = self.path.len();
        self.list(fd)?;
        let rules = self.local_rules(fd, above)?;
        self.look(fd, &rules)?;
        Ok((self.sorted_listing(), rules.ignores))
    }

    /// Reads all names of the directory.
    fn list(&mut self, fd: BorrowedFd<'_>) -> Result<(), Refusal> {
        self.names.clear();
        self.listed.clear();
        self.has_ignore_file = false;
        self.has_tag = false;
        let mut directory = RawDir::new(fd, self.list.spare_capacity_mut());
        while let Some(entry) = directory.next() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(Refusal::of(errno, &self.path)),
            };
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." || filter::is_reserved(name) {
                continue;
            }
            self.has_ignore_file |= name == IGNORE_FILE;
            self.has_tag |= name == CACHE_TAG;
            let place = Place::push(&mut self.names, name);
            self.listed.push((place, entry.file_type()));
        }
        Ok(())
    }

    /// The rules for the entries of this directory: those above it, and its own ignore file and cache tag.
    fn local_rules(
        &mut self,
        fd: BorrowedFd<'_>,
        above: IgnoreStack,
    ) -> Result<LocalRules, Refusal> {
        let rules = self.walk.options.rules;
        let mut ignores = above;
        if self.has_ignore_file
            && let Some(text) = self.read_ignore_file(fd)?
        {
            let file = Arc::new(IgnoreFile::parse(&self.path, &text));
            for bad in file.bad_lines() {
                self.report(bad.line, bad.reason.clone());
            }
            ignores = ignores.iter().cloned().chain([file]).collect();
        }
        let mut tagged = false;
        if self.has_tag && rules.honours_cachedir_tag() {
            let start = self.read_start(fd, CACHE_TAG, CACHE_TAG_TEXT.len());
            tagged = matches!(start, Ok(Some(start)) if start == CACHE_TAG_TEXT);
        }
        Ok(LocalRules {
            trivial: !tagged && rules.is_trivial(&ignores),
            ignores,
            tagged,
        })
    }

    fn read_ignore_file(&mut self, fd: BorrowedFd<'_>) -> Result<Option<Vec<u8>>, Refusal> {
        match self.read_start(fd, IGNORE_FILE, MAX_IGNORE_FILE_BYTES + 1) {
            Ok(Some(text)) if text.len() > MAX_IGNORE_FILE_BYTES => {
                self.report(0, "is larger than 1 MiB; not honoured".to_owned());
                Ok(None)
            }
            Ok(Some(text)) => Ok(Some(text)),
            Ok(None) | Err(Errno::NOENT) => Ok(None),
            Err(errno @ (Errno::MFILE | Errno::NFILE | Errno::NOMEM)) => {
                Err(Refusal::of(errno, &self.path))
            }
            Err(errno) => {
                self.report(0, format!("can't be read: {}", errno_text(errno)));
                Ok(None)
            }
        }
    }

    fn report(&mut self, line: usize, reason: String) {
        self.problems.push(RuleProblem {
            path: path::join(&self.path, IGNORE_FILE),
            line,
            reason,
        });
    }

    /// The first `limit` bytes of the regular file `name`; `None` if it is something else.
    fn read_start(
        &mut self,
        directory: BorrowedFd<'_>,
        name: &[u8],
        limit: usize,
    ) -> Result<Option<Vec<u8>>, Errno> {
        let raw = meta::statx_at(directory, name)?;
        let stat = Stat::from_statx(&raw);
        if stat.kind != FileKind::File {
            return Ok(None);
        }
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let root = self.walk.root;
        let file = match root.open_at(directory, name, flags, Mode::empty(), ResolveFlags::empty())
        {
            Err(Errno::LOOP) => return Ok(None),
            outcome => outcome?,
        };
        self.files_opened += 1;
        let size = usize::try_from(stat.size).unwrap_or(limit);
        let mut text = vec![0; limit.min(size.saturating_add(1))];
        let mut filled = 0;
        while filled < text.len() {
            match rustix::io::read(&file, &mut text[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        text.truncate(filled);
        Ok(Some(text))
    }

    /// Looks at every listed entry and records those that belong to the tree.
    fn look(&mut self, fd: BorrowedFd<'_>, rules: &LocalRules) -> Result<(), Refusal> {
        self.records.clear();
        let listed = std::mem::take(&mut self.listed);
        for (at, (place, hint)) in listed.iter().enumerate() {
            if at % CANCEL_STRIDE == CANCEL_STRIDE - 1 {
                self.walk.options.cancel.check().map_err(Refusal::Stop)?;
            }
            self.look_at(fd, rules, *place, *hint);
        }
        self.listed = listed;
        self.path.truncate(self.base);
        Ok(())
    }

    /// Looks at one entry; `hint` is its kind as the directory says, which some file systems do not know.
    fn look_at(&mut self, fd: BorrowedFd<'_>, rules: &LocalRules, place: Place, hint: FileType) {
        let decided = rules.trivial || hint != FileType::Unknown;
        if !rules.trivial && decided && self.excludes(rules, place, hint.is_dir()) {
            return;
        }
        let special = match hint {
            FileType::Fifo => Some(FileKind::Fifo),
            FileType::Socket => Some(FileKind::Socket),
            FileType::CharacterDevice | FileType::BlockDevice => Some(FileKind::Device),
            _ => None,
        };
        if let Some(reason) = special.and_then(SkipReason::of_kind) {
            return self.skip(place, reason);
        }
        let name = place.of(&self.names);
        let raw = match meta::statx_at(fd, name) {
            Ok(raw) => raw,
            Err(Errno::NOENT) => return,
            Err(errno) => return self.skip(place, SkipReason::Unreadable(errno_text(errno))),
        };
        let is_too_long = self.base + 1 + name.len() > MAX_PATH_BYTES;
        let stat = Stat::from_statx(&raw);
        let is_directory = stat.kind == FileKind::Directory;
        if !decided && self.excludes(rules, place, is_directory) {
            return;
        }
        let reason = if self.is_mount(&raw, is_directory) {
            Some(SkipReason::Mount)
        } else if is_too_long {
            Some(SkipReason::PathTooLong)
        } else {
            SkipReason::of_kind(stat.kind)
        };
        match reason {
            Some(reason) => self.skip(place, reason),
            None => {
                let owner = self.last_owner.number(&stat, &self.walk.owners);
                self.records.push(Record::new(place, &stat, owner));
            }
        }
    }

    /// Whether another mount or file system begins at an entry. Files are judged by their mount only: on overlays their
    /// device differs from their directory's.
    fn is_mount(&self, raw: &Statx, is_directory: bool) -> bool {
        let other_mount = match (self.walk.mount, meta::mount(raw)) {
            (Some(ours), Some(theirs)) => ours != theirs,
            _ => false,
        };
        other_mount || (is_directory && meta::device(raw) != self.walk.dev)
    }

    /// Whether rules leave the entry out; notes it if so.
    fn excludes(&mut self, rules: &LocalRules, place: Place, is_directory: bool) -> bool {
        self.full_path(place);
        let tag_rules = rules.tagged && path::name(&self.path) != CACHE_TAG;
        let verdict = self
            .walk
            .options
            .rules
            .verdict(&rules.ignores, &self.path, is_directory);
        let excluded = verdict == Verdict::Exclude || (tag_rules && self.path != MARKER);
        if excluded {
            self.excluded.push(self.path.clone());
        }
        excluded
    }

    fn skip(&mut self, place: Place, reason: SkipReason) {
        self.full_path(place);
        self.note_skipped(reason);
    }

    /// Makes `self.path` that of an entry of this directory.
    fn full_path(&mut self, place: Place) {
        self.path.truncate(self.base);
        if self.base > 0 {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(place.of(&self.names));
    }

    /// Notes that what is at `self.path` is left out.
    pub(super) fn note_skipped(&mut self, reason: SkipReason) {
        if reason == SkipReason::Mount {
            self.excluded.push(self.path.clone());
        }
        self.skipped.push(Skipped {
            path: self.path.clone(),
            reason,
        });
    }

    /// The records of the directory in order; the numbers of its sub-directories are not known yet.
    fn sorted_listing(&mut self) -> Listing {
        let names = &self.names;
        let records = &mut self.records;
        records.sort_unstable_by(|a, b| a.place.of(names).cmp(b.place.of(names)));
        let mut children: Box<[Child]> = records
            .iter()
            .enumerate()
            .filter(|(_, record)| record.is_directory())
            .map(|(at, _)| Child {
                record: at as u32,
                directory: 0,
            })
            .collect();
        let name = |child: &Child| records[child.record as usize].place.of(names);
        children.sort_unstable_by(|a, b| compare_contents(name(a), name(b)));
        let start = self.store.records.len();
        for record in records.iter() {
            let place = Place::push(&mut self.store.names, record.place.of(names));
            self.store.records.push(record.moved_to(place));
        }
        Listing {
            store: self.number,
            records: start..self.store.records.len(),
            children,
        }
    }
}
