"""`nbws run`: exit codes, signals, processes, terminals, users, and what is saved in the end."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click
import nbws
import pytest
from runs import NBWS, Machine, Run, children_of, events, python, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

# Writes what it is told by signals, one line each, and ends with 0 on SIGTERM.
LISTENER = """
import os, signal, sys, time
names = [s for s in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}]
def note(number, frame):
    with open("WORKSPACE/heard", "a") as file:
        file.write(f"{number}\\n")
    if number == signal.SIGTERM:
        sys.exit(0)
for number in names:
    signal.signal(number, note)
open("WORKSPACE/pid", "w").write(str(os.getpid()))
open("WORKSPACE/ready", "w").close()
while True:
    time.sleep(0.05)
"""


def listener(machine: Machine) -> tuple[str, ...]:
    return python(LISTENER.replace("WORKSPACE", str(machine.workspace)))


def test_the_code_is_that_of_the_program(here: Machine, there: Machine) -> None:
    write = f"echo work > {here.workspace}/work; exit"
    for words, code, state in [
        (("sh", "-c", f"{write} 0"), 0, "STOPPED"),
        (("sh", "-c", f"{write} 3"), 3, "FAILED"),
        (("sh", "-c", "kill -KILL $$"), 137, "FAILED"),
        (("sh", "-c", "kill -USR1 $$"), 138, "FAILED"),
        (("no-such-program",), 127, "FAILED"),
        ((str(here.directory),), 126, "FAILED"),
    ]:
        assert here.run(*words).end() == code
        status = here.notebook().status()
        assert status.state == state, words
        assert (status.info is None) is (state == "STOPPED")
    there.nbws("notebook", "start", "demo")
    assert (there.workspace / "work").read_text() == "work\n"


def test_it_does_not_start_what_is_not_there(here: Machine) -> None:
    for identity, code, kind in [("nobody", 3, "NotFound"), ("a/b", 2, "InvalidInput")]:
        run = here.run("touch", here.directory / "started", identity=identity)
        assert run.end() == code
        assert kind in run.said()
    here.notebook().delete()
    assert here.run("touch", here.directory / "started").end() == 8
    assert not (here.directory / "started").exists()


def test_another_machine_runs_it(here: Machine, there: Machine) -> None:
    first = here.run(*listener(here))
    first.wait_file("ready")
    refused = there.run("true")
    assert refused.end() == 4
    assert "another" in refused.said() or "elsewhere" in refused.said()
    same = Machine(here.directory, here.store)
    assert same.run("true").end() == 4
    # Taken over, the first one ends its program and keeps its work, also when the other one has stopped before it notices.
    assert there.run("true", options=("--take-over",)).end() == 0
    (here.workspace / "late").write_text("late")
    assert first.stop() == 4
    (rescue,) = here.notebook().status().rescues
    assert rescue in first.said()
    assert here.notebook().workspace.find(rescue).read("late") == b"late"


def test_a_displaced_run_notices_by_its_autosave(here: Machine, there: Machine) -> None:
    first = here.run(*listener(here), options=("--autosave", "1s"))
    first.wait_file("ready")
    there.nbws("notebook", "start", "demo", "--take-over")
    (here.workspace / "late").write_text("late")
    assert first.end() == 4
    assert "no longer runs the notebook" in first.said()
    rescues = here.notebook().status().rescues
    assert here.notebook().workspace.find(rescues[-1]).read("late") == b"late"
    assert here.notebook().status().state == "RUNNING"


def test_a_deleted_run_keeps_its_work(here: Machine) -> None:
    run = here.run(*listener(here), options=("--autosave", "1s"))
    run.wait_file("ready")
    (here.workspace / "late").write_text("late")
    here.nbws("notebook", "delete", "demo", "--force")
    assert run.end() == 4
    assert any(here.notebook().workspace.find(item).read("late") for item in here.notebook().status().rescues)


def test_stop_is_refused_beside_the_process_that_attends(here: Machine) -> None:
    run = here.run(*listener(here))
    run.wait_file("ready")
    assert "SIGTERM" in here.json("notebook", "stop", "demo", code=8)["error"]["message"]
    here.nbws("notebook", "save", "demo")
    here.nbws("notebook", "restart", "demo")
    assert run.stop() == 0


def test_disabled_it_is_the_program(here: Machine) -> None:
    here.extra = {"NBWS_DISABLE": "1", "NBWS_STORE": "nonsense", "NBWS_AUTOSAVE": "nonsense"}
    out, status = here.directory / "out", here.directory / "status"
    run = here.run("sh", "-c", f"echo $$ > {out}; exit 7")
    assert run.end() == 7
    assert out.read_text().split() == [str(run.process.pid)]
    assert here.run("cp", "/proc/self/status", status).end() == 0
    assert set(masks(status)) == {0}
    assert here.run("no-such-program").end() == 127
    assert events(Machine(here.directory, here.store)) == [("settings", "NONE"), ("state", "STOPPED")]


def has_lines(file: Path, count: int) -> bool:
    return file.exists() and len(file.read_text().split()) == count


def test_the_program_gets_each_signal_once(here: Machine) -> None:
    run = here.run(*listener(here), options=("--autosave", "0"))
    heard = run.wait_file("ready").with_name("heard")
    sent: list[int] = [signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGWINCH]
    sent += [signal.SIGALRM, signal.SIGCONT, signal.SIGTSTP, signal.SIGRTMIN + 3, signal.SIGPWR]
    for count, number in enumerate(sent, start=1):
        run.send(number)
        wait_until(partial(has_lines, heard, count), f"signal {number}")
    assert run.stop() == 0
    assert heard.read_text().split() == [str(int(number)) for number in [*sent, signal.SIGTERM]]
    assert here.notebook().status().state == "STOPPED"


def test_signals_of_the_program_are_as_it_expects(here: Machine) -> None:
    status = here.directory / "status"
    assert here.run("cp", "/proc/self/status", status).end() == 0
    assert set(masks(status)) == {0}
    # What a caller had ignored stays so (nohup).
    command = [str(NBWS), "run", "demo", "--", "cp", "/proc/self/status", str(status)]
    assert here.start(["sh", "-c", 'trap "" HUP; exec "$@"', "sh", *command]).end() == 0
    assert masks(status) == [0, 1 << (signal.SIGHUP - 1)]


def masks(status: Path) -> list[int]:
    """Blocked and ignored signals; without 32 and 33, which the C library keeps for itself and ignores in what it spawns."""
    found = [int(word, 16) & ~(0b11 << 31) for word in re.findall(r"Sig(?:Blk|Ign):\s*(\w+)", status.read_text())]
    assert len(found) == 2
    return found


def test_a_program_that_does_not_listen_is_killed(here: Machine) -> None:
    source = f"""
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open({str(here.workspace / "ready")!r}, "w").close()
while True:
    time.sleep(1)
"""
    run = here.run(*python(source), options=("--stop-budget", "5s"))
    run.wait_file("ready")
    began = time.monotonic()
    assert run.stop() == 137
    print(f"ended after {time.monotonic() - began:.1f} s of 5 s")
    assert "it is killed" in run.said()
    assert here.notebook().status().state == "STOPPED"


def test_nothing_is_left_behind(here: Machine) -> None:
    # One in the group, one in a session of its own that does not listen to SIGTERM.
    source = f"""
import os, signal, subprocess, sys
deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
one = subprocess.Popen(["sleep", "600"])
two = subprocess.Popen([sys.executable, "-c", deaf], start_new_session=True, stdout=subprocess.PIPE)
two.stdout.readline()
open({str(here.workspace / "pids")!r}, "w").write(f"{{one.pid}} {{two.pid}}")
"""
    run = here.run(*python(source))
    assert run.end() == 0
    assert "2 processes behind" in run.said()
    for pid in (here.workspace / "pids").read_text().split():
        assert not os.path.exists(f"/proc/{pid}")


def test_told_to_stop_while_it_starts(here: Machine, there: Machine) -> None:
    here.workspace.mkdir(parents=True)
    for number in range(4_000):
        (here.workspace / f"file-{number}").write_bytes(b"%d" % number * 50)
    here.nbws("notebook", "start", "demo")
    here.nbws("notebook", "stop", "demo")
    run = there.run("touch", there.directory / "started")
    wait_until(lambda: (there.workspace / ".nbws-restoring").exists() or run.process.poll() is not None, "the restore")
    assert run.stop() == 143
    state = there.notebook().status()
    print(f"interrupted: {state.state}, {state.info}; {run.said()}")
    assert not (there.directory / "started").exists()
    # Its end was recorded: another machine need not wait for it to go stale.
    assert state.state in {"FAILED", "STOPPED"}
    assert here.run("true").end() == 0
    assert there.run("true").end() == 0
    assert len(os.listdir(there.workspace)) == 4_001


@pytest.mark.parametrize("delay", [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0])
def test_told_to_stop_at_once(here: Machine, delay: float) -> None:
    run = here.run("sleep", "600")
    time.sleep(delay)
    # Before Python has come to the first line of nbws a signal has its usual effect.
    assert run.stop() == 143
    assert here.notebook().status().state in {"STOPPED", "FAILED"}
    assert here.run("true").end() == 0


def slow(machine: Machine, budget: str) -> Run:
    """A run with 48 MB to save in the end, at 1 MB/s; a few that are small."""
    source = f"""
import os, signal, sys, time
os.makedirs({str(machine.workspace / "d")!r}, exist_ok=True)
for i in range(60):
    open({str(machine.workspace / "d")!r} + f"/{{i}}", "wb").write(os.urandom(800_000))
open({str(machine.workspace / "ready.ipynb")!r}, "w").write("small")
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
while not os.path.exists({str(machine.directory / "go")!r}):
    time.sleep(0.05)
"""
    options = ("--autosave", "0", "--limit-rate", "1MB", "--stop-budget", budget)
    return machine.run(*python(source), options=options)


def test_signals_during_the_last_save(here: Machine, there: Machine) -> None:
    run = slow(here, "4s")
    run.wait_file("ready.ipynb")
    run.send(signal.SIGTERM)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1) * 6:
        time.sleep(0.1)
        if run.process.poll() is None:
            run.send(number)
    assert run.end() == 9
    check_resumed(run)
    there.nbws("notebook", "start", "demo")
    assert len(os.listdir(there.workspace / "d")) == 60


def check_resumed(run: Run) -> None:
    """Another stop sends what is missing."""
    state = run.machine.notebook().status().state
    print(f"{state} after {run.said()}")
    # By its own means, not by the watchdog of the budget: a snapshot is committed, and it says what it lacks.
    assert state == "SYNC_FAILED"
    assert "files left out" in run.said()
    assert "what was acknowledged before is safe" not in run.said()
    assert run.machine.notebook().workspace.snapshot().partial
    assert run.machine.json("notebook", "stop", "demo")["complete"]
    assert run.machine.notebook().status().state == "STOPPED"
    assert run.machine.notebook().workspace.snapshot().read("ready.ipynb") == b"small"


def test_told_to_hurry_in_the_middle_of_the_last_save(here: Machine) -> None:
    run = slow(here, "2s")
    run.wait_file("ready.ipynb")
    (here.directory / "go").touch()
    wait_until(lambda: ("state", "STOPPING") in events(here), "the last save")
    began = time.monotonic()
    assert run.stop() == 9
    print(f"ended after {time.monotonic() - began:.1f} s of 2 s")
    check_resumed(run)


def test_the_last_save_fails(here: Machine, tmp_path: Path) -> None:
    run = here.run(*listener(here), options=("--stop-budget", "10s"))
    run.wait_file("ready")
    (tmp_path / "objects").rename(tmp_path / "gone")
    assert run.stop() == 9
    (tmp_path / "gone").rename(tmp_path / "objects")
    here.nbws("notebook", "stop", "demo")
    assert here.notebook().workspace.snapshot().read("heard") == b"15\n"


def packs_of(machine: Machine) -> set[Path]:
    return set(Path(machine.store.removeprefix("file://")).glob("notebooks_workspace/demo/packs/*"))


def test_a_failed_restore(here: Machine, there: Machine) -> None:
    of_settings = packs_of(here)
    assert here.run("sh", "-c", f"head -c 300000 /dev/urandom > {here.workspace}/big").end() == 0
    of_big = packs_of(here) - of_settings
    assert here.run("sh", "-c", f"echo precious > {here.workspace}/file").end() == 0
    for pack in of_big:
        pack.rename(pack.with_name(f"{pack.name}.away"))
    run = there.run("touch", there.directory / "started")
    assert run.end() == 75
    assert not (there.directory / "started").exists()
    assert there.notebook().status().state == "ERROR"
    there.extra["NBWS_ON_RESTORE_ERROR"] = "continue"
    run = there.run("sh", "-c", f"echo new > {there.workspace}/file; sleep 3", options=("--autosave", "1s"))
    assert run.end() == 9, run.said()
    print(run.said())
    status = there.notebook().status()
    assert status.state == "SYNC_FAILED"
    for pack in of_big:
        pack.with_name(f"{pack.name}.away").rename(pack)
    # The head was not touched.
    assert there.notebook().workspace.snapshot().read("file") == b"precious\n"
    assert there.notebook().workspace.find(status.rescues[-1]).read("file") == b"new\n"
    # The newest of the autosaves, one that was interrupted, and the last save; not one for each autosave.
    assert len(status.rescues) <= 3
    # A person clears the latch, then this work counts.
    there.nbws("notebook", "clear-latch", "demo")
    there.nbws("notebook", "save", "demo")
    assert there.notebook().workspace.snapshot().read("file") == b"new\n"
    assert there.notebook().status().state == "STOPPED"


def test_an_unreachable_store(here: Machine, tmp_path: Path) -> None:
    here.extra |= {"NBWS_STORE": "s3://bucket", "AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_ALLOW_HTTP": "true"}
    here.extra |= {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_REGION": "us-east-1"}
    # It tries again for a while; told to stop, it does so at once.
    run = here.run("touch", here.directory / "started")
    time.sleep(2)
    began = time.monotonic()
    code = run.stop()
    print(f"ended with {code} after {time.monotonic() - began:.1f} s")
    assert code in {143, 75}
    assert not (here.directory / "started").exists()


# Where it runs.


def as_first_process(machine: Machine, *words: object, options: tuple[object, ...] = ()) -> Run:
    if subprocess.run(
        ["unshare", "--pid", "--fork", "--mount-proc", "true"], capture_output=True, check=False
    ).returncode:
        pytest.skip("unshare may not make a PID namespace here")
    unshare = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    return machine.start([*unshare, str(NBWS), "run", "demo", *map(str, options), "--", *map(str, words)])


def test_as_the_first_process_of_a_container(here: Machine) -> None:
    source = f"""
import os, signal, subprocess, sys, time
# An orphan that ends at once must be reaped; another one must be ended.
subprocess.Popen(["sh", "-c", "sleep 0.2 & exit"]).wait()
subprocess.Popen(["sh", "-c", "setsid sleep 600 & exit"]).wait()
time.sleep(1)
states = [open(f"/proc/{{p}}/stat").read().rpartition(")")[2].split()[0] for p in os.listdir("/proc") if p.isdigit()]
open({str(here.workspace / "states")!r}, "w").write(" ".join(states) + f" {{os.getppid()}}")
def end(*_):
    open({str(here.workspace / "told")!r}, "a").write("x")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
open({str(here.workspace / "ready")!r}, "w").close()
while True:
    time.sleep(0.1)
"""
    run = as_first_process(here, *python(source), options=("--autosave", "0"))
    run.wait_file("ready")
    (first,) = children_of(run.process.pid)
    os.kill(first, signal.SIGTERM)
    assert run.end() == 0, run.said()
    states = (here.workspace / "states").read_text().split()
    assert states[-1] == "1"
    assert "Z" not in states
    assert (here.workspace / "told").read_text() == "x"
    assert "1 process behind" in run.said()
    assert here.notebook().status().state == "STOPPED"


def test_the_first_process_hears_sigterm_before_the_store_answers(here: Machine) -> None:
    here.extra |= {"NBWS_STORE": "s3://bucket", "AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_ALLOW_HTTP": "true"}
    here.extra |= {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_REGION": "us-east-1"}
    run = as_first_process(here, "touch", here.directory / "started", options=("--stop-budget", "5s"))
    wait_until(lambda: children_of(run.process.pid), "the first process")
    (first,) = children_of(run.process.pid)
    wait_until(lambda: is_blocked(first, signal.SIGTERM) or run.process.poll() is not None, "its signal mask")
    os.kill(first, signal.SIGTERM)
    assert run.end() in {143, 75}


def is_blocked(pid: int, number: int) -> bool:
    try:
        found = re.search(r"SigBlk:\s*(\w+)", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return False
    return found is not None and bool(int(found[1], 16) >> (number - 1) & 1)


# What `tini -g` does: the signal goes to the group of its child.
TINI = """
import os, signal, subprocess, sys
child = subprocess.Popen(sys.argv[1:], start_new_session=True)
signal.signal(signal.SIGTERM, lambda *_: os.killpg(child.pid, signal.SIGTERM))
sys.exit(child.wait())
"""


def test_under_tini(here: Machine) -> None:
    tini = shutil.which("tini")
    outer = [tini, "-s", "-g", "--"] if tini else [sys.executable, "-c", TINI]
    print(f"under {tini or 'a stand-in that sends signals to the group'}")
    run = here.start([*outer, str(NBWS), "run", "demo", "--", *listener(here)])
    heard = run.wait_file("ready").with_name("heard")
    assert run.stop() == 0
    assert heard.read_text().split() == [str(int(signal.SIGTERM))]
    assert here.notebook().status().state == "STOPPED"


def interpreter_for(user: int, environment: dict[str, str]) -> str:
    """An interpreter that the user may run; that of the tests may lie in somebody's home."""
    places = {str(Path(module.__file__ or "").parents[1]) for module in (nbws, click)}
    environment["PYTHONPATH"] = os.pathsep.join(places)
    for program in (sys.executable, "/usr/bin/python3"):
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            check = "import sys, nbws, click; assert sys.version_info >= (3, 11); nbws.__version__"
            subprocess.run(
                [program, "-c", check], user=user, group=user, extra_groups=[], env=environment, check=True, cwd="/"
            )
            return program
    pytest.skip("this user may run no interpreter that can load nbws")


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that other users may enter; pytest keeps its own to itself."""
    with tempfile.TemporaryDirectory(prefix="nbws-test-") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


@pytest.mark.parametrize("has_state", [True, False])
def test_as_a_user_without_a_home(open_directory: Path, has_state: bool) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    user = 42420
    here = Machine(open_directory / "here", (open_directory / "objects").as_uri())
    here.notebooks().create(id="demo")
    for path in [here.directory, Path(here.store.removeprefix("file://"))]:
        path.mkdir(exist_ok=True)
        for found in [path, *path.rglob("*")]:
            os.chown(found, user, user)
    environment = {name: value for name, value in here.environment.items() if name not in {"HOME", "XDG_STATE_HOME"}}
    if not has_state:
        del environment["NBWS_STATE"]
    words = ["sh", "-c", f"id -u > {here.workspace}/user; echo $HOME >> {here.workspace}/user"]
    program = interpreter_for(user, environment)
    main = "from nbws.cli.main import main; main()"
    command = [program, "-c", main, "run", "demo", "--autosave", "1s", "--", *words]
    run = here.start(command, env=environment, user=user, group=user, extra_groups=[], cwd="/")
    assert run.end() == 0, run.said()
    assert (here.workspace / "user").read_text().split() == [str(user)]
    assert here.notebook().workspace.snapshot().read("user").split() == [str(user).encode()]
    assert here.notebook().status().state == "STOPPED"


def test_nobody_reads_what_it_says(here: Machine) -> None:
    read, write = os.pipe()
    os.close(read)
    run = here.run("sh", "-c", f"echo x > {here.workspace}/x", stderr=write, stdout=subprocess.DEVNULL)
    os.close(write)
    assert run.end() == 0
    assert here.notebook().status().state == "STOPPED"


# On a terminal.

ON_TERMINAL = """
import signal, sys, time
def note(name):
    return lambda *_: print(f"<{name}>", flush=True)
signal.signal(signal.SIGINT, note("int"))
signal.signal(signal.SIGCONT, note("cont"))
print("<ready>", flush=True)
while True:
    line = sys.stdin.readline()
    if line:
        print(f"<read {line.strip()}>", flush=True)
    if line.strip() == "end":
        sys.exit(4)
"""


class Terminal:
    """An interactive shell on a terminal."""

    def __init__(self, machine: Machine) -> None:
        self.seen = ""
        environment = {**machine.environment, "PS1": "prompt> ", "TERM": "dumb"}
        shell = ["/bin/bash", "--norc", "--noprofile", "--noediting", "-i"]
        self.fd, inner = pty.openpty()
        # Not by fork: a test process that has grown large may not be doubled.
        own = (
            "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
        )
        self.shell = subprocess.Popen(
            [sys.executable, "-c", own, *shell],
            stdin=inner,
            stdout=inner,
            stderr=inner,
            env=environment,
            start_new_session=True,
        )
        os.close(inner)
        os.set_blocking(self.fd, False)

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def wait_for(self, text: str) -> None:
        def is_there() -> bool:
            with contextlib.suppress(BlockingIOError, OSError):
                self.seen += os.read(self.fd, 65_536).decode(errors="replace")
            return text in self.seen

        wait_until(is_there, f"{text!r}", patience=30)
        self.seen = self.seen.partition(text)[2]

    def close(self) -> None:
        self.shell.kill()
        os.close(self.fd)
        self.shell.wait()


@pytest.fixture
def terminal(here: Machine) -> Terminal:
    here.directory.mkdir(parents=True, exist_ok=True)
    return Terminal(here)


def test_a_terminal_is_the_programs(here: Machine, terminal: Terminal) -> None:
    program = here.directory / "program.py"
    program.write_text(ON_TERMINAL)
    try:
        terminal.wait_for("prompt> ")
        terminal.type(f"{NBWS} run demo -- {sys.executable} {program}; echo code $?\n")
        terminal.wait_for("<ready>")
        terminal.type("\x03")
        terminal.wait_for("<int>")
        terminal.type("one\n")
        terminal.wait_for("<read one>")
        assert "<int>" not in terminal.seen
        # Ctrl-Z stops the job as a whole; fg brings it back with the terminal.
        terminal.type("\x1a")
        terminal.wait_for("Stopped")
        terminal.wait_for("prompt> ")
        terminal.type("echo at the $((1 + 1))nd prompt\n")
        terminal.wait_for("at the 2nd prompt")
        terminal.type("fg\n")
        terminal.wait_for("<cont>")
        terminal.type("two\n")
        terminal.wait_for("<read two>")
        terminal.type("end\n")
        terminal.wait_for("saved as")
        # Bash drops the rest of a line whose job was stopped, so it is asked.
        terminal.wait_for("prompt> ")
        terminal.type("echo code $?\n")
        terminal.wait_for("code 4")
    finally:
        terminal.close()
    assert here.notebook().status().state == "FAILED"


def test_in_the_background_it_leaves_the_terminal_alone(here: Machine, terminal: Terminal) -> None:
    try:
        terminal.wait_for("prompt> ")
        terminal.type(f"{NBWS} run demo -- sh -c 'echo started > {here.workspace}/ready; sleep 600' &\n")
        wait_until((here.workspace / "ready").exists, "the program")
        terminal.type("echo still $((40 + 2))\n")
        terminal.wait_for("still 42")
        terminal.type("kill %1; wait %1; echo code $?\n")
        terminal.wait_for("code 143")
    finally:
        terminal.close()
    assert here.notebook().status().state == "STOPPED"


# Its time.

AT_A_TIME = """
import datetime as dt, pathlib, sys, time
from nbws.lifecycle import utc_now
from nbws.notebooks import Notebooks
from nbws.runner import RunOptions, run
store, workspace, later, *command = sys.argv[1:]
async def find():
    return await Notebooks(store).get_async("limited")
def clock():
    while not pathlib.Path(f"{later}.ready").exists():
        time.sleep(0.02)
    return utc_now() + dt.timedelta(days=8 if pathlib.Path(later).exists() else 0)
def say(text):
    print(text, file=sys.stderr, flush=True)
sys.exit(run(find, command, RunOptions(pathlib.Path(workspace), stop_budget_s=20), say, clock))
"""


@pytest.mark.parametrize("at_limit", ["stop", "restart"])
def test_the_time_of_a_run(here: Machine, at_limit: str) -> None:
    here.nbws("notebook", "create", "--id", "limited", "--at-limit", at_limit)
    later = here.directory / "later"
    # The first one ends when it is told to, the second one by itself.
    source = f"""
import pathlib, signal, sys, time
def end(*_):
    later.unlink()
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
starts = pathlib.Path({str(here.workspace / "starts")!r})
count = len(starts.read_text()) + 1 if starts.exists() else 1
later = pathlib.Path({str(later)!r})
starts.write_text("x" * count)
pathlib.Path({str(later)!r} + ".ready").touch()
while count == 1:
    time.sleep(0.05)
sys.exit(6)
"""
    later.touch()
    words = [sys.executable, "-c", AT_A_TIME, here.store, here.workspace, later, *python(source)]
    run = here.start(list(map(str, words)))
    code = run.end()
    states = [state for _, state in events(here, "limited")]
    assert "lasted as long as it may" in run.said()
    if at_limit == "stop":
        assert (code, states[-1]) == (0, "STOPPED")
        assert (here.workspace / "starts").read_text() == "x"
    else:
        assert (code, states[-1]) == (6, "FAILED")
        assert states.count("RESTARTING") >= 1
        assert (here.workspace / "starts").read_text() == "xx"
    restarted = [kind for kind, state in events(here, "limited") if state == "RESTARTING"]
    assert set(restarted) <= {"state"}


def test_json_of_a_run_that_lives(here: Machine) -> None:
    run = here.run(*listener(here))
    run.wait_file("ready")
    status = json.loads(here.nbws("notebook", "show", "demo", "--json").stdout)
    assert (status["state"], status["writer"]["stale"]) == ("RUNNING", False)
    run.send(signal.SIGKILL)
    run.end()
    # Nobody has said that it ended.
    assert json.loads(here.nbws("notebook", "show", "demo", "--json").stdout)["state"] == "RUNNING"
    os.kill(int((here.workspace / "pid").read_text()), signal.SIGKILL)
