"""The end of a run: a store that fails, a stop that is interrupted, a deadline."""

from __future__ import annotations

import itertools
import random
from typing import TYPE_CHECKING

import pytest
from lives import REACH, Machine, World, end_at, state_of
from nbws.errors import Denied, Fenced, NbwsError
from nbws.session import cause_of

if TYPE_CHECKING:
    from s3_server import Service


def begin(world: World) -> Machine:
    machine = world.machine()
    REACH["RUNNING"](machine)
    machine.write("a.txt", "a")
    machine.notebook().save()
    machine.write("late.txt", "late")
    (machine.workspace / "late.bin").write_bytes(random.Random(1).randbytes(400_000))
    (machine.data / "scratch").write_text("scratch")
    return machine


def refuse_packs(service: Service, status: int) -> None:
    service.fault = lambda verb, key: status if verb == "put" and "/packs/" in key else None


def heal(service: Service) -> None:
    service.fault = lambda _verb, _key: None


def test_a_store_that_refuses_ends_in_sync_failed_and_a_save_makes_it_good(cloud: World, service: Service) -> None:
    machine = begin(cloud)
    refuse_packs(service, 403)
    with pytest.raises(Denied):
        machine.notebook().stop()
    status = machine.notebook().status()
    assert status.state == "SYNC_FAILED"
    assert (status.info or "").startswith("forbidden: Denied:")
    # The files stay where they are, those of the fast directory too.
    assert (machine.workspace / "late.txt").read_text() == "late"
    assert (machine.data / "scratch").exists()
    # Still refused: nothing changes.
    with pytest.raises(Denied):
        machine.notebook().save()
    assert state_of(machine) == "SYNC_FAILED"
    heal(service)
    report = machine.notebook().save()
    assert report.complete
    assert state_of(machine) == "STOPPED"
    assert machine.notebook().workspace.snapshot().read("late.txt") == b"late"
    assert not (machine.data / "scratch").exists()
    # Nothing is left to do.
    assert machine.notebook().stop().warnings == ("the notebook is STOPPED already; nothing was done",)


def test_a_save_that_resumes_sends_only_what_was_missing(cloud: World, service: Service) -> None:
    machine = with_large_files(cloud)
    before = stored_bytes(service)
    sent = itertools.count()
    service.fault = lambda verb, key: 403 if verb == "put" and "/packs/" in key and next(sent) >= 1 else None
    with pytest.raises(Denied):
        machine.notebook().stop()
    kept = stored_bytes(service) - before
    assert kept > 1_000_000
    heal(service)
    report = machine.notebook().save()
    assert state_of(machine) == "STOPPED"
    assert report.bytes_uploaded < LARGE * 2_000_000 - kept + 1_000_000


LARGE = 40


def with_large_files(world: World) -> Machine:
    machine = world.machine()
    REACH["RUNNING"](machine)
    for number in range(LARGE):
        (machine.workspace / f"{number}.bin").write_bytes(random.Random(number).randbytes(2_000_000))
    return machine


def stored_bytes(service: Service) -> int:
    return sum(len(found.body) for key, found in service.objects.items() if "/packs/" in key)


def test_a_store_that_takes_no_record_leaves_a_stop_that_is_resumed(cloud: World, service: Service) -> None:
    machine = begin(cloud)
    service.fault = lambda verb, key: 403 if verb == "put" and service_state(service, machine) else None
    with pytest.raises(NbwsError):
        machine.notebook().stop()
    heal(service)
    assert state_of(machine) == "STOPPING"
    report = machine.notebook().stop()
    assert report.complete
    assert state_of(machine) == "STOPPED"
    assert machine.notebook().workspace.snapshot().read("late.txt") == b"late"


def service_state(service: Service, machine: Machine) -> bool:
    """Whether the newest record says that the notebook is stopping."""
    records = sorted(key for key in service.objects if "/log/" in key)
    return b'"state":"stopping"' in service.objects[records[-1]].body


def test_a_stop_that_was_interrupted_is_resumed(world: World) -> None:
    machine = begin(world)
    notebook = machine.notebook()
    end_at(type(notebook).stop, notebook, when=lambda: state_of(machine) == "STOPPING")
    assert machine.notebook().status().writer is not None
    report = machine.notebook().stop()
    assert report.complete
    assert state_of(machine) == "STOPPED"
    assert machine.notebook().workspace.snapshot().read("late.txt") == b"late"


def test_a_stop_interrupted_after_its_save_has_little_left_to_do(world: World) -> None:
    machine = begin(world)
    notebook = machine.notebook()
    end_at(type(notebook).stop, notebook, when=lambda: machine.notebook().workspace.snapshot().origin == "stop")
    assert state_of(machine) == "STOPPING"
    report = machine.notebook().stop()
    assert report.bytes_uploaded == 0
    assert state_of(machine) == "STOPPED"


def test_a_deadline_takes_notebooks_and_code_first(disk: World) -> None:
    machine = with_large_files(disk)
    small = {"work.ipynb": '{"cells": []}', "src/code.py": "print()", "small.txt": "small"}
    for name, content in small.items():
        machine.write(name, content)
    (machine.workspace / "0.bin").write_bytes(b"first version")
    machine.notebook().save(deadline=0.0)
    (machine.workspace / "1.bin").write_bytes(random.Random(99).randbytes(20_000_000))
    seen = set()
    report = machine.notebook().stop(deadline=0.0)
    for deadline in (0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6):
        late = {item.path for item in report.omitted if item.reason == "deadline"}
        stored = {f"{number}.bin" for number in range(1, LARGE)} - late
        # However little time there was: nothing large is stored while something small is not.
        assert not stored or not late & set(small), (stored, late)
        seen.add((bool(stored), bool(late & set(small))))
        snapshot = machine.notebook().workspace.snapshot()
        for name in set(small) - late:
            assert snapshot.read(name).decode() == small[name]
        if not late:
            break
        assert state_of(machine) == "SYNC_FAILED"
        assert snapshot.partial
        report = machine.notebook().save(deadline=deadline)
    assert (False, True) in seen
    assert len(seen) > 1, seen


def test_what_a_deadline_left_out_is_told_and_kept(disk: World) -> None:
    machine = disk.machine()
    REACH["RUNNING"](machine)
    machine.write("old.bin", "first version")
    machine.notebook().save()
    machine.write("old.bin", "second version")
    machine.write("new.bin", "new")
    report = machine.notebook().stop(deadline=0.0)
    assert report.partial
    assert not report.complete
    assert [(item.path, item.reason) for item in report.omitted] == [("new.bin", "deadline"), ("old.bin", "deadline")]
    status = machine.notebook().status()
    assert status.state == "SYNC_FAILED"
    assert "the deadline left 2 files" in (status.info or "")
    assert "new.bin, old.bin" in (status.info or "")
    snapshot = machine.notebook().workspace.snapshot()
    assert snapshot.partial
    # Every file in it is whole: as it was, or as it is.
    assert snapshot.read("old.bin") == b"first version"
    # A start elsewhere says what is missing; the disk that has it keeps it.
    other = disk.machine("two")
    began = other.notebook().start(other.workspace)
    told = [warning for warning in began.warnings if "did not store everything" in warning]
    assert len(told) == 1
    assert "new.bin, old.bin" in told[0]
    assert "a rescue" in told[0]
    assert other.files() == {"old.bin": "first version"}
    with pytest.raises(Fenced) as refused:
        machine.notebook().save()
    rescue = machine.notebook().workspace.rescue(refused.value.rescue or "")
    assert (rescue.read("old.bin"), rescue.read("new.bin")) == (b"second version", b"new")


def test_a_long_list_of_what_was_left_out_is_cut(disk: World) -> None:
    machine = disk.machine()
    REACH["RUNNING"](machine)
    for number in range(300):
        machine.write(f"folder/a-rather-long-name-{number:03}.bin", str(number))
    machine.notebook().stop(deadline=0.0)
    info = machine.notebook().status().info or ""
    assert len(info.encode()) <= 1_000
    assert info.startswith("the deadline left 300 files")
    assert "more" in info


def test_a_deadline_holds_for_a_slow_store_too(cloud: World) -> None:
    machine = cloud.machine()
    REACH["RUNNING"](machine)
    for number in range(5):
        (machine.workspace / f"{number}.bin").write_bytes(random.Random(number).randbytes(1_000_000))
    machine.write("work.ipynb", '{"cells": []}')
    report = machine.notebook().stop(deadline=0.5, limit_rate=1_000_000)
    assert report.partial
    assert report.bytes_uploaded < 1_000_000
    assert {item.path for item in report.omitted} == {f"{number}.bin" for number in range(5)}
    snapshot = machine.notebook().workspace.snapshot()
    assert snapshot.read("work.ipynb") == b'{"cells": []}'


def test_what_was_stored_before_the_deadline_is_not_sent_again(cloud: World, service: Service) -> None:
    machine = with_large_files(cloud)
    before = stored_bytes(service)
    first = machine.notebook().stop(deadline=3.0, limit_rate=4_000_000)
    late = {item.path for item in first.omitted}
    assert 0 < len(late) < LARGE
    assert state_of(machine) == "SYNC_FAILED"
    kept = stored_bytes(service) - before
    assert kept < 13_000_000
    report = machine.notebook().save()
    assert report.complete
    assert state_of(machine) == "STOPPED"
    assert report.bytes_uploaded < LARGE * 2_000_000 - kept + 1_000_000


def test_a_limited_rate_holds_from_the_first_byte_on(cloud: World, service: Service) -> None:
    machine = with_large_files(cloud)
    before = stored_bytes(service)
    # In a tenth of a second a hundred thousand bytes may go, whatever the size of the first pack.
    machine.notebook().stop(deadline=0.1, limit_rate=1_000_000)
    assert stored_bytes(service) - before < 200_000


def test_what_the_deadline_left_out_is_saved_by_the_next_save_here(world: World) -> None:
    machine = begin(world)
    machine.notebook().stop(deadline=0.0)
    assert state_of(machine) == "SYNC_FAILED"
    # Another deadline that is too short changes nothing; a save without one ends it.
    assert machine.notebook().save(deadline=0.0).partial
    assert state_of(machine) == "SYNC_FAILED"
    assert machine.notebook().save().complete
    assert state_of(machine) == "STOPPED"
    other = world.machine("two")
    began = other.notebook().start(other.workspace)
    assert began.warnings == ()
    assert (other.workspace / "late.txt").read_text() == "late"


def test_a_start_on_the_disk_that_has_it_misses_nothing(world: World) -> None:
    machine = begin(world)
    machine.notebook().stop(deadline=0.0)
    assert state_of(machine) == "SYNC_FAILED"
    report = machine.notebook().start(machine.workspace)
    assert [warning for warning in report.warnings if "survived" in warning] != []
    assert [warning for warning in report.warnings if "did not store" in warning] == []
    assert not machine.notebook().workspace.snapshot().partial
    assert (machine.workspace / "late.txt").read_text() == "late"


def test_a_partial_snapshot_of_a_run_that_ended_well_is_told(world: World) -> None:
    machine = world.machine()
    REACH["RUNNING"](machine)
    (machine.workspace / "large.bin").write_bytes(random.Random(1).randbytes(300_000))
    machine.notebook().save(deadline=0.0)
    assert machine.notebook().workspace.snapshot().partial
    other = world.machine("two")
    report = other.notebook().start(other.workspace, take_over=True)
    assert [warning for warning in report.warnings if "did not end" in warning] != []
    other.notebook().stop()


@pytest.mark.parametrize(
    ("status", "code", "cause"),
    [
        (403, b"AccessDenied", "forbidden"),
        (403, b"InvalidAccessKeyId", "credentials"),
        (403, b"SignatureDoesNotMatch", "credentials"),
        (403, b"ExpiredToken", "credentials"),
        (404, b"NoSuchBucket", "unknown"),
    ],
)
def test_causes_have_names(status: int, code: bytes, cause: str, cloud: World, service: Service) -> None:
    machine = begin(cloud)
    service.code = code.decode()
    refuse_packs(service, status)
    with pytest.raises(NbwsError) as refused:
        machine.notebook().stop()
    assert cause_of(refused.value).startswith(f"{cause}: ")
    assert (machine.notebook().status().info or "").startswith(f"{cause}: ")
