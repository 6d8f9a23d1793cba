"""`plan`, and what it returns."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from nbws.calls import Call, twin, verb
from nbws.cleaning.in_use import InUse
from nbws.cleaning.removal import Removal
from nbws.cleaning.reports import CleaningCategory, CleaningItem, CleaningReport, StoreShare
from nbws.cleaning.rules import Choice, moment_before, mounts_below, rules_of, several, top_of
from nbws.cleaning.slices import in_slices
from nbws.cleaning.store_share import store_share
from nbws.cleaning.survey import Survey
from nbws.cleaning.trash import opened_trash
from nbws.config import parse_duration
from nbws.errors import InvalidState
from nbws.progress import sink_for
from nbws.reports import Skipped
from nbws.values import Report

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nbws.calls import Steps
    from nbws.cleaning.found import Unit
    from nbws.log import History
    from nbws.progress import EngineSink, ProgressTarget
    from nbws.snapshot import Browsable

__all__ = ["CleaningInterrupted", "CleaningPlan", "plan", "plan_async"]


class CleaningInterrupted(KeyboardInterrupt):
    """Ctrl-C during a cleaning.

    Attributes:
        report: what was done until then.
    """

    def __init__(self, report: CleaningReport) -> None:
        super().__init__("the cleaning was interrupted")
        self.report = report


class _Work(NamedTuple):
    """What a plan needs to be carried out."""

    units: tuple[Unit, ...]
    min_age_s: float | None


class _Planned(Report):
    """Keeps what is neither compared nor printed."""

    __slots__ = ("_work",)

    if TYPE_CHECKING:  # who looks the types of fields up must not meet this
        _work: _Work


@dataclass(frozen=True)  # mypy counts inherited slots twice
class CleaningPlan(_Planned):
    """What would be cleaned; nothing is changed before `apply`.

    Attributes:
        directory: where, without links in the path.
        applied: always false: nothing was done yet.
        bytes: bytes that are freed on this disk: blocks of files, and of directories that go whole. A file with several names counts
            if all of them go.
        files: files and symbolic links that would go.
        categories: sums by category.
        items: sums by entry of the catalogue, with the reasons; the largest first.
        paths: what would go, relative to the directory; a directory stands for all in it.
        protected: what is protected, and why.
        skipped: what was found and stays for another reason: it is in use, too young, a link, mounted, not what its name says.
        store: what the newest snapshot has of it; None without a repository, or if that has no snapshot.
        unseen_processes: processes of other users whose open files are not known.
        min_age_s: how long ago something must have been used last, in seconds, or None.
    """

    _NESTED: ClassVar[Mapping[str, type[Report]]] = {
        "categories": CleaningCategory,
        "items": CleaningItem,
        "protected": Skipped,
        "skipped": Skipped,
        "store": StoreShare,
    }

    directory: str
    applied: bool
    bytes: int
    files: int
    categories: tuple[CleaningCategory, ...]
    items: tuple[CleaningItem, ...]
    paths: tuple[str, ...]
    protected: tuple[Skipped, ...]
    skipped: tuple[Skipped, ...]
    store: StoreShare | None
    unseen_processes: int
    min_age_s: float | None
    duration_s: float

    @verb
    def apply(
        self, trash: str | os.PathLike[str] | None = None, *, progress: ProgressTarget = None
    ) -> Call[CleaningReport]:
        """Removes what the plan names, or moves it into a trash.

        Each entry is compared with the plan right before it goes: device, inode, kind, size and modification time. What
        changed, came or was opened since stays and is reported. No link is followed and no other file system entered. Nothing
        is written, so that it works on a disk that is full. Applying a plan twice does nothing the second time.

        Args:
            trash: a directory into which things are renamed, under names that tell where they were; made if it is missing. It
                must lie on the same file system and not in what goes. Nothing is freed until it is emptied.
            progress: as for `Workspace.save`.

        Raises:
            InvalidInput: the trash can't be used.
            InvalidState: the plan did not come from `plan` in this process.
            LocalIo: the directory is gone, or the trash can't be made.
            CleaningInterrupted: Ctrl-C; its ``report`` says what was done. It is a `KeyboardInterrupt`.
        """
        try:
            work = self._work
        except AttributeError:
            raise InvalidState("make the plan in the process that applies it", operation="clean") from None

        def steps() -> Steps[CleaningReport]:
            began = time.monotonic()
            root = top_of(self.directory)
            with opened_trash(trash, root, work.units) as opened, sink_for(progress, "clean") as sink:
                removal = Removal(
                    root,
                    work.units,
                    InUse(root),
                    mounts_below(root),
                    young_after_ns=moment_before(work.min_age_s),
                    trash=opened,
                )
                try:
                    yield from in_slices(removal.steps(), lambda: self._show(removal, sink))
                except KeyboardInterrupt as interrupt:
                    raise CleaningInterrupted(
                        self._report(removal, trash, time.monotonic() - began, interrupted=True)
                    ) from interrupt
            return self._report(removal, trash, time.monotonic() - began, interrupted=False)

        return Call(steps)

    apply_async = twin(apply)

    def _show(self, removal: Removal, sink: EngineSink | None) -> None:
        if sink is not None:
            sink("clean", removal.files, self.files, removal.bytes_freed + removal.bytes_moved, self.bytes)

    def _report(
        self, removal: Removal, trash: str | os.PathLike[str] | None, duration_s: float, *, interrupted: bool
    ) -> CleaningReport:
        place = None if trash is None else os.path.realpath(os.fsdecode(trash))
        warnings: list[str] = []
        if place is not None and (place + "/").startswith(self.directory.rstrip("/") + "/"):
            warnings.append(
                f"{place} lies in the directory itself: what is in it is saved and counts until it is removed"
            )
        return CleaningReport(
            directory=self.directory,
            applied=True,
            complete=not (interrupted or removal.failed or removal.left),
            interrupted=interrupted,
            bytes_freed=removal.bytes_freed,
            bytes_moved=removal.bytes_moved,
            files=removal.files,
            directories=removal.directories,
            trash=place,
            items=removal.items(),
            left=tuple(removal.left),
            failed=tuple(removal.failed),
            warnings=tuple(warnings),
            duration_s=duration_s,
        )


@verb
def plan(
    directory: str | os.PathLike[str],
    *,
    categories: Iterable[str] | None = None,
    only: Iterable[str] | None = None,
    min_age: float | str | None = None,
    protect: Iterable[str] = (),
    workspace: History | Browsable | None = None,
    environment: Mapping[str, str] | None = None,
    progress: ProgressTarget = None,
) -> Call[CleaningPlan]:
    """Says what could be cleaned in a directory, why that is safe, how it comes back and at what price; changes nothing.

    What is looked for stands in a catalogue (`nbws.catalogue.cleanable`); each find is checked to be what its name says. Never planned are
    protected names (those of nbws, configuration, credentials, ``protect`` in the directory's ``nbws.toml``), files that a process has
    open or mapped, symbolic links that are called like a cache, other file systems, and sockets.

    Open files are those that ``/proc`` shows: of all processes for root, else of one's own; ``unseen_processes`` counts the others.
    Processes of other containers can't be seen.

    Args:
        directory: the workspace. A link to a directory is resolved first.
        categories: only these, such as ``["caches", "trash"]``.
        only: only these entries of the catalogue, such as ``["pip"]``.
        min_age: what was written, or read since, more recently stays: seconds or text such as ``"7d"``. What lies in a trash
            counts from when it got there.
        protect: more patterns that are never touched, in gitignore syntax, relative to the directory.
        workspace: the repository of the directory, or a snapshot of it: then the plan says what the store has of it.
        environment: variables that say where caches lie, and ``HOME``; used where they lead into the directory. The process's own
            if it is not given.
        progress: as for `Workspace.save`; how many entries there are is not known before the end.

    Raises:
        InvalidInput: the directory is none or the whole file system, a name or pattern is unknown, or ``nbws.toml`` can't be read.
        NotFound: there is no such directory.
        LocalIo: it can't be read.
    """
    known = dict(os.environ if environment is None else environment)
    chosen = Choice(
        categories=None if categories is None else several("categories", categories),
        only=None if only is None else several("only", only),
        protect=several("protect", protect),
        min_age_s=None if min_age is None else parse_duration(min_age),
    )

    def steps() -> Steps[CleaningPlan]:
        began = time.monotonic()
        root = top_of(directory)
        rules = rules_of(root, known, chosen)
        survey = Survey(root, rules)
        with sink_for(progress, "clean") as sink:
            show = (lambda: None) if sink is None else (lambda: sink("look", survey.seen, survey.seen, 0, 0))
            yield from in_slices(survey.steps(), show)
        share = None if workspace is None else (yield from store_share(workspace, survey.units))
        return _plan_of(survey, chosen.min_age_s, share, time.monotonic() - began)

    return Call(steps)


plan_async = twin(plan)


def _plan_of(survey: Survey, min_age_s: float | None, share: StoreShare | None, duration_s: float) -> CleaningPlan:
    by_entry: dict[str, list[Unit]] = {}
    for unit in survey.units:
        by_entry.setdefault(unit.entry.name, []).append(unit)
    items = sorted((_item(units) for units in by_entry.values()), key=lambda item: (-item.bytes, item.name))
    totals: dict[str, list[int]] = {}
    for item in items:
        total = totals.setdefault(item.category, [0, 0])
        total[0] += item.bytes
        total[1] += item.files
    found = CleaningPlan(
        directory=survey.root,
        applied=False,
        bytes=sum(item.bytes for item in items),
        files=sum(item.files for item in items),
        categories=tuple(CleaningCategory(name, size, files) for name, (size, files) in totals.items()),
        items=tuple(items),
        paths=tuple(sorted((path for item in items for path in item.paths), key=os.fsencode)),
        protected=_sorted(survey.protected),
        skipped=_sorted(survey.skipped),
        store=share,
        unseen_processes=survey.rules.in_use.unseen,
        min_age_s=min_age_s,
        duration_s=duration_s,
    )
    object.__setattr__(found, "_work", _Work(tuple(survey.units), min_age_s))
    return found


def _item(units: list[Unit]) -> CleaningItem:
    entry = units[0].entry
    return CleaningItem(
        name=entry.name,
        title=entry.title,
        category=entry.category,
        bytes=sum(unit.bytes for unit in units),
        files=sum(unit.files for unit in units),
        paths=tuple(path for unit in units for path in unit.paths()),
        why_safe=entry.why_safe,
        comes_back=entry.comes_back,
        price=entry.price,
    )


def _sorted(items: list[Skipped]) -> tuple[Skipped, ...]:
    return tuple(sorted(items, key=lambda item: (os.fsencode(item.path), item.reason)))
