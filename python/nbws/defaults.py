"""What holds for all notebooks of a container unless one of them says otherwise."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

from nbws.calls import Call
from nbws.errors import NotFound
from nbws.quota import Quota
from nbws.retention import Retention
from nbws.values import Report
from nbws.workspace import Workspace

if TYPE_CHECKING:
    from nbws.calls import Steps
    from nbws.workspace import OpenOptions

__all__ = ["DEFAULTS", "ContainerDefaults", "Defaults", "container_rules"]

DEFAULTS = ".defaults"
"""Name of the repository in a container that holds them. No notebook can have this id."""


class _Setting(Protocol):
    """A value that settings can hold."""

    @classmethod
    def from_setting(cls, values: Any) -> Self:
        """Builds it from what is stored."""

    def to_setting(self) -> Any:
        """Returns what is stored of it."""


# What can be said for a container: the key under which each notebook may say otherwise, and what it holds.
_KINDS: Mapping[str, type[_Setting]] = {"quota": Quota, "retention": Retention}


@dataclass(frozen=True, slots=True)
class Defaults(Report):
    """What holds for the notebooks of a container that say nothing else.

    Attributes:
        retention: which backups are kept; None: all but autosaves, which thin out.
        quota: how much a notebook may hold; None: as much as it wants.
    """

    _NESTED: ClassVar[Mapping[str, type[Report]]] = {"quota": Quota, "retention": Retention}

    retention: Retention | None = None
    quota: Quota | None = None


def container_rules(workspace: Workspace) -> Retention | None:
    """Returns the default rules of the container that a notebook's workspace lies in; None for a plain repository."""

    def steps() -> Steps[Retention | None]:
        if (yield workspace._engine.setting("notebook")) is None:  # noqa: SLF001  # its lifecycle half
            return None
        return (yield from ContainerDefaults.beside(workspace).read()).retention

    return Call(steps).wait()


class ContainerDefaults:
    """The defaults of one container: settings of a small repository in it, which the first change makes.

    Each of them is one setting, changed by one log record: of two changes at once none is lost.
    """

    def __init__(self, container: str, options: OpenOptions) -> None:
        self._url = f"{container.rstrip('/')}/{DEFAULTS}"
        self._options = options
        self._workspace: Workspace | None = None

    @classmethod
    def beside(cls, workspace: Workspace) -> Self:
        """Those of the container that a notebook's workspace lies in."""
        place, options = workspace._reopen  # noqa: SLF001  # opened like this one
        known: Any = options
        return cls(place.rstrip("/").rpartition("/")[0], known)

    def read(self) -> Steps[Defaults]:
        """Steps to what is in force; all None in a container where nobody has set any."""
        try:
            workspace = yield from self._opened(create=False)
        except NotFound:
            return Defaults()
        found: dict[str, Any] = {}
        for key, kind in _KINDS.items():
            text = yield workspace._engine.setting(key)  # noqa: SLF001  # its lifecycle half
            found[key] = None if text is None else kind.from_setting(json.loads(text))
        return Defaults(**found)

    def write(self, changes: Mapping[str, _Setting | None]) -> Steps[None]:
        """Steps that set what is named, or remove it with None; the rest stays what it is."""
        workspace = yield from self._opened(create=True)
        for key, value in changes.items():
            text = None if value is None else json.dumps(value.to_setting())
            yield workspace._engine.set_setting(key, text)  # noqa: SLF001

    def _opened(self, *, create: bool) -> Steps[Workspace]:
        if self._workspace is None:
            options: Any = {**self._options, "create": create}
            self._workspace = yield from Workspace._open(self._url, options).steps()  # noqa: SLF001
        return self._workspace
