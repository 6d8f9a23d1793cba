"""The examples do what they say: JupyterLab runs for real, the Dockerfile and the manifest fit each other and nbws."""

from __future__ import annotations

import json
import os
import re
import secrets
import shlex
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml
from nbws.cli.run import run as run_command
from nbws.run_config import read_settings
from runs import NBWS, Machine, Run, wait_until

EXAMPLES = Path(__file__).parents[2] / "examples"
REQUIREMENTS = EXAMPLES / "jupyterlab" / "requirements.txt"
INSTALL_S = 400
START_S = 120

INSTRUCTIONS = {"FROM", "RUN", "COPY", "USER", "WORKDIR", "ENV", "EXPOSE", "STOPSIGNAL", "ENTRYPOINT", "CMD"}


def unavailable(reason: str) -> NoReturn:
    """Skips; where servers are required (continuous integration) a skip is a failure."""
    if os.environ.get("NBWS_REQUIRE_SERVERS") == "1":
        pytest.fail(f"required server: {reason}")
    pytest.skip(reason)


# JupyterLab.


@pytest.fixture(scope="session")
def jupyter(pytestconfig: pytest.Config) -> Path:
    """The program `jupyter` of an environment of its own, which is made when it is missing."""
    directory = (
        pytestconfig.rootpath
        / ".pytest_cache"
        / "jupyterlab"
        / f"venv-{sys.version_info.major}{sys.version_info.minor}"
    )
    mark = directory / ".installed"
    if not mark.exists() or mark.read_text() != REQUIREMENTS.read_text():
        options = ["--quiet", "--disable-pip-version-check", "--only-binary", ":all:"]
        try:
            subprocess.run(
                [sys.executable, "-m", "venv", "--clear", directory], check=True, capture_output=True, timeout=120
            )
            install: list[str | Path] = [
                directory / "bin" / "python",
                "-m",
                "pip",
                "install",
                *options,
                "--requirement",
                REQUIREMENTS,
            ]
            subprocess.run(install, check=True, capture_output=True, timeout=INSTALL_S)
        except (OSError, subprocess.SubprocessError) as error:
            unavailable(f"JupyterLab can't be installed: {str(getattr(error, 'stderr', None) or error)[-300:]}")
        mark.write_text(REQUIREMENTS.read_text())
    return directory / "bin" / "jupyter"


class Lab:
    """A server that `nbws run` started, by the command of the example's image."""

    def __init__(self, machine: Machine, jupyter: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/api"
        self.token = secrets.token_hex(8)
        home = machine.directory / "home"
        machine.extra |= {"HOME": str(home), "JUPYTER_RUNTIME_DIR": str(home / "runtime"), "JUPYTER_TOKEN": self.token}
        command = dockerfile()["CMD"][-1]
        words: list[str] = json.loads(command)
        assert words[:4] == ["nbws", "run", "--", "jupyter"]
        changed = {
            "--ip=0.0.0.0": "--ip=127.0.0.1",
            "--port=8888": f"--port={port}",
            "--ServerApp.root_dir=/workspace": f"--ServerApp.root_dir={machine.workspace}",
        }
        assert set(changed) <= set(words)
        rest = [changed.get(word, word) for word in words[4:]]
        self.run: Run = machine.start([str(NBWS), "run", "--", str(jupyter), *rest, "--allow-root"])
        wait_until(self.answers, "the server", patience=START_S)

    def answers(self) -> bool:
        assert self.run.process.poll() is None, self.run.said()
        try:
            self.ask("GET", "/status")
        except urllib.error.URLError:
            return False
        return True

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"token {self.token}", "Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.url}{path}", data, headers, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read() or b"null")


def test_jupyterlab_moves_to_another_machine(here: Machine, there: Machine, jupyter: Path) -> None:
    template = EXAMPLES / "jupyterlab" / "template"
    here.notebooks().create(id="lab", template=template)
    cell: dict[str, Any] = {
        "cell_type": "code",
        "id": "first",
        "metadata": {},
        "source": "6 * 7",
        "outputs": [],
        "execution_count": None,
    }
    content = {"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    for machine in (here, there):
        machine.extra["NBWS_NOTEBOOK"] = "lab"
    first = Lab(here, jupyter)
    first.ask("PUT", "/contents/analysis.ipynb", {"type": "notebook", "content": content})
    # A kernel lives in a session of its own: the server ends it, or nbws does.
    kernel = first.ask("POST", "/kernels", {"name": "python3"})["id"]
    assert [item["id"] for item in first.ask("GET", "/kernels")] == [kernel]
    assert first.run.stop() in {0, 143}
    print(first.run.said().splitlines()[-1])
    assert kernel_processes(kernel) == []
    assert here.notebook("lab").status().state == "STOPPED"
    second = Lab(there, jupyter)
    found = second.ask("GET", "/contents/analysis.ipynb")["content"]
    assert [item["source"] for item in found["cells"]] == ["6 * 7"]
    assert second.run.stop() in {0, 143}


def kernel_processes(kernel: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes()
        except OSError:
            continue
        if kernel.encode() in command:
            found.append(str(path))
    return found


def test_the_template_of_the_example(here: Machine) -> None:
    here.notebooks().create(id="lab", template=EXAMPLES / "jupyterlab" / "template")
    assert here.run("true", identity="lab").end() == 0
    assert json.loads((here.workspace / "welcome.ipynb").read_text())["nbformat"] == 4


# The image.


def dockerfile() -> dict[str, list[str]]:
    """Instructions of the Dockerfile with their arguments, in order."""
    text = (EXAMPLES / "jupyterlab" / "Dockerfile").read_text()
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line.strip() and not line.startswith("#")]
    found: dict[str, list[str]] = {}
    for line in lines:
        name, _, argument = line.partition(" ")
        found.setdefault(name, []).append(argument.strip())
    return found


def test_the_dockerfile() -> None:
    found = dockerfile()
    assert set(found) <= INSTRUCTIONS
    assert next(iter(found)) == "FROM"
    # A tag, and not one that moves on with every release.
    (base,) = found["FROM"]
    assert re.fullmatch(r"[\w./-]+:[\d.]+[\w.-]*", base)
    for source in (argument.split()[0] for argument in found["COPY"]):
        assert source == "wheel/" or (EXAMPLES / "jupyterlab" / source).exists(), source
    # Signals reach nbws: both in the form without a shell, tini outermost with -g.
    assert json.loads(found["ENTRYPOINT"][-1])[:2] == ["tini", "-g"]
    words = json.loads(found["CMD"][-1])
    assert words[:3] == ["nbws", "run", "--"]
    assert found["STOPSIGNAL"] == ["SIGTERM"]
    assert found["USER"] == ["42420"]
    environment = variables(found)
    settings = read_settings("", "nbws.toml", environment, {})
    assert (settings.workspace, settings.data) == ("/workspace", "/data")
    made = " ".join(found["RUN"])
    for place in (settings.workspace, str(settings.data), environment["NBWS_STATE"]):
        assert re.search(rf"chown 42420:42420 .*{place}\b", made), place
    # Local state is never saved with the workspace.
    assert not environment["NBWS_STATE"].startswith(settings.workspace)
    header = (EXAMPLES / "jupyterlab" / "Dockerfile").read_text().split("FROM")[0]
    (timeout,) = re.findall(r"--stop-timeout (\d+)", header)
    assert int(timeout) >= settings.stop_budget + 5


def variables(found: dict[str, list[str]]) -> dict[str, str]:
    pairs = [word.partition("=") for argument in found["ENV"] for word in shlex.split(argument)]
    return {name: value for name, _, value in pairs}


# The manifest.


def test_the_manifest() -> None:
    parts = {part["kind"]: part for part in yaml.safe_load_all((EXAMPLES / "kubernetes" / "notebook.yaml").read_text())}
    assert set(parts) == {"ConfigMap", "Service", "StatefulSet"}
    spec = parts["StatefulSet"]["spec"]
    assert spec["replicas"] == 1
    assert spec["serviceName"] == parts["Service"]["metadata"]["name"]
    labels = spec["template"]["metadata"]["labels"]
    assert spec["selector"]["matchLabels"].items() <= labels.items()
    assert parts["Service"]["spec"]["selector"].items() <= labels.items()
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    # Nothing replaces the command of the image, and nothing delays SIGTERM.
    assert not {"command", "args", "lifecycle"} & set(container)
    config = parts["ConfigMap"]["data"]["nbws.toml"]
    environment = {item["name"]: item["value"] for item in container["env"]}
    settings = read_settings(config, "nbws.toml", {**environment}, {})
    image = read_settings(config, "nbws.toml", {**variables(dockerfile()), **environment}, {})
    assert image.stop_budget == settings.stop_budget, "the image's variables come before the file"
    assert pod["terminationGracePeriodSeconds"] >= settings.stop_budget + 5
    assert str(pod["securityContext"]["runAsUser"]) == dockerfile()["USER"][0]
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    assert {settings.workspace, settings.data, environment["NBWS_STATE"]} <= set(mounts)
    assert environment["NBWS_CONFIG"].startswith(next(path for path, name in mounts.items() if name == "config"))
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert set(mounts.values()) == set(volumes)
    assert volumes["config"]["configMap"]["name"] == parts["ConfigMap"]["metadata"]["name"]
    assert settings.notebook
    assert settings.store


def test_the_examples_name_options_that_exist() -> None:
    options = {option for parameter in run_command.params for option in parameter.opts}
    assert {"--stop-budget", "--autosave", "--workspace", "--data"} <= options
