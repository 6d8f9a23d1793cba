"""`nbws clean`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from nbws.cli.container import DurationType, load_settings
from nbws.cli.output import (
    INCOMPLETE,
    heading,
    json_option,
    print_json,
    print_paths,
    print_table,
    printable,
    progress_bar,
    size_and_files,
)
from nbws.reports import format_size

if TYPE_CHECKING:
    from nbws.cleaning import CleaningPlan, CleaningReport

_INTERRUPTED = 130
_LISTED = 20


@click.command(short_help="Make room: caches, trash, crash reports; shows the plan unless --apply.")
@click.argument("directory", metavar="DIR", type=click.Path(exists=True, file_okay=False))
@click.option("--apply", is_flag=True, help="Do it; otherwise only tell what would be done.")
@click.option(
    "--trash", metavar="DIR", type=click.Path(file_okay=False), help="Move into this directory instead of removing."
)
@click.option(
    "--only", metavar="NAME", multiple=True, help="Only this entry of the catalogue, such as pip; can be repeated."
)
@click.option(
    "--category",
    "categories",
    metavar="NAME",
    multiple=True,
    help="Only this category, such as caches; can be repeated.",
)
@click.option(
    "--min-age", type=DurationType(), help="Leave what was written, or read since, more recently, such as 7d."
)
@click.option(
    "--protect", metavar="PATTERN", multiple=True, help="Never touch this, in gitignore syntax; can be repeated."
)
@click.option("--repository", metavar="URL", help="Also say what the newest snapshot of this repository has of it.")
@json_option
def clean(directory: str, *, apply: bool, trash: str | None, as_json: bool, **wishes: Any) -> int:
    """Say what in DIR could go to make room: why that is safe, how it comes back, and at what price.

    Nothing is removed without --apply. Each find is checked to be what its name says; files that are open, links, other file systems,
    configuration, credentials, and what nbws.toml or --protect names are never touched. Needs no free space.

    Exit code 9: something could not be removed, or had changed since the plan was made.
    """
    from nbws.cleaning import CleaningInterrupted

    found = _plan(directory, **wishes)
    if not apply:
        if as_json:
            print_json(found.to_dict())
        else:
            _print_plan(found)
        return 0
    interrupted = False
    try:
        with progress_bar("clean") as progress:
            report = found.apply(trash, progress=progress)
    except CleaningInterrupted as interrupt:
        report, interrupted = interrupt.report, True
    if as_json:
        print_json(report.to_dict())
    else:
        _print_report(report, found)
    if interrupted:
        return _INTERRUPTED
    return 0 if report.complete else INCOMPLETE


def _plan(
    directory: str,
    *,
    only: tuple[str, ...],
    categories: tuple[str, ...],
    min_age: float | None,
    protect: tuple[str, ...],
    repository: str | None,
) -> CleaningPlan:
    from nbws.cleaning import plan

    workspace = None
    if repository is not None:
        from nbws.workspace import Workspace

        workspace = Workspace.open(repository)
    with progress_bar("clean") as progress:
        return plan(
            directory,
            categories=categories or None,
            only=only or None,
            min_age=min_age,
            # The settings that this command runs with protect as well as those of the directory itself.
            protect=(*load_settings({}).protect, *protect),
            workspace=workspace,
            progress=progress,
        )


def _print_plan(plan: CleaningPlan) -> None:
    if plan.items:
        click.echo(f"{heading('Would free')} {format_size(plan.bytes)} in {printable(plan.directory)}")
        rows = [[format_size(item.bytes), f"{item.files:,}", item.name, item.title] for item in plan.items]
        print_table(["size", "files", "name", "what"], rows)
        for item in plan.items:
            click.echo(f"\n{heading(item.title)}: {item.why_safe}")
            click.echo(f"  comes back: {item.comes_back}")
            click.echo(f"  price: {item.price}")
            for path in item.paths[:_LISTED]:
                click.echo(f"  {printable(path)}")
            if len(item.paths) > _LISTED:
                click.echo(f"  and {len(item.paths) - _LISTED:,} more; --json lists all")
        click.echo()
    else:
        click.echo(f"Nothing to clean in {printable(plan.directory)}")
    print_paths("protected", plan.protected)
    print_paths("stays", plan.skipped)
    if plan.unseen_processes:
        click.echo(f"{plan.unseen_processes:,} processes of others could not be asked which files they have open")
    if plan.store is not None:
        stored = plan.store.stored_bytes
        kept = "" if stored is None else f", at most {format_size(stored)} of them stored"
        click.echo(
            f"the newest snapshot has {size_and_files(plan.store.files, plan.store.logical_bytes)} of it{kept}; the store frees what "
            "nothing else needs once the snapshots that have it are forgotten and a prune's grace is over"
        )
    if plan.items:
        click.echo("nothing was removed: --apply does it, --trash DIR moves it instead")


def _print_report(report: CleaningReport, plan: CleaningPlan) -> None:
    if report.trash is None:
        click.echo(
            f"{heading('Freed')} {format_size(report.bytes_freed)} of {format_size(plan.bytes)} in {printable(report.directory)}"
        )
    else:
        click.echo(
            f"{heading('Moved')} {format_size(report.bytes_moved)} of {format_size(plan.bytes)} to {printable(report.trash)}; "
            "it is freed when that is emptied"
        )
    rows = [[format_size(item.bytes), f"{item.files:,}", item.name, item.title] for item in report.items]
    if rows:
        print_table(["size", "files", "name", "what"], rows)
    print_paths("stays", report.left)
    print_paths("could not be removed", report.failed)
    for warning in report.warnings:
        click.echo(f"{click.style('warning', fg='yellow')}: {printable(warning)}")
    if report.interrupted:
        click.echo("interrupted: this is what was done until then")
