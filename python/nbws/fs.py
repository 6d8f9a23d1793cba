"""A snapshot as a read-only file system of fsspec, so that pandas, dask and others read from it.

```python
import pandas

options = {"repository": "s3://bucket/notebooks/3f2c", "snapshot": "latest~1"}
pandas.read_csv("nbws://results/run.csv", storage_options=options)
```

Needs ``pip install 'nbws[fsspec]'``, which also makes the protocol ``nbws`` known to fsspec.
"""

from __future__ import annotations

import errno
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NoReturn

from fsspec.spec import AbstractFileSystem

from nbws.errors import InvalidInput
from nbws.workspace import Workspace

if TYPE_CHECKING:
    import io
    from collections.abc import Mapping

    from nbws.entries import Entry
    from nbws.snapshot import Browsable

__all__ = ["NbwsFileSystem"]

_TYPES = {"directory": "directory", "file": "file", "symlink": "link", "omitted": "other"}
_NANOSECONDS = 1_000_000_000


class NbwsFileSystem(AbstractFileSystem):
    """The files of one snapshot. Paths are relative to the top of the workspace: ``nbws://src/a.py``.

    Symbolic links are listed as such, with their ``destination``, and not followed.
    """

    protocol = "nbws"
    root_marker = ""
    # What "latest" names moves: instances are not shared by their arguments.
    cachable = False

    def __init__(
        self,
        repository: str | Workspace | None = None,
        snapshot: str | datetime | Browsable = "latest",
        *,
        store: Mapping[str, str] | None = None,
        fo: str | None = None,
        target_protocol: str | None = None,
        target_options: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Opens a snapshot.

        Args:
            repository: URL of the repository, or an open `Workspace`.
            snapshot: id, unique prefix, ``"latest"``, ``"latest~2"``, a time, a `Snapshot` or a `Rescue`. It is chosen once.
            store: options of the store, as for `Workspace.open`.
            fo: the repository in a chained URL such as ``nbws://src/a.py::file:///srv/objects/3f2c``.
            target_protocol: its protocol.
            target_options: taken as options of the store.
            kwargs: options of fsspec.

        Raises:
            InvalidInput: no repository is named.
            NotFound: there is no such repository or snapshot.
        """
        super().__init__(**kwargs)  # type: ignore[no-untyped-call]  # fsspec has no types
        if repository is None:
            if fo is None:
                raise InvalidInput(
                    'name the repository: storage_options={"repository": "file:///srv/objects/3f2c"}',
                    operation="open file system",
                )
            repository = fo if "://" in fo else f"{target_protocol or 'file'}://{fo}"
        if isinstance(repository, str):
            repository = Workspace.open(repository, store=store or target_options)
        self.workspace = repository
        self.snapshot = repository.find(snapshot) if isinstance(snapshot, str | datetime) else snapshot

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(item) for item in path]
        text = os.fspath(path)
        return text.removeprefix("nbws://").strip("/")

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        """Lists a directory; of a file its own entry."""
        found = [_details(entry) for entry in self.snapshot.ls(self._strip_protocol(path))]
        return found if detail else [item["name"] for item in found]

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Returns what is known of one path."""
        stripped = self._strip_protocol(path)
        if not stripped:
            return {"name": "", "size": 0, "type": "directory"}
        return _details(self.snapshot.stat(stripped))

    def modified(self, path: str) -> datetime:
        """Returns when a path was modified, in UTC."""
        return datetime.fromtimestamp(self.snapshot.stat(self._strip_protocol(path)).mtime_ns / _NANOSECONDS, tz=UTC)

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        """Returns a file or a range of it; negative positions count from its end."""
        with self._open(path) as file:
            if start is None and end is None:
                return file.read()
            size = self.info(path)["size"]
            first, last, _step = slice(start, end).indices(size)
            file.seek(first)
            return file.read(max(0, last - first))

    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        autocommit: bool = True,
        cache_options: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> io.BufferedReader:
        # The engine has buffers of its own.
        del block_size, autocommit, cache_options
        if mode != "rb":
            _refuse(path)
        return self.snapshot.open_file(self._strip_protocol(path))

    def mkdir(self, path: str, create_parents: bool = True, **_: Any) -> None:
        """Is refused: a snapshot never changes."""
        del create_parents
        _refuse(path)

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Is refused: a snapshot never changes."""
        del exist_ok
        _refuse(path)

    def rmdir(self, path: str) -> None:
        """Is refused: a snapshot never changes."""
        _refuse(path)

    def _rm(self, path: str) -> None:
        _refuse(path)

    def cp_file(self, path1: str, path2: str, **_: Any) -> None:
        """Is refused: a snapshot never changes."""
        del path1
        _refuse(path2)


def _details(entry: Entry) -> dict[str, Any]:
    details = {
        "name": entry.path,
        "size": entry.size,
        "type": _TYPES[entry.kind],
        "mode": entry.mode,
        "mtime": entry.mtime_ns / _NANOSECONDS,
        "uid": entry.uid,
        "gid": entry.gid,
    }
    return details if entry.target is None else {**details, "islink": True, "destination": entry.target}


def _refuse(path: str) -> NoReturn:
    raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)
