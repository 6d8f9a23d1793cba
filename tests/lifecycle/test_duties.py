"""What is due while a notebook runs, on a clock of the test: nothing waits, nothing runs twice at once."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from nbws.duties import Duties
from nbws.errors import Fenced, InvalidState, Unavailable

if TYPE_CHECKING:
    from collections.abc import Coroutine

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


@dataclass
class FakeWork:
    """Something that ends when the test says so."""

    coroutine: Coroutine[Any, Any, Any]
    is_done: bool = False
    is_cancelled: bool = False

    def done(self) -> bool:
        return self.is_done

    def cancel(self) -> None:
        self.is_cancelled = True

    def finish(self) -> None:
        with pytest.raises(StopIteration):
            self.coroutine.send(None)
        self.is_done = True


@dataclass
class Fakes:
    """A notebook, a loop and a clock."""

    time: float = 0.0
    works: list[FakeWork] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    answers: dict[str, Any] = field(default_factory=dict)

    def start(self, coroutine: Coroutine[Any, Any, Any]) -> FakeWork:
        self.works.append(FakeWork(coroutine))
        return self.works[-1]

    def __getattr__(self, name: str) -> Any:
        if not name.endswith("_async"):
            raise AttributeError(name)

        async def call(*arguments: object, **options: object) -> Any:
            del options
            self.calls.append(name.removesuffix("_async") + "".join(f" {item}" for item in arguments))
            answer = self.answers.get(name)
            if isinstance(answer, Exception):
                raise answer
            return answer

        return call

    @property
    def workspace(self) -> Fakes:
        return self

    def duties(self, autosave_s: float = 0.0) -> Duties:
        fakes: Any = self
        return Duties(
            fakes,
            fakes,
            self.said.append,
            autosave_s=autosave_s,
            limit_rate=None,
            clock=lambda: NOW + dt.timedelta(seconds=self.time),
            monotonic=lambda: self.time,
        )

    def finish_all(self) -> None:
        for work in self.works:
            if not work.is_done:
                work.finish()

    def run(self, duties: Duties, seconds: float) -> None:
        """Attends as the runner does: it sleeps as long as it was told to."""
        end = self.time + seconds
        while True:
            wait = duties.attend()
            self.finish_all()
            if self.time + wait > end:
                self.time = end
                return
            self.time += wait


@pytest.fixture
def fakes() -> Fakes:
    made = Fakes()
    made.answers["status_async"] = SimpleNamespace(expires_at=None, state="RUNNING")
    made.answers["settings_async"] = SimpleNamespace(at_limit="stop")
    made.answers["save_async"] = SimpleNamespace(snapshot="s", bytes_uploaded=1)
    return made


def test_a_sign_of_life_each_minute(fakes: Fakes) -> None:
    fakes.run(fakes.duties(), 3_600)
    assert fakes.calls.count("beat") == 60


def test_a_store_that_does_not_answer_is_not_asked_twice(fakes: Fakes) -> None:
    duties = fakes.duties(autosave_s=10)
    for _ in range(100):
        fakes.time += 60
        duties.attend()
    # One sign of life, one autosave, one look at the limit.
    assert len(fakes.works) == 3
    fakes.finish_all()
    fakes.time += 60
    duties.attend()
    assert len(fakes.works) == 6
    fakes.finish_all()


def test_autosaves_at_their_time(fakes: Fakes) -> None:
    fakes.run(fakes.duties(autosave_s=300), 3_600)
    assert fakes.calls.count("save") == 12
    # Nothing is said where nothing changed.
    assert fakes.said == ["autosaved as s: 1 bytes sent"]
    without = Fakes(answers=fakes.answers)
    without.run(without.duties(), 3_600)
    assert without.calls.count("save") == 0


def test_a_failed_autosave_is_tried_again(fakes: Fakes) -> None:
    fakes.answers["save_async"] = Unavailable("no route")
    duties = fakes.duties(autosave_s=300)
    fakes.run(duties, 900)
    assert fakes.calls.count("save") == 3
    assert "no route" in fakes.said[0]
    assert duties.displaced is None


@pytest.mark.parametrize(
    ("error", "state", "is_over"),
    [
        (Fenced("taken", rescue="r1"), "RUNNING", True),
        (InvalidState("it is STOPPED"), "STOPPED", True),
        (InvalidState("it is DELETING"), "DELETING", True),
        (InvalidState("there is no log"), "NONE", False),
        (InvalidState("its log is damaged"), "UNKNOWN", False),
    ],
)
def test_who_was_displaced_knows(fakes: Fakes, error: Exception, state: str, is_over: bool) -> None:
    fakes.answers["save_async"] = error
    fakes.answers["status_async"].state = state
    duties = fakes.duties(autosave_s=300)
    fakes.run(duties, 300)
    assert (duties.displaced is not None) is is_over


def test_of_the_rescues_of_a_latched_run_the_newest_is_kept(fakes: Fakes) -> None:
    duties = fakes.duties(autosave_s=300)
    for number in range(3):
        fakes.answers["save_async"] = InvalidState("latched", rescue=f"r{number}")
        fakes.run(duties, 300)
    assert [call for call in fakes.calls if call.startswith("dismiss")] == ["dismiss r0", "dismiss r1"]
    assert duties.displaced is None


@pytest.mark.parametrize("at_limit", ["stop", "restart"])
def test_the_limit_of_a_run(fakes: Fakes, at_limit: str) -> None:
    status, settings = fakes.answers["status_async"], fakes.answers["settings_async"]
    status.expires_at, settings.at_limit = NOW + dt.timedelta(days=7), at_limit
    duties = fakes.duties()
    fakes.run(duties, 6 * 86_400)
    assert duties.expired is None
    # Somebody has restarted it elsewhere: the time that counts is that of the log.
    status.expires_at = NOW + dt.timedelta(days=9)
    fakes.run(duties, 2 * 86_400)
    assert duties.expired is None
    fakes.run(duties, 86_400)
    assert duties.expired == at_limit
    duties.put_off()
    assert duties.expired is None
    fakes.run(duties, 120)
    assert duties.expired == at_limit
    status.expires_at = NOW + dt.timedelta(days=30)
    duties.restarted()
    fakes.run(duties, 86_400)
    assert duties.expired is None


def test_a_limit_that_can_not_be_read_can_wait(fakes: Fakes) -> None:
    fakes.answers["status_async"] = Unavailable("no route")
    duties = fakes.duties()
    fakes.run(duties, 600)
    assert duties.expired is None
    assert fakes.calls.count("status") == 11
