"""A container of many notebooks on an S3 service: totals in one pass, counted."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import boto3
import nbws

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Server

BUCKET = "bucket"
COUNT = 200


def test_two_hundred_notebooks_in_moto(moto_server: Server, tmp_path: Path) -> None:
    # What was made and never started is three small objects; reading is what is tested, so they are copied.
    models = nbws.Notebooks(tmp_path.as_uri())
    models.create(id="stopped")
    models.create(id="deleted").delete()
    place = uuid.uuid4().hex
    client = boto3.client(
        "s3",
        endpoint_url=moto_server.endpoint,
        aws_access_key_id=moto_server.access_key_id,
        aws_secret_access_key=moto_server.secret_access_key,
        region_name="us-east-1",
    )
    for number in range(COUNT):
        model = tmp_path / "notebooks_workspace" / ("stopped" if number % 4 else "deleted")
        for path in [model / "format", *(model / "log").iterdir()]:
            key = f"{place}/notebooks_workspace/nb-{number:04}/{path.relative_to(model)}"
            client.put_object(Bucket=BUCKET, Key=key, Body=path.read_bytes())
    client.close()
    notebooks = nbws.Notebooks(f"s3://{BUCKET}/{place}", options=moto_server.options)
    totals = notebooks.totals()
    assert [(part.state, part.notebooks) for part in totals.by_state] == [("DELETING", 50), ("STOPPED", 150)]
    assert totals.complete
    assert totals.requests.total <= 4 * COUNT
    assert totals.stored_bytes > 0
    whole = notebooks.totals(history=True)
    assert whole.stored_bytes == totals.stored_bytes
    assert not whole.snapshots
    assert not whole.cost
