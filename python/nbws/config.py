"""Settings from text: sizes and spans of time."""

from __future__ import annotations

import re

from nbws.errors import InvalidInput

__all__ = ["parse_duration", "parse_size"]

_UNITS = {"": 1, "B": 1} | {
    prefix + suffix: base**power
    for power, prefix in enumerate("KMGTP", start=1)
    for suffix, base in (("", 1000), ("B", 1000), ("iB", 1024), ("i", 1024))
}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", re.ASCII)
_MAX_SIZE = 2**63 - 1


def parse_size(value: int | str) -> int:
    """Returns a size in bytes from an int or text such as ``"10GiB"`` (2**30) or ``"10GB"`` (10**9).

    Raises:
        InvalidInput: for anything else, and for sizes below zero or above 2**63 - 1.
    """
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise InvalidInput(f"a size is a number of bytes or text such as '10GiB', not {value!r}")
    if isinstance(value, int):
        size = value
    else:
        match = _SIZE.fullmatch(value)
        unit = _unit(match.group(2)) if match else None
        if match is None or unit is None:
            raise InvalidInput(f"not a size: {value!r}; write a number and a unit, such as '10GiB' or '500 MB'")
        number, fraction = match.group(1), "." in match.group(1)
        size = int(float(number) * unit) if fraction else int(number) * unit
    if not 0 <= size <= _MAX_SIZE:
        raise InvalidInput(f"a size lies between 0 and 2**63 - 1 bytes: {value!r}")
    return size


_SPANS = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_MAX_SPAN_S = 100 * 366 * 86_400


def parse_duration(value: float | str) -> float:
    """Returns a span of time in seconds from a number of seconds or text such as ``"24h"``, ``"90 min"`` or ``"30d"``.

    Raises:
        InvalidInput: for anything else, and for spans below zero or above 100 years.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise InvalidInput(f"a span of time is a number of seconds or text such as '24h', not {value!r}")
    seconds = float(value) if not isinstance(value, str) else None
    if isinstance(value, str) and (match := _SIZE.fullmatch(value)) and match.group(2).lower() in _SPANS:
        seconds = float(match.group(1)) * _SPANS[match.group(2).lower()]
    if seconds is None:
        raise InvalidInput(f"not a span of time: {value!r}; write a number and s, min, h, d or w, such as '24h'")
    if not 0 <= seconds <= _MAX_SPAN_S:
        raise InvalidInput(f"a span of time lies between 0 and 100 years: {value!r}")
    return seconds


def _unit(text: str) -> int | None:
    canonical = text[:1].upper() + text[1:].replace("I", "i").replace("b", "B")
    return _UNITS.get(canonical)
