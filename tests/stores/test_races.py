"""Eight processes save to one repository at the same moment: one wins, and the log tells the same as they do.

Everything is judged by the records that lie in the store afterwards, read without the engine.
"""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import nbws
import pytest
import racer
from nbws import reader
from nbws.testing.trees import File, make_tree
from racer import Order, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection

    from conftest import Place, Server

RACERS = 8
ROUNDS = 50
SOAK_ROUNDS = int(os.environ.get("NBWS_RACE_ROUNDS", "1000"))

Record = dict[str, Any]


@dataclasses.dataclass
class Race:
    """The processes, and what they were told."""

    racers: list[Connection[Any, Any]]
    outcomes: list[list[Outcome]] = dataclasses.field(default_factory=list)

    def all_do(self, orders: dict[int, Order]) -> list[Any]:
        for number, order in orders.items():
            self.racers[number].send(order)
        answers = []
        for number in orders:
            assert self.racers[number].poll(racer.PATIENCE_S), f"process {number} does not answer"
            answers.append(self.racers[number].recv())
        return answers

    def round(self, number: int) -> None:
        """All save; then the losers take the head, but for one, which goes on with what it has."""
        orders = {
            i: Order("race", f"round {number} by {i}", take_over=(number + i) % 7 == 0) for i in range(len(self.racers))
        }
        outcomes: list[Outcome] = self.all_do(orders)
        self.outcomes.append(outcomes)
        losers = [i for i, outcome in enumerate(outcomes) if outcome.error is not None]
        self.all_do({i: Order("catch_up") for i in losers if i != number % len(self.racers)})


@pytest.fixture
def race_at(tmp_path: Path) -> Iterator[Callable[[Place], Race]]:
    """Starts the processes, all of which hold the first snapshot."""
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(RACERS)
    processes = []
    racers = []

    def begin(place: Place) -> Race:
        first = make_tree({f"lib/m{i}.py".encode(): File.of(b"x = 1\n" * i) for i in range(20)}, tmp_path / "first")
        racer.edit(first, "first")
        place.open(create=True).save(first, comment="first")
        for number in range(RACERS):
            ours, theirs = context.Pipe()
            machine = racer.Machine(
                tmp_path / f"work-{number}", tmp_path / f"state-{number}", place.url, dict(place.options)
            )
            process = context.Process(target=racer.run, args=(machine, theirs, start), daemon=True)
            process.start()
            theirs.close()
            processes.append(process)
            racers.append(ours)
        for connection in racers:
            assert connection.poll(racer.PATIENCE_S)
            connection.recv()
        return Race(racers)

    yield begin
    for connection in racers:
        connection.send(Order("end"))
        connection.close()
    for process in processes:
        process.join(timeout=20)
        if process.is_alive():
            process.kill()
            process.join()


def copied(place: Place, directory: Path) -> Path:
    """Returns a directory with every object of the repository."""
    if place.name == "file":
        return Path(place.url.removeprefix("file://"))
    bucket, _, prefix = place.url.removeprefix("s3://").partition("/")
    client = boto3.client(
        "s3",
        endpoint_url=place.options["endpoint"],
        aws_access_key_id=place.options["access_key_id"],
        aws_secret_access_key=place.options["secret_access_key"],
        region_name="us-east-1",
    )
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{prefix}/")
    for found in (found for page in pages for found in page.get("Contents", [])):
        target = directory / found["Key"].removeprefix(f"{prefix}/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(client.get_object(Bucket=bucket, Key=found["Key"])["Body"].read())
    client.close()
    return directory


def assert_one_chain(records: list[Record]) -> None:
    head = None
    for number, record in enumerate(records, start=1):
        assert record["seq"] == number
        assert record["parent"] == (records[number - 2]["commit"] if number > 1 else None)
        if record["kind"] == "snapshot":
            head = {"root": record["body"]["root"], "snapshot": record["body"]["snapshot"]}
        assert record["head"] == head


def assert_told_the_truth(records: list[Record], outcomes: list[list[Outcome]]) -> None:
    """What each process was told is what the log holds, no more and no less."""
    by_name = {record["body"]["comment"]: record for record in records}
    assert len(by_name) == len(records) == 1 + sum(map(len, outcomes)), "some work is in the log twice, or not at all"
    bases: dict[int, int] = {}
    before = 1
    for number, outcome_of in enumerate(outcomes):
        winners = [outcome for outcome in outcome_of if outcome.error is None]
        assert len(winners) == 1, f"round {number} has {len(winners)} winners"
        won = by_name[winners[0].name]
        for writer, outcome in enumerate(outcome_of):
            record = by_name[outcome.name]
            if outcome.error is None:
                assert (record["kind"], record["seq"]) == ("snapshot", outcome.seq), outcome
                assert record["body"]["snapshot"] == outcome.snapshot, outcome
                assert record["epoch"] == number + 2, outcome
                bases[writer] = record["seq"]
                continue
            assert outcome.error == "Fenced", outcome
            assert (record["kind"], record["body"]["snapshot"]) == ("rescue", outcome.rescue), outcome
            # It lost to somebody: another one's snapshot lies between what it had and its rescue. Who was behind has lost
            # already; everybody else lost to this round's winner.
            newest = max(r["seq"] for r in records[: record["seq"]] if r["kind"] == "snapshot")
            assert newest > bases.get(writer, 1), outcome
            was_behind = bases.get(writer, 1) < before
            assert was_behind or newest == won["seq"], outcome
            if writer != number % RACERS:
                bases[writer] = won["seq"]
        before = won["seq"]


def assert_all_is_readable(objects: Path) -> None:
    """Snapshots and rescues hold the very work that they are named after."""
    repository = reader.Repository(objects)
    log = repository.log()
    for record in (*log.snapshots(), *log.rescues()):
        name = record.body["comment"]
        work = reader._work(record.body)
        assert work is not None
        root = repository.snapshot(work)
        repository.check_tree(root)
        files = {entry.path: entry for entry in repository.entries(root)}
        assert b"".join(repository.read(files[b"note"])) == str(name).encode()
        assert b"".join(repository.read(files[b"blob"])) == racer.blob(str(name))


def race(place: Place, begin: Callable[[Place], Race], rounds: int, copy: Path) -> None:
    racing = begin(place)
    began = time.monotonic()
    for number in range(rounds):
        racing.round(number)
    took = time.monotonic() - began
    objects = copied(place, copy)
    records = [json.loads(path.read_bytes()) for path in sorted((objects / "log").iterdir())]
    assert_one_chain(records)
    assert_told_the_truth(records, racing.outcomes)
    assert_all_is_readable(objects)
    assert nbws.Workspace.open(objects.as_uri()).check(read_data=True).complete
    rescues = sum(record["kind"] == "rescue" for record in records)
    wins = [sum(r[i].error is None for r in racing.outcomes) for i in range(RACERS)]
    print(f"\n{place.name}: {rounds} rounds, {rescues} rescues, wins of each process {wins}, {took:.0f} s")


@pytest.fixture
def file_place(tmp_path: Path) -> Place:
    from conftest import Place

    return Place("file", (tmp_path / "objects").as_uri(), {}, is_atomic=True, lock=tmp_path / "writer.lock")


@pytest.fixture
def moto_place(moto_server: Server, tmp_path: Path) -> Place:
    from conftest import BUCKET, Place

    url = f"s3://{BUCKET}/races/{tmp_path.name}"
    return Place("moto", url, moto_server.options, is_atomic=True, lock=tmp_path / "writer.lock")


def test_eight_processes_race_on_files(file_place: Place, race_at: Callable[[Place], Race], tmp_path: Path) -> None:
    race(file_place, race_at, ROUNDS, tmp_path / "copy")


def test_eight_processes_race_on_moto(moto_place: Place, race_at: Callable[[Place], Race], tmp_path: Path) -> None:
    race(moto_place, race_at, ROUNDS, tmp_path / "copy")


@pytest.mark.soak
def test_eight_processes_race_on_files_for_long(
    file_place: Place, race_at: Callable[[Place], Race], tmp_path: Path
) -> None:
    race(file_place, race_at, SOAK_ROUNDS, tmp_path / "copy")


@pytest.mark.soak
def test_eight_processes_race_on_moto_for_long(
    moto_place: Place, race_at: Callable[[Place], Race], tmp_path: Path
) -> None:
    race(moto_place, race_at, SOAK_ROUNDS, tmp_path / "copy")
