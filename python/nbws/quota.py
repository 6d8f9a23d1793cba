"""Limits of a workspace: how much it should hold, how much it may, and what happens above that."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

from nbws.config import parse_size
from nbws.errors import InvalidInput
from nbws.values import Report, format_size

__all__ = ["Quota"]

_CHOICES = {"count": ("logical", "stored"), "over": ("keep-small", "refuse")}
_MAX_FILES = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Quota(Report):
    """Limits of one workspace. None is no limit; without any nothing is limited.

    Over a soft limit a save warns, and says by how much and where most lies. Over a hard limit either large files stay out
    (``"keep-small"``: notebooks, code and small files go in even above it, and the snapshot is partial), or saves and autosaves
    are refused with `QuotaExceeded` before anything is published (``"refuse"``). The last save of a run is never refused, and
    neither is a start, a restore, or work that is kept as a rescue.

    Attributes:
        soft_bytes: bytes above which a save warns; like all sizes, a number or text such as ``"10GiB"``.
        hard_bytes: bytes that a save does not pass.
        soft_files: files above which a save warns; links count, directories do not.
        hard_files: files that a save does not pass.
        count: what the limits on bytes count: the files of the workspace (``"logical"``), or all that the repository takes in the
            store, with every snapshot and compressed (``"stored"``).
        over: what happens over a hard limit.
    """

    soft_bytes: int | None = None
    hard_bytes: int | None = None
    soft_files: int | None = None
    hard_files: int | None = None
    count: Literal["logical", "stored"] = "logical"
    over: Literal["keep-small", "refuse"] = "keep-small"

    if TYPE_CHECKING:  # sizes may be text; what is kept are bytes

        def __init__(  # noqa: PLR0917  # as the fields
            self,
            soft_bytes: int | str | None = None,
            hard_bytes: int | str | None = None,
            soft_files: int | None = None,
            hard_files: int | None = None,
            count: Literal["logical", "stored"] = "logical",
            over: Literal["keep-small", "refuse"] = "keep-small",
        ) -> None: ...

    def __post_init__(self) -> None:
        for name in ("soft_bytes", "hard_bytes"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, _bytes(name, value))
        for name in ("soft_files", "hard_files"):
            _check_files(name, getattr(self, name))
        for name, choices in _CHOICES.items():
            value = getattr(self, name)
            if value not in choices:
                raise InvalidInput(
                    f"{name} is {' or '.join(map(repr, choices))}, not {value!r}", operation="read quota"
                )
        for of in ("bytes", "files"):
            soft, hard = getattr(self, f"soft_{of}"), getattr(self, f"hard_{of}")
            if soft is not None and hard is not None and soft > hard:
                raise InvalidInput(
                    f"soft_{of} ({soft:,}) lies above hard_{of} ({hard:,}), so nobody would ever be warned; lower it, or "
                    f"raise hard_{of}",
                    operation="read quota",
                )

    @property
    def is_limited(self) -> bool:
        """Whether there is any limit."""
        return any(value is not None for value in (self.soft_bytes, self.hard_bytes, self.soft_files, self.hard_files))

    @classmethod
    def from_setting(cls, values: dict[str, Any]) -> Self:
        """Builds the limits from what settings hold; keys of later versions are left alone."""
        known = {field.name for field in dataclasses.fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in known})

    def to_setting(self) -> dict[str, Any]:
        """Returns the limits as settings hold them, and as the engine takes them."""
        return self.to_dict()

    def __str__(self) -> str:
        limits = [
            *(
                f"{kind} {format_size(size)}"
                for kind in ("soft", "hard")
                if (size := getattr(self, f"{kind}_bytes")) is not None
            ),
            *(
                f"{kind} {files:,} files"
                for kind in ("soft", "hard")
                if (files := getattr(self, f"{kind}_files")) is not None
            ),
        ]
        return f"{', '.join(limits)}; {self.count} bytes; over: {self.over}" if limits else "no limits"


def _bytes(name: str, value: int | str) -> int:
    try:
        return parse_size(value)
    except InvalidInput as error:
        raise InvalidInput(f"{name}: {error}", operation="read quota") from error


def _check_files(name: str, value: Any) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MAX_FILES:
        raise InvalidInput(f"{name} is a number of files, 0 or more, not {value!r}", operation="read quota")
