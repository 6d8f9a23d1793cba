"""`nbws notebook`: the commands that change a notebook's life."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from nbws.cli.container import (
    DurationType,
    container_of,
    data_option,
    load_settings,
    open_container,
    open_notebook,
    store_option,
    workspace_option,
)
from nbws.cli.output import INCOMPLETE, SizeType, heading, json_option, print_json, printable, progress_bar
from nbws.reports import format_size

if TYPE_CHECKING:
    from nbws.notebooks import PurgeReport
    from nbws.reports import SaveReport


@click.command()
@click.option("--name", metavar="TEXT", help="A name for people.")
@click.option("--id", "identity", metavar="ID", help="Letters, digits, - and _; a random one if it is not given.")
@click.option("--framework", metavar="NAME", help="Of the image that it runs in, such as pytorch.")
@click.option("--framework-version", metavar="V", help="Its version.")
@click.option("--editor", metavar="NAME", help="Of the image, such as jupyterlab.")
@click.option("--label", "labels", metavar="KEY=VALUE", multiple=True, help="A label for tools.")
@click.option("--template", metavar="DIR", help="A directory of the image whose files a new workspace starts with.")
@click.option("--run-limit", type=DurationType(), default="7d", show_default=True, help="How long a run may last.")
@click.option(
    "--at-limit",
    type=click.Choice(["stop", "restart"]),
    default="stop",
    show_default=True,
    help="What happens to it then.",
)
@click.option("--numeric-ids", is_flag=True, help="Compare and keep uid and gid.")
@store_option
@json_option
def create(*, identity: str | None, labels: tuple[str, ...], store: str | None, as_json: bool, **options: Any) -> None:
    """Make a notebook. It is STOPPED until its first start."""
    from nbws.cli.notebook import split_labels

    made = open_container(store).create(id=identity, labels=split_labels(labels), **options)
    if as_json:
        status = made.status()
        print_json({"id": made.id, "name": status.name, "state": status.state, "url": made.workspace.url})
        return
    click.echo(f"{heading('Made notebook')} {made.id}")
    click.echo(f"  its data lies in {printable(made.workspace.url)}")
    click.echo(f"  start it: nbws notebook start {made.id}, or nbws run {made.id} -- COMMAND")


@click.command()
@click.argument("identity", metavar="ID")
@workspace_option
@data_option
@click.option("--take-over", is_flag=True, help="Start although another machine runs it; that one is fenced.")
@click.option("--strict", is_flag=True, help="Refuse if the framework or Python differs from when it was saved.")
@click.option("--strict-marker", is_flag=True, help="End in ERROR if the marker is missing, instead of a new one.")
@click.option("--discard-changes", is_flag=True, help="Give up unsaved work that lies in the directory.")
@click.option(
    "--continue-unrestored",
    is_flag=True,
    help="If the workspace can't be restored, run with what there is; saves become rescues until clear-latch.",
)
@store_option
@json_option
def start(
    identity: str, workspace: str | None, data: str | None, store: str | None, *, as_json: bool, **options: Any
) -> int:
    """Claim a notebook for this machine and bring its workspace here; then it is RUNNING.

    No process stays behind: `nbws notebook save` and `stop` go on from here. `nbws run` is for programs that save by themselves.
    """
    from nbws.cli.restore import print_restore

    settings = load_settings({"store": store, "workspace": workspace, "data": data})
    found = container_of(settings).get(identity)
    with progress_bar("start") as progress:
        report = found.start(settings.workspace, settings.data, progress=progress, **options)
    if as_json:
        print_json(report.to_dict())
    else:
        print_restore(report)
        click.echo(f"  {identity} is RUNNING in {printable(settings.workspace)}")
        click.echo(f"  then: nbws notebook save {identity}, nbws notebook stop {identity}")
    return 0 if report.complete else INCOMPLETE


@click.command()
@click.argument("identity", metavar="ID")
@click.option("--comment", metavar="TEXT", help="A note that the snapshot carries.")
@click.option("--deadline", type=float, metavar="SECONDS", help="Save what is complete by then.")
@click.option("--limit-rate", type=SizeType(), help="Upload at most so many bytes a second.")
@store_option
@json_option
def save(identity: str, store: str | None, *, as_json: bool, **options: Any) -> int:
    """Save the workspace of a notebook that runs here; from SYNC_FAILED, send what is missing."""
    found = open_notebook(store, identity)
    with progress_bar("save") as progress:
        report = found.save(progress=progress, **options)
    return _tell(report, as_json=as_json)


@click.command()
@click.argument("identity", metavar="ID")
@click.option("--deadline", type=float, metavar="SECONDS", help="Save what is complete by then: notebooks first.")
@click.option("--limit-rate", type=SizeType(), help="Upload at most so many bytes a second.")
@store_option
@json_option
def stop(identity: str, store: str | None, *, as_json: bool, **options: Any) -> int:
    """Save a last time and end the run; then the notebook is STOPPED.

    It is SYNC_FAILED if not everything could be saved: the files stay where they are, and `nbws notebook save` sends the rest.
    """
    found = open_notebook(store, identity)
    with progress_bar("stop") as progress:
        report = found.stop(progress=progress, **options)
    code = _tell(report, as_json=as_json)
    if not as_json:
        state = found.status().state
        click.echo(f"  {identity} is {state}")
        if state == "SYNC_FAILED":
            click.echo(f"  send what is missing, from this machine: nbws notebook save {identity}")
    return code


def _tell(report: SaveReport, *, as_json: bool) -> int:
    from nbws.cli.save import print_save

    if as_json:
        print_json(report.to_dict())
    elif report.duration_s == 0.0 and report.warnings:
        # Nothing was done, and the warning says why.
        click.echo("\n".join(map(printable, report.warnings)))
    else:
        print_save(report)
    return 0 if report.complete else INCOMPLETE


@click.command()
@click.argument("identity", metavar="ID")
@store_option
@json_option
def restart(identity: str, store: str | None, *, as_json: bool) -> None:
    """Start the clock of a run anew. No data moves; whoever runs the program restarts it."""
    from nbws.cli.notebook import print_status

    status = open_notebook(store, identity).restart()
    if as_json:
        print_json(status.to_dict())
    else:
        print_status(status)


@click.command()
@click.argument("identity", metavar="ID")
@click.argument("backup", metavar="BACKUP", default="latest")
@click.option("--name", metavar="TEXT", help="A name for people; that of the other one if it is not given.")
@store_option
@json_option
def fork(identity: str, backup: str, store: str | None, *, name: str | None, as_json: bool) -> None:
    """Make a new notebook that begins with a backup of another one. The store copies the data itself."""
    new = open_notebook(store, identity).fork(backup, name=name)
    if as_json:
        print_json({"id": new.id, "url": new.workspace.url, "name": new.settings().name})
        return
    click.echo(f"{heading('Forked')} {printable(identity)} into notebook {new.id}")
    click.echo(f"start it: nbws notebook start {new.id}")


@click.command()
@click.argument("identity", metavar="ID")
@click.argument("backup", metavar="BACKUP", default="latest")
@click.option("--comment", metavar="TEXT", help="A note.")
@store_option
@json_option
def pin(identity: str, backup: str, store: str | None, *, comment: str | None, as_json: bool) -> None:
    """Keep a backup whatever the rules say, until it is unpinned."""
    pinned = open_notebook(store, identity).pin(backup, comment=comment)
    if as_json:
        print_json({"snapshot": pinned})
    else:
        click.echo(f"{heading('Pinned')} {pinned}")


@click.command()
@click.argument("identity", metavar="ID")
@click.argument("backup", metavar="BACKUP")
@store_option
@json_option
def unpin(identity: str, backup: str, store: str | None, *, as_json: bool) -> None:
    """Leave a pinned backup, named by its id, to the rules again."""
    open_notebook(store, identity).unpin(backup)
    if as_json:
        print_json({"unpinned": backup})
    else:
        click.echo(f"{heading('Unpinned')} {printable(backup)}")


@click.command()
@click.argument("identity", metavar="ID")
@click.option("--force", is_flag=True, help="Also while it runs: the run is fenced.")
@store_option
@json_option
def delete(identity: str, store: str | None, *, force: bool, as_json: bool) -> None:
    """Delete a notebook. Its data stays until it is purged."""
    found = open_notebook(store, identity)
    found.delete(force)
    if as_json:
        print_json(found.status().to_dict())
        return
    click.echo(f"{heading('Deleted')} {identity}; its data stays")
    click.echo(f"  read it: nbws restore {printable(found.workspace.url)} DIR")
    click.echo(f"  remove it for good: nbws notebook purge {identity}")


@click.command()
@click.argument("identity", metavar="ID")
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@click.option("--yes", is_flag=True, help="Don't ask.")
@store_option
@json_option
def purge(identity: str, store: str | None, *, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Remove the data of a deleted notebook, for good. This can't be undone."""
    container = open_container(store)
    report = container.purge(identity)
    if not dry_run:
        if not yes:
            if not (sys.stdin.isatty() and sys.stderr.isatty()):
                raise click.UsageError("a purge can't be undone: add --yes, or --dry-run to see what it would remove")
            click.echo(_purged(report), err=True)
            click.confirm("This can't be undone. Remove it?", abort=True, err=True)
        with progress_bar("purge"):
            report = container.purge(identity, confirm=identity)
    if as_json:
        print_json(report.to_dict())
    else:
        click.echo(_purged(report))


def _purged(report: PurgeReport) -> str:
    done = heading("Purged" if report.applied else "A purge would remove")
    what = [f"{report.snapshots:,} {'snapshot' if report.snapshots == 1 else 'snapshots'}"]
    if report.rescues:
        what.append(f"{report.rescues:,} {'rescue' if report.rescues == 1 else 'rescues'}")
    return f"{done} {format_size(report.bytes)} of {report.id}: {', '.join(what)}"


@click.command("clear-latch")
@click.argument("identity", metavar="ID")
@store_option
@json_option
def clear_latch(identity: str, store: str | None, *, as_json: bool) -> None:
    """Let saves become the newest snapshot again, after a start that could not restore the workspace.

    Look first at what lies there: from then on it replaces what was saved before, which stays among the backups.
    """
    found = open_notebook(store, identity)
    found.clear_latch()
    if as_json:
        print_json(found.status().to_dict())
    else:
        click.echo(f"saves of {identity} from this machine count again")
