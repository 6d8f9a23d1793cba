"""Sums over all notebooks of a container: what they say, and what they cost to make."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import multiprocessing
import os
import shutil
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from container import KINDS, fill, models
from nbws.billing import Tariff
from nbws.errors import InvalidInput
from nbws.notebooks import Notebooks
from s3_server import Stored

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from nbws.accounts import Totals
    from nbws.progress import Progress
    from s3_server import Service

COUNT = 200
DEAR = Tariff(name="dear", currency="EUR", price=Decimal(1_000_000_000), count="logical", backups=False)
DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """200 notebooks in a ``file:`` container, two of them damaged, and something that is no notebook."""
    root = tmp_path_factory.mktemp("container")
    before = os.environ.get("NBWS_STATE")
    os.environ["NBWS_STATE"] = str(root / "state")
    try:
        found = models(root)
    finally:
        if before is None:
            del os.environ["NBWS_STATE"]
        else:
            os.environ["NBWS_STATE"] = before
    container = root / "objects" / "notebooks_workspace"
    fill(container, found, COUNT)
    newest = max((container / "nb-00007" / "log").iterdir())
    newest.write_bytes(newest.read_bytes()[:-20])
    (container / "nb-00011" / "format").write_bytes(b"{}")
    (container / "lost+found").mkdir()
    (container / "notes").mkdir()
    (container / "notes" / "read.me").write_text("no repository")
    return (root / "objects").as_uri()


def without_time(totals: Totals) -> dict[str, object]:
    # A damaged record may end the request beside it before it is sent.
    return {name: value for name, value in totals.to_dict().items() if name not in {"duration_s", "requests"}}


def test_the_newest_records_tell(store: str) -> None:
    notebooks = Notebooks(store)
    totals = notebooks.totals(tariff=DEAR)
    assert [(part.state, part.notebooks) for part in totals.by_state] == [
        ("DELETING", 66),
        ("RUNNING", 67),
        ("STOPPED", 66),
    ]
    assert totals.notebooks == COUNT - 1
    assert [(problem.id, problem.kind) for problem in totals.problems] == [("nb-00007", "Corrupt")]
    assert "log/" in totals.problems[0].problem
    assert not totals.complete
    one = {name: notebooks.get(f"nb-{number:05}").timeline()[-1] for number, name in enumerate(KINDS)}
    for part in totals.by_state:
        assert part.logical_bytes == one[part.state].logical_bytes * part.notebooks
        assert part.stored_bytes == one[part.state].stored_bytes * part.notebooks
        assert part.monthly_cost == part.logical_bytes, "a euro for each byte"
    assert totals.logical_bytes == sum(part.logical_bytes for part in totals.by_state)
    assert totals.monthly_cost == totals.logical_bytes
    assert (totals.snapshots, totals.cost, totals.forecast) == (None, None, None)
    # Hint, listing, newest record, the slot after it. Of what is no notebook the `format`, too.
    assert totals.requests.total <= 4 * (COUNT + 2)
    assert (totals.requests.put, totals.requests.delete, totals.requests.head) == (0, 0, 0)
    assert "StateTotals" in totals._repr_html_() or "RUNNING" in totals._repr_html_()


def test_whole_logs_tell_more(store: str) -> None:
    notebooks = Notebooks(store)
    until = datetime.now(UTC) + 40 * DAY
    totals = notebooks.totals(tariff=DEAR, until=until)
    assert {problem.id: problem.kind for problem in totals.problems} == {"nb-00007": "Corrupt", "nb-00011": "Corrupt"}
    assert totals.notebooks == COUNT - 2
    kept = sum(len(notebooks.get(f"nb-{number:05}").backups()) for number in range(len(KINDS)))
    assert totals.snapshots is not None
    assert kept * 60 < totals.snapshots <= kept * 67
    assert totals.cost is not None
    assert totals.forecast is not None
    assert totals.cost > totals.forecast > totals.monthly_cost
    one = notebooks.get("nb-00001").bill(until, DEAR).total
    assert totals.cost == pytest.approx(one * totals.notebooks, rel=Decimal("0.05"))
    samples = notebooks.timeline()
    assert {sample.id for sample in samples} == {f"nb-{n:05}" for n in range(COUNT)} - {"nb-00007", "nb-00011"}
    first = [(s.time, s.state) for s in samples if s.id == "nb-00000"]
    assert first == [(s.time, s.state) for s in notebooks.get("nb-00000").timeline()]


@pytest.mark.parametrize("history", [False, True])
def test_executors_sum_up_the_same(store: str, history: bool) -> None:
    until = datetime.now(UTC) if history else None
    alone = Notebooks(store).totals(until=until)

    def by(executor: Executor) -> Totals:
        return Notebooks(store).totals(executor, until=until)

    with ThreadPoolExecutor(3) as threads:
        assert without_time(by(threads)) == without_time(alone)
        assert without_time(asyncio.run(Notebooks(store).totals_async(threads, until=until))) == without_time(alone)
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as processes:
        assert without_time(by(processes)) == without_time(alone)
    assert without_time(asyncio.run(Notebooks(store).totals_async(until=until))) == without_time(alone)


@pytest.mark.skipif(importlib.util.find_spec("distributed") is None, reason="dask.distributed is not installed")
@pytest.mark.filterwarnings("ignore")
def test_a_dask_cluster_sums_up_the_same(store: str) -> None:
    distributed: Any = importlib.import_module("distributed")
    until = datetime.now(UTC)
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, host="127.0.0.1"
        ) as cluster,
        distributed.Client(cluster) as client,
        client.get_executor() as executor,
    ):
        by_cluster = Notebooks(store).totals(executor, until=until)
    assert without_time(by_cluster) == without_time(Notebooks(store).totals(until=until))


def test_progress_counts_notebooks(store: str) -> None:
    seen: list[Progress] = []
    Notebooks(store).totals(history=True, progress=seen.append)
    assert [(item.phase, item.files_total) for item in seen][-1] == ("notebooks", COUNT + 1)
    assert seen[-1].files_done == seen[-1].files_total
    assert len(seen) > 5


def test_an_empty_container_and_bad_input(tmp_path: Path, store: str) -> None:
    nothing = Notebooks(tmp_path.as_uri()).totals()
    assert (nothing.notebooks, nothing.monthly_cost, nothing.by_state) == (0, Decimal(0), ())
    with pytest.raises(InvalidInput, match="parallel is a number"):
        Notebooks(store).totals(parallel=0)
    with pytest.raises(InvalidInput, match="time zone"):
        Notebooks(store).totals(until=datetime(2026, 1, 1))  # noqa: DTZ001
    with pytest.raises(InvalidInput, match="share of backups"):
        Notebooks(store).totals(tariff=Tariff.ovh(backups=False))


def test_a_notebook_that_was_only_made_and_one_that_was_purged(tmp_path: Path) -> None:
    notebooks = Notebooks(tmp_path.as_uri())
    notebooks.create(id="new")
    gone = notebooks.create(id="gone")
    gone.delete()
    notebooks.purge("gone", confirm="gone")
    totals = notebooks.totals()
    assert [(part.state, part.notebooks) for part in totals.by_state] == [("DELETING", 1), ("STOPPED", 1)]
    assert totals.by_state[0].stored_bytes == 0
    shutil.rmtree(tmp_path / "notebooks_workspace" / "new" / "log")
    (tmp_path / "notebooks_workspace" / "new" / "hint").unlink(missing_ok=True)
    assert [part.state for part in notebooks.totals().by_state] == ["DELETING", "NONE"]


def test_a_service_sees_four_requests_for_each_notebook(service: Service, store: str) -> None:
    container = Path(store.removeprefix("file://")) / "notebooks_workspace"
    for number in range(COUNT):
        notebook = container / f"nb-{number:05}"
        for path in notebook.rglob("*"):
            if path.is_file():
                name = f"objects/notebooks_workspace/{notebook.name}/{path.relative_to(notebook)}"
                service.objects[name] = Stored(path.read_bytes())
    notebooks = Notebooks(service.url, options=service.options)
    totals = notebooks.totals()
    assert totals.notebooks == COUNT - 1
    listings = 1  # of the container
    assert len(service.requests) == totals.requests.total + listings <= 4 * COUNT + listings
    assert service.count("put", "delete", "head") == 0

    # One notebook that the service keeps back costs nobody else anything.
    service.fault = lambda _verb, key: 403 if "nb-00003/" in key else None
    refused = notebooks.totals()
    assert {problem.id: problem.kind for problem in refused.problems} == {"nb-00003": "Denied", "nb-00007": "Corrupt"}
    assert refused.notebooks == COUNT - 2
