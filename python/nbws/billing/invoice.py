"""The bill: lines with amounts, quantities, the rule and the interval, and their exact sum."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any, ClassVar

from nbws.billing.charges import (
    Charge,
    Months,
    attached_sizes,
    compute_charges,
    counted_bytes,
    from_us,
    storage_charges,
    storage_sizes,
    to_us,
)
from nbws.billing.tariff import UNITS, Tariff
from nbws.errors import InvalidInput
from nbws.rendering import render_listing, render_notes
from nbws.values import Report

if TYPE_CHECKING:
    from nbws.billing.timeline import Sample, Timeline

__all__ = ["Invoice", "Line", "exact_sum", "free_days_left", "invoice", "money", "monthly", "total"]

_OPERATION = "bill"
_PLACES = 12
_MINUTES = 60


@dataclass(frozen=True, slots=True)
class Line(Report):
    """One line of a bill: what was added in one month by one rule.

    Attributes:
        what: ``"storage"``, ``"attached storage"`` or ``"compute"``.
        rule: why it is charged.
        begin, end: the interval.
        quantity: how much, rounded to 12 places.
        unit: of the quantity: ``"GB-month"``, ``"GiB-month"`` or ``"minute"``.
        price: of one GB-month, or of one hour of all units of compute.
        amount: quantity times price, rounded half to even to 12 places: the only rounding.
        forecast: whether it lies after the present, at the size and in the state that hold now.
        exact: the amount before it is rounded; as text a fraction.
    """

    what: str
    rule: str
    begin: datetime
    end: datetime
    quantity: Decimal
    unit: str
    price: Decimal
    amount: Decimal
    forecast: bool
    exact: Fraction = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values, as ``--json`` prints them: numbers and fractions are text."""
        plain = Report.to_dict(self)
        return {**plain, "exact": str(self.exact)}


@dataclass(frozen=True, slots=True)
class Invoice(Report):
    """A bill. Invoices of one currency can be added, and `total` sums many.

    Attributes:
        tariff: name of the tariff; None for a sum over several.
        currency: of all amounts.
        begin, end: the interval that it is for; None if there was nothing to bill.
        lines: what is charged, by kind and month.
        notes: repairs that were made, and what a reader should know.
        total: the exact sum of the lines' amounts.
        forecast: the part of it that is a forecast.
    """

    _NESTED: ClassVar[Mapping[str, type[Report]]] = {"lines": Line}

    tariff: str | None
    currency: str
    begin: datetime | None
    end: datetime | None
    lines: tuple[Line, ...]
    notes: tuple[str, ...]
    total: Decimal = field(init=False)
    forecast: Decimal = field(init=False)

    def __post_init__(self) -> None:
        """Derives the sums."""
        object.__setattr__(self, "total", exact_sum(line.amount for line in self.lines))
        object.__setattr__(self, "forecast", exact_sum(line.amount for line in self.lines if line.forecast))

    @property
    def exact(self) -> Fraction:
        """The sum before any line was rounded."""
        return sum((line.exact for line in self.lines), Fraction(0))

    def __add__(self, other: Invoice) -> Invoice:
        """Joins two bills.

        Raises:
            InvalidInput: they are in different currencies.
        """
        if not isinstance(other, Invoice):
            return NotImplemented
        return total([self, other])

    def __str__(self) -> str:
        period = f"{_day(self.begin)} to {_day(self.end)}" if self.begin and self.end else "nothing to bill"
        rows = [[*_cells(line), "forecast" if line.forecast else ""] for line in self.lines]
        titles = ["what", "rule", "from", "to", "quantity", "price", self.currency, ""]
        widths = [max(len(row[i]) for row in [titles, *rows]) for i in range(len(titles))]
        numbers = {4, 6}
        shown = [
            "  ".join(
                cell.rjust(width) if i in numbers else cell.ljust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in [titles, *rows]
        ]
        head = f"{self.tariff or 'several tariffs'}: {period}"
        body = shown if self.lines else ["no charges"]
        future = f", of which {money(self.forecast)} is a forecast" if self.forecast else ""
        sums = f"total {money(self.total)} {self.currency}{future}"
        return "\n".join([head, *body, sums, *(f"note: {note}" for note in self.notes)])

    def _repr_html_(self) -> str:
        columns = ["what", "rule", "begin", "end", "quantity", "unit", "price", "amount", "forecast"]
        caption = f"{self.tariff or 'Invoice'}: {money(self.total)} {self.currency}"
        return render_listing(caption, columns, self.lines) + render_notes(self.notes)


def invoice(
    timeline: Timeline,
    tariff: Tariff,
    until: datetime | None = None,
    *,
    since: datetime | None = None,
    now: datetime | None = None,
) -> Invoice:
    """Returns the bill of a timeline.

    The whole timeline decides about free windows and largest sizes; what was charged before ``since`` is left out. So the bills of two
    periods sum up to that of both, whatever the tariff.

    Args:
        timeline: states and sizes.
        tariff: the rules.
        until: the end; the last sample's time if None.
        since: the begin; the first sample's time if None.
        now: the present: charges after it are forecasts, at the size and in the state that the last sample says. None: there are none.

    Raises:
        InvalidInput: the end lies before the begin, or before the first sample; a sample lies after ``now``; a time has no zone; or the
            tariff needs what the samples do not say.
    """
    for name, time in (("until", until), ("since", since), ("now", now)):
        if time is not None and time.utcoffset() is None:
            raise _refused(f"{name} needs a time zone, as in datetime(2026, 12, 31, tzinfo=UTC), not {time!r}")
    begin, last = timeline.begin, timeline.end
    if begin is None or last is None:
        return Invoice(tariff.name, tariff.currency, None, None, (), (*timeline.notes, "the timeline has no samples"))
    end = last if until is None else until
    if end < begin:
        raise _refused(
            f"the bill would end at {_second(end)}, before the first sample of {_second(begin)}: take a later end"
        )
    if since is not None and end < since:
        raise _refused(f"the bill would end at {_second(end)}, before it begins at {_second(since)}: swap them")
    if now is not None and last > now:
        raise _refused(
            f"a sample of {_second(last)} lies in the future of {_second(now)}: take Timeline.repaired(samples, now=...)"
        )
    first = begin if since is None else max(since, begin)
    lines = _lines(timeline.changes(), tariff, to_us(first), to_us(end), None if now is None else to_us(now))
    return Invoice(tariff.name, tariff.currency, first, end, tuple(lines), timeline.notes)


def _lines(samples: Sequence[Sample], tariff: Tariff, since: int, until: int, now: int | None) -> list[Line]:
    months = Months(tariff, to_us(samples[0].time))
    cuts = sorted({since, *(() if now is None else (now,))})
    unit = f"{tariff.unit}-month"
    kinds: list[tuple[str, Iterable[Charge], str, Decimal, Fraction]] = []
    storage = storage_charges(tariff, months, storage_sizes(tariff, samples, until), cuts)
    kinds.append(("storage", storage, unit, tariff.price, Fraction(1)))
    if tariff.attached_price is not None:
        attached = storage_charges(tariff, months, attached_sizes(samples, until), cuts)
        kinds.append(("attached storage", attached, unit, tariff.attached_price, Fraction(1)))
    if tariff.compute_price is not None:
        hourly = _rounded(Fraction(tariff.compute_price) * tariff.compute_units)
        compute = compute_charges(tariff, months, samples, until, cuts)
        kinds.append(("compute", compute, "minute", hourly, Fraction(1, _MINUTES)))
    lines = []
    for what, charges, of, price, share in kinds:
        for charge, is_forecast in _by_month(charges, months, since, now):
            exact = charge.quantity * share * Fraction(price)
            if exact:
                begin, end = from_us(charge.begin), from_us(charge.end)
                quantity = _rounded(charge.quantity)
                lines.append(
                    Line(what, charge.rule, begin, end, quantity, of, price, _rounded(exact), is_forecast, exact)
                )
    return lines


def _by_month(charges: Iterable[Charge], months: Months, since: int, now: int | None) -> list[tuple[Charge, bool]]:
    """Charges from ``since`` on, those of one month and rule as one, in the order of time."""
    found: dict[tuple[int, str, bool], Charge] = {}
    for charge in charges:
        if charge.begin < since:
            continue
        is_forecast = now is not None and charge.begin >= now
        key = (months.of(charge.begin)[0], charge.rule, is_forecast)
        known = found.get(key)
        if known is None:
            found[key] = charge
        else:
            found[key] = Charge(known.begin, charge.end, charge.rule, known.quantity + charge.quantity)
    return [(charge, key[2]) for key, charge in found.items()]


def total(invoices: Iterable[Invoice]) -> Invoice:
    """Returns one bill of many.

    Raises:
        InvalidInput: there is none, or they are in different currencies.
    """
    found = list(invoices)
    currencies = sorted({item.currency for item in found})
    if len(currencies) != 1:
        why = f"bills in {' and '.join(currencies)} can't be added: sum each currency for itself"
        raise _refused(why if found else "a sum of no bills has no currency: give at least one")
    names = {item.tariff for item in found}
    return Invoice(
        names.pop() if len(names) == 1 else None,
        currencies[0],
        min((item.begin for item in found if item.begin), default=None),
        max((item.end for item in found if item.end), default=None),
        tuple(line for item in found for line in item.lines),
        tuple(dict.fromkeys(note for item in found for note in item.notes)),
    )


def monthly(tariff: Tariff, sample: Sample, *, is_free_window: bool = False) -> Decimal:
    """Returns what one whole month of storage costs at the size and in the state of a sample.

    Args:
        tariff: the rules.
        sample: size and state.
        is_free_window: in the free window; otherwise after it.
    """
    if sample.is_live and tariff.storage_states == "stopped":
        charged = 0
    else:
        charged = counted_bytes(tariff, sample)
        if is_free_window or tariff.after_window == "excess":
            charged = max(0, charged - tariff.allowance_bytes)
    amount = Fraction(charged, UNITS[tariff.unit]) * Fraction(tariff.price)
    if tariff.attached_price is not None:
        amount += Fraction(sample.attached_bytes, UNITS[tariff.unit]) * Fraction(tariff.attached_price)
    return _rounded(amount)


def free_days_left(timeline: Timeline, tariff: Tariff, now: datetime) -> Decimal | None:
    """Returns the days that are left of the free window; None if the tariff has none, all of them before it begins."""
    if not tariff.free_days or timeline.begin is None:
        return None if not tariff.free_days else tariff.free_days
    begin: datetime | None = timeline.begin
    if tariff.window == "stop":
        begin = None
        for sample in timeline:
            if sample.time > now:
                break
            if not sample.is_live:
                begin = begin or sample.time
            elif tariff.restart_resets:
                begin = None
    if begin is None:
        return tariff.free_days
    left = Fraction(tariff.free_days) - Fraction(to_us(now) - to_us(begin), 24 * 3_600_000_000)
    return _rounded(max(Fraction(0), left))


def money(amount: Decimal) -> str:
    """Returns an amount for people: at least two places, at most six."""
    scaled = round(Fraction(amount) * 10**6)
    whole, part = divmod(abs(scaled), 10**6)
    digits = f"{part:06}".rstrip("0").ljust(2, "0")
    return f"{'-' if scaled < 0 else ''}{whole:,}.{digits}"


def _rounded(value: Fraction) -> Decimal:
    """Half to even at 12 places, without zeros at the end; independent of the caller's decimal context."""
    scaled, places = round(value * 10**_PLACES), _PLACES
    while places and scaled % 10 == 0:
        scaled, places = scaled // 10, places - 1
    return Decimal((int(scaled < 0), tuple(map(int, str(abs(scaled)))), -places))


def exact_sum(amounts: Iterable[Decimal | Fraction]) -> Decimal:
    """Returns the sum of amounts of at most 12 places, whatever the caller's decimal context."""
    return _rounded(sum((Fraction(amount) for amount in amounts), Fraction(0)))


def _cells(line: Line) -> list[str]:
    per = "hour" if line.unit == "minute" else line.unit
    return [
        line.what,
        line.rule,
        _day(line.begin),
        _day(line.end),
        f"{money(line.quantity)} {line.unit}",
        f"{line.price:f} per {per}",
        money(line.amount),
    ]


def _day(time: datetime | None) -> str:
    return "" if time is None else f"{time.astimezone(UTC):%Y-%m-%d %H:%M}"


def _second(time: datetime) -> str:
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _refused(why: str) -> InvalidInput:
    return InvalidInput(why, operation=_OPERATION)
