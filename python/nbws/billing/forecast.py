"""What a save will have cost, before it is made."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime  # noqa: TC003  # others look the types of arguments up at run time
from typing import TYPE_CHECKING

from nbws.billing.invoice import free_days_left, monthly
from nbws.billing.timeline import Sample
from nbws.reports import SaveCost

if TYPE_CHECKING:
    from nbws.billing.tariff import Tariff
    from nbws.billing.timeline import Timeline

__all__ = ["save_cost"]

_AT_REST = "STOPPED"


def save_cost(
    timeline: Timeline, tariff: Tariff, now: datetime, *, logical_bytes: int, new_stored_bytes: int, requests: int
) -> SaveCost:
    """Returns what a save costs by a tariff, for a notebook that rests afterwards.

    Args:
        timeline: of the notebook until now.
        tariff: the rules.
        now: the present.
        logical_bytes: of the workspace after the save.
        new_stored_bytes: what the save adds to the store.
        requests: what it sends.
    """
    newest = timeline[-1] if len(timeline) else Sample(now, "NONE", 0, 0)
    before = replace(newest, state=_AT_REST)
    after = replace(
        before, logical_bytes=logical_bytes, stored_bytes=newest.stored_bytes + new_stored_bytes, backup_bytes=None
    )
    left = free_days_left(timeline, tariff, now)
    is_free = left is not None and left > 0
    return SaveCost(
        tariff=tariff.name,
        currency=tariff.currency,
        new_stored_bytes=new_stored_bytes,
        stored_bytes=after.stored_bytes,
        requests=requests,
        free_days_left=left,
        monthly_before=monthly(tariff, before, is_free_window=is_free),
        monthly_after=monthly(tariff, after, is_free_window=is_free),
        monthly_after_window=monthly(tariff, after),
    )
