"""Tariffs by name or file: those that are shipped, and those of other providers."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from nbws.billing import Tariff
from nbws.errors import InvalidInput

__all__ = ["load", "shipped"]

_OVH = "ovh"
_LARGEST_BYTES = 1 << 20


def shipped() -> list[str]:
    """Returns the names of the tariffs that come with nbws."""
    files = (item.name for item in resources.files(__name__).iterdir())
    return sorted([_OVH, *(name.removesuffix(".toml") for name in files if name.endswith(".toml"))])


def load(name: str) -> Tariff:
    """Returns a tariff: a shipped one by its name, or one that a TOML file holds (see `Tariff.from_toml`).

    Raises:
        InvalidInput: the name is neither, or the file holds no tariff.
    """
    if name == _OVH:
        return Tariff.ovh()
    if name in shipped():
        return Tariff.from_toml(
            (resources.files(__name__) / f"{name}.toml").read_text(encoding="utf-8"), file=f"{name}.toml"
        )
    path = Path(name)
    try:
        if path.stat().st_size > _LARGEST_BYTES:
            raise InvalidInput(f"{name} is too large for a tariff", operation="read tariff", path=name)
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        known = ", ".join(shipped())
        raise InvalidInput(
            f"there is no tariff {name}: name a TOML file, or one of {known}", operation="read tariff", path=name
        ) from None
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{name} is not UTF-8 text", operation="read tariff", path=name) from error
    return Tariff.from_toml(text, file=name)
