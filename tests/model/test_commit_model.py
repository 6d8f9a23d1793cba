"""The protocol holds within small bounds, and the search notices every rule that is taken away.

The large bounds and the gap rule take minutes and gigabytes: set NBWS_SOAK=1 (`make soak`).
"""

from __future__ import annotations

import os

import pytest
from commit_model import CAUGHT, CAUGHT_TOGETHER, HARMLESS, PROFILES, SOAK_PROFILES, Bounds, Outcome, search

NEEDS_SOAK = pytest.mark.skipif(
    os.environ.get("NBWS_SOAK") != "1",
    reason="exhausting the large bounds takes minutes and gigabytes; run with NBWS_SOAK=1",
)

#: The smallest profile in which each removal shows.
SHOWS_IN = {
    "one_shot_keeps_epoch": "one_shot",
    "delete_before_sweep": "cancel",
    "sweep_ignores_cancel": "cancel",
    "cancel_ignores_sweep": "cancel",
    "sweep_not_recomputed": "cancel",
}

#: What a profile must have reached: a search that never pruned says nothing about pruning.
REACHES = {
    "commit": {
        "reply lost",
        "late PUT lands",
        "ghost found",
        "rescue acknowledged",
        "log pruned",
        "pack deleted",
    },
    "prune": {
        "rebase",
        "log pruned",
        "ghost found",
        "mark put",
        "sweep put",
        "pack deleted",
        "plan lost its slot",
    },
    "cancel": {"cancel put", "cancel given up", "cancel sent again", "sweep put", "pack deleted"},
    "one_shot": {
        "one-shot save",
        "rescue acknowledged",
        "snapshot acknowledged",
        "cancel put",
        "pack deleted",
    },
    "restart": {"crash", "claim lost", "fenced", "sweep put"},
}


def exhaust(name: str, bounds: Bounds) -> Outcome:
    outcome = search(bounds)
    figures = f"{outcome.states:,} states, {outcome.edges:,} edges, {outcome.seconds:.1f} s"
    print(f"{name}: {figures}")
    assert not outcome.violation, outcome.trace
    assert outcome.exhausted
    return outcome


@pytest.mark.parametrize("name", PROFILES)
def test_no_violation_within_small_bounds(name: str) -> None:
    outcome = exhaust(name, PROFILES[name])
    assert outcome.actions.keys() >= REACHES[name]


@pytest.mark.parametrize("rule", [rule for rule in CAUGHT if rule != "no_gap_rule"])
def test_removing_a_rule_is_caught(rule: str) -> None:
    outcome = search(PROFILES[SHOWS_IN.get(rule, "commit")], frozenset((rule,)))
    assert outcome.violation, f"{outcome.states} states without {rule}, and nothing was found"
    assert outcome.trace


@pytest.mark.parametrize("rules", CAUGHT_TOGETHER, ids="+".join)
def test_removing_both_lines_of_defence_is_caught(rules: frozenset[str]) -> None:
    assert search(PROFILES["cancel"], rules).violation


@pytest.mark.parametrize("rule", HARMLESS)
def test_second_lines_cost_only_work(rule: str) -> None:
    assert not search(PROFILES["prune"], frozenset((rule,))).violation


def test_unknown_rules_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown"):
        search(PROFILES["commit"], frozenset(("no_such_rule",)))


@pytest.mark.soak
@NEEDS_SOAK
@pytest.mark.parametrize("name", SOAK_PROFILES)
def test_no_violation_within_large_bounds(name: str) -> None:
    exhaust(name, SOAK_PROFILES[name])


@pytest.mark.soak
@NEEDS_SOAK
def test_removing_the_gap_rule_is_caught() -> None:
    outcome = search(SOAK_PROFILES["long_gap"], frozenset(("no_gap_rule",)))
    assert "rescue" in outcome.violation
    assert any(action == "log pruned" for action in outcome.trace)
