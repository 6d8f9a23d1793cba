"""URLs of every scheme and obstore's stores: what is accepted, what is refused, and that no secret is ever shown."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import time
import uuid
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbws
import obstore.store
import pytest
from nbws.errors import Conflict, Denied, InvalidInput, InvalidState, NotFound, Unavailable, Unsupported
from nbws.store import locate
from nbws.testing.trees import File, compare_trees, make_tree

if TYPE_CHECKING:
    from conftest import Server

SECRET = "c2VjcmV0LWNhbmFyeQ=="  # base64, as Azure's keys are


def test_an_obstore_store_is_taken_where_a_url_is(moto_server: Server, tmp_path: Path) -> None:
    work = make_tree({b"f": File.of(b"content")}, tmp_path / "work")
    below = uuid.uuid4().hex
    store = obstore.store.S3Store(
        "bucket",
        prefix="teams/a b",
        endpoint=moto_server.endpoint,
        access_key_id="canary-key",
        secret_access_key="canary-secret",
        region="us-east-1",
        client_options={"allow_http": True, "connect_timeout": timedelta(seconds=20)},
        retry_config={"max_retries": 3},
    )
    workspace = nbws.Workspace.open(store, prefix=below, create=True)
    assert workspace.url == f"s3://bucket/teams/a%20b/{below}"
    workspace.save(work)
    again = pickle.loads(pickle.dumps(workspace))
    again.restore(tmp_path / "restored")
    assert compare_trees(work, tmp_path / "restored") == []
    listed = [item["path"] for page in store.list(below) for item in page]
    assert f"{below}/format" in listed
    assert nbws.doctor(store, prefix=below).multi_writer
    assert "canary" not in repr(workspace)


def test_a_local_store_is_its_directory(tmp_path: Path) -> None:
    store = obstore.store.LocalStore(tmp_path / "objects", mkdir=True)
    nbws.Workspace.open(store, prefix="a/b", create=True)
    assert (tmp_path / "objects" / "a" / "b" / "format").is_file()
    assert nbws.Workspace.open((tmp_path / "objects" / "a" / "b").as_uri()).snapshots() == []


def test_configuration_of_google_and_azure_stores() -> None:
    google = obstore.store.GCSStore("bucket", prefix="p", service_account_key=json.dumps(SERVICE_ACCOUNT))
    assert locate(google, "q") == ("gs://bucket/p/q", {"service_account_key": json.dumps(SERVICE_ACCOUNT)})
    azure = obstore.store.AzureStore("container", account_name="me", account_key=SECRET)
    assert locate(azure, "q") == ("az://container/q", {"account_name": "me", "account_key": SECRET})


class S3Store:
    """What another version of obstore might look like."""

    prefix = "x"
    secret = "canary"


@pytest.mark.parametrize(
    ("store", "why"),
    [
        (obstore.store.MemoryStore(), "MemoryStore"),
        (S3Store(), "version of obstore"),
        (object(), "not by object"),
        (obstore.store.S3Store("bucket", region="us-east-1", credential_provider=dict), "credential provider"),  # type: ignore[arg-type]
    ],
)
def test_stores_that_cannot_be_opened(store: Any, why: str) -> None:
    with pytest.raises(Unsupported, match=why) as refused:
        nbws.Workspace.open(store, create=True)
    assert "canary" not in str(refused.value)


def test_a_prefix_goes_with_a_store_object() -> None:
    with pytest.raises(InvalidInput, match="prefix"):
        nbws.Workspace.open("memory:///x", prefix="y")


SERVICE_ACCOUNT = {
    "private_key": "canary-private-key",
    "private_key_id": "canary-id",
    "client_email": "me@example.org",
    "gcs_base_url": "http://127.0.0.1:9",
    "disable_oauth": True,
}


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("gs://bucket/x", {"service_account_key": json.dumps(SERVICE_ACCOUNT), "allow_http": "true"}),
        (
            "az://container/x",
            {"account_name": "me", "account_key": SECRET, "endpoint": "http://127.0.0.1:9", "allow_http": "true"},
        ),
    ],
)
def test_google_and_azure_stores_are_reached_over_http(url: str, options: dict[str, str]) -> None:
    with pytest.raises(Unavailable) as unreachable:
        nbws.Workspace.open(url, store=options)
    assert "can't reach the store" in str(unreachable.value)
    assert "canary" not in repr(unreachable.value)
    assert SECRET not in repr(unreachable.value)


@pytest.mark.parametrize(
    ("url", "options", "kind"),
    [
        ("gs://", {}, InvalidInput),
        ("az://", {}, InvalidInput),
        ("gs://bucket/x", {"no_such_option": "1"}, InvalidInput),
        ("az://container/x", {"account_name": "me", "account_key": "canary: not base64"}, InvalidInput),
        ("az://container/x", {}, Denied),
        ("gs://bucket/x", {"service_account_key": "canary: no JSON"}, InvalidInput),
        ("gs://bucket/x", {"base_url": "http://127.0.0.1:9"}, InvalidInput),
        ("gs://user:canary@bucket/x", {}, InvalidInput),
        ("az://user:canary@container/x", {}, InvalidInput),
        ("s3://bucket/x?secret=canary", {}, InvalidInput),
        ("file:///tmp/x", {"region": "canary"}, InvalidInput),
    ],
)
def test_wrong_urls_and_options(url: str, options: dict[str, str], kind: type[Exception]) -> None:
    for call in (nbws.Workspace.open, nbws.doctor):
        with pytest.raises(kind) as wrong:
            call(url, store=options)
        assert "canary" not in str(wrong.value)
        assert "canary" not in repr(wrong.value)


def test_a_lock_file_lets_one_writer_in(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    first, second = nbws.LockFile(path), nbws.LockFile(path, patience_s=0.2)
    assert first.acquire() == 1
    with pytest.raises(Conflict):
        second.acquire()
    with pytest.raises(InvalidState):
        first.acquire()
    first.release()
    assert second.acquire() == 2
    second.release()
    again: nbws.LockFile = pickle.loads(pickle.dumps(first))
    with again, pytest.raises(Conflict):
        second.acquire()
    assert path.read_text() == "3 free\n"
    path.write_text("something else")
    with pytest.raises(InvalidState, match="something else"):
        nbws.LockFile(path, patience_s=0.2).acquire()


def test_after_a_writer_that_died_the_next_one_waits(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_text("7 held\n")
    lock = nbws.LockFile(path, settle_s=0.3)
    start = time.monotonic()
    assert lock.acquire() == 8
    assert time.monotonic() - start >= 0.3
    lock.release()


def test_an_epoch_source_is_held_while_a_verb_writes(tmp_path: Path) -> None:
    calls: list[str] = []

    class Lease:
        def acquire(self) -> int:
            calls.append("acquire")
            return len(calls)

        def release(self) -> None:
            calls.append("release")

    assert isinstance(Lease(), nbws.EpochSource)
    work = make_tree({b"f": File.of(b"1")}, tmp_path / "work")
    workspace = nbws.Workspace.open("memory:///lease", create=True, exclusive=Lease())
    workspace.save(work)
    workspace.restore(tmp_path / "other")
    workspace.snapshots()
    assert calls == ["acquire", "release"] * 3
    with pytest.raises(NotFound):
        workspace.dismiss("0" * 32)
    assert calls == ["acquire", "release"] * 4


def test_the_doctor_on_the_command_line(tmp_path: Path) -> None:
    url = (tmp_path / "objects").as_uri()
    command = [str(Path(sys.executable).with_name("nbws")), "doctor", url]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "8 of 8 rounds had one winner" in said
    report = json.loads(subprocess.run([*command, "--json"], capture_output=True, text=True, check=True).stdout)
    assert report["multi_writer"] is True
    assert report["findings"] == []
    assert not [path for path in (tmp_path / "objects").rglob("*") if path.is_file()]
    refused = subprocess.run([*command[:2], "nonsense", "--json"], capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert json.loads(refused.stdout)["error"]["kind"] == "InvalidInput"


def test_what_was_measured_at_creation_is_kept(tmp_path: Path) -> None:
    nbws.Workspace.open((tmp_path / "objects").as_uri(), create=True)
    probe = json.loads((tmp_path / "objects" / "format").read_bytes())["probe"]
    assert probe["multi_writer"] is True
    assert (probe["rounds"], probe["most_winners"]) == (8, 1)
    assert probe["client"] == f"nbws {nbws.__version__}"
