"""`nbws doctor`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from nbws.cli.output import heading, json_option, lock_of, lock_option, print_json, printable

if TYPE_CHECKING:
    from nbws.reports import DoctorReport

_NOT_ALLOWED = 8


@click.command(short_help="Measure what a store guarantees.")
@click.argument("url")
@lock_option
@json_option
def doctor(url: str, *, lock_file: str | None, as_json: bool) -> int:
    """Measure what the store at URL guarantees, and say what follows.

    Writes a few small objects below probe/ of the prefix and removes them. If there is a repository, the outcome is kept
    in its log; where writers take turns, only with their lock file. Exits with 8 if several writers could lose work there.
    """
    from nbws.upkeep import doctor as measure

    report = measure(url, exclusive=lock_of(lock_file))
    if as_json:
        print_json(report.to_dict())
    else:
        print_doctor(report)
    return 0 if report.multi_writer else _NOT_ALLOWED


def print_doctor(report: DoctorReport) -> None:
    """Prints what was measured for people."""
    click.echo(f"{heading('Measured')} {printable(report.url)} in {report.duration_s:.1f} s")
    if report.rounds:
        one = f"{report.rounds_with_one_winner} of {report.rounds} rounds had one winner"
        _line("racing creates", f"{one}, at most {report.most_winners} won", ok=report.most_winners == 1)
    _line("second create", "refused" if report.sequential_create else "not refused", ok=report.sequential_create)
    _line("read after write", "yes" if report.read_after_write else "no", ok=report.read_after_write)
    _line("list after write", "yes" if report.list_after_write else "no", ok=report.list_after_write)
    if report.clock_offset_s is not None:
        click.echo(f"  {'clock':<18}{report.clock_offset_s:+.1f} s")
    verdict = "several writers may share a repository here" if report.multi_writer else "one writer at a time only"
    _line("verdict", verdict, ok=report.multi_writer)
    if report.multipart is not None:
        _line("multipart", "works" if report.multipart else "does not work", ok=report.multipart)
    if report.recorded is not None:
        click.echo(f"  {'kept':<18}as record {report.recorded} of the log")
    for finding in report.findings:
        click.echo(f"- {printable(finding)}")


def _line(name: str, text: str, *, ok: bool) -> None:
    click.echo(f"  {name:<18}{click.style(text, fg='green' if ok else 'red')}")
