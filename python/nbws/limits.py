"""The limits of one notebook: its quota, or that of its container."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from nbws.backups import Backups
from nbws.calls import Call, twin, verb
from nbws.errors import InvalidInput, NbwsError
from nbws.quota import Quota

if TYPE_CHECKING:
    from nbws.calls import Steps

__all__ = ["Limits"]

_KEY = "quota"


class Limits(Backups):
    """The part of a `Notebook` that knows how much it may hold."""

    # What the container said when this object first asked: saves must not wait for it again and again.
    _default: Quota | None = None

    @property
    def quota(self) -> Quota:
        """The quota in force: the notebook's own, else that of its container, else one without limits. Asks the store."""
        return self.read_quota()

    @verb
    def read_quota(self) -> Call[Quota]:
        """Returns the quota in force; `quota` as a call, with a twin for event loops."""
        return Call(self._quota_in_force)

    read_quota_async = twin(read_quota)

    @verb
    def has_own_quota(self) -> Call[bool]:
        """Tells whether the notebook has a quota of its own."""

        def steps() -> Steps[bool]:
            return (yield self._engine.setting(_KEY)) is not None

        return Call(steps)

    has_own_quota_async = twin(has_own_quota)

    @verb
    def set_quota(self, quota: Quota | None) -> Call[None]:
        """Sets the limits for `save`, autosaves and `stop`; they hold from the next save on. One log record.

        Args:
            quota: the limits; ``Quota()`` has none, None leaves it to those of the container (`Notebooks.set_defaults`) again.
        """
        if quota is not None and not isinstance(quota, Quota):
            raise InvalidInput(f"quota is a nbws.Quota or None, not {type(quota).__name__}", operation="set quota")

        def steps() -> Steps[None]:
            text = None if quota is None else json.dumps(quota.to_setting())
            yield self._engine.set_setting(_KEY, text)

        return Call(steps, hold=self._exclusive)

    set_quota_async = twin(set_quota)

    def _own_quota(self) -> Steps[Quota | None]:
        text = yield self._engine.setting(_KEY)
        return None if text is None else Quota.from_setting(json.loads(text))

    def _quota_in_force(self) -> Steps[Quota]:
        quota = yield from self._own_quota()
        if quota is None:
            quota = self._default = (yield from self._defaults.read()).quota or Quota()
        return quota

    def _save_limits(self) -> Steps[dict[str, Any]]:
        """What a save is told. A quota that can't be read keeps nobody from saving."""
        try:
            quota = None if self._default is None else (yield from self._own_quota()) or self._default
            if quota is None:
                quota = yield from self._quota_in_force()
        except (NbwsError, ValueError, TypeError):
            return {}
        return {_KEY: quota.to_setting()} if quota.is_limited else {}
