"""Saves and restores notebook workspaces in object storage: a save costs what changed.

```python
import nbws

ws = nbws.Workspace.open("file:///srv/objects/demo", create=True)
ws.save("/workspace")
ws.restore("/elsewhere")
```

Names are loaded on first use, so importing the package (or `nbws.reader`) loads no extension module.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nbws import billing as billing
    from nbws import cleaning as cleaning
    from nbws.entries import Diff as Diff
    from nbws.entries import Entry as Entry
    from nbws.entries import ExportReport as ExportReport
    from nbws.errors import NbwsError as NbwsError
    from nbws.exclusive import EpochSource as EpochSource
    from nbws.exclusive import LockFile as LockFile
    from nbws.files import AsyncFile as AsyncFile
    from nbws.lifecycle import Status as Status
    from nbws.listing import Listing as Listing
    from nbws.notebook import Notebook as Notebook
    from nbws.notebooks import Notebooks as Notebooks
    from nbws.progress import Progress as Progress
    from nbws.quota import Quota as Quota
    from nbws.reports import CheckReport as CheckReport
    from nbws.reports import DoctorReport as DoctorReport
    from nbws.reports import Preview as Preview
    from nbws.reports import RestoreReport as RestoreReport
    from nbws.reports import SaveReport as SaveReport
    from nbws.retention import PruneReport as PruneReport
    from nbws.retention import Retention as Retention
    from nbws.snapshot import Rescue as Rescue
    from nbws.snapshot import Snapshot as Snapshot
    from nbws.upkeep import doctor as doctor
    from nbws.upkeep import doctor_async as doctor_async
    from nbws.usage import Growth as Growth
    from nbws.usage import Usage as Usage
    from nbws.workspace import Workspace as Workspace

    __version__: str

__all__ = [
    "AsyncFile",
    "CheckReport",
    "Diff",
    "DoctorReport",
    "Entry",
    "EpochSource",
    "ExportReport",
    "Growth",
    "Listing",
    "LockFile",
    "NbwsError",
    "Notebook",
    "Notebooks",
    "Preview",
    "Progress",
    "PruneReport",
    "Quota",
    "Rescue",
    "RestoreReport",
    "Retention",
    "SaveReport",
    "Snapshot",
    "Status",
    "Usage",
    "Workspace",
    "__version__",
    "doctor",
    "doctor_async",
]

_HOME = {
    "AsyncFile": "nbws.files",
    "CheckReport": "nbws.reports",
    "DoctorReport": "nbws.reports",
    "EpochSource": "nbws.exclusive",
    "Listing": "nbws.listing",
    "LockFile": "nbws.exclusive",
    "Diff": "nbws.entries",
    "Entry": "nbws.entries",
    "ExportReport": "nbws.entries",
    "Growth": "nbws.usage",
    "NbwsError": "nbws.errors",
    "Notebook": "nbws.notebook",
    "Notebooks": "nbws.notebooks",
    "Status": "nbws.lifecycle",
    "Preview": "nbws.reports",
    "Progress": "nbws.progress",
    "PruneReport": "nbws.retention",
    "Quota": "nbws.quota",
    "Rescue": "nbws.snapshot",
    "RestoreReport": "nbws.reports",
    "Retention": "nbws.retention",
    "SaveReport": "nbws.reports",
    "Snapshot": "nbws.snapshot",
    "Usage": "nbws.usage",
    "Workspace": "nbws.workspace",
    "doctor": "nbws.upkeep",
    "doctor_async": "nbws.upkeep",
}

# Modules that are reached as attributes without a further import.
_MODULES = {"billing", "cleaning"}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        # The engine's own: reading the metadata of installed packages takes longer than everything else that start-up does.
        value: Any = import_module("nbws._nbws").__version__
    elif name in _HOME:
        value = getattr(import_module(_HOME[name]), name)
    elif name in _MODULES:
        value = import_module(f"nbws.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
