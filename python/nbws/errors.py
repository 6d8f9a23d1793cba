"""The errors of nbws: one class for each kind, chosen by what the caller does next.

Every class also inherits the builtin that callers would catch anyway. The list mirrors the engine's; a test compares
both, names and retryability.
"""

from __future__ import annotations

from typing import Any, ClassVar

__all__ = [
    "KINDS",
    "AlreadyExists",
    "Cancelled",
    "CommitUnknown",
    "Conflict",
    "Corrupt",
    "Denied",
    "Fenced",
    "Internal",
    "InvalidInput",
    "InvalidState",
    "LocalIo",
    "NbwsError",
    "NotFound",
    "QuotaExceeded",
    "RollbackDetected",
    "Unavailable",
    "Unsupported",
]


class NbwsError(Exception):
    """Any failure of nbws.

    Attributes:
        kind: the stable name of the kind, equal to the class name.
        retryable: whether the same call may succeed later without a change by the caller.
        message: what went wrong, one sentence for people; never holds a secret.
        operation: the operation that failed, such as ``"read pack"``, or ``""``.
        path: the key, URL or path that was hit, printable, or None.
        rescue: the snapshot id under which the work of a failed save was kept, or None.
        os_error: the number of the operating system's error (see `errno`) where there is one, else None.
    """

    kind: ClassVar[str] = "Internal"
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        operation: str = "",
        path: str | None = None,
        rescue: str | None = None,
        os_error: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.operation = operation
        self.path = path
        self.rescue = rescue
        self.os_error = os_error
        _fill_builtin(self, message, path, os_error)

    def __init_subclass__(cls, *, retryable: bool = False, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.kind = cls.__name__
        cls.retryable = retryable

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[Any, ...]:
        fields = {
            "operation": self.operation,
            "path": self.path,
            "rescue": self.rescue,
            "os_error": self.os_error,
        }
        return (_rebuild, (type(self), self.message, fields))

    def to_dict(self) -> dict[str, Any]:
        """Returns the error as plain values, as ``--json`` prints it."""
        return {
            "kind": self.kind,
            "message": self.message,
            "operation": self.operation,
            "path": self.path,
            "rescue": self.rescue,
            "retryable": self.retryable,
        }


def _rebuild(cls: type[NbwsError], message: str, fields: dict[str, Any]) -> NbwsError:
    return cls(message, **fields)


def _fill_builtin(error: Exception, message: str, path: str | None, os_error: int | None) -> None:
    if isinstance(error, OSError):
        error.errno = os_error
        error.strerror = message
        error.filename = path


class Conflict(NbwsError, retryable=True):
    """Somebody else is at work or was first; wait, or take over."""


class Fenced(NbwsError):
    """A newer writer took over; ``rescue`` names this one's work if there was any."""


class CommitUnknown(NbwsError, retryable=True):
    """The store did not say whether the save landed; the next save or start resolves it."""


class NotFound(NbwsError, FileNotFoundError):
    """The repository, snapshot, object or directory does not exist."""


class AlreadyExists(NbwsError, FileExistsError):
    """The thing to create exists."""


class InvalidInput(NbwsError, ValueError):
    """The caller's input can't be used."""


class InvalidState(NbwsError, RuntimeError):
    """Not allowed in the present state."""


class QuotaExceeded(NbwsError):
    """A hard limit would be passed."""


class Unavailable(NbwsError, ConnectionError, retryable=True):
    """The store can't be reached or is overloaded; trying again may help."""


class Denied(NbwsError, PermissionError):
    """Credentials are missing, wrong or insufficient."""


class Corrupt(NbwsError):
    """Stored bytes are not what was written."""


class Unsupported(NbwsError):
    """A newer format, an unknown feature, or something this version or store can't do."""


class RollbackDetected(NbwsError):
    """The log is older than what is known to have been committed."""


class LocalIo(NbwsError, OSError):
    """The local file system refused; ``errno`` says why where it is known."""


class Cancelled(NbwsError):
    """The caller cancelled."""


class Internal(NbwsError, RuntimeError):
    """A bug in nbws."""


KINDS: dict[str, type[NbwsError]] = {
    kind.__name__: kind
    for kind in (
        Conflict,
        Fenced,
        CommitUnknown,
        NotFound,
        AlreadyExists,
        InvalidInput,
        InvalidState,
        QuotaExceeded,
        Unavailable,
        Denied,
        Corrupt,
        Unsupported,
        RollbackDetected,
        LocalIo,
        Cancelled,
        Internal,
    )
}
"""Every kind by name, in the engine's order."""
