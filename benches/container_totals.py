"""Totals of large containers: `python benches/container_totals.py [--files 10000] [--moto 1000] [--directory DIR]`.

Notebooks are made with nbws, in three states, and their objects copied under other ids: what is measured is reading. Each measurement is a
process of its own, so that its peak of memory is its own. Requests are those that nbws reports; on the S3 server they are compared with
what it counted. Writes benches/results/container_totals.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import nbws
from nbws_bench import s3_server

BUCKET = "bucket"
STATES = ("RUNNING", "STOPPED", "DELETING")
SAVES = 4
RESULTS = Path(__file__).parent / "results" / "container_totals.json"


def make_models(root: Path) -> list[Path]:
    """One notebook in each state, with some snapshots: its objects, without packs and index, which no look over a container reads."""
    found = []
    for state in STATES:
        place = root / state
        notebooks = nbws.Notebooks((place / "objects").as_uri(), state_dir=place / "state")
        notebook = notebooks.create(name=state.lower())
        notebook.start(place / "workspace")
        for number in range(SAVES):
            (place / "workspace" / f"{number}.py").write_text("print()\n" * 1000)
            notebook.save()
        if state != "RUNNING":
            notebook.stop()
        if state == "DELETING":
            notebook.delete()
        model = place / "objects" / "notebooks_workspace" / notebook.id
        for unread in ("packs", "index", "hb"):
            shutil.rmtree(model / unread, ignore_errors=True)
        found.append(model)
    return found


def fill_files(models: list[Path], container: Path, count: int) -> None:
    for number in range(count):
        # Nobody writes here: names are enough, copies would only take room.
        shutil.copytree(models[number % len(models)], container / f"nb-{number:06}", copy_function=os.link)


def fill_bucket(models: list[Path], endpoint: str, count: int) -> None:
    import boto3  # noqa: PLC0415  # only here

    client = boto3.client(
        "s3", endpoint_url=endpoint, aws_access_key_id="key", aws_secret_access_key="secret", region_name="us-east-1"
    )
    bodies = [{str(p.relative_to(model)): p.read_bytes() for p in model.rglob("*") if p.is_file()} for model in models]
    for number in range(count):
        for name, body in bodies[number % len(models)].items():
            client.put_object(Bucket=BUCKET, Key=f"objects/notebooks_workspace/nb-{number:06}/{name}", Body=body)


def read_totals(url: str, options: dict[str, str], history: bool) -> None:
    """In a process of its own: prints figures."""
    before = resource.getrusage(resource.RUSAGE_SELF)
    begin = time.perf_counter()
    totals = nbws.Notebooks(url, options=options).totals(history=history)
    wall = time.perf_counter() - begin
    after = resource.getrusage(resource.RUSAGE_SELF)
    print(
        json.dumps(
            {
                "notebooks": totals.notebooks,
                "problems": len(totals.problems),
                "snapshots": totals.snapshots,
                "requests": totals.requests.to_dict(),
                "requests_each": round(totals.requests.total / totals.notebooks, 3),
                "wall_s": round(wall, 2),
                "cpu_s": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 2),
                "peak_mib": round(after.ru_maxrss / 1024, 1),
            }
        )
    )


def measured(url: str, options: dict[str, str], history: bool) -> dict[str, Any]:
    command = [sys.executable, __file__, "--read", url, json.dumps(options), json.dumps(history)]
    run = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(run.stdout)
    print(url.partition(":")[0], "whole logs" if history else "newest records", found)
    return found


def measure(files: int, moto: int, directory: Path) -> dict[str, Any]:
    found: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "nbws": nbws.__version__,
    }
    with tempfile.TemporaryDirectory(dir=directory) as scratch:
        root = Path(scratch)
        models = make_models(root)
        found["records_each"] = [sum(1 for _ in (model / "log").iterdir()) for model in models]
        container = root / "objects" / "notebooks_workspace"
        container.mkdir(parents=True)
        fill_files(models, container, files)
        url = (root / "objects").as_uri()
        found["file"] = {name: measured(url, {}, name == "whole") for name in ("newest", "whole")}
        with s3_server.serve() as server:
            server.make_bucket(BUCKET)
            fill_bucket(models, server.endpoint, moto)
            options = {
                "endpoint": server.endpoint,
                "allow_http": "true",
                "region": "us-east-1",
                "access_key_id": "key",
                "secret_access_key": "secret",
            }
            found["moto"] = {}
            for name in ("newest", "whole"):
                server.totals()
                found["moto"][name] = measured(f"s3://{BUCKET}/objects", options, name == "whole")
                seen = server.totals()
                found["moto"][name]["seen_by_the_server"] = {verb: seen.get(verb, 0) for verb in s3_server.VERBS}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--moto", type=int, default=1_000)
    parser.add_argument("--directory", type=Path, default=None)
    parser.add_argument("--read", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.read:
        read_totals(given.read[0], json.loads(given.read[1]), json.loads(given.read[2]))
        return
    RESULTS.write_text(json.dumps(measure(given.files, given.moto, given.directory), indent=2) + "\n")


if __name__ == "__main__":
    main()
