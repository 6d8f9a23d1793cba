"""Bad input gets a clear error of the right kind and loses nothing."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbws
import pytest
from nbws import errors
from nbws.testing.trees import File, compare_trees, make_tree

if TYPE_CHECKING:
    from collections.abc import Callable


def objects(url: str, kind: str) -> list[Path]:
    return sorted((Path(url.removeprefix("file://")) / kind).iterdir())


def test_a_typo_makes_no_repository(file_url: str, tree: Path, tmp_path: Path) -> None:
    with pytest.raises(errors.NotFound) as caught:
        nbws.Workspace.open(file_url)
    assert isinstance(caught.value, FileNotFoundError)
    assert "create" in str(caught.value)
    assert not (tmp_path / "objects").exists()


@pytest.mark.parametrize("url", ["ftp://host/x", "nonsense", "", "file://host/x", "s3://", "/plain/path"])
def test_urls_that_cannot_be_used(url: str) -> None:
    with pytest.raises(errors.InvalidInput):
        nbws.Workspace.open(url, create=True)


def test_a_url_with_a_password_is_refused_and_not_shown() -> None:
    with pytest.raises(errors.InvalidInput) as caught:
        nbws.Workspace.open("s3://user:hunter2@bucket/x", create=True)
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in repr(caught.value)


def test_an_object_that_is_no_url_is_refused() -> None:
    with pytest.raises(errors.Unsupported, match="URL"):
        nbws.Workspace.open(Path("x"))  # type: ignore[arg-type]


def test_missing_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "only-half")
    with pytest.raises(errors.Denied) as caught:
        nbws.Workspace.open("s3://bucket/x", store={"region": "us-east-1"})
    assert isinstance(caught.value, PermissionError)


def test_an_unreachable_store(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    options = {
        "endpoint": f"http://127.0.0.1:{port}",
        "access_key_id": "key",
        "secret_access_key": "secret",
        "region": "us-east-1",
        "client_options.allow_http": "true",
    }
    begin = time.monotonic()
    with pytest.raises(errors.Unavailable) as caught:
        nbws.Workspace.open("s3://bucket/x", store=options)
    assert caught.value.retryable
    assert isinstance(caught.value, ConnectionError)
    assert "secret" not in str(caught.value)
    assert time.monotonic() - begin < 60


def test_the_workspace_is_missing_or_a_file(file_url: str, tmp_path: Path) -> None:
    workspace = nbws.Workspace.open(file_url, create=True)
    with pytest.raises(errors.NotFound):
        workspace.save(tmp_path / "nothing")
    (tmp_path / "file").write_text("x")
    with pytest.raises(errors.InvalidInput):
        workspace.save(tmp_path / "file")
    assert workspace.snapshots() == []


def test_the_target_is_a_file(file_url: str, tree: Path, tmp_path: Path) -> None:
    workspace = nbws.Workspace.open(file_url, create=True)
    workspace.save(tree)
    (tmp_path / "file").write_text("precious")
    with pytest.raises(errors.InvalidInput):
        workspace.restore(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "precious"


def test_a_repository_without_snapshots_restores_nothing(file_url: str, tmp_path: Path) -> None:
    workspace = nbws.Workspace.open(file_url, create=True)
    with pytest.raises(errors.NotFound):
        workspace.restore(tmp_path / "x")
    assert not (tmp_path / "x").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_target(file_url: str, tree: Path, tmp_path: Path) -> None:
    workspace = nbws.Workspace.open(file_url, create=True)
    workspace.save(tree)
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(errors.LocalIo):
        workspace.restore(tmp_path / "closed" / "x")


def test_a_file_size_limit_stands_in_for_a_full_disk(file_url: str, tree: Path, tmp_path: Path) -> None:
    nbws.Workspace.open(file_url, create=True).save(tree)
    code = (
        "import resource, signal, sys, nbws\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "workspace = nbws.Workspace.open(sys.argv[1])\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try:\n"
        "    workspace.restore(sys.argv[2])\n"
        "except nbws.NbwsError as error:\n"
        "    print(error.kind)\n"
    )
    target = tmp_path / "restored"
    result = subprocess.run(
        [sys.executable, "-c", code, file_url, str(target)], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "LocalIo", result.stderr
    nbws.Workspace.open(file_url).restore(target)
    assert compare_trees(tree, target) == []


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"version": 7}, errors.Unsupported),
        ({"features": ["time-travel"]}, errors.Unsupported),
    ],
)
def test_a_newer_format_is_refused_and_untouched(
    file_url: str, tree: Path, change: dict[str, Any], kind: type[errors.NbwsError]
) -> None:
    nbws.Workspace.open(file_url, create=True).save(tree)
    path = Path(file_url.removeprefix("file://")) / "format"
    content = json.loads(path.read_text()) | change
    path.chmod(0o644)
    path.write_text(json.dumps(content, sort_keys=True, separators=(",", ":")))
    with pytest.raises(kind):
        nbws.Workspace.open(file_url, create=True).save(tree)
    assert json.loads(path.read_text()) == content


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 0x40
    path.chmod(0o644)
    path.write_bytes(content)


def _truncate(path: Path) -> None:
    path.chmod(0o644)
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize("harm", [_flip, _truncate, Path.unlink])
def test_a_damaged_pack_is_named_and_the_rest_restored(
    file_url: str, tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    tree = make_tree({b"old": File.of(os.urandom(3_000_000))}, tmp_path / "workspace")
    workspace = nbws.Workspace.open(file_url, create=True)
    workspace.save(tree)
    (hit,) = objects(file_url, "packs")
    (tree / "new").write_bytes(os.urandom(100_000))
    workspace.save(tree)
    harm(hit)

    fresh = nbws.Workspace.open(file_url, state_dir=tmp_path / "fresh")
    report = fresh.check(read_data=True)
    assert not report.ok
    assert any(hit.name in damage.object for damage in report.damaged)
    assert any(file.path == "old" for damage in report.damaged for file in damage.files)

    restored = fresh.restore(tmp_path / "restored")
    assert not restored.complete
    (skipped,) = restored.skipped
    assert skipped.path == "old"
    assert hit.name in skipped.reason
    assert (tmp_path / "restored" / "new").read_bytes() == (tree / "new").read_bytes()
    assert not (tmp_path / "restored" / "old").exists()
    # The half-restored tree never becomes the head.
    with pytest.raises(errors.InvalidState):
        fresh.save(tmp_path / "restored")


def test_a_lost_newest_pack_is_named(file_url: str, tree: Path, tmp_path: Path) -> None:
    nbws.Workspace.open(file_url, create=True).save(tree)
    (hit,) = objects(file_url, "packs")
    hit.unlink()
    fresh = nbws.Workspace.open(file_url, state_dir=tmp_path / "fresh")
    report = fresh.check()
    assert not report.ok
    assert [hit.name in damage.object for damage in report.damaged].count(True) == 1
    with pytest.raises(errors.Corrupt) as caught:
        fresh.restore(tmp_path / "restored")
    assert hit.name in str(caught.value)


def test_a_damaged_record_is_corrupt(file_url: str, tree: Path, tmp_path: Path) -> None:
    nbws.Workspace.open(file_url, create=True).save(tree)
    _flip(objects(file_url, "log")[-1])
    with pytest.raises(errors.Corrupt):
        nbws.Workspace.open(file_url, state_dir=tmp_path / "fresh").restore(tmp_path / "restored")


def test_a_rolled_back_log_is_noticed(file_url: str, tree: Path, tmp_path: Path) -> None:
    seq = nbws.Workspace.open(file_url, create=True).save(tree).seq
    behind = nbws.Workspace.open(file_url, floor=seq + 5, state_dir=tmp_path / "fresh")
    with pytest.raises(errors.RollbackDetected):
        behind.restore(tmp_path / "restored")


def test_paths_longer_than_path_max(file_url: str, tmp_path: Path) -> None:
    top = tmp_path / "workspace"
    top.mkdir()
    descriptor = os.open(top, os.O_RDONLY)
    for _ in range(30):
        os.mkdir("d" * 200, dir_fd=descriptor)
        below = os.open("d" * 200, os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    leaf = os.open("leaf", os.O_WRONLY | os.O_CREAT, dir_fd=descriptor)
    os.write(leaf, b"deep")
    os.close(leaf)
    os.close(descriptor)

    workspace = nbws.Workspace.open(file_url, create=True)
    saved = workspace.save(top)
    assert saved.files_total == 1
    assert saved.complete
    restored = workspace.restore(tmp_path / "restored")
    assert restored.files_written == 1
    again = workspace.save(tmp_path / "restored")
    assert again.files_total == 1
    for name in ("workspace", "restored"):
        subprocess.run(["rm", "-rf", str(tmp_path / name)], check=True)


@pytest.mark.parametrize(
    "arguments",
    [
        {"level": 99},
        {"level": "best"},
        {"hard_bytes": "ten"},
        {"hard_bytes": -1},
        {"deadline": -3.0},
        {"comment": "x" * 2_000},
        {"exclude": "*.log"},
        {"progress": "yes"},
    ],
)
def test_options_that_make_no_sense(file_url: str, tree: Path, arguments: dict[str, Any]) -> None:
    workspace = nbws.Workspace.open(file_url, create=True)
    with pytest.raises(errors.InvalidInput):
        workspace.save(tree, **arguments)
    assert workspace.snapshots() == []


def test_restore_options_that_make_no_sense(file_url: str, tree: Path, tmp_path: Path) -> None:
    workspace = nbws.Workspace.open(file_url, create=True)
    workspace.save(tree)
    bad: list[dict[str, Any]] = [
        {"delete": "maybe"},
        {"paths": "src"},
        {"snapshot": "not a name"},
    ]
    for arguments in bad:
        with pytest.raises(errors.InvalidInput):
            workspace.restore(tmp_path / "x", **arguments)
    for path in ("absent", "../up", "/absolute"):
        with pytest.raises((errors.NotFound, errors.InvalidInput)):
            workspace.restore(tmp_path / "x", paths=[path])
    assert not (tmp_path / "x").exists() or list((tmp_path / "x").iterdir()) == []


def test_a_quota_is_a_quota(file_url: str, tree: Path) -> None:
    workspace = nbws.Workspace.open(file_url, create=True)
    unfit: Any = {"hard_bytes": 1}
    with pytest.raises(errors.InvalidInput, match=r"nbws\.Quota"):
        workspace.save(tree, quota=unfit)
    with pytest.raises(errors.InvalidInput, match="not both"):
        workspace.save(tree, quota=nbws.Quota(hard_bytes=1), hard_bytes=1)
    assert list(workspace.snapshots()) == []


def test_ctrl_c_stops_cleanly_and_the_next_save_works(file_url: str, tmp_path: Path) -> None:
    tree = tmp_path / "workspace"
    tree.mkdir()
    for number in range(12):
        (tree / f"{number}.bin").write_bytes(os.urandom(8 << 20))
    code = (
        "import sys, nbws\n"
        "workspace = nbws.Workspace.open(sys.argv[1], create=True)\n"
        "print('ready', flush=True)\n"
        "try:\n"
        "    workspace.save(sys.argv[2], limit_rate='4MiB', progress=lambda p: print('at', flush=True))\n"
        "except KeyboardInterrupt:\n"
        "    print('stopped', len(workspace.snapshots()))\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, file_url, str(tree)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    child.stdout.readline()
    time.sleep(0.5)
    child.send_signal(signal.SIGINT)
    begin = time.monotonic()
    out, err = child.communicate(timeout=60)
    assert time.monotonic() - begin < 5  # the upload alone would take 24 s at this rate
    assert "stopped 0" in out, err
    assert child.returncode == 0
    workspace = nbws.Workspace.open(file_url)
    assert workspace.save(tree).complete
    workspace.restore(tmp_path / "restored")
    assert compare_trees(tree, tmp_path / "restored") == []
