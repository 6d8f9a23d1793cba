"""Explicit-state model of the commit, fencing and pruning protocol (docs/consistency.md).

A breadth-first search visits every interleaving, within bounds, of two writers (sessions and one-shot
saves), a prune (Mark, Sweep, deletes), an operator who withdraws Marks (Cancel), the pruning of the log,
crashes, lost replies and PUTs that land late. Rules that are removed by name (a mutation) must lead to a
violation: otherwise the model would be too weak to trust.

    python commit_model.py PROFILE [MUTATION ...]      # see PROFILES, SOAK_PROFILES, CAUGHT and HARMLESS

Records and packs are interned: a record is a small integer, a set of packs a bit mask. What follows from a
log alone is computed once per log (`View`). A crash is a step only for a writer that may start again: one
that never acts again is a prefix of what is searched anyway. The writers are alike, so the first one to
start is called 0.
"""

from __future__ import annotations

import sys
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

CLAIM, SNAPSHOT, RESCUE, MARK, CANCEL, SWEEP = "claim", "snapshot", "rescue", "mark", "cancel", "sweep"
OFF, PUT, CONFIRM, OPEN, FENCED, DELETING = "off", "put", "confirm", "open", "fenced", "deleting"
NONE = -1
PRUNE, OPERATOR = 2, 3


class Record(NamedTuple):
    """One record, made unique by (writer, number); `refs` are packs: used by work, doomed or swept."""

    seq: int
    kind: str
    epoch: int
    writer: int
    number: int
    parent: int
    refs: int = 0
    mark: int = NONE


class Writer(NamedTuple):
    """A writer: `base` is the log head that it builds on, `seen` the packs that its dedup index names."""

    phase: str = OFF
    session: bool = False
    epoch: int = 0
    base: int = NONE
    pending: int = NONE
    seen: int = 0
    saves: int = 0
    starts: int = 0
    number: int = 0


class Agent(NamedTuple):
    """The prune or the operator: `todo` are packs that are being deleted, `plans` counts attempts."""

    phase: str = OFF
    pending: int = NONE
    todo: int = 0
    plans: int = 0
    marks: int = 0


class State(NamedTuple):
    """Store, agents and the ghost variables of the invariants (`acks`, `floor`, `bad`)."""

    log: tuple[int, ...] = ()
    packs: int = 0
    late: frozenset[int] = frozenset()
    writers: tuple[Writer, Writer] = (Writer(), Writer())
    prune: Agent = Agent()
    operator: Agent = Agent()
    acks: frozenset[int] = frozenset()
    faults: int = 0
    floor: int = 0
    bad: str = ""


class View(NamedTuple):
    """What a log says: the chain, its head, and the packs that are live, doomed, or were ever used."""

    slots: dict[int, int]
    chain: tuple[int, ...]
    head: int
    epoch: int
    snapshot: int
    live: int
    doomed: int
    used: int
    open_marks: tuple[int, ...]
    sweeps: tuple[int, ...]
    bad: str


@dataclass(frozen=True)
class Bounds:
    """How far the search goes: `saves` and `starts` of each writer; the other counts are totals."""

    saves: int = 2
    starts: int = 1
    plans: int = 2
    marks: int = 1
    cancels: int = 0
    faults: int = 0
    log_pruning: bool = False
    rescues: bool = False
    sessions: bool = True
    one_shots: bool = False


@dataclass(frozen=True)
class Outcome:
    """The result of a search: `trace` leads to the `violation`, if any; `actions` counts edges by action."""

    states: int
    edges: int
    seconds: float
    exhausted: bool
    violation: str
    trace: tuple[str, ...]
    actions: dict[str, int]


Step = tuple[str, State]


@dataclass
class Model:
    """The protocol within bounds, without the rules named in `removed`."""

    bounds: Bounds
    removed: frozenset[str] = frozenset()
    _records: list[Record] = field(default_factory=list)
    _record_ids: dict[Record, int] = field(default_factory=dict)
    _pack_bits: dict[tuple[int, int, int], int] = field(default_factory=dict)
    _pack_epochs: list[int] = field(default_factory=list)
    _views: dict[tuple[int, ...], View] = field(default_factory=dict)

    def __post_init__(self) -> None:
        unknown = self.removed - set(CAUGHT) - set(HARMLESS)
        if unknown:
            raise ValueError(f"unknown mutations: {sorted(unknown)}")

    # --- interning, views

    def record(self, record: Record) -> int:
        """Returns the number of a record."""
        found = self._record_ids.setdefault(record, len(self._records))
        if found == len(self._records):
            self._records.append(record)
        return found

    def pack(self, epoch: int, writer: int, number: int) -> int:
        """Returns the bit of a new pack: named by epoch and random, or by content without that rule."""
        name = (0, 0, 0) if "content_named_packs" in self.removed else (epoch, writer, number)
        found = self._pack_bits.setdefault(name, 1 << len(self._pack_epochs))
        if found == 1 << len(self._pack_epochs):
            self._pack_epochs.append(name[0])
        return found

    def view(self, log: tuple[int, ...]) -> View:
        """Returns what a log says."""
        known = self._views.get(log)
        if known is None:
            known = self._views[log] = self._read(log)
        return known

    def _read(self, log: tuple[int, ...]) -> View:
        records, chain = self._records, list(log[-1:])
        slots = {records[each].seq: each for each in log}
        while chain:
            newest = records[chain[-1]]
            before = slots.get(newest.seq - 1, NONE)
            if before == NONE or newest.parent != before:
                break
            chain.append(before)
        chain.reverse()
        cancelled = {records[each].mark for each in chain if records[each].kind == CANCEL}
        sweeps = tuple(each for each in chain if records[each].kind == SWEEP)
        swept = {records[each].mark for each in sweeps}
        snapshot, live, doomed, used, epoch, marks = NONE, 0, 0, 0, 0, []
        for each in chain:
            record = records[each]
            epoch = max(epoch, record.epoch)
            if record.kind == SNAPSHOT:
                snapshot = each
            if record.kind in (SNAPSHOT, RESCUE):
                used |= record.refs
            if record.kind == RESCUE:
                live |= record.refs
            if record.kind == MARK and each not in cancelled:
                doomed |= record.refs
                if each not in swept:
                    marks.append(each)
        if snapshot != NONE:
            live |= records[snapshot].refs
        head = chain[-1] if chain else NONE
        return View(
            slots,
            tuple(chain),
            head,
            epoch,
            snapshot,
            live,
            doomed,
            used,
            tuple(marks),
            sweeps,
            self._fencing(chain),
        )

    def _fencing(self, chain: list[int]) -> str:
        """Checks that epochs fence: no snapshot of an older epoch after a newer one, one writer an epoch."""
        newest, owners = 0, dict[int, int]()
        for each in chain:
            record = self._records[each]
            if record.kind not in (CLAIM, SNAPSHOT):
                continue
            if record.epoch < newest:
                return "a fenced writer's snapshot became the head after a newer epoch"
            if owners.setdefault(record.epoch, record.writer) != record.writer:
                return "two writers in one epoch"
            newest = record.epoch
        return ""

    def violation(self, state: State) -> str:
        """Returns which invariant a state breaks, or an empty string."""
        view = self.view(state.log)
        if state.bad or view.bad:
            return state.bad or view.bad
        if view.live & ~state.packs:
            return "lost data: the newest snapshot or a rescue points at a deleted pack"
        for each in state.acks:
            seq = self._records[each].seq
            if seq > state.floor and view.slots.get(seq) != each:
                return "an acknowledged record was replaced"
        return ""

    # --- the store

    def create(self, log: tuple[int, ...], record: int) -> tuple[tuple[int, ...], bool]:
        """Puts a record into its slot, create-only; returns the log and whether it was created."""
        seq, slots = self._records[record].seq, self.view(log).slots
        if seq in slots:
            if "store_overwrites" not in self.removed:
                return log, False
            return tuple(record if each == slots[seq] else each for each in log), True
        return tuple(sorted((*log, record), key=lambda each: self._records[each].seq)), True

    def committed(self, log: tuple[int, ...], record: int) -> bool:
        """Tells whether a record that was put is in the chain: nothing follows, or its successor names it."""
        seq = self._records[record].seq
        successor = next((self._records[each] for each in log if self._records[each].seq > seq), None)
        return successor is None or (successor.seq == seq + 1 and successor.parent == record)

    def confirmed(self, log: tuple[int, ...], record: int) -> bool:
        """Tells what an appender concludes after its PUT."""
        return "prune_no_postcheck" in self.removed or self.committed(log, record)

    def steps(self, state: State) -> Iterator[Step]:
        """Yields every action that can come next, and the state after it."""
        for late in state.late:
            yield (
                "late PUT lands",
                state._replace(log=self.create(state.log, late)[0], late=state.late - {late}),
            )
        if self.bounds.log_pruning:
            yield from self._prune_log(state)
        first_is_off = state.writers[0].starts == 0
        for who, writer in enumerate(state.writers):
            if who == 1 and first_is_off:
                break  # the writers are alike: the first one to start is called 0
            yield from self._writer(state, who, writer)
        yield from self._prune(state)
        if self.bounds.cancels:
            yield from self._operator(state)

    def _prune_log(self, state: State) -> Iterator[Step]:
        """Drops the oldest record below the newest snapshot; unfinished Marks and Rescues are kept."""
        view = self.view(state.log)
        if view.snapshot == NONE or not any(self._records[each].kind == MARK for each in state.log):
            return
        oldest = self._records[state.log[0]]
        unfinished = oldest.kind == MARK and oldest.refs & state.packs & view.doomed
        if oldest.seq < self._records[view.snapshot].seq and not unfinished and oldest.kind != RESCUE:
            yield "log pruned", state._replace(log=state.log[1:], floor=max(state.floor, oldest.seq))

    # --- the writers

    def _writer(self, state: State, who: int, writer: Writer) -> Iterator[Step]:
        if writer.phase == OFF and writer.starts < self.bounds.starts:
            if self.bounds.sessions:
                yield "claim", self._begin(state, who, writer, CLAIM, 0)
            if self.bounds.one_shots and writer.saves < self.bounds.saves:
                yield from self._save(state, who, writer, one_shot=True)
        if writer.phase in (PUT, CONFIRM, OPEN) and writer.starts < self.bounds.starts:
            yield "crash", self._set(state, who, writer._replace(phase=OFF, pending=NONE))
        if writer.phase == OPEN and writer.saves < self.bounds.saves:
            yield from self._save(state, who, writer, one_shot=False)
        if writer.phase == PUT:
            yield from self._append(state, who, writer)
        if writer.phase == CONFIRM:
            yield self._acknowledge(state, who, writer)

    @staticmethod
    def _set(state: State, who: int, writer: Writer) -> State:
        return state._replace(writers=(writer, state.writers[1]) if who == 0 else (state.writers[0], writer))

    def _begin(self, state: State, who: int, writer: Writer, kind: str, refs: int) -> State:
        """Prepares a record with a new epoch at the head: a Claim, or a one-shot Snapshot."""
        view = self.view(state.log)
        keeps = kind == SNAPSHOT and "one_shot_keeps_epoch" in self.removed
        epoch = max(1, view.epoch + (0 if keeps else 1))
        seq = self._records[view.head].seq + 1 if view.head != NONE else 1
        pending = self.record(Record(seq, kind, epoch, who, writer.number, view.head, refs))
        started = writer._replace(phase=PUT, session=kind == CLAIM, epoch=epoch, base=view.head, pending=pending)
        return self._set(state, who, started._replace(starts=writer.starts + 1, number=writer.number + 1))

    def _save(self, state: State, who: int, writer: Writer, *, one_shot: bool) -> Iterator[Step]:
        """Saves an empty tree, or one of chunk A: in a pack that the dedup index names, else in a new one."""
        view = self.view(state.log)
        seen = view.used & ~view.doomed if one_shot else writer.seen
        epoch = view.epoch + 1 if one_shot else writer.epoch
        saving = writer._replace(seen=seen, saves=writer.saves + 1)
        for full in (False, True):
            refs = seen & -seen if full else 0
            if full and not refs:
                refs = self.pack(epoch, who, writer.number)
            after = state._replace(packs=state.packs | refs) if full and not seen else state
            if one_shot:
                yield "one-shot save", self._begin(after, who, saving, SNAPSHOT, refs)
                continue
            seq = self._records[writer.base].seq + 1
            pending = self.record(Record(seq, SNAPSHOT, epoch, who, writer.number, writer.base, refs))
            yield (
                "save",
                self._set(after, who, saving._replace(phase=PUT, pending=pending, number=writer.number + 1)),
            )

    def _append(self, state: State, who: int, writer: Writer) -> Iterator[Step]:
        """Sends the pending record; whatever the answer, the slot is read back and decides."""
        log, created = self.create(state.log, writer.pending)
        record = self._records[writer.pending]
        holder = self.view(log).slots[record.seq]
        if holder != writer.pending:
            yield self._lost(state, who, writer, record)
        elif created or "no_readback" not in self.removed:
            yield "record put", self._set(state._replace(log=log), who, writer._replace(phase=CONFIRM))
        else:
            yield (
                "own record taken for a conflict",
                state._replace(bad="spurious conflict: the writer's own record is in the log"),
            )
        if state.faults < self.bounds.faults:
            unclear = state._replace(faults=state.faults + 1)
            if "delete_on_unknown" in self.removed:
                unclear = self._set(unclear, who, writer._replace(phase=OFF, pending=NONE))
                unclear = unclear._replace(packs=state.packs & ~record.refs)
            yield "reply lost", unclear._replace(log=log)
            yield "PUT delayed", unclear._replace(late=state.late | {writer.pending})

    def _lost(self, state: State, who: int, writer: Writer, record: Record) -> Step:
        """Decides after another record took the slot: give up, rebase, or keep the work as a Rescue."""
        view = self.view(state.log)
        if record.kind == CLAIM:
            return "claim lost", self._set(state, who, writer._replace(phase=OFF, pending=NONE))
        base = self._records[writer.base].seq if writer.base != NONE else 0
        newer = [each for each in map(self._records.__getitem__, view.chain) if each.seq > base]
        overtaken = record.kind == SNAPSHOT and any(
            each.kind in (CLAIM, SNAPSHOT) and (each.writer, each.epoch) != (who, writer.epoch) for each in newer
        )
        if "no_fence" in self.removed:
            overtaken = False
        if overtaken and not self.bounds.rescues:
            return "fenced", self._set(state, who, writer._replace(phase=FENCED, pending=NONE))
        packs, seen, refs = state.packs, writer.seen, record.refs
        if "no_doomed_recheck" not in self.removed:
            doomed = view.doomed
            reached = writer.base in view.chain or (writer.base == NONE and self._records[view.chain[0]].seq == 1)
            if not reached and "no_gap_rule" not in self.removed:
                doomed = packs | refs | seen  # a Mark may be among the records that were pruned
            seen &= ~doomed
            if refs & doomed:
                refs = self.pack(writer.epoch, who, writer.number)  # stored again
                packs |= refs
        kind, epoch = (RESCUE, view.epoch) if overtaken else (record.kind, record.epoch)
        seq = self._records[view.head].seq + 1
        pending = self.record(Record(seq, kind, epoch, who, writer.number, view.head, refs))
        rebased = writer._replace(base=view.head, pending=pending, seen=seen, number=writer.number + 1)
        return "rescue" if overtaken else "rebase", self._set(state._replace(packs=packs), who, rebased)

    def _acknowledge(self, state: State, who: int, writer: Writer) -> Step:
        record = self._records[writer.pending]
        if not self.confirmed(state.log, writer.pending):
            return "ghost found", self._set(state, who, writer._replace(phase=FENCED, pending=NONE))
        if record.kind != CLAIM and not self.committed(state.log, writer.pending):
            return "false ack", state._replace(bad="a snapshot was acknowledged outside the chain")
        view = self.view(state.log)
        seen = view.used & ~view.doomed if record.kind == CLAIM else writer.seen | record.refs
        done = FENCED if record.kind == RESCUE else OPEN if writer.session else OFF
        acknowledged = writer._replace(phase=done, base=writer.pending, pending=NONE, seen=seen)
        acks = state.acks if record.kind == CLAIM else state.acks | {writer.pending}
        return f"{record.kind} acknowledged", self._set(state._replace(acks=acks), who, acknowledged)

    # --- prune and the operator

    def _propose(self, view: View, kind: str, number: int, refs: int, mark: int) -> int:
        who = OPERATOR if kind == CANCEL else PRUNE
        seq = self._records[view.head].seq + 1
        return self.record(Record(seq, kind, view.epoch, who, number, view.head, refs, mark))

    def _prune(self, state: State) -> Iterator[Step]:
        prune = state.prune
        if prune.phase == OFF and prune.plans < self.bounds.plans and state.log:
            yield from self._plan(state, prune._replace(plans=prune.plans + 1))
        elif prune.phase == PUT:
            yield from self._put_plan(state, prune)
        elif prune.phase == DELETING:
            if prune.todo & state.packs:
                pack = prune.todo & state.packs & -(prune.todo & state.packs)
                yield (
                    "pack deleted",
                    state._replace(packs=state.packs & ~pack, prune=prune._replace(todo=prune.todo & ~pack)),
                )
            yield "prune ends", state._replace(prune=prune._replace(phase=OFF, todo=0))

    def _plan(self, state: State, prune: Agent) -> Iterator[Step]:
        """Reads the log and plans a Mark, a Sweep of an open Mark, or the rest of a Sweep's deletes."""
        view = self.view(state.log)
        older = sum(1 << bit for bit, epoch in enumerate(self._pack_epochs) if epoch < view.epoch)
        may = state.packs if "doom_current_epoch" in self.removed else older | view.used
        dead = state.packs & may & ~view.live & ~view.doomed
        if dead and prune.marks < self.bounds.marks:
            marked = prune._replace(marks=prune.marks + 1)
            if "sweep_before_mark" in self.removed:
                yield "mark skipped", state._replace(prune=marked._replace(phase=DELETING, todo=dead))
            else:
                pending = self._propose(view, MARK, prune.plans, dead, NONE)
                yield "mark planned", state._replace(prune=marked._replace(phase=PUT, pending=pending))
        marks = view.open_marks
        if "sweep_ignores_cancel" in self.removed:
            swept = {self._records[each].mark for each in view.sweeps}
            marks = tuple(each for each in view.chain if self._records[each].kind == MARK and each not in swept)
        for mark in marks:
            refs = self._records[mark].refs
            if refs & view.live and "sweep_without_live_check" not in self.removed:
                continue
            if refs & state.packs:
                pending = self._propose(view, SWEEP, prune.plans, refs, mark)
                yield "sweep planned", state._replace(prune=prune._replace(phase=PUT, pending=pending))
        for sweep in view.sweeps:
            if self._records[sweep].refs & state.packs:
                yield (
                    "sweep resumed",
                    state._replace(prune=prune._replace(phase=DELETING, todo=self._records[sweep].refs)),
                )

    def _put_plan(self, state: State, prune: Agent) -> Iterator[Step]:
        log, _ = self.create(state.log, prune.pending)
        record, over = self._records[prune.pending], prune._replace(phase=OFF, pending=NONE)
        if self.view(log).slots[record.seq] != prune.pending:
            again = "mark_not_recomputed" if record.kind == MARK else "sweep_not_recomputed"
            if again in self.removed:
                pending = self._propose(self.view(state.log), record.kind, prune.plans, record.refs, record.mark)
                yield "plan sent again", state._replace(prune=prune._replace(pending=pending))
            else:
                yield "plan lost its slot", state._replace(prune=over)
        elif not self.confirmed(log, prune.pending):
            yield "plan was a ghost", state._replace(log=log, prune=over)
        else:
            deletes = record.kind == SWEEP or "delete_before_sweep" in self.removed
            after = over._replace(phase=DELETING, todo=record.refs) if deletes else over
            yield f"{record.kind} put", state._replace(log=log, prune=after)
        if state.faults < self.bounds.faults:
            late = state.late | {prune.pending}
            yield "plan delayed", state._replace(late=late, faults=state.faults + 1, prune=over)

    def _operator(self, state: State) -> Iterator[Step]:
        operator, view = state.operator, self.view(state.log)
        if operator.phase == OFF and operator.plans < self.bounds.cancels:
            for mark in view.open_marks:
                pending = self._propose(view, CANCEL, 16 * operator.plans, 0, mark)
                yield (
                    "cancel planned",
                    state._replace(operator=operator._replace(phase=PUT, pending=pending, plans=operator.plans + 1)),
                )
        if operator.phase != PUT:
            return
        log, _ = self.create(state.log, operator.pending)
        record, over = self._records[operator.pending], operator._replace(phase=OFF, pending=NONE)
        if self.view(log).slots[record.seq] == operator.pending:
            yield "cancel put", state._replace(log=log, operator=over)
        elif record.mark in (view.chain if "cancel_ignores_sweep" in self.removed else view.open_marks):
            pending = self._propose(view, CANCEL, record.number + 1, 0, record.mark)
            yield "cancel sent again", state._replace(operator=operator._replace(pending=pending))
        else:
            yield "cancel given up", state._replace(operator=over)
        if state.faults < self.bounds.faults:
            late = state.late | {operator.pending}
            yield "cancel delayed", state._replace(late=late, faults=state.faults + 1, operator=over)


#: Rules whose removal the search must catch, with what the removal means.
CAUGHT: dict[str, str] = {
    "store_overwrites": "the store ignores create-only",
    "no_readback": "an unclear PUT is taken for a conflict without reading the slot",
    "delete_on_unknown": "uploads are deleted after an unclear commit",
    "sweep_before_mark": "packs are deleted without a Mark",
    "no_doomed_recheck": "a rebase keeps chunks of doomed packs",
    "content_named_packs": "packs are named by content, so names come back",
    "prune_no_postcheck": "an append is not confirmed after its PUT",
    "no_fence": "a fenced writer rebases",
    "no_gap_rule": "a gap between base and chain is not taken for a Mark",
    "one_shot_keeps_epoch": "a one-shot save does not take a new epoch",
    "delete_before_sweep": "packs are deleted after the Mark, without a Sweep",
    "sweep_ignores_cancel": "a cancelled Mark is swept",
    "cancel_ignores_sweep": "a Mark is cancelled after its Sweep",
    "sweep_not_recomputed": "a Sweep that lost its slot is sent again as it was",
}
#: Rules that cost nothing but work when they are removed: second lines of defence.
HARMLESS: dict[str, str] = {
    "doom_current_epoch": "unreferenced packs of the current epoch are doomed too",
    "sweep_without_live_check": "a Sweep does not compute the live packs again",
    "mark_not_recomputed": "a Mark that lost its slot is sent again: the Sweep's live check stops it",
}
#: Removals that are harmless alone and must be caught together: each is the other's second line.
CAUGHT_TOGETHER: tuple[frozenset[str], ...] = (frozenset(("sweep_without_live_check", "mark_not_recomputed")),)


def search(bounds: Bounds, removed: frozenset[str] = frozenset(), most_states: int = 20_000_000) -> Outcome:
    """Visits states breadth-first up to the first violation, `most_states`, or the end."""
    model, first, started, edges = Model(bounds, removed), State(), time.perf_counter(), 0
    came_from: dict[State, State | None] = {first: None}
    queue, actions, violation = deque([first]), Counter[str](), ""
    state = first
    while queue and len(came_from) <= most_states:
        state = queue.popleft()
        violation = model.violation(state)
        if violation:
            break
        for action, after in model.steps(state):
            edges += 1
            actions[action] += 1
            if after not in came_from:
                came_from[after] = state
                queue.append(after)
    seconds = time.perf_counter() - started
    trace = _trace(model, came_from, state) if violation else ()
    return Outcome(len(came_from), edges, seconds, not queue, violation, trace, dict(actions))


def _trace(model: Model, came_from: dict[State, State | None], last: State) -> tuple[str, ...]:
    actions, before = list[str](), came_from[last]
    while before is not None:
        actions.append(next(action for action, after in model.steps(before) if after == last))
        last, before = before, came_from[before]
    return tuple(reversed(actions))


#: Small bounds, exhausted in seconds; together every rule but the gap rule.
PROFILES: dict[str, Bounds] = {
    "commit": Bounds(saves=1, faults=1, log_pruning=True, rescues=True),
    "prune": Bounds(saves=2, log_pruning=True),
    "cancel": Bounds(saves=2, cancels=1),
    "one_shot": Bounds(saves=1, one_shots=True, cancels=1, rescues=True),
    "restart": Bounds(saves=1, starts=2),
}
#: Large bounds: minutes and gigabytes.
SOAK_PROFILES: dict[str, Bounds] = {
    "long_rescue": Bounds(saves=2, faults=1, rescues=True),
    "long_prune": Bounds(saves=2, faults=1, log_pruning=True),
    "long_restart": Bounds(saves=1, starts=2, log_pruning=True),
    "long_cancel": Bounds(saves=1, faults=1, one_shots=True, cancels=1, rescues=True),
    "long_one_shot": Bounds(saves=2, one_shots=True, cancels=1, rescues=True),
    "long_all": Bounds(saves=1, plans=3, one_shots=True, cancels=1, rescues=True, log_pruning=True),
    "long_gap": Bounds(saves=2, faults=1, log_pruning=True, rescues=True),
}


def main() -> int:
    """Searches one profile and prints the outcome; returns 1 if there is a violation."""
    outcome = search({**PROFILES, **SOAK_PROFILES}[sys.argv[1]], frozenset(sys.argv[2:]))
    lines = [
        f"{outcome.states:,} states, {outcome.edges:,} edges, {outcome.seconds:.1f} s",
        "exhausted" if outcome.exhausted else "not exhausted",
        outcome.violation or "no violation",
        *outcome.trace,
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    return int(bool(outcome.violation))


if __name__ == "__main__":
    raise SystemExit(main())
