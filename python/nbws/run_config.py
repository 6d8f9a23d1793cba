"""Settings of a run from ``nbws.toml``, the environment and options: later ones win. Pure; the command line reads the file."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nbws.config import parse_duration, parse_size
from nbws.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Settings", "read_settings"]

_OPERATION = "read settings"
_MIN_BUDGET_S = 1.0


@dataclass(frozen=True, slots=True)
class Settings:
    """What a run goes by.

    Attributes:
        store: URL of the store, or None.
        store_options: options of the store in obstore's key names.
        notebook: id of the notebook, or None.
        workspace: its directory.
        data: a fast directory that is not saved, or None.
        autosave: seconds between autosaves; 0: none.
        stop_budget: seconds from SIGTERM to the end.
        limit_rate: bytes a second for uploads, or None.
        on_restore_error: ``"stop"``: the program is not started; ``"continue"``: it is, with saving latched off.
        protect: patterns in gitignore syntax that cleaning never touches.
    """

    store: str | None = None
    store_options: Mapping[str, str] = field(default_factory=dict)
    notebook: str | None = None
    workspace: str = "/workspace"
    data: str | None = None
    autosave: float = 300.0
    stop_budget: float = 25.0
    limit_rate: int | None = None
    on_restore_error: str = "stop"
    protect: tuple[str, ...] = ()


def _text(value: object) -> str:
    if not isinstance(value, str) or not value or "\0" in value:
        raise InvalidInput(f"is text, not {value!r}")
    return value


def _span(value: Any) -> float:
    return parse_duration(float(value) if isinstance(value, str) and value.isdecimal() else value)


def _budget(value: Any) -> float:
    seconds = _span(value)
    if seconds < _MIN_BUDGET_S:
        raise InvalidInput("is a second at least")
    return seconds


def _rate(value: Any) -> int:
    rate = parse_size(value)
    if rate < 1:
        raise InvalidInput("is a byte a second at least")
    return rate


def _choice(value: object) -> str:
    if value not in {"stop", "continue"}:
        raise InvalidInput(f"is stop or continue, not {value!r}")
    return str(value)


def _options(value: object) -> Mapping[str, str]:
    if not isinstance(value, dict) or not all(isinstance(item, str | int | bool) for item in value.values()):
        raise InvalidInput("is a table of text, in obstore's key names")
    return {key: str(item).lower() if isinstance(item, bool) else str(item) for key, item in value.items()}


def _patterns(value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) and item.strip() for item in value):
        raise InvalidInput("is a list of patterns in gitignore syntax")
    return tuple(value)


@dataclass(frozen=True, slots=True)
class _Kind:
    """One setting: how it is read, and its name in the environment."""

    read: Callable[[Any], Any]
    variable: str | None


_RUN = {
    "notebook": _Kind(_text, "NBWS_NOTEBOOK"),
    "workspace": _Kind(_text, "NBWS_WORKSPACE"),
    "data": _Kind(_text, "NBWS_DATA"),
    "autosave": _Kind(_span, "NBWS_AUTOSAVE"),
    "stop_budget": _Kind(_budget, "NBWS_STOP_BUDGET"),
    "limit_rate": _Kind(_rate, "NBWS_LIMIT_RATE"),
    "on_restore_error": _Kind(_choice, "NBWS_ON_RESTORE_ERROR"),
}
_STORE = {"url": _Kind(_text, "NBWS_STORE"), "options": _Kind(_options, None)}
_CLEAN = {"protect": _Kind(_patterns, None)}
_TABLES = {"run": _RUN, "store": _STORE, "clean": _CLEAN}
# Where a setting goes that is not called as in the file.
_FIELDS = {"url": "store", "options": "store_options"}


def read_settings(text: str, name: str, environment: Mapping[str, str], options: Mapping[str, object]) -> Settings:
    """Returns the settings: options before the environment before the file.

    Args:
        text: of the file; empty if there is none.
        name: of the file, for messages.
        environment: variables; empty ones count as missing.
        options: by the names of `Settings`; None counts as missing.

    Raises:
        InvalidInput: the file is not TOML, or it has a key that means nothing; or a value can't be used. The message names where.
    """
    found = _of_file(text, name)
    for table in _TABLES.values():
        for key, kind in table.items():
            given = environment.get(kind.variable) if kind.variable else None
            if given:
                found[_FIELDS.get(key, key)] = _read(kind, given, f"{kind.variable} of the environment")
    kinds = {_FIELDS.get(key, key): kind for table in _TABLES.values() for key, kind in table.items()}
    for option, value in options.items():
        if value is not None:
            found[option] = _read(kinds[option], value, f"the option for {option.replace('_', ' ')}")
    return Settings(**found)


def _of_file(text: str, name: str) -> dict[str, Any]:
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput(f"{name} is not TOML: {error}", operation=_OPERATION, path=name) from error
    found: dict[str, Any] = {}
    # It may stand at the top as well: protecting something is no matter of one command.
    if "protect" in tables:
        found["protect"] = _read(_CLEAN["protect"], tables.pop("protect"), f"{name}: protect")
    for title, table in tables.items():
        known = _TABLES.get(title)
        if known is None or not isinstance(table, dict):
            raise InvalidInput(
                f"{name}: there is no {title!r}; the file has tables {_listed(_TABLES)}",
                operation=_OPERATION,
                path=name,
            )
        for key, value in table.items():
            if key not in known:
                raise InvalidInput(
                    f"{name}: [{title}] has no key {key!r}; known are {_listed(known)}", operation=_OPERATION, path=name
                )
            read = _read(known[key], value, f"{name}: {key} in [{title}]")
            found[_FIELDS.get(str(key), str(key))] = (*found.get("protect", ()), *read) if key == "protect" else read
    return found


def _read(kind: _Kind, value: object, where: str) -> Any:
    try:
        return kind.read(value)
    except InvalidInput as error:
        raise InvalidInput(f"{where}: {error}", operation=_OPERATION) from error


def _listed(names: Mapping[str, object]) -> str:
    return ", ".join(sorted(names))
