"""One of several processes that save to one repository at the same moment; `test_races.py` starts them."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from typing import TYPE_CHECKING, Any, Literal

import nbws
from nbws.errors import NbwsError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from multiprocessing.connection import Connection
    from multiprocessing.synchronize import Barrier
    from pathlib import Path

BLOB_BYTES = 2_000
PATIENCE_S = 120


@dataclasses.dataclass(frozen=True)
class Order:
    """What the process is to do next, and with which name its work is known afterwards."""

    verb: Literal["race", "catch_up", "end"]
    name: str = ""
    take_over: bool = False


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a save ended: acknowledged, or with an error and the rescue that it names."""

    name: str
    snapshot: str | None
    seq: int | None
    error: str | None = None
    rescue: str | None = None


def blob(name: str) -> bytes:
    """Returns the content that the work of this name has: bytes that no other work has."""
    return hashlib.shake_128(name.encode()).digest(BLOB_BYTES)


def edit(directory: Path, name: str) -> None:
    (directory / "note").write_text(name)
    (directory / "blob").write_bytes(blob(name))


def save(workspace: nbws.Workspace, directory: Path, order: Order) -> Outcome:
    try:
        report = workspace.save(directory, comment=order.name, take_over=order.take_over)
    except NbwsError as error:
        return Outcome(order.name, None, None, type(error).__name__, error.rescue)
    return Outcome(order.name, report.snapshot, report.seq)


@dataclasses.dataclass(frozen=True)
class Machine:
    """Where a process works: its own directory and local state, as if it were alone on a machine."""

    directory: Path
    state: Path
    url: str
    options: Mapping[str, str]


def run(machine: Machine, orders: Connection[Any, Any], start: Barrier) -> None:
    """Restores the head, says so, and obeys."""
    for variable in [name for name in os.environ if name.startswith(("AWS_", "GOOGLE_", "AZURE_"))]:
        del os.environ[variable]
    workspace = nbws.Workspace.open(machine.url, store=machine.options, state_dir=machine.state)
    workspace.restore(machine.directory)
    orders.send(None)
    while True:
        order: Order = orders.recv()
        if order.verb == "end":
            return
        if order.verb == "catch_up":
            workspace.restore(machine.directory, discard_changes=True)
            orders.send(None)
            continue
        edit(machine.directory, order.name)
        start.wait(PATIENCE_S)
        orders.send(save(workspace, machine.directory, order))
