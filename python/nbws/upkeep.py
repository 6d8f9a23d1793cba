"""Upkeep of stores: what one guarantees."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbws import _nbws
from nbws.calls import Call, twin, verb
from nbws.reports import DoctorReport
from nbws.store import locate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nbws.store import StoreLike

__all__ = ["doctor", "doctor_async"]


@verb
def doctor(url: StoreLike, *, prefix: str | None = None, store: Mapping[str, str] | None = None) -> Call[DoctorReport]:
    """Measures what a store guarantees: racing creates, reading and listing after a write, its clock.

    Sends about 160 small requests. Writes objects below ``probe/`` of the prefix and removes them; needs no repository
    there and touches none. Takes a second or two on a service nearby.

    Args:
        url: as for `Workspace.open`.
        prefix: below which prefix of an ``obstore`` store.
        store: options of the store, over the environment's.

    Raises:
        InvalidInput: the URL can't be used, or the bucket does not exist.
        Unavailable, Denied: the store can't be reached, or refuses.
    """
    place, options = locate(url, prefix, store)
    return Call.one(lambda: _nbws.doctor(place, {"store": options}), DoctorReport.from_engine)


doctor_async = twin(doctor)
