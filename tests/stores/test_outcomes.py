"""What the doctor finds later is kept in the log, and writers go by the newest outcome."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbws
import pytest
from nbws import reader
from nbws.errors import Unsupported
from nbws.testing.trees import File, make_tree

if TYPE_CHECKING:
    from conftest import Place, Server


def remember(objects: Path, **outcome: Any) -> None:
    """Makes `format` say that something else was measured at creation."""
    stored = json.loads((objects / "format").read_bytes())
    stored["probe"].update(outcome)
    (objects / "format").write_bytes(json.dumps(stored, sort_keys=True, separators=(",", ":")).encode())


def test_the_newest_outcome_counts(tmp_path: Path) -> None:
    """A store that was mended: the log says so once its lock was held, and the independent reader reads it."""
    objects, lock = tmp_path / "objects", tmp_path / "lock"
    work = make_tree({b"f": File.of(b"1")}, tmp_path / "work")
    nbws.Workspace.open(objects.as_uri(), create=True)
    remember(objects, multi_writer=False, most_winners=2)
    with pytest.raises(Unsupported, match="2 of 16"):
        nbws.Workspace.open(objects.as_uri()).save(work)

    report = nbws.doctor(objects.as_uri())
    assert (report.multi_writer, report.recorded) == (True, None)
    assert "not kept with the repository" in "; ".join(report.findings)

    report = nbws.doctor(objects.as_uri(), exclusive=nbws.LockFile(lock))
    assert (report.multi_writer, report.recorded, report.findings) == (True, 1, ())
    workspace = nbws.Workspace.open(objects.as_uri())
    assert workspace.save(work).seq == 2
    assert nbws.doctor(objects.as_uri()).recorded is None
    assert workspace.check(read_data=True).complete

    repository = reader.Repository(objects)
    probe = repository.settings()["probe"]
    assert isinstance(probe, dict)
    assert (probe["multi_writer"], probe["most_winners"], probe["multipart"]) == (True, 1, None)
    assert [record.kind for record in repository.log().records] == ["settings", "snapshot"]


def test_the_doctor_of_the_command_line_keeps_it_too(tmp_path: Path) -> None:
    objects = tmp_path / "objects"
    nbws.Workspace.open(objects.as_uri(), create=True)
    remember(objects, client="nbws 0.0.0")
    command = [str(Path(sys.executable).with_name("nbws")), "doctor", objects.as_uri()]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True, env=dict(os.environ))
    assert json.loads(done.stdout)["recorded"] == 1
    remember(objects, client="nbws 0.0.1")
    done = subprocess.run([*command, "--lock-file", tmp_path / "lock"], capture_output=True, text=True, check=True)
    assert "record" not in done.stdout  # the log holds the same outcome, however old the one in `format` is


def test_where_writers_take_turns_the_doctor_does_too(swift_server: Server, tmp_path: Path) -> None:
    url, options, lock = "s3://bucket/outcomes", swift_server.options, tmp_path / "lock"
    writer = nbws.Workspace.open(url, create=True, store=options, exclusive=nbws.LockFile(lock))
    writer.save(make_tree({b"f": File.of(b"1")}, tmp_path / "work"))
    assert nbws.doctor(url, store=options).recorded is None
    report = nbws.doctor(url, store=options, exclusive=nbws.LockFile(lock))
    assert (report.multi_writer, report.multipart) == (False, True)
    with pytest.raises(Unsupported):
        nbws.Workspace.open(url, store=options).save(tmp_path / "work")
    (tmp_path / "work" / "f").write_bytes(b"2")
    assert writer.save(tmp_path / "work").complete


def test_uploads_in_parts_are_measured(place: Place) -> None:
    report = nbws.doctor(place.url, store=place.options)
    assert report.multipart is (None if place.name in {"file", "memory"} else True)
