"""Makes room in a workspace: caches, trash, checkpoints and crash reports, each proven to be what it is.

```python
import nbws.cleaning

plan = nbws.cleaning.plan("/workspace")  # changes nothing
print(plan.bytes, [item.title for item in plan.items])
report = plan.apply()
```
"""

from __future__ import annotations

from nbws.cleaning.planning import CleaningInterrupted, CleaningPlan, plan, plan_async
from nbws.cleaning.reports import CleanedItem, CleaningCategory, CleaningItem, CleaningReport, StoreShare

__all__ = [
    "CleanedItem",
    "CleaningCategory",
    "CleaningInterrupted",
    "CleaningItem",
    "CleaningPlan",
    "CleaningReport",
    "StoreShare",
    "plan",
    "plan_async",
]
