"""What cleaning never does: follow a link, enter a mount, take what is open, protected, young, or not what its name says."""

from __future__ import annotations

import mmap
import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from junk import HASH, OWN, CleanWorkspace, core, covered, listing, swap
from nbws import cleaning
from nbws.errors import InvalidInput, InvalidState, LocalIo, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nbws.cleaning import CleaningPlan

DAY_S = 86_400.0


def reasons(plan: CleaningPlan) -> dict[str, str]:
    return {item.path: item.reason for item in plan.skipped}


# ---- not what its name says


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        (".cache/pip/thesis.tex", b"x", "does not belong there"),
        ("src/__pycache__/notes.txt", b"x", "does not belong there: notes.txt"),
        (".cache/huggingface/hub/models--a--b/train.py", b"x", "does not belong there"),
        (".npm/_cacache/mine/x", b"x", "does not belong there"),
        (".triton/cache/my-kernels/k.py", b"x", "does not belong there: my-kernels"),
        (".local/share/Trash/kept/x", b"x", "does not belong there"),
        ("core", b"the core of the argument", "is not a core dump"),
        ("core.1", core(kind=2), "is not a core dump"),
        ("core.2", b"", "is not a core dump"),
        (".cache/torch/hub/checkpoints/mine-20260101.pth", b"not tensors", "is not a file of tensors"),
        (".a.txt.swp", b"x", "is not a swap file"),
        (".a.txt.swp", swap(unsaved=True), "text that was not saved"),
        (".ipynb_checkpoints/gone-checkpoint.ipynb", b"{}", "last copy of gone.ipynb"),
        (".ipython/Crash_report_mine.txt", b"dear diary", "does not say"),
    ],
)
def test_what_is_not_proven_stays(workspace: CleanWorkspace, name: str, content: bytes, reason: str) -> None:
    path = workspace.write(name, content)
    plan = workspace.plan()
    assert plan.paths == ()
    assert [why for why in reasons(plan).values() if reason in why]
    plan.apply()
    assert path.read_bytes() == content


def test_a_cache_with_something_else_in_it_stays_whole(workspace: CleanWorkspace) -> None:
    workspace.fill("pip", own=False)
    workspace.write(".cache/pip/thesis.tex")
    plan = workspace.plan()
    assert plan.paths == ()
    assert "does not belong there: thesis.tex" in reasons(plan)[".cache/pip"]


def test_a_swap_file_of_a_running_editor_stays(workspace: CleanWorkspace) -> None:
    here = socket.gethostname().encode()
    workspace.write(".a.swp", swap(pid=os.getpid(), host=here))
    workspace.write(".b.swp", swap(pid=4_194_303, host=here))
    plan = workspace.plan()
    assert plan.paths == (".b.swp",)
    assert "in use" in reasons(plan)[".a.swp"]


# ---- links and mounts


def test_links_are_never_followed(workspace: CleanWorkspace, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    for name in ("pip/http/a", "__pycache__/a.pyc"):
        (outside / name).parent.mkdir(parents=True)
        (outside / name).write_bytes(b"precious")
    (workspace.path / ".cache").mkdir()
    (workspace.path / ".cache/pip").symlink_to(outside / "pip")
    (workspace.path / "linked").symlink_to(outside)
    workspace.fill("uv", "huggingface")
    (workspace.path / ".cache/uv/archive-v0/link").symlink_to(outside / "pip")
    (workspace.path / ".cache/uv/archive-v0/file").symlink_to(outside / "pip/http/a")
    before = listing(outside)
    plan = workspace.plan()
    assert set(plan.paths) == {".cache/uv", ".cache/huggingface/hub/models--org--m"}
    assert "symbolic link" in reasons(plan)[".cache/pip"]
    assert plan.apply().complete
    assert listing(outside) == before
    assert (workspace.path / ".cache/pip").is_symlink()


def test_a_link_to_the_workspace_is_resolved_first(workspace: CleanWorkspace, tmp_path: Path) -> None:
    workspace.fill("pip", own=False)
    link = tmp_path / "link"
    link.symlink_to(workspace.path)
    assert cleaning.plan(link, environment={}).directory == str(workspace.path)


@contextmanager
def mounted(source: str, target: Path, *options: str) -> Iterator[None]:
    target.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(["mount", *options, source, str(target)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"can't mount here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", str(target)], check=True)


def test_mounts_are_not_entered(workspace: CleanWorkspace, tmp_path: Path) -> None:
    other = tmp_path / "other"
    (other / "__pycache__").mkdir(parents=True)
    (other / "__pycache__/a.pyc").write_bytes(b"x")
    workspace.fill("npm", own=False)
    volume = workspace.path / "volume"
    with (
        mounted("none", volume, "-t", "tmpfs", "-o", "size=1m"),
        mounted(str(other), workspace.path / ".npm/_cacache/tmp/bound", "--bind"),
    ):
        (volume / "__pycache__").mkdir()
        (volume / "__pycache__/a.pyc").write_bytes(b"x")
        plan = workspace.plan()
        assert "mounted" in reasons(plan)["volume"]
        assert "mounted" in reasons(plan)[".npm/_cacache/tmp/bound"]
        assert not any(path.startswith("volume") or "bound" in path for path in plan.paths)
        plan.apply()
        assert (volume / "__pycache__/a.pyc").exists()
        assert (other / "__pycache__/a.pyc").exists()
        assert not (workspace.path / ".npm/_cacache/content-v2").exists()


def test_something_mounted_since_the_plan_is_not_entered(workspace: CleanWorkspace, tmp_path: Path) -> None:
    workspace.fill("npm", own=False)
    other = tmp_path / "other"
    (other / "content-v2").mkdir(parents=True)
    (other / "content-v2/x").write_bytes(b"precious")
    plan = workspace.plan()
    with mounted(str(other), workspace.path / ".npm/_cacache", "--bind"):
        report = plan.apply()
        assert not report.complete
        assert report.files == 0
    assert (other / "content-v2/x").exists()


# ---- open files


def test_an_open_file_stays(workspace: CleanWorkspace) -> None:
    workspace.fill("npm", own=False)
    busy = workspace.path / ".npm/_cacache/index-v5/ab/cd"
    with busy.open("rb"):
        plan = workspace.plan()
        assert plan.paths == (".npm/_cacache/content-v2",)
        assert f"process {os.getpid()}" in reasons(plan)[".npm/_cacache/index-v5/ab/cd"]
        assert plan.apply().complete
    assert busy.exists()
    assert workspace.plan().paths == (".npm/_cacache",)


def test_a_mapped_file_stays_and_keeps_what_depends_on_it(workspace: CleanWorkspace) -> None:
    workspace.fill("huggingface", own=False)
    weights = workspace.path / ".cache/huggingface/hub/models--org--m/blobs/ab12"
    with weights.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    with mapped:
        plan = workspace.plan()
        assert plan.paths == ()
        assert "stays whole" in reasons(plan)[".cache/huggingface/hub/models--org--m"]
        assert any("in use" in item.reason for item in plan.skipped)
        plan.apply()
        assert weights.exists()
    assert workspace.plan().paths == (".cache/huggingface/hub/models--org--m",)


def test_a_file_that_another_process_has_open_stays(workspace: CleanWorkspace) -> None:
    workspace.fill("npm", own=False)
    busy = workspace.path / ".npm/_cacache/index-v5/ab/cd"
    program = f"import sys; file = open({str(busy)!r}); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdin is not None
        child.stdout.readline()
        plan = workspace.plan()
        assert f"process {child.pid}" in reasons(plan)[".npm/_cacache/index-v5/ab/cd"]
        child.stdin.close()
    assert workspace.plan().paths == (".npm/_cacache",)


def test_a_file_opened_since_the_plan_stays(workspace: CleanWorkspace) -> None:
    workspace.fill("npm", own=False)
    plan = workspace.plan()
    busy = workspace.path / ".npm/_cacache/index-v5/ab/cd"
    with busy.open("rb"):
        report = plan.apply()
    assert busy.exists()
    assert not report.complete
    assert [item.path for item in report.left] == [".npm/_cacache/index-v5/ab/cd"]
    assert "in use" in report.left[0].reason


def test_a_directory_in_which_a_process_stands_stays(workspace: CleanWorkspace) -> None:
    workspace.fill("npm", own=False)
    place = workspace.path / ".npm/_cacache/index-v5"
    with subprocess.Popen(["sleep", "60"], cwd=place) as child:
        try:
            workspace.plan().apply()
            assert place.exists()
            assert os.listdir(place) == []
        finally:
            child.kill()


def test_another_name_of_an_open_file_can_go(workspace: CleanWorkspace) -> None:
    """Environments share their files with the caches of uv and conda: a running kernel must not keep all of these."""
    workspace.fill("uv", own=False)
    shared = workspace.path / ".cache/uv/archive-v0/x1/numpy/core.py"
    installed = workspace.path / "venv/core.py"
    installed.parent.mkdir()
    os.link(shared, installed)
    with installed.open("rb") as file:
        plan = workspace.plan()
        assert plan.paths == (".cache/uv",)
        assert plan.apply().complete
        assert file.read() == b"1"
    assert installed.read_bytes() == b"1"
    assert not shared.exists()


# ---- age and protection


def test_what_was_used_recently_stays(workspace: CleanWorkspace) -> None:
    workspace.fill("npm", "pycache", own=False, age_s=8 * DAY_S)
    workspace.write(".npm/_cacache/tmp/new")
    plan = workspace.plan(min_age="7d")
    assert plan.paths == (".npm/_cacache/content-v2", ".npm/_cacache/index-v5", "src/__pycache__")
    assert reasons(plan)[".npm/_cacache"] == "1 entry was used too recently"
    assert plan.min_age_s == 7 * DAY_S
    assert plan.apply().complete
    assert workspace.plan(min_age="7d").paths == ()
    assert workspace.plan().paths == (".npm/_cacache",)


def test_what_was_read_since_it_was_written_counts_as_used(workspace: CleanWorkspace) -> None:
    workspace.fill("npm", own=False, age_s=8 * DAY_S)
    read = workspace.path / ".npm/_cacache/index-v5/ab/cd"
    soon = time.time() + 5
    os.utime(read, (soon, read.stat().st_mtime))
    assert workspace.plan(min_age="7d").paths == (".npm/_cacache/content-v2",)


def test_trash_is_as_old_as_its_move(workspace: CleanWorkspace) -> None:
    workspace.fill("trash", own=False, age_s=400 * DAY_S)
    assert workspace.plan(min_age="7d").paths == ()
    assert workspace.plan().paths == (".local/share/Trash",)


def test_what_depends_on_each_other_is_as_young_as_its_youngest_part(workspace: CleanWorkspace) -> None:
    workspace.fill("huggingface", own=False, age_s=8 * DAY_S)
    assert workspace.plan(min_age="7d").paths == (".cache/huggingface/hub/models--org--m",)
    workspace.write(".cache/huggingface/hub/models--org--m/refs/main")
    plan = workspace.plan(min_age="7d")
    assert plan.paths == ()
    assert [item.reason for item in plan.skipped] == [
        "1 entry was used too recently",
        "stays whole: its parts depend on each other",
    ]


def test_a_file_used_since_the_plan_stays(workspace: CleanWorkspace) -> None:
    workspace.fill("npm", own=False, age_s=8 * DAY_S)
    plan = workspace.plan(min_age="7d")
    read = workspace.path / ".npm/_cacache/index-v5/ab/cd"
    soon = time.time() + 5
    os.utime(read, ns=(round(soon * 1e9), read.stat().st_mtime_ns))
    report = plan.apply()
    assert [item.reason for item in report.left] == ["was used since the plan"]
    assert read.exists()


@pytest.mark.parametrize("text", ['protect = ["keep/", "*.gguf"]\n', '[clean]\nprotect = ["keep/", "*.gguf"]\n'])
def test_nbws_toml_protects(workspace: CleanWorkspace, text: str) -> None:
    workspace.fill("npm", "huggingface", own=False)
    workspace.write("nbws.toml", text.encode())
    workspace.write("keep/__pycache__/a.pyc")
    workspace.write(".npm/_cacache/tmp/model.gguf")
    plan = workspace.plan()
    whys = {item.path: item.reason for item in plan.protected}
    assert whys["keep"] == whys[".npm/_cacache/tmp/model.gguf"] == "protected by nbws.toml"
    plan.apply()
    assert (workspace.path / "keep/__pycache__/a.pyc").exists()
    assert (workspace.path / ".npm/_cacache/tmp/model.gguf").exists()
    assert not (workspace.path / ".npm/_cacache/content-v2").exists()


@pytest.mark.parametrize(
    "text", [b"protect = 3\n", b"protect = ['!a']\n", b"[other]\n", b"[[", b"\xff", b"protect = ['']\n"]
)
def test_nothing_is_cleaned_while_it_is_not_known_what_is_protected(workspace: CleanWorkspace, text: bytes) -> None:
    workspace.write("nbws.toml", text)
    with pytest.raises(InvalidInput):
        workspace.plan()


def test_the_caller_protects(workspace: CleanWorkspace) -> None:
    workspace.fill("npm", "pip", own=False)
    plan = workspace.plan(protect=["/.cache/", "index-v5"])
    assert plan.paths == (".npm/_cacache/content-v2",)
    assert {item.reason for item in plan.protected} == {"protected by the caller"}


def test_history_of_versions_is_not_searched(workspace: CleanWorkspace) -> None:
    workspace.write(".git/refs/__pycache__/a.pyc")
    workspace.write(".git/core", core())
    assert workspace.plan().paths == ()


# ---- environment


def test_variables_count_only_where_they_lead_inside(workspace: CleanWorkspace, tmp_path: Path) -> None:
    workspace.fill("pip", own=False)
    (workspace.path / "caches").mkdir()
    (workspace.path / ".cache/pip").rename(workspace.path / "caches/of pip *")
    outside = tmp_path / "outside"
    (outside / "models--a--b/blobs").mkdir(parents=True)
    environment = {
        "PIP_CACHE_DIR": str(workspace.path / "caches/of pip *"),
        "HF_HUB_CACHE": str(outside),
        "UV_CACHE_DIR": "relative",
        "GOCACHE": str(workspace.path),
    }
    plan = workspace.plan(environment=environment)
    assert plan.paths == ("caches/of pip *",)
    assert plan.apply().complete
    assert (outside / "models--a--b/blobs").exists()


def test_a_variable_that_leads_through_a_link_is_resolved(workspace: CleanWorkspace, tmp_path: Path) -> None:
    real = tmp_path / "real" / "http"
    real.mkdir(parents=True)
    (real / "x").write_bytes(b"x")
    (workspace.path / "link").symlink_to(tmp_path / "real")
    assert workspace.plan(environment={"PIP_CACHE_DIR": str(workspace.path / "link")}).paths == ()
    assert (real / "x").exists()


def test_a_variable_does_not_make_a_cache_of_somebodys_work(workspace: CleanWorkspace) -> None:
    workspace.fill("pip")
    plan = workspace.plan(
        environment={"PIP_CACHE_DIR": str(workspace.path / "src"), "XDG_CACHE_HOME": str(workspace.path)}
    )
    assert not any(path.startswith("src") for path in plan.paths)


def test_homes_inside_count_as_well(workspace: CleanWorkspace) -> None:
    workspace.write("people/ann/.npm/_cacache/content-v2/x")
    workspace.write("people/ann/.ssh/__pycache__/x.pyc")
    assert workspace.plan(environment={}).paths == ("people/ann/.ssh/__pycache__",)
    plan = workspace.plan(environment={"HOME": str(workspace.path / "people/ann")})
    assert plan.paths == ("people/ann/.npm/_cacache",)
    assert "people/ann/.ssh" in {item.path for item in plan.protected}


# ---- races between plan and apply


def test_an_entry_replaced_by_a_link_since_the_plan(workspace: CleanWorkspace, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "x").write_bytes(b"precious")
    workspace.fill("npm", "pycache", "pip", "core-dumps", own=False)
    plan = workspace.plan()
    cache, file = workspace.path / ".npm/_cacache", workspace.path / "src/__pycache__/a.cpython-311.pyc"
    for path, target in ((cache, outside), (workspace.path / ".cache", outside), (workspace.path / "run", outside)):
        path.rename(path.with_name(f"moved-{path.name}"))
        path.symlink_to(target)
    file.unlink()
    file.symlink_to(outside / "x")
    before = listing(outside)
    report = plan.apply()
    assert listing(outside) == before
    assert not report.complete
    assert {item.path for item in report.left} == {
        ".npm/_cacache",
        ".cache/pip",
        "run/core",
        "src/__pycache__/a.cpython-311.pyc",
    }
    assert cache.is_symlink()
    assert file.is_symlink()


def test_files_that_came_or_changed_since_the_plan_stay(workspace: CleanWorkspace) -> None:
    workspace.fill("npm", own=False)
    plan = workspace.plan()
    came = workspace.write(".npm/_cacache/content-v2/sha512/new")
    changed = workspace.write(".npm/_cacache/index-v5/ab/cd", b"another content")
    report = plan.apply()
    assert came.read_bytes() == b"x"
    assert changed.read_bytes() == b"another content"
    assert {item.path for item in report.left} == {".npm/_cacache/content-v2/sha512", ".npm/_cacache/index-v5/ab/cd"}
    assert not (workspace.path / ".npm/_cacache/content-v2/sha512/ab").exists()


def test_another_directory_of_the_same_name_stays(workspace: CleanWorkspace) -> None:
    workspace.fill("npm", own=False)
    plan = workspace.plan()
    (workspace.path / ".npm/_cacache").rename(workspace.path / "kept")
    workspace.fill("npm", own=False)
    report = plan.apply()
    assert report.files == 0
    assert [item.path for item in report.left] == [".npm/_cacache"]
    assert (workspace.path / ".npm/_cacache/index-v5/ab/cd").exists()


def test_what_went_since_the_plan_is_no_failure(workspace: CleanWorkspace) -> None:
    workspace.fill("npm", "pip", own=False)
    plan = workspace.plan()
    (workspace.path / ".npm/_cacache/index-v5/ab/cd").unlink()
    (workspace.path / ".cache").rename(workspace.path / "elsewhere")
    report = plan.apply()
    assert report.complete
    assert report.files == 1
    assert not (workspace.path / ".npm/_cacache").exists()


# ---- input


def test_directories_that_can_not_be_cleaned(workspace: CleanWorkspace, tmp_path: Path) -> None:
    file = workspace.write("file")
    with pytest.raises(InvalidInput, match="not a directory"):
        cleaning.plan(file)
    with pytest.raises(InvalidInput, match="whole file system"):
        cleaning.plan("/")
    with pytest.raises(NotFound):
        cleaning.plan(tmp_path / "missing")


def test_directories_that_can_not_be_read(workspace: CleanWorkspace, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace.fill("npm", "pycache", own=False)
    real, hidden = os.scandir, (workspace.path / ".npm/_cacache").stat().st_ino

    def scandir(directory: int) -> object:
        if os.fstat(directory).st_ino == hidden:
            raise PermissionError(13, "Permission denied")
        return real(directory)

    monkeypatch.setattr(os, "scandir", scandir)
    plan = workspace.plan()
    assert plan.paths == ("src/__pycache__",)
    assert reasons(plan) == {".npm/_cacache": "can't be read: Permission denied"}
    hidden = workspace.path.stat().st_ino
    with pytest.raises(LocalIo, match="Permission denied"):
        workspace.plan()


@pytest.mark.parametrize(
    "options",
    [
        {"only": ["pypi"]},
        {"categories": ["rubbish"]},
        {"only": "pip"},
        {"protect": ["!a"]},
        {"protect": "a"},
        {"protect": [3]},
        {"min_age": "soon"},
        {"min_age": -1},
    ],
)
def test_options_that_mean_nothing(workspace: CleanWorkspace, options: dict[str, object]) -> None:
    with pytest.raises(InvalidInput):
        workspace.plan(**options)


def test_a_plan_belongs_to_the_process_that_made_it(workspace: CleanWorkspace) -> None:
    import pickle

    workspace.fill("npm", own=False)
    plan = workspace.plan()
    again = pickle.loads(pickle.dumps(plan))
    assert again == plan
    with pytest.raises(InvalidState):
        again.apply()


def test_odd_names_and_odd_kinds(workspace: CleanWorkspace) -> None:
    workspace.fill("npm", own=False)
    cache = os.fsencode(workspace.path / ".npm/_cacache/tmp")
    os.makedirs(cache + b"/\xff\xfe\n\x1b[31m")
    for name in (b"/\xff\xfe\n\x1b[31m/\xfd", b"/" + b"x" * 255, b"/-rf *"):
        with open(cache + name, "wb") as file:
            file.write(b"x")
    os.mkfifo(cache + b"/pipe")
    plan = workspace.plan()
    assert "neither a file nor a link" in reasons(plan)[".npm/_cacache/tmp/pipe"]
    assert plan.apply().complete
    assert os.listdir(cache) == [b"pipe"]
    assert not (workspace.path / ".npm/_cacache/content-v2").exists()


def test_read_only_directories_can_go(workspace: CleanWorkspace) -> None:
    """Go makes its modules so; whether this process is root or not."""
    workspace.fill("go-modules", own=False)
    folder = workspace.path / "go/pkg/mod/golang.org/x/sys"
    folder.chmod(0o555)
    code = f"""
import os, sys
from nbws import cleaning
from nbws.catalogue import cleanable
cleanable.load()  # the interpreter may lie where only root can read
if os.geteuid() == 0:
    for path, folders, files in os.walk({str(workspace.path)!r}):
        for name in (path, *(path + "/" + file for file in files)):
            os.lchown(name, 65534, 65534)
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
plan = cleaning.plan({str(workspace.path)!r}, environment={{}})
report = plan.apply()
print(report, plan.unseen_processes)
assert plan.unseen_processes or {os.geteuid()}  # root's processes can't be asked by others
sys.exit(0 if report.complete else 1)
"""
    for above in workspace.path.parents:
        if above.stat().st_uid == os.geteuid() and above != Path("/"):
            above.chmod(above.stat().st_mode | 0o055)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not (workspace.path / "go/pkg/mod").exists()


def test_deep_trees_end_somewhere(workspace: CleanWorkspace) -> None:
    deep = workspace.path / ".npm/_cacache/tmp"
    deep.mkdir(parents=True)
    (workspace.path / ".npm/_cacache/index-v5").mkdir()
    directory = os.open(deep, os.O_RDONLY)
    for _ in range(300):
        os.mkdir("d", dir_fd=directory)
        below = os.open("d", os.O_RDONLY, dir_fd=directory)
        os.close(directory)
        directory = below
    os.close(directory)
    plan = workspace.plan()
    assert any("lies deeper" in item.reason for item in plan.skipped)
    assert plan.apply().complete
    assert not (workspace.path / ".npm/_cacache/index-v5").exists()


def test_only_planned_paths_change(workspace: CleanWorkspace) -> None:
    workspace.fill()
    workspace.write(f".triton/cache/{HASH}/lock")
    before = workspace.listing()
    plan = workspace.plan()
    workspace.plan().apply()
    after = workspace.listing()
    assert {path: value for path, value in before.items() if not covered(path, list(plan.paths))} == after
    assert {name.encode() for name in OWN} <= after.keys()
