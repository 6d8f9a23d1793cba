//! Which record may follow which: epochs, states, and what each kind may change.
//!
//! Where the rules leave room, the reading that can't lose work was taken; the comments at the tables say so.

mod words;

pub use words::{Transition, transitions};

use crate::error::{Error, ErrorKind, Result};
use crate::ledger::Owner;
use crate::record::{Body, Kind, Record};
use crate::state::State;

const APPEND: &str = "append record";

/// The steps that have rules about the state of their own. Every other kind keeps the state, whatever it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// A claim.
    Claim,
    /// A state record.
    State,
    /// A snapshot of the session that owns the epoch.
    Session,
    /// A snapshot with a new epoch and without a claim.
    OneShot,
    /// A tombstone that keeps the data.
    Delete,
    /// A tombstone that gives the data up.
    Purge,
}

impl Step {
    /// Every step, in the order of declaration.
    pub const ALL: [Step; 6] = [
        Step::Claim,
        Step::State,
        Step::Session,
        Step::OneShot,
        Step::Delete,
        Step::Purge,
    ];

    /// The step that a body takes; none for the kinds that keep the state.
    pub fn of(body: &Body) -> Option<Step> {
        match body {
            Body::Claim(_) => Some(Step::Claim),
            Body::State(_) => Some(Step::State),
            Body::Snapshot(body) if body.one_shot => Some(Step::OneShot),
            Body::Snapshot(_) => Some(Step::Session),
            Body::Tombstone(body) if body.purge => Some(Step::Purge),
            Body::Tombstone(_) => Some(Step::Delete),
            _ => None,
        }
    }
}

/// The states that may follow `from` by each step. What is not listed is refused.
///
/// - A claim of a live notebook must say `take_over`: it displaces somebody, be the other alive or not.
/// - A state record that repeats the state carries a comment.
/// - Restarting may go to stopping: otherwise the edits of a session that is told to stop meanwhile could not be saved.
/// - Starting can't go to stopping: nothing ran; an interrupted start has failed.
/// - Stopping may end in failed: the program failed, its work was saved.
/// - A snapshot of a session keeps the state: what a final save leads to is a record of its own, written once all is known.
/// - A session may save while it starts (unsaved work of the last session on this disk) and while it restarts.
/// - A one-shot snapshot keeps the state; a live notebook that it took over is stopped, a failed sync is made good by it,
///   unless work was left out again.
/// - A live notebook can be deleted: its writer is fenced by that. Nothing follows a purge.
const STEPS: &[(Step, State, &[State])] = &[
    (Step::Claim, State::None, &[State::Starting]),
    (Step::Claim, State::Starting, &[State::Starting]),
    (Step::Claim, State::Running, &[State::Starting]),
    (Step::Claim, State::Stopping, &[State::Starting]),
    (Step::Claim, State::Stopped, &[State::Starting]),
    (Step::Claim, State::Failed, &[State::Starting]),
    (Step::Claim, State::Error, &[State::Starting]),
    (Step::Claim, State::SyncFailed, &[State::Starting]),
    (Step::Claim, State::Restarting, &[State::Starting]),
    (Step::State, State::None, &[State::None, State::Stopped]),
    (
        Step::State,
        State::Starting,
        &[State::Starting, State::Running, State::Failed, State::Error],
    ),
    (
        Step::State,
        State::Running,
        &[
            State::Running,
            State::Stopping,
            State::Restarting,
            State::Failed,
            State::Error,
        ],
    ),
    (
        Step::State,
        State::Stopping,
        &[
            State::Stopping,
            State::Stopped,
            State::SyncFailed,
            State::Failed,
            State::Error,
        ],
    ),
    (Step::State, State::Stopped, &[State::Stopped]),
    (Step::State, State::Failed, &[State::Failed]),
    (Step::State, State::Error, &[State::Error]),
    (
        Step::State,
        State::SyncFailed,
        &[State::SyncFailed, State::Stopped],
    ),
    (
        Step::State,
        State::Restarting,
        &[
            State::Restarting,
            State::Running,
            State::Stopping,
            State::Failed,
            State::Error,
        ],
    ),
    (Step::Session, State::Starting, &[State::Starting]),
    (Step::Session, State::Running, &[State::Running]),
    (Step::Session, State::Stopping, &[State::Stopping]),
    (Step::Session, State::SyncFailed, &[State::SyncFailed]),
    (Step::Session, State::Restarting, &[State::Restarting]),
    (Step::OneShot, State::None, &[State::None]),
    (Step::OneShot, State::Starting, &[State::Stopped]),
    (Step::OneShot, State::Running, &[State::Stopped]),
    (Step::OneShot, State::Stopping, &[State::Stopped]),
    (Step::OneShot, State::Stopped, &[State::Stopped]),
    (Step::OneShot, State::Failed, &[State::Failed]),
    (Step::OneShot, State::Error, &[State::Error]),
    (
        Step::OneShot,
        State::SyncFailed,
        &[State::SyncFailed, State::Stopped],
    ),
    (Step::OneShot, State::Restarting, &[State::Stopped]),
    (Step::Delete, State::None, &[State::Deleting]),
    (Step::Delete, State::Starting, &[State::Deleting]),
    (Step::Delete, State::Running, &[State::Deleting]),
    (Step::Delete, State::Stopping, &[State::Deleting]),
    (Step::Delete, State::Stopped, &[State::Deleting]),
    (Step::Delete, State::Failed, &[State::Deleting]),
    (Step::Delete, State::Error, &[State::Deleting]),
    (Step::Delete, State::SyncFailed, &[State::Deleting]),
    (Step::Delete, State::Restarting, &[State::Deleting]),
    (Step::Purge, State::Deleting, &[State::Deleting]),
];

/// The states that `step` may lead to from `from`; none if the step is not allowed there.
pub fn next_states(step: Step, from: State) -> &'static [State] {
    STEPS
        .iter()
        .find(|(s, f, _)| *s == step && *f == from)
        .map_or(&[], |(_, _, to)| to)
}

/// Checks that `next` may be appended right after `head` (none: the log is empty), judging the owner by `head` alone.
///
/// If `head` was written by somebody who need not own the epoch (settings, a rescue, prune), any writer that names the current
/// epoch is taken for the owner; [`check_append_owned`] is exact.
///
/// Errors: `Fenced` if a newer epoch is in force, another writer owns it, or the notebook was deleted under a session; `Conflict`
/// if somebody else was first (a claim; seq or parent no longer match) or owns a live notebook; `InvalidState` for all else.
pub fn check_append(head: Option<&Record>, next: &Record) -> Result<()> {
    let ownership = head.map_or(Ownership::Nobody, Ownership::by_head);
    check(head, ownership, next)
}

/// As [`check_append`], with the owner from a folded log ([`crate::ledger::Log::owner`]) or a session.
pub fn check_append_owned(
    head: Option<&Record>,
    owner: Option<Owner>,
    next: &Record,
) -> Result<()> {
    check(
        head,
        owner.map_or(Ownership::Nobody, Ownership::Known),
        next,
    )
}

enum Ownership {
    Known(Owner),
    Nobody,
    Unknown,
}

impl Ownership {
    fn by_head(head: &Record) -> Self {
        match &head.body {
            Body::Snapshot(body) if body.one_shot => Ownership::Nobody,
            Body::Tombstone(_) => Ownership::Nobody,
            Body::Claim(_) | Body::Snapshot(_) => Ownership::Known(owner_of(head)),
            Body::State(_) if head.state.is_live() => Ownership::Known(owner_of(head)),
            _ => Ownership::Unknown,
        }
    }
}

fn owner_of(record: &Record) -> Owner {
    Owner {
        epoch: record.epoch,
        writer: record.writer,
    }
}

fn check(head: Option<&Record>, ownership: Ownership, next: &Record) -> Result<()> {
    let step = Step::of(&next.body);
    check_epoch(head, step, next)?;
    check_slot(head, next)?;
    check_state(head, step, next)?;
    check_owner(head, step, ownership, next)?;
    check_carried(head, next)
}

fn refuse(kind: ErrorKind, next: &Record, why: String) -> Error {
    Error::new(kind, APPEND, why).at(next.kind().name())
}

/// A claim or one-shot snapshot opens the next epoch, everything else names the one in force.
fn check_epoch(head: Option<&Record>, step: Option<Step>, next: &Record) -> Result<()> {
    let current = head.map_or(0, |head| head.epoch);
    let opens = matches!(step, Some(Step::Claim | Step::OneShot));
    let expected = if opens {
        current.saturating_add(1)
    } else {
        current.max(1)
    };
    if next.epoch == expected {
        return Ok(());
    }
    let kind = match step {
        _ if next.epoch > expected => ErrorKind::InvalidState,
        Some(Step::State | Step::Session | Step::OneShot) => ErrorKind::Fenced,
        _ => ErrorKind::Conflict,
    };
    let why = format!("has epoch {}, expected is {expected}", next.epoch);
    Err(refuse(kind, next, why))
}

fn check_slot(head: Option<&Record>, next: &Record) -> Result<()> {
    let Some(head) = head else {
        if next.seq == 1 && next.parent.is_none() {
            return Ok(());
        }
        let why = "the log is empty: record 1 comes first".to_owned();
        return Err(refuse(ErrorKind::Conflict, next, why));
    };
    if head.repository != next.repository {
        let why = "belongs to another repository".to_owned();
        return Err(refuse(ErrorKind::InvalidState, next, why));
    }
    if next.parent != Some(head.commit) || head.seq.checked_add(1) != Some(next.seq) {
        let why = format!("record {} is not its parent", head.seq);
        return Err(refuse(ErrorKind::Conflict, next, why));
    }
    Ok(())
}

fn check_state(head: Option<&Record>, step: Option<Step>, next: &Record) -> Result<()> {
    let invalid = |why: String| Err(refuse(ErrorKind::InvalidState, next, why));
    let from = head.map_or(State::None, |head| head.state);
    if head.is_some_and(|head| Step::of(&head.body) == Some(Step::Purge)) {
        return invalid("the data was purged; nothing follows".to_owned());
    }
    let Some(step) = step else {
        let first = matches!(next.kind(), Kind::Settings | Kind::Rescue);
        if head.is_none() && !first {
            return invalid("there is nothing that it could refer to".to_owned());
        }
        if next.state != from {
            return invalid(format!("changes the state from {from} to {}", next.state));
        }
        return Ok(());
    };
    if from == State::Deleting && matches!(step, Step::State | Step::Session) {
        let why = "the notebook was deleted".to_owned();
        return Err(refuse(ErrorKind::Fenced, next, why));
    }
    if !next_states(step, from).contains(&next.state) {
        return invalid(format!("does not lead from {from} to {}", next.state));
    }
    match &next.body {
        Body::Claim(body) if from.is_live() && !body.take_over => {
            let why = format!("the notebook is {from}; wait, or take over");
            Err(refuse(ErrorKind::Conflict, next, why))
        }
        _ => Ok(()),
    }
}

/// Sessions write alone. A state record that only comments on a notebook at rest, or takes a repository under management, may come
/// from anybody.
fn check_owner(
    head: Option<&Record>,
    step: Option<Step>,
    ownership: Ownership,
    next: &Record,
) -> Result<()> {
    let from = head.map_or(State::None, |head| head.state);
    let owned = match step {
        Some(Step::Session) => true,
        Some(Step::State) => from.is_live() || (from == State::SyncFailed && next.state != from),
        _ => false,
    };
    let owns = match ownership {
        Ownership::Known(owner) => owner == owner_of(next),
        Ownership::Nobody => false,
        Ownership::Unknown => true,
    };
    if owned && !owns {
        let why = "another writer owns the epoch, or nobody does".to_owned();
        return Err(refuse(ErrorKind::Fenced, next, why));
    }
    Ok(())
}

/// Workspace head, index root and settings are carried on, except by the kinds that change them.
fn check_carried(head: Option<&Record>, next: &Record) -> Result<()> {
    let purges = Step::of(&next.body) == Some(Step::Purge);
    let before = head.filter(|_| !purges);
    let kind = next.kind();
    let moves_head = kind == Kind::Snapshot;
    let moves_index = matches!(
        kind,
        Kind::Snapshot | Kind::Rescue | Kind::Repack | Kind::Mark | Kind::Cancel
    );
    let moves_settings = kind == Kind::Settings;
    let why = if !moves_head && next.head != before.and_then(|r| r.head) {
        "does not carry on the workspace head"
    } else if !moves_index && next.index != before.and_then(|r| r.index) {
        "does not carry on the index"
    } else if !moves_settings && next.settings != before.and_then(|r| r.settings) {
        "does not carry on the settings"
    } else {
        return Ok(());
    };
    Err(refuse(ErrorKind::InvalidState, next, why.to_owned()))
}

/// What becomes of a pending record whose slot went to another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterLoss {
    /// Try again at the new head while it is legal. A snapshot reloads the index and stores again what a mark doomed.
    Retry,
    /// Compute it again from what is there now.
    Recompute,
    /// The writer is fenced; a snapshot's work becomes a rescue.
    Fenced,
    /// Somebody else was first; the caller decides.
    Conflict,
    /// The data was purged: `InvalidState`, and nothing is kept.
    Purged,
}

/// What becomes of `pending` after it lost its slot to `winner`. Judge every record since the base of `pending`; the first that is
/// not [`AfterLoss::Retry`] decides.
pub fn after_loss(pending: &Record, winner: &Record) -> AfterLoss {
    let same_writer = (pending.writer, pending.epoch) == (winner.writer, winner.epoch);
    let (fences_session, fences_snapshot) = match Step::of(&winner.body) {
        Some(Step::Purge) => return AfterLoss::Purged,
        Some(Step::Claim | Step::OneShot | Step::Delete) => (true, true),
        Some(Step::Session) => (false, !same_writer),
        Some(Step::State) | None => (false, false),
    };
    match pending.kind() {
        Kind::Snapshot if fences_snapshot => AfterLoss::Fenced,
        Kind::State if fences_session => AfterLoss::Fenced,
        Kind::Claim | Kind::Tombstone if fences_session => AfterLoss::Conflict,
        Kind::Mark | Kind::Repack | Kind::Sweep => AfterLoss::Recompute,
        _ => AfterLoss::Retry,
    }
}
