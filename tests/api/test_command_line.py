"""The command `nbws`: exit codes, one JSON object on stdout, and what people see."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from nbws.cli.main import cli
from nbws.testing.trees import File, compare_trees, make_tree

NBWS = Path(sys.executable).with_name("nbws")


def run(*words: object, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(NBWS), *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **(env or {})},
    )


def run_json(*words: object, code: int = 0) -> dict[str, Any]:
    result = run(*words, "--json")
    assert result.returncode == code, result.stderr
    value = json.loads(result.stdout)
    assert isinstance(value, dict)
    return value


def test_save_restore_and_look(file_url: str, tree: Path, tmp_path: Path) -> None:
    saved = run_json("save", tree, file_url, "--create", "--comment", "first")
    assert saved["complete"] is True
    assert saved["requests"]["put"] > 0
    restored = run_json("restore", file_url, tmp_path / "restored")
    assert restored["snapshot"] == saved["snapshot"]
    assert compare_trees(tree, tmp_path / "restored") == []
    (snapshot,) = run_json("snapshots", file_url)["snapshots"]
    assert snapshot["comment"] == "first"
    assert run_json("rescues", file_url) == {"rescues": []}
    assert run_json("check", file_url, "--read-data")["damaged"] == []
    assert run_json("check", "--read-data", file_url)["damaged"] == []
    assert run_json("check", "--read-data=0.5", file_url)["damaged"] == []


def test_what_people_see(file_url: str, tree: Path, tmp_path: Path) -> None:
    result = run("save", tree, file_url, "--create")
    assert result.returncode == 0
    assert "Saved 12 files" in result.stdout
    assert "\x1b" not in result.stdout + result.stderr
    assert "12 files" in run("restore", file_url, tmp_path / "restored").stdout
    assert "nothing is damaged" in run("check", file_url).stdout
    assert len(run("snapshots", file_url).stdout.splitlines()) == 2
    assert run("rescues", file_url).stdout == "no rescues\n"


def test_rude_names_do_not_reach_the_terminal(file_url: str, tmp_path: Path) -> None:
    tree = make_tree({b"plain": File.of(b"x")}, tmp_path / "workspace")
    os.mkfifo(os.path.join(os.fsencode(tree), b"\x1b[2J\xff"))
    result = run("save", tree, file_url, "--create")
    assert "\x1b" not in result.stdout
    assert "\\x1b[2J\\xff" in result.stdout


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["save"], 2),
        (["save", "x", "y", "--level", "99"], 2),
        (["save", "x", "y", "--hard-bytes", "ten"], 2),
        (["nonsense"], 2),
        (["save", "DIR", "ftp://x"], 2),
        (["save", "DIR", "URL"], 3),
        (["restore", "URL", "x"], 3),
        (["snapshots", "URL"], 3),
        (["check", "URL"], 3),
        (["rescues", "URL", "dismiss"], 2),
        (["--version"], 0),
        (["save", "--help"], 0),
    ],
)
def test_exit_codes(words: list[str], code: int, file_url: str, tree: Path) -> None:
    replaced = [file_url if word == "URL" else str(tree) if word == "DIR" else word for word in words]
    result = run(*replaced)
    assert result.returncode == code, result.stderr
    if code:
        assert result.stdout == ""
        assert result.stderr.strip()
        assert "Traceback" not in result.stderr


def test_errors_as_json(file_url: str) -> None:
    error = run_json("snapshots", file_url, code=3)["error"]
    assert error["kind"] == "NotFound"
    assert run_json("save", code=2)["error"]["kind"] == "Usage"


def test_missing_snapshot_and_missing_directory(file_url: str, tree: Path, tmp_path: Path) -> None:
    run_json("save", tree, file_url, "--create")
    assert run("restore", file_url, tmp_path / "x", "--snapshot", "ffff" * 8).returncode == 3
    assert run("save", tmp_path / "nothing", file_url).returncode == 3
    assert run("rescues", file_url, "dismiss", "ffff" * 8).returncode == 3


def test_restore_refuses_a_foreign_directory(file_url: str, tree: Path, tmp_path: Path) -> None:
    run_json("save", tree, file_url, "--create")
    target = make_tree({b"mine": File.of(b"x")}, tmp_path / "foreign")
    result = run("restore", file_url, target)
    assert result.returncode == 2
    assert "--delete" in result.stderr
    assert run("restore", file_url, target, "--delete", "yes").returncode == 0
    assert not (target / "mine").exists()


def test_a_second_writer_exits_with_its_rescue(file_url: str, tree: Path, tmp_path: Path) -> None:
    run_json("save", tree, file_url, "--create")
    other = make_tree({b"other": File.of(b"x")}, tmp_path / "other")
    result = run("save", other, file_url, env={"NBWS_STATE": str(tmp_path / "other-state")})
    assert result.returncode in (4, 8)
    (rescue,) = run_json("rescues", file_url)["rescues"]
    assert rescue["snapshot"] in result.stderr
    assert run_json("rescues", file_url, "dismiss", rescue["snapshot"]) == {"dismissed": rescue["snapshot"]}


def test_damage_exits_with_7(file_url: str, tree: Path) -> None:
    run_json("save", tree, file_url, "--create")
    (pack,) = (Path(file_url.removeprefix("file://")) / "packs").iterdir()
    pack.unlink()
    result = run("check", file_url)
    assert result.returncode == 7
    assert pack.name in result.stdout + result.stderr


def test_unreadable_work_exits_with_9(file_url: str, tree: Path) -> None:
    result = run("save", tree, file_url, "--create", "--deadline", "0")
    assert result.returncode == 9, result.stdout + result.stderr


def on_terminal(words: list[str], answer: bytes = b"", env: dict[str, str] | None = None) -> tuple[int, bytes]:
    """Runs the command on a terminal of its own and returns its exit code and all output."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(env or {})
        os.execv(NBWS, ["nbws", *words])
    os.write(terminal, answer)
    output = b""
    try:
        while chunk := os.read(terminal, 65536):
            output += chunk
    except OSError:
        pass  # a terminal without a writer reads as EIO
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), output


def test_a_terminal_is_asked_before_a_repository_is_made(file_url: str, tree: Path) -> None:
    code, output = on_terminal(["save", str(tree), file_url], b"n\n")
    assert code == 130
    assert b"Make one?" in output
    code, output = on_terminal(["save", str(tree), file_url], b"y\n")
    assert code == 0
    assert b"\x1b[1m" in output
    code, output = on_terminal(["save", str(tree), file_url], env={"NO_COLOR": "1"})
    assert code == 0
    assert b"\x1b[1m" not in output


def test_every_command_takes_json() -> None:
    context = click.Context(cli)
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        assert command.name == name
        verbs = [command]
        if isinstance(command, click.Group):
            inner = click.Context(command, parent=context)
            verbs = [found for verb in command.list_commands(inner) if (found := command.get_command(inner, verb))]
            assert [verb.name for verb in verbs] == command.list_commands(inner)
        for verb in verbs:
            # The output of run is that of its program.
            assert any("--json" in parameter.opts for parameter in verb.params) or name == "run", verb.name


def test_browse_without_restoring(file_url: str, tree: Path, tmp_path: Path) -> None:
    first = run_json("save", tree, file_url, "--create")["snapshot"]
    (tree / "src/a.py").write_bytes(b"newer")
    run_json("save", tree, file_url)
    listed = run_json("ls", file_url, "src", "--snapshot", "latest~1")
    assert listed["snapshot"] == first
    assert next((entry["path"], entry["size"]) for entry in listed["entries"]) == ("src/a.py", 11)
    lines = run("ls", file_url).stdout.splitlines()
    assert any(line.startswith("lrwxrwxrwx") and line.endswith("latest -> src/a.py") for line in lines)
    assert "\x1b" not in "".join(lines)
    assert len(run_json("ls", file_url, "-R")["entries"]) == 14
    result = subprocess.run([str(NBWS), "cat", file_url, "model.bin"], capture_output=True, check=True)
    assert result.stdout == (tree / "model.bin").read_bytes()
    assert run("cat", file_url, "src/a.py", "--snapshot", first[:8]).stdout == "print('a')\n"
    assert run_json("cat", file_url, "src/a.py")["content_base64"] == "bmV3ZXI="
    found = run_json("diff", file_url, first[:8], "latest")
    assert [(item["path"], item["what"]) for item in found["changed"]] == [("src/a.py", ["content", "mtime"])]
    assert "* src/a.py  11 B -> 5 B  (content, mtime)" in run("diff", file_url, "latest~1", "latest").stdout
    (tree / "extra").write_bytes(b"12")
    assert [item["path"] for item in run_json("diff", file_url, "latest", tree)["added"]] == ["extra"]
    sums = {item["path"]: item["logical_bytes"] for item in run_json("du", file_url)["by_path"]}
    assert sums["src"] == 27
    assert run("du", file_url, "src").stdout.splitlines()[-1].split()[-4:] == ["27", "B", "3", "src"]


def test_export_and_tar(file_url: str, tree: Path, tmp_path: Path) -> None:
    run_json("save", tree, file_url, "--create")
    out = tmp_path / "out.tar"
    report = run_json("export", file_url, "-o", out)
    assert (report["complete"], report["bytes"]) == (True, out.stat().st_size)
    piped = subprocess.run([str(NBWS), "export", file_url], capture_output=True, check=True)
    assert piped.stdout == out.read_bytes()
    (tmp_path / "unpacked").mkdir(mode=0o755)
    subprocess.run(["tar", "-xpf", str(out), "--xattrs", "-C", str(tmp_path / "unpacked")], check=True)
    (tmp_path / "unpacked").chmod(tree.stat().st_mode & 0o7777)
    assert compare_trees(tree, tmp_path / "unpacked") == []
    run_json("export", file_url, code=2)
    missing = tmp_path / "missing.tar"
    run_json("export", file_url, "-o", missing, "--path", "nowhere", code=3)
    assert not missing.exists()


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["ls", "nowhere"], 3),
        (["ls", "--snapshot", "latest~9"], 3),
        (["ls", "--snapshot", "?"], 2),
        (["cat", "src"], 2),
        (["cat", "nowhere"], 3),
        (["diff", "latest", "no such thing"], 2),
        (["du", "nowhere"], 3),
    ],
)
def test_browsing_what_is_not_there(file_url: str, tree: Path, words: list[str], code: int) -> None:
    run_json("save", tree, file_url, "--create")
    result = run(words[0], file_url, *words[1:])
    assert (result.returncode, result.stdout) == (code, ""), result.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str) -> None:
    assert "_nbws_completion" in run(env={"_NBWS_COMPLETE": f"{shell}_source"}).stdout


def test_completion_offers_commands() -> None:
    asked = {"_NBWS_COMPLETE": "bash_complete", "COMP_WORDS": "nbws re", "COMP_CWORD": "1"}
    assert run(env=asked).stdout.split() == ["plain,restore", "plain,rescues"]


def test_a_preview_is_printed(file_url: str, tree: Path) -> None:
    run_json("save", tree, file_url, "--create")
    (tree / "new").write_bytes(b"new" * 1_000)
    exact = run_json("preview", tree, file_url)
    assert (exact["files_new"], exact["bytes_new"], exact["exact"]) == (1, 3_000, True)
    assert run_json("preview", tree, file_url, "--estimate")["exact"] is False
    text = run("preview", tree, file_url)
    assert text.returncode == 0
    assert "1 new" in text.stdout
    assert "2 PUT" in text.stdout
