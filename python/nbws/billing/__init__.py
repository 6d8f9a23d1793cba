"""What a notebook costs: timelines of its states and sizes, tariffs as data, and bills. Pure: no I/O, exact decimals."""

from nbws.billing.invoice import Invoice, Line, exact_sum, free_days_left, invoice, money, monthly, total
from nbws.billing.tariff import UNITS, Tariff
from nbws.billing.timeline import Sample, Timeline

__all__ = [
    "UNITS",
    "Invoice",
    "Line",
    "Sample",
    "Tariff",
    "Timeline",
    "exact_sum",
    "free_days_left",
    "invoice",
    "money",
    "monthly",
    "total",
]
