"""All notebooks of one container: create, get, list, orphans, purge."""

from __future__ import annotations

import json
import os
import secrets
from types import EllipsisType  # noqa: TC003  # others look the types of arguments up at run time
from typing import TYPE_CHECKING, Any, Literal

from nbws import _nbws
from nbws.accounts import Accounts
from nbws.aftercare import keep_room
from nbws.calls import Call, twin, verb
from nbws.config import parse_duration
from nbws.defaults import ContainerDefaults
from nbws.errors import AlreadyExists, InvalidInput, NotFound
from nbws.lifecycle import STATES, NotebookSettings, Status, unreadable, utc_now
from nbws.listing import Listing
from nbws.notebook import Notebook
from nbws.purging import UNREADABLE, Orphan, PurgeReport, Purging, checked_id, is_id
from nbws.store import locate
from nbws.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

    from nbws.calls import Steps
    from nbws.defaults import Defaults
    from nbws.exclusive import EpochSource
    from nbws.quota import Quota
    from nbws.retention import Retention
    from nbws.store import StoreLike

__all__ = ["CONTAINER", "Notebooks", "Orphan", "PurgeReport"]

CONTAINER = "notebooks_workspace"
"""The container in which notebooks lie, each below its id."""

_MAX_NAME_BYTES = 256
_MAX_LABELS = 64
_LEAST_LIMIT_S = 60.0


class Notebooks(Accounts, Purging):
    """The notebooks of one container.

    Args:
        store: where the container lies: a URL such as ``file:///srv/objects`` or ``s3://bucket``, or a store of ``obstore``.
        container: its name below that.
        prefix: for a store of ``obstore``: where the container lies below it.
        options: options of the store in obstore's key names.
        state_dir: where disposable local state lies.
        exclusive: as for `Workspace.open`.
        clock: what time it is; ages and limits follow it, safety does not.
    """

    def __init__(
        self,
        store: StoreLike,
        *,
        container: str = CONTAINER,
        prefix: str | None = None,
        options: Mapping[str, str] | None = None,
        state_dir: str | os.PathLike[str] | None = None,
        exclusive: EpochSource | None = None,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        place, self._options = locate(store, prefix, options)
        if not container.strip("/") or "/" in container.strip("/"):
            raise InvalidInput(f"a container is one name, not {container!r}", operation="open container")
        self.url = f"{place.rstrip('/')}/{container.strip('/')}"
        self._state_dir = state_dir
        self._exclusive = exclusive
        self._clock = clock
        self._defaults = ContainerDefaults(
            self.url, {"state_dir": state_dir, "store": self._options, "exclusive": exclusive}
        )

    def __repr__(self) -> str:
        return f"Notebooks({self.url!r})"

    @verb
    def create(
        self,
        *,
        name: str | None = None,
        framework: str | None = None,
        framework_version: str | None = None,
        editor: str | None = None,
        id: str | None = None,  # noqa: A002  # what it is called everywhere
        labels: Mapping[str, str] | None = None,
        template: str | os.PathLike[str] | None = None,
        run_limit: float | str = "7d",
        at_limit: Literal["stop", "restart"] = "stop",
        numeric_ids: bool = False,
    ) -> Call[Notebook]:
        """Makes a notebook, which is STOPPED until its first start.

        Args:
            name: for people; at most 256 bytes.
            framework: of the image that it runs in.
            framework_version: its version.
            editor: of the image.
            id: letters, digits, ``-`` and ``_``, at most 63; a random one if None.
            labels: for tools.
            template: a directory of the image whose files a new workspace starts with.
            run_limit: how long a run may last, in seconds or as text such as ``"7d"``.
            at_limit: what happens then: ``"stop"`` or ``"restart"``.
            numeric_ids: compare uid and gid like any other metadata.

        Raises:
            AlreadyExists: there is a notebook of that id, or there was one.
            InvalidInput: the id or another value can't be used.
        """
        identity = checked_id(id or secrets.token_hex(8))
        settings = NotebookSettings(
            name=_checked_name(name),
            labels=_checked_labels(labels),
            framework=framework,
            framework_version=framework_version,
            editor=editor,
            template=None if template is None else os.fspath(template),
            run_limit_s=_checked_limit(run_limit),
            at_limit=_checked_choice("at_limit", at_limit, ("stop", "restart")),
            created=self._clock(),
        )

        def steps() -> Steps[Notebook]:
            notebook = yield from self._open(identity, create=True, numeric_ids=numeric_ids)
            engine = notebook._engine  # noqa: SLF001  # its maker
            events = yield engine.history(False)
            if any(event["kind"] != "settings" for event in events):
                raise AlreadyExists(
                    f"there is a notebook {identity}, or there was one", operation="create", path=identity
                )
            # A create that was interrupted between the two is finished by repeating it.
            text = json.dumps(settings.to_setting())
            yield engine.set_setting("notebook", text, True)
            seq = yield engine.change_state(None, "stopped", None, "created")
            events = yield engine.history(False)
            if any(event["kind"] == "state" and event["seq"] < seq for event in events):
                raise AlreadyExists(f"somebody else made a notebook {identity}", operation="create", path=identity)
            # Whoever lost may have written settings before this state, but not after it.
            yield engine.set_setting("notebook", text)
            yield from keep_room(engine)
            return notebook

        return Call(steps, hold=self._exclusive)

    create_async = twin(create)

    @verb
    def get(self, id: str) -> Call[Notebook]:  # noqa: A002
        """Returns the notebook of an id.

        Raises:
            NotFound: there is none.
            InvalidInput: the id can't be one.
        """
        identity = checked_id(id)
        return Call(lambda: self._open(identity))

    get_async = twin(get)

    @verb
    def ids(self) -> Call[list[str]]:
        """Lists the ids in the container, sorted; those of deleted notebooks and of plain repositories too. A few listings."""
        return Call.one(
            lambda: _nbws.children(self.url, {"store": self._options}),
            lambda names: [name for name in names if is_id(name)],
        )

    ids_async = twin(ids)

    @verb
    def list(
        self,
        *,
        state: str | Iterable[str] | None = None,
        labels: Mapping[str, str] | None = None,
        limit: int | None = None,
        after: str | None = None,
    ) -> Call[Listing[Status]]:
        """Lists notebooks with their status, sorted by id.

        One whose log can't be read is listed whatever was asked for, with state ``"UNKNOWN"`` and the reason as its ``info``.

        Args:
            state: only these states; ``"NONE"`` for repositories that are no notebooks.
            labels: only those that have all of these labels.
            limit: at most so many.
            after: only ids that sort after this one: the last of the page before.

        Raises:
            InvalidInput: there is no such state.
        """
        wanted = None if state is None else {state} if isinstance(state, str) else set(state)
        for name in (wanted or set()) - {*STATES, "NONE"}:
            raise InvalidInput(f"there is no state {name!r}; known are {', '.join(STATES)}", operation="list")

        def steps() -> Steps[Listing[Status]]:
            found: list[Status] = []
            for name in (yield _nbws.children(self.url, {"store": self._options})):
                if limit is not None and len(found) >= limit:
                    break
                if not is_id(name) or (after is not None and name <= after):
                    continue
                try:
                    status = yield from self._listed(name, wanted, labels)
                except NotFound:
                    continue
                except UNREADABLE as error:
                    # It may be any of those that were asked for, and somebody has to look after it.
                    status = unreadable(name, f"{error.kind}: {error}")
                if status is not None:
                    found.append(status)
            return Listing(Status, found)

        return Call(steps)

    def _listed(self, identity: str, wanted: set[str] | None, labels: Mapping[str, str] | None) -> Steps[Status | None]:
        notebook = yield from self._open(identity)
        if labels:
            settings = yield from notebook._run.settings(required=False)  # noqa: SLF001
            if settings is None or not labels.items() <= settings.labels.items():
                return None
        status: Status = yield from notebook._run.status()  # noqa: SLF001
        return status if wanted is None or status.state in {*wanted, "UNKNOWN"} else None

    list_async = twin(list)  # noqa: A003

    @verb
    def defaults(self) -> Call[Defaults]:
        """Returns what holds for the notebooks of this container that say nothing else."""
        return Call(self._defaults.read)

    defaults_async = twin(defaults)

    @verb
    def set_defaults(
        self, *, retention: Retention | EllipsisType | None = ..., quota: Quota | EllipsisType | None = ...
    ) -> Call[Defaults]:
        """Sets what holds for the notebooks of this container that say nothing else, and returns what does now.

        What is not given stays what it is. Each default is changed by one log record, so that of two changes at once none is lost.

        Args:
            retention: which backups are kept (`Notebook.set_retention` overrides it); None: all but autosaves, which thin out.
            quota: how much a notebook may hold (`Notebook.set_quota` overrides it); None: as much as it wants.
        """
        given = {"retention": retention, "quota": quota}
        changes: dict[str, Any] = {key: value for key, value in given.items() if value is not ...}

        def steps() -> Steps[Defaults]:
            if changes:
                yield from self._defaults.write(changes)
            return (yield from self._defaults.read())

        return Call(steps, hold=self._exclusive)

    set_defaults_async = twin(set_defaults)

    def _open(self, identity: str, *, create: bool = False, numeric_ids: bool = False) -> Steps[Notebook]:
        call = Workspace._open(  # noqa: SLF001  # a step of this verb
            f"{self.url}/{identity}",
            {
                "create": create,
                "numeric_ids": numeric_ids,
                "state_dir": self._state_dir,
                "store": self._options,
                "exclusive": self._exclusive,
            },
        )
        try:
            workspace = yield from call.steps()
        except NotFound as error:
            raise NotFound(
                f"there is no notebook {identity} in {self.url}; nbws notebook list shows those there are",
                operation="open notebook",
                path=identity,
            ) from error
        return Notebook(identity, workspace, self._clock, self._defaults)


def _checked_name(name: str | None) -> str | None:
    if name is not None and (
        not name or len(name.encode(errors="surrogatepass")) > _MAX_NAME_BYTES or not name.isprintable()
    ):
        raise InvalidInput(f"a name is printable text of at most {_MAX_NAME_BYTES} bytes", operation="create")
    return name


def _checked_labels(labels: Mapping[str, str] | None) -> dict[str, str]:
    found = dict(labels or {})
    if len(found) > _MAX_LABELS or "" in found:
        raise InvalidInput(f"labels are at most {_MAX_LABELS} pairs of text", operation="create")
    return {str(key): str(value) for key, value in found.items()}


def _checked_limit(limit: float | str) -> int:
    seconds = parse_duration(limit)
    if seconds < _LEAST_LIMIT_S:
        raise InvalidInput("a run lasts a minute at least", operation="create")
    return round(seconds)


def _checked_choice(name: str, value: str, choices: tuple[str, ...]) -> str:
    if value not in choices:
        raise InvalidInput(f"{name} is one of {', '.join(choices)}, not {value!r}", operation="create")
    return value
