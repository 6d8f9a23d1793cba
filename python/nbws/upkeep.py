"""Upkeep of stores: what one guarantees."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbws import _nbws
from nbws.calls import Call, twin, verb
from nbws.reports import DoctorReport
from nbws.store import locate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nbws.exclusive import EpochSource
    from nbws.store import StoreLike

__all__ = ["doctor", "doctor_async"]


@verb
def doctor(
    url: StoreLike,
    *,
    prefix: str | None = None,
    store: Mapping[str, str] | None = None,
    exclusive: EpochSource | None = None,
) -> Call[DoctorReport]:
    """Measures what a store guarantees: racing creates, reading and listing after a write, its clock.

    Sends about 160 small requests. Writes objects below ``probe/`` of the prefix and removes them; needs no repository.
    Takes a second or two on a service nearby.

    If there is a repository, the outcome is kept in its log, once a day as long as it stays the same, and writers go by
    it from then on. Where it can't be kept, a finding says why.

    Args:
        url: as for `Workspace.open`.
        prefix: below which prefix of an ``obstore`` store.
        store: options of the store, over the environment's.
        exclusive: the epoch source that all writers use, held meanwhile. Without it the outcome is not kept where one
            writer at a time is allowed, or was until now.

    Raises:
        InvalidInput: the URL can't be used, or the bucket does not exist.
        Unavailable, Denied: the store can't be reached, or refuses.
        Conflict: somebody else holds the epoch source for too long.
    """
    place, options = locate(url, prefix, store)
    asked = {"store": options, "exclusive": exclusive is not None}
    return Call.one(lambda: _nbws.doctor(place, asked), DoctorReport.from_engine, hold=exclusive)


doctor_async = twin(doctor)
