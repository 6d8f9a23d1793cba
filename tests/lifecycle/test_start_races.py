"""Eight processes start one notebook at the same time: one runs it, the others are told who."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from lives import World

RACERS = 8
ROUNDS = 200 if os.environ.get("NBWS_SOAK") == "1" else 20
RACER = Path(__file__).with_name("starter.py")


def send(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{line}\n")
    process.stdin.flush()


def answer(process: subprocess.Popen[str]) -> Any:
    output: IO[str] | None = process.stdout
    assert output is not None
    return json.loads(output.readline())


def race(world: World, rounds: int) -> None:
    notebooks = world.machine("watcher").notebooks()
    racers = []
    try:
        for number in range(RACERS):
            machine = world.machine(f"racer-{number}")
            command = [
                sys.executable,
                str(RACER),
                machine.url,
                str(machine.root / "state"),
                str(machine.root / "places"),
            ]
            racers.append(
                subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment(machine.root)
                )
            )
        assert [answer(racer) for racer in racers] == ["ready"] * RACERS
        for number in range(rounds):
            identity = f"round-{number}"
            notebook = notebooks.create(id=identity)
            for racer in racers:
                send(racer, identity)
            outcomes = [answer(racer) for racer in racers]
            judge(outcomes, [event.writer for event in notebook.history() if event.kind == "claim"])
            assert notebook.status().state == "RUNNING"
    finally:
        for racer in racers:
            assert racer.stdin is not None
            racer.stdin.close()
        for racer in racers:
            racer.wait(timeout=60)
            assert racer.stdout is not None
            racer.stdout.close()


def environment(root: Path) -> dict[str, str]:
    return {**os.environ, "NBWS_STATE": str(root / "state"), "TMPDIR": str(root)}


def judge(outcomes: list[list[str]], claims: list[str]) -> None:
    won = [outcome for outcome in outcomes if outcome[0] == "RUNNING"]
    lost = [outcome for outcome in outcomes if outcome[0] != "RUNNING"]
    assert len(won) == 1, outcomes
    # One claim was ever written: nobody displaced the winner for a moment.
    assert len(claims) == 1
    assert {kind for kind, _ in lost} == {"Conflict"}, lost
    assert [text for _, text in lost if claims[0] not in text] == []


@pytest.mark.skipif(os.environ.get("NBWS_SOAK") == "1", reason="the long race is run instead")
def test_one_of_eight_starts_wins(disk: World) -> None:
    race(disk, ROUNDS)


@pytest.mark.soak
def test_one_of_eight_starts_wins_each_of_many_rounds(disk: World) -> None:
    race(disk, ROUNDS)


def test_losers_without_a_winner_would_be_noticed() -> None:
    conflict = ["Conflict", "writer abc was faster"]
    judge([["RUNNING", ""], conflict], ["abc"])
    for outcomes, claims in (
        ([conflict, conflict], ["abc"]),
        ([["RUNNING", ""], ["RUNNING", ""]], ["abc"]),
        ([["RUNNING", ""], conflict], ["def"]),
        ([["RUNNING", ""], ["Fenced", "writer abc"]], ["abc"]),
    ):
        with pytest.raises(AssertionError):
            judge(outcomes, claims)
