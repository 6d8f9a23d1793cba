"""The rules of a bill as data. What a provider left open is a named parameter with its source."""

from __future__ import annotations

import re
import tomllib
from dataclasses import MISSING, dataclass, fields
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Any, Literal, Self, get_args, get_type_hints

from nbws.errors import InvalidInput
from nbws.values import Report

__all__ = ["UNITS", "Tariff"]

UNITS = {"GB": 10**9, "GiB": 2**30}
"""Bytes of the units in which storage is priced."""

_OPERATION = "read tariff"
_MAX_DAYS = 36_500
_CURRENCY = re.compile(r"[A-Z]{3}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Tariff(Report):
    """What one provider charges for a notebook. A value; every rule is a field.

    Amounts of money and other numbers may be given as `decimal.Decimal`, int or text such as ``"0.01"``; binary fractions are refused.

    Attributes:
        name: of the tariff, for people.
        currency: three capital letters, such as ``"EUR"``.
        price: of one unit of storage for one month.
        unit: ``"GB"`` (10**9 bytes) or ``"GiB"`` (2**30 bytes); of the allowance, too.
        allowance: units of storage that are free.
        free_days: days of the free window, in which only what exceeds the allowance is charged.
        window: what begins the free window: ``"stop"``, the notebook comes to rest; or ``"creation"``, the first sample.
        restart_resets: for ``"stop"``: a start ends the window, and the next stop begins another one. Otherwise the first rest counts.
        after_window: what is charged after the free window: ``"all"`` or only the ``"excess"`` over the allowance.
        count: what counts: ``"stored"`` bytes in the store, or ``"logical"`` bytes of the workspace's files.
        backups: whether bytes of older snapshots count, too. Only samples that say ``backup_bytes`` can be told apart.
        storage_states: ``"all"``, or ``"stopped"``: storage is charged only while the notebook rests.
        proration: what is charged at once: ``"none"`` a whole month, ``"daily"`` a day of UTC, ``"hourly"`` an hour; each at the
            largest size within it.
        months: what a month is: ``"calendar"``, one of UTC; ``"30d"`` or ``"730h"``, so long, counted from the first sample on. The price
            of a day or an hour is its share of that month.
        compute_price: of one unit of compute for one hour; None: compute is not charged.
        compute_units: CPUs or GPUs that the notebook has.
        compute_phases: charged while ``"running"`` (RUNNING alone), or in ``"all"`` live states (STARTING to STOPPING).
        started_minutes: each started minute of a charged phase counts whole.
        attached_price: of one unit of attached storage for one month; None: it is not charged.
        source: where the rules stand.
    """

    name: str
    currency: str
    price: Decimal
    unit: Literal["GB", "GiB"] = "GB"
    allowance: Decimal = Decimal(0)
    free_days: Decimal = Decimal(0)
    window: Literal["stop", "creation"] = "stop"
    restart_resets: bool = True
    after_window: Literal["all", "excess"] = "excess"
    count: Literal["stored", "logical"] = "stored"
    backups: bool = True
    storage_states: Literal["all", "stopped"] = "all"
    proration: Literal["none", "daily", "hourly"] = "hourly"
    months: Literal["calendar", "30d", "730h"] = "calendar"
    compute_price: Decimal | None = None
    compute_units: int = 1
    compute_phases: Literal["running", "all"] = "running"
    started_minutes: bool = True
    attached_price: Decimal | None = None
    source: str = ""

    def __post_init__(self) -> None:
        """Reads amounts, and refuses what makes no sense."""
        hints = get_type_hints(type(self))
        for field in fields(self):
            object.__setattr__(self, field.name, _checked(field.name, hints[field.name], getattr(self, field.name)))
        if not _CURRENCY.fullmatch(self.currency):
            raise _refused("currency", f"currency is three capital letters such as EUR, not {self.currency!r}")
        if self.free_days > _MAX_DAYS:
            raise _refused("free_days", f"free_days is at most {_MAX_DAYS:,}, a hundred years, not {self.free_days}")
        if self._allowance.denominator != 1:
            raise _refused(
                "allowance", f"allowance is a whole number of bytes, which {self.allowance} {self.unit} is not"
            )
        if self.allowance and not self.free_days and self.after_window == "all":
            raise _refused(
                "free_days",
                'an allowance without free days would never count: set free_days, or after_window = "excess" for one that always counts',
            )

    @property
    def allowance_bytes(self) -> int:
        """Bytes of the allowance."""
        return self._allowance.numerator

    @property
    def _allowance(self) -> Fraction:
        # Decimals would round as the caller's context says.
        return Fraction(self.allowance) * UNITS[self.unit]

    @classmethod
    def ovh(
        cls,
        *,
        unit: Literal["GB", "GiB"] = "GB",
        window: Literal["stop", "creation"] = "stop",
        restart_resets: bool = True,
        after_window: Literal["all", "excess"] = "all",
        count: Literal["stored", "logical"] = "stored",
        backups: bool = True,
        storage_states: Literal["all", "stopped"] = "all",
        proration: Literal["none", "daily", "hourly"] = "none",
        months: Literal["calendar", "30d", "730h"] = "30d",
        compute_phases: Literal["running", "all"] = "running",
        price: Decimal | str | int = "0.01",
        attached_price: Decimal | str | int | None = "0.01",
        compute_price: Decimal | str | int | None = None,
        compute_units: int = 1,
    ) -> Self:
        """Returns OVHcloud's published rules for AI Notebooks: 10 GB free for 30 consecutive days, then the price of object storage.

        The guides leave much open and contradict each other; each doubtful rule is a parameter. Sources are named by the keys of
        `docs/billing.md`.

        Args:
            unit: the allowance is 10 GB (guides to the workspace and to billing: WS, BI) or 10 GiB (control panel: MT).
            window: the 30 days begin when the notebook is stopped (BI), or with the notebook's age (chart in BI).
            restart_resets: not published. The days are "consecutive once stopped" (BI), so a start ends them.
            after_window: not published in one voice. "Then the price applies for each GB" (WS), and the chart charges a notebook older than
                30 days whatever its size (BI): all of it. ``"excess"`` keeps the allowance for good.
            count: not published. `storageUsed` is described as the bytes used to persist the workspace (T): stored ones.
            backups: not published.
            storage_states: the chart charges storage once STOPPED (BI), the third example of the same page charges that of a notebook that
                was deleted while it ran.
            proration: ten days and ten hours of 100 GB cost the same 0.90 EUR in the examples (BI): whole months.
            months: the examples hold for any dates only if months are counted from the creation; bills come at the end of a month (BI).
            compute_phases: RUNNING alone (CO, CLI, chart in BI), or STARTING, RUNNING and STOPPING (text of BI).
            price: of object storage, per GB and month, as in the examples (BI).
            attached_price: of attached object storage, charged separately (BI).
            compute_price: of one CPU or GPU and hour; each flavour has its own.
            compute_units: how many of them.
        """
        return cls(
            name="OVHcloud AI Notebooks, as published",
            currency="EUR",
            price=price,  # type: ignore[arg-type]  # read by the class
            unit=unit,
            allowance=Decimal(10),
            free_days=Decimal(30),
            window=window,
            restart_resets=restart_resets,
            after_window=after_window,
            count=count,
            backups=backups,
            storage_states=storage_states,
            proration=proration,
            months=months,
            compute_price=compute_price,  # type: ignore[arg-type]
            compute_units=compute_units,
            compute_phases=compute_phases,
            attached_price=attached_price,  # type: ignore[arg-type]
            source="https://github.com/ovh/docs, AI Notebooks: Billing and lifecycle",
        )

    @classmethod
    def from_toml(cls, text: str, *, file: str = "tariff") -> Self:
        """Reads a tariff: TOML with one key for each field of this class; ``name``, ``currency`` and ``price`` must be there.

        Args:
            text: the content of the file.
            file: its name, for messages.

        Raises:
            InvalidInput: it is no TOML, a key is unknown or missing, or a value makes no sense; the message names file, line and key.
        """
        try:
            values = tomllib.loads(text, parse_float=Decimal)
        except tomllib.TOMLDecodeError as error:
            raise InvalidInput(f"{file}: not TOML: {error}", operation=_OPERATION, path=file) from error
        known = {field.name: field for field in fields(cls)}
        for key in values:
            if key not in known:
                raise InvalidInput(
                    f"{file}, line {_line(text, key)}: there is no rule {key!r}; known are {', '.join(known)}",
                    operation=_OPERATION,
                    path=file,
                )
        needed = [name for name, field in known.items() if field.default is MISSING]
        missing = [name for name in needed if name not in values]
        if missing:
            end = max(1, len(text.splitlines()))
            raise InvalidInput(
                f"{file}, line {end}: the tariff ends without {' and '.join(map(repr, missing))}",
                operation=_OPERATION,
                path=file,
            )
        try:
            return cls(**values)
        except InvalidInput as error:
            key = error.path or ""
            raise InvalidInput(f"{file}, line {_line(text, key)}: {error}", operation=_OPERATION, path=file) from error


def _line(text: str, key: str) -> int:
    """The number of the line that sets a key."""
    name = re.escape(key)
    written = re.compile(rf"""\s*\[*\s*(["']?){name}\1\s*[=.\]]""")
    return next((number for number, line in enumerate(text.splitlines(), 1) if written.match(line)), 1)


def _checked(name: str, hint: Any, value: Any) -> Any:
    choices = get_args(hint)
    if value is None and type(None) in choices:
        return None
    if hint is Decimal or Decimal in choices:
        return _amount(name, value)
    if choices:
        if not isinstance(value, str) or value not in choices:
            raise _refused(name, f"{name} is one of {', '.join(map(repr, choices))}, not {value!r}")
        return value
    if hint is bool and not isinstance(value, bool):
        raise _refused(name, f"{name} is true or false, not {value!r}")
    if hint is int and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
        raise _refused(name, f"{name} is a whole number from 0 on, not {value!r}")
    if hint is str and not isinstance(value, str):
        raise _refused(name, f"{name} is text, not {value!r}")
    return value


def _amount(name: str, value: Any) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, Decimal | int | str):
        raise _refused(name, f'{name} is a decimal number, best written as text such as "0.01", not {value!r}')
    try:
        amount = Decimal(value)
    except InvalidOperation:
        raise _refused(name, f'{name} is a decimal number such as "0.01", not {value!r}') from None
    if not amount.is_finite() or amount < 0:
        raise _refused(name, f"{name} can't be {amount}; it is a number from 0 on")
    return amount


def _refused(key: str, why: str) -> InvalidInput:
    return InvalidInput(why, operation=_OPERATION, path=key)
