"""Prune from Python and the command line; the independent reader is the oracle of what is left."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import nbws
import pytest
from nbws import reader
from nbws.errors import Corrupt, InvalidInput, InvalidState, NotFound
from nbws.retention import Retention
from nbws.testing.trees import compare_trees

if TYPE_CHECKING:
    from collections.abc import Callable

DAY_S = 86_400


def objects_of(url: str) -> Path:
    return Path(urlsplit(url).path)


def age(url: str, seconds: float) -> None:
    """Makes every record look so much older to the store."""
    for path in (objects_of(url) / "log").iterdir():
        taken = path.stat().st_mtime - seconds
        os.utime(path, (taken, taken))


def copy_tree(source: Path, target: Path) -> Path:
    subprocess.run(["cp", "-a", str(source), str(target)], check=True)
    return target


def assert_read_back(url: str, saved: dict[str, Path], scratch: Path) -> list[str]:
    """Restores everything that is listed with the reader alone; returns the ids of the snapshots."""
    repository = reader.Repository(objects_of(url))
    log = repository.log()
    for record in log.snapshots() + log.rescues():
        snapshot = str(record.body["snapshot"])
        root = repository.snapshot(repository.resolve(snapshot))
        target = scratch / f"read-{snapshot}-{len(list(scratch.iterdir()))}"
        reader.restore(repository, root, target, special_modes=True)
        assert compare_trees(saved[snapshot], target) == []
        repository.check_against_record(root, record)
    return [str(record.body["snapshot"]) for record in log.snapshots()]


@pytest.fixture
def history(file_url: str, tree: Path, tmp_path: Path) -> tuple[nbws.Workspace, dict[str, Path]]:
    """Five snapshots, and a copy of the tree of each."""
    workspace = nbws.Workspace.open(file_url, create=True)
    saved = {}
    for number in range(5):
        (tree / "src/a.py").write_bytes(random.Random(number).randbytes(20_000))
        snapshot = workspace.save(tree, comment=f"number {number}").snapshot
        saved[snapshot] = copy_tree(tree, tmp_path / f"copy-{number}")
    return workspace, saved


def test_plan_mark_grace_and_sweep(
    history: tuple[nbws.Workspace, dict[str, Path]], file_url: str, tmp_path: Path
) -> None:
    workspace, saved = history
    ids = list(saved)
    rules = Retention(retained_number=2)
    plan = workspace.prune(rules)
    assert not plan.applied
    assert [each.snapshot for each in plan.forgotten] == ids[:3]
    assert [each.comment for each in plan.forgotten] == ["number 0", "number 1", "number 2"]
    assert {each.reason for each in plan.forgotten} == {"too many"}
    assert len(workspace.snapshots()) == 5
    done = workspace.prune(rules, apply=True, force=True)
    assert done.mark is not None
    assert done.packs_deleted == 0
    assert [mark.state for mark in done.marks] == ["marked"]
    assert done.marks[0].sweep_after > datetime.now(UTC) + timedelta(hours=23)
    assert assert_read_back(file_url, saved, tmp_path) == ids[3:]
    assert [each.snapshot for each in workspace.snapshots()] == ids[3:]
    with pytest.raises(NotFound):
        workspace.restore(tmp_path / "gone", snapshot=ids[0])
    age(file_url, DAY_S)
    swept = workspace.prune(rules, apply=True, force=True)
    assert swept.packs_deleted == done.packs_doomed
    assert swept.bytes_freed > 0
    assert workspace.check(read_data=True).ok
    assert assert_read_back(file_url, saved, tmp_path) == ids[3:]
    assert json.loads(json.dumps(swept.to_dict()))["bytes_freed"] == swept.bytes_freed


def test_refusals(history: tuple[nbws.Workspace, dict[str, Path]], file_url: str) -> None:
    workspace, saved = history
    with pytest.raises(InvalidState, match="20 %"):
        workspace.prune(Retention(retained_number=1), apply=True)
    with pytest.raises(InvalidInput, match="hour"):
        workspace.prune(grace="59 min")
    with pytest.raises(InvalidInput, match="span of time"):
        workspace.prune(grace="soon")
    assert workspace.prune(Retention(retained_number=1)).needs_force
    assert len(workspace.snapshots()) == len(saved)
    (objects_of(file_url) / "log" / f"{2:020}").unlink()
    with pytest.raises(Corrupt):
        workspace.prune(Retention(retained_number=1), apply=True, force=True)


def test_rules_pins_and_cancel(history: tuple[nbws.Workspace, dict[str, Path]], file_url: str, tmp_path: Path) -> None:
    workspace, saved = history
    ids = list(saved)
    assert workspace.retention() is None
    rules = Retention(retained_number=1, keep_within=0.5)
    workspace.set_retention(rules)
    assert workspace.retention() == rules
    until = datetime(2099, 1, 2, tzinfo=UTC)
    assert workspace.pin(ids[1][:8], until=until, comment="good") == ids[1]
    assert workspace.pin(workspace.snapshot("latest~1")) == ids[3]
    assert [(pin.snapshot, pin.until) for pin in sorted(workspace.pins(), key=lambda pin: ids.index(pin.snapshot))] == [
        (ids[1], until),
        (ids[3], None),
    ]
    listed = {each.snapshot: each for each in workspace.snapshots()}
    assert [each.pinned for each in listed.values()] == [False, True, False, True, False]
    assert listed[ids[1]].eviction_date == until
    assert listed[ids[3]].eviction_date is None
    age(file_url, 60)
    workspace.prune(apply=True, force=True)
    assert assert_read_back(file_url, saved, tmp_path) == [ids[1], ids[3], ids[4]]
    workspace.cancel_prune()
    assert assert_read_back(file_url, saved, tmp_path) == ids
    with pytest.raises(NotFound):
        workspace.cancel_prune()
    workspace.unpin(ids[1])
    with pytest.raises(NotFound):
        workspace.unpin(ids[1])
    workspace.set_retention(None)
    assert workspace.retention() is None
    with pytest.raises(InvalidInput):
        workspace.pin("latest", until=datetime(2099, 1, 2))  # noqa: DTZ001


@pytest.mark.parametrize("seed", range(4))
def test_random_histories_are_read_back_by_the_reader(
    seed: int, file_url: str, tree: Path, tmp_path: Path, machine: Callable[[str, str], nbws.Workspace]
) -> None:
    chance = random.Random(seed)
    workspace = nbws.Workspace.open(file_url, create=True)
    saved = {workspace.save(tree).snapshot: copy_tree(tree, tmp_path / "copy-0")}
    places = [(workspace, tree), (machine(file_url, "other"), tmp_path / "other")]
    places[1][0].restore(places[1][1])
    for number in range(1, 16):
        here, place = chance.choice(places)
        (place / f"part-{chance.randrange(3)}").write_bytes(random.Random(chance.randrange(4)).randbytes(30_000))
        (place / "src/a.py").write_text(f"number = {number}\n")
        try:
            snapshot = here.save(place, take_over=chance.random() < 0.3).snapshot
        except nbws.NbwsError as error:
            if error.rescue is None:
                raise
            snapshot = error.rescue
        saved[snapshot] = copy_tree(place, tmp_path / f"copy-{number}")
        if chance.random() < 0.5:
            rules = Retention(retained_number=chance.randrange(1, 5))
            pruner = machine(file_url, f"pruner-{number}")
            assert not pruner.prune(rules, apply=True, force=True).warnings
            age(file_url, chance.choice([0, DAY_S / 2, DAY_S]))
        if chance.random() < 0.2 and (rescues := workspace.rescues()):
            workspace.dismiss(rescues[0])
        if number % 3 == 0:
            scratch = tmp_path / f"scratch-{number}"
            scratch.mkdir()
            assert_read_back(file_url, saved, scratch)
    assert workspace.check(read_data=True).ok


def add_comments(url: str, count: int) -> None:
    """Appends many small records, as a program that comments a lot."""
    log = objects_of(url) / "log"
    record = json.loads(max(log.iterdir()).read_bytes())
    for number in range(count):
        body = {"comment": f"comment {number}", "info": None}
        following = {"commit": f"{number:032x}", "parent": record["commit"], "seq": record["seq"] + 1}
        record |= {"body": body, "kind": "state", **following}
        text = json.dumps(record, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        (log / f"{record['seq']:020}").write_text(text)


def test_old_records_give_way_to_a_ledger_that_the_reader_reads(
    history: tuple[nbws.Workspace, dict[str, Path]], file_url: str, tree: Path, tmp_path: Path
) -> None:
    workspace, saved = history
    ids = list(saved)
    workspace.prune(Retention(retained_number=4), apply=True, force=True)
    workspace.pin(ids[1])
    add_comments(file_url, 1_200)
    (tree / "src/a.py").write_text("later = True\n")
    newest = workspace.save(tree).snapshot
    saved[newest] = copy_tree(tree, tmp_path / "copy-newest")
    age(file_url, 31 * DAY_S)
    report = workspace.prune(Retention(retained_number=2), apply=True, force=True)
    assert report.ledger is not None
    assert report.records_removed == report.ledger
    assert [path.name for path in (objects_of(file_url) / "ledger").iterdir()] == [f"{report.ledger:020}"]
    assert assert_read_back(file_url, saved, tmp_path) == [ids[1], ids[4], newest]
    assert [each.snapshot for each in workspace.snapshots()] == [ids[1], ids[4], newest]
    log = reader.Repository(objects_of(file_url)).log()
    assert [past["seq"] for past in log.history] == list(range(1, report.ledger + 1))
    assert {past["kind"] for past in log.history} == {"snapshot", "mark", "settings", "state"}
    assert workspace.check(read_data=True).ok
    (objects_of(file_url) / "ledger" / f"{report.ledger:020}").unlink()
    with pytest.raises(Corrupt):
        workspace.snapshots()
    with pytest.raises(reader.FormatError, match="no ledger"):
        reader.Repository(objects_of(file_url)).log()


def test_twins(history: tuple[nbws.Workspace, dict[str, Path]]) -> None:
    asyncio.run(_twins(history[0]))


async def _twins(workspace: nbws.Workspace) -> None:
    await workspace.set_retention_async(Retention(keep_last=3))
    report = await workspace.prune_async()
    assert len(report.forgotten) == 2
    assert await workspace.pin_async("latest~4")
    assert len((await workspace.prune_async()).forgotten) == 1


def test_command_line(history: tuple[nbws.Workspace, dict[str, Path]], file_url: str) -> None:
    from click.testing import CliRunner
    from nbws.cli.main import cli

    _, saved = history
    ids = list(saved)
    runner = CliRunner()
    pinned = runner.invoke(cli, ["pin", file_url, ids[0][:10], "--for", "30d", "--json"])
    assert json.loads(pinned.stdout) == {"pinned": ids[0]}
    plan = runner.invoke(cli, ["prune", file_url, "--keep-last", "2", "--json"])
    assert [each["snapshot"] for each in json.loads(plan.stdout)["forgotten"]] == ids[1:3]
    text = runner.invoke(cli, ["prune", file_url, "--keep-last", "2", "--grace", "2h", "--apply", "--force"])
    assert "Pruned 2 of 5 snapshots" in text.stdout
    assert "deleted by a prune after" in text.stdout
    ended = runner.invoke(cli, ["unpin", file_url, ids[0]])
    assert ended.exit_code == 0
    assert runner.invoke(cli, ["prune", file_url, "--grace", "later"]).exit_code == 2
    refused = runner.invoke(cli, ["prune", file_url, "--retained-number", "1", "--apply"])
    assert isinstance(refused.exception, InvalidState)
