//! The folded log: what the chain of records means today (`docs/format.md`, section 8.3).
//!
//! Folding is tolerant about legality and strict about continuity. A snapshot that should never have been appended still
//! keeps its packs alive; a gap or a wrong parent is `Corrupt`, so that nobody prunes by half a log.

mod carried;

pub use carried::{Ledger, Past};

use crate::error::{Error, ErrorKind, Result};
use crate::id::{SnapshotId, WriterId};
use crate::key;
use crate::record::{Body, Doomed, Head, MarkBody, Place, Record, RescueBody, SnapshotBody};
use crate::state::State;
use std::collections::{BTreeMap, BTreeSet};

const FOLD: &str = "fold log";

/// Who may write as the owner: the writer of the last claim, until a newer epoch or a tombstone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Its epoch.
    pub epoch: u64,
    /// Its id.
    pub writer: WriterId,
}

/// How far a mark has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarkPhase {
    /// In its grace; it may still be cancelled.
    Marked,
    /// Withdrawn: it dooms and forgets nothing.
    Cancelled,
    /// Deletes may have begun.
    Sweeping,
    /// Deletes are finished.
    Swept,
}

/// A snapshot and the record that committed it.
#[derive(Clone, Copy, Debug)]
pub struct LoggedSnapshot<'a> {
    /// The record.
    pub record: &'a Record,
    /// Its body.
    pub body: &'a SnapshotBody,
}

/// A rescue and the record that committed it.
#[derive(Clone, Copy, Debug)]
pub struct LoggedRescue<'a> {
    /// The record.
    pub record: &'a Record,
    /// Its body.
    pub body: &'a RescueBody,
}

/// A mark, the record that committed it, and how far it has come.
#[derive(Clone, Copy, Debug)]
pub struct LoggedMark<'a> {
    /// The record.
    pub record: &'a Record,
    /// Its body; what it forgets and dooms lies in its attachment.
    pub body: &'a MarkBody,
    /// How far it has come.
    pub phase: MarkPhase,
    /// What it dooms and forgets, if somebody read it ([`Log::note_doomed`]).
    pub doomed: Option<&'a Doomed>,
}

/// A log, read from its first record on.
#[derive(Clone, Debug, Default)]
pub struct Log {
    records: Vec<Record>,
    workspace_head: Option<usize>,
    dismissed: BTreeSet<SnapshotId>,
    /// Position of a mark's record, by seq, and its phase.
    marks: BTreeMap<u64, (usize, MarkPhase)>,
    /// What marks doom and forget, by seq, as far as somebody read it.
    doomed: BTreeMap<u64, Doomed>,
    /// What a ledger tells of removed records.
    history: Vec<Past>,
    owner: Option<Owner>,
    purged: bool,
}

impl Log {
    /// Folds records in the order of seq.
    ///
    /// `Corrupt` if a seq is missing, a parent or repository does not match, a record does not carry on the workspace head, or the
    /// first record is not number 1: a pruned log is [`Log::resume`]d from its ledger instead. Only a log that was
    /// purged may start with its tombstone.
    pub fn fold(records: impl IntoIterator<Item = Record>) -> Result<Self> {
        let mut log = Log::default();
        for record in records {
            log.push(record)?;
        }
        Ok(log)
    }

    /// Begins with what a ledger carries on; the next record is the one after its last.
    pub fn resume(ledger: Ledger) -> Self {
        let mut log = Log {
            history: ledger.history,
            ..Log::default()
        };
        let records = ledger.kept.into_iter().chain([ledger.last]);
        records.for_each(|record| log.take(record));
        log
    }

    /// Adds what could be read of a damaged log, in the order of seq, gaps and all. For readers only: nobody appends or prunes by it.
    #[must_use]
    pub fn with_readable(mut self, records: impl IntoIterator<Item = Record>) -> Self {
        records.into_iter().for_each(|record| self.take(record));
        self
    }

    /// Notes what the mark `seq` dooms and forgets, which lies in its attachment.
    pub fn note_doomed(&mut self, seq: u64, doomed: Doomed) {
        self.doomed.insert(seq, doomed);
    }

    /// The marks whose attachments count and were not noted yet: all but the cancelled ones.
    pub fn unread_marks(&self) -> Vec<(u64, Place)> {
        self.marks()
            .iter()
            .filter(|m| m.phase != MarkPhase::Cancelled && m.doomed.is_none())
            .map(|m| (m.record.seq, m.body.attachment))
            .collect()
    }

    /// What a ledger tells of records that were removed, oldest first; empty if none were.
    pub fn history(&self) -> &[Past] {
        &self.history
    }

    /// Adds the next record; errors as in [`Log::fold`], and the log is unchanged then.
    pub fn push(&mut self, record: Record) -> Result<()> {
        self.check_continuity(&record)
            .map_err(|why| Error::corrupt(FOLD, why).at(key::log(record.seq)))?;
        self.take(record);
        Ok(())
    }

    fn take(&mut self, record: Record) {
        let at = self.records.len();
        match &record.body {
            Body::Claim(_) => {
                self.owner = Some(Owner {
                    epoch: record.epoch,
                    writer: record.writer,
                });
            }
            Body::Snapshot(body) => {
                self.workspace_head = Some(at);
                if body.one_shot {
                    self.owner = None;
                }
            }
            Body::Dismiss(body) => {
                self.dismissed.insert(body.rescue);
            }
            Body::Mark(_) => {
                self.marks.insert(record.seq, (at, MarkPhase::Marked));
            }
            Body::Cancel(body) => {
                self.advance_mark(body.mark, MarkPhase::Marked, MarkPhase::Cancelled);
            }
            Body::Sweep(body) => {
                for mark in &body.marks {
                    self.advance_mark(*mark, MarkPhase::Marked, MarkPhase::Sweeping);
                }
            }
            Body::Swept(body) => {
                for mark in &body.marks {
                    self.advance_mark(*mark, MarkPhase::Sweeping, MarkPhase::Swept);
                }
            }
            Body::Tombstone(body) => {
                self.owner = None;
                if body.purge {
                    self.purged = true;
                    self.workspace_head = None;
                    self.marks.clear();
                }
            }
            Body::State(_) | Body::Rescue(_) | Body::Settings(_) | Body::Repack(_) => {}
        }
        self.records.push(record);
    }

    /// Every record, oldest first.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// The log head: the newest record.
    pub fn head(&self) -> Option<&Record> {
        self.records.last()
    }

    /// The workspace head: the newest snapshot of the chain.
    pub fn workspace_head(&self) -> Option<LoggedSnapshot<'_>> {
        self.snapshot_at(self.workspace_head?)
    }

    /// Kept snapshots, oldest first: all but those in `forgotten` and those that a mark has forgotten. The workspace head is
    /// always kept.
    ///
    /// What a mark forgets lies in its attachment; the caller reads it and notes it. Without that every snapshot counts as kept,
    /// which is always safe.
    pub fn snapshots(&self, forgotten: Option<&BTreeSet<SnapshotId>>) -> Vec<LoggedSnapshot<'_>> {
        let marked = self.forgotten_by(|phase| phase != MarkPhase::Cancelled);
        let gone =
            |id: &SnapshotId| marked.contains(id) || forgotten.is_some_and(|ids| ids.contains(id));
        let positions = if self.purged {
            0..0
        } else {
            0..self.records.len()
        };
        positions
            .filter_map(|at| Some((at, self.snapshot_at(at)?)))
            .filter(|(at, s)| Some(*at) == self.workspace_head || !gone(&s.body.snapshot))
            .map(|(_, snapshot)| snapshot)
            .collect()
    }

    /// Rescues that nobody dismissed, oldest first.
    pub fn rescues(&self) -> Vec<LoggedRescue<'_>> {
        let rescue = |record| match record {
            &Record {
                body: Body::Rescue(ref body),
                ..
            } => Some(LoggedRescue { record, body }),
            _ => None,
        };
        self.records
            .iter()
            .filter(|_| !self.purged)
            .filter_map(rescue)
            .filter(|r| !self.dismissed.contains(&r.body.snapshot))
            .collect()
    }

    /// Every mark with its phase, oldest first.
    pub fn marks(&self) -> Vec<LoggedMark<'_>> {
        self.marks
            .values()
            .filter_map(|(at, phase)| match self.records.get(*at) {
                Some(
                    record @ Record {
                        body: Body::Mark(body),
                        ..
                    },
                ) => Some(LoggedMark {
                    record,
                    body,
                    phase: *phase,
                    doomed: self.doomed.get(&record.seq),
                }),
                _ => None,
            })
            .collect()
    }

    /// The epoch in force, 0 for an empty log.
    pub fn epoch(&self) -> u64 {
        self.head().map_or(0, |record| record.epoch)
    }

    /// The present state, [`State::None`] for an empty log.
    pub fn state(&self) -> State {
        self.head().map_or(State::None, |record| record.state)
    }

    /// The attachment with the present settings.
    pub fn settings(&self) -> Option<Place> {
        self.head().and_then(|record| record.settings)
    }

    /// Who owns the epoch in force, if a session does.
    pub fn owner(&self) -> Option<Owner> {
        self.owner.filter(|owner| owner.epoch == self.epoch())
    }

    /// Whether the data was purged.
    pub fn is_purged(&self) -> bool {
        self.purged
    }

    /// Checks what `next` refers to, which the log head alone can't tell: a cancel or sweep needs a mark in its grace, a swept a
    /// sweep, a dismiss a rescue that was not dismissed. `InvalidState` otherwise.
    pub fn check_references(&self, next: &Record) -> Result<()> {
        let in_phase = |seq: &u64, phase| self.marks.get(seq).is_some_and(|mark| mark.1 == phase);
        let why = match &next.body {
            Body::Cancel(body) if !in_phase(&body.mark, MarkPhase::Marked) => {
                "there is no such mark, or it was cancelled or swept"
            }
            Body::Sweep(body) if !body.marks.iter().all(|m| in_phase(m, MarkPhase::Marked)) => {
                "a mark to sweep is missing, or was cancelled or swept"
            }
            Body::Swept(body) if !body.marks.iter().all(|m| in_phase(m, MarkPhase::Sweeping)) => {
                "the deletes of a mark had not begun, or are finished"
            }
            Body::Dismiss(body)
                if !self
                    .rescues()
                    .iter()
                    .any(|r| r.body.snapshot == body.rescue) =>
            {
                "there is no such rescue, or it was dismissed"
            }
            _ => return Ok(()),
        };
        let kind = next.kind().name();
        Err(Error::new(ErrorKind::InvalidState, "append record", why).at(kind))
    }

    fn forgotten_by(&self, counts: impl Fn(MarkPhase) -> bool) -> BTreeSet<SnapshotId> {
        let marks = self.marks.iter().filter(|(_, mark)| counts(mark.1));
        let lists = marks.filter_map(|(seq, _)| self.doomed.get(seq));
        lists
            .flat_map(|list| list.snapshots.iter().copied())
            .collect()
    }

    fn snapshot_at(&self, at: usize) -> Option<LoggedSnapshot<'_>> {
        match self.records.get(at)? {
            record @ Record {
                body: Body::Snapshot(body),
                ..
            } => Some(LoggedSnapshot { record, body }),
            _ => None,
        }
    }

    /// A step that comes out of order changes nothing: a mark once swept stays swept, one cancelled stays cancelled.
    fn advance_mark(&mut self, seq: u64, from: MarkPhase, to: MarkPhase) {
        if let Some((_, phase)) = self.marks.get_mut(&seq)
            && *phase == from
        {
            *phase = to;
        }
    }

    fn check_continuity(&self, next: &Record) -> Result<(), &'static str> {
        let purges = matches!(&next.body, Body::Tombstone(body) if body.purge);
        match self.head() {
            None if next.seq != 1 && !purges => {
                return Err("the log does not start at record 1, and there is no ledger");
            }
            None => {}
            Some(head) => {
                if head.seq.checked_add(1) != Some(next.seq) {
                    return Err("records before this one are missing");
                }
                if next.parent != Some(head.commit) {
                    return Err("is not a child of the record before it");
                }
                if head.repository != next.repository {
                    return Err("belongs to another repository");
                }
            }
        }
        let carried = match &next.body {
            Body::Snapshot(body) => Some(Head {
                root: body.root,
                snapshot: body.snapshot,
            }),
            _ if purges => None,
            _ => self.head().and_then(|head| head.head),
        };
        if carried == next.head {
            Ok(())
        } else {
            Err("does not carry on the workspace head")
        }
    }
}
