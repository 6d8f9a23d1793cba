"""The benchmark of usage and growth, at a size at which it takes seconds: it answers, and what it answers is right."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

BENCHES = Path(__file__).resolve().parents[2] / "benches"


def test_a_small_run(tmp_path: Path) -> None:
    output = tmp_path / "usage.json"
    words = ["--files", "2000", "--snapshots", "4", "--runs", "1", "--place", str(tmp_path), "--output", str(output)]
    command = [sys.executable, str(BENCHES / "usage_at_scale.py"), *words]
    environment = {**os.environ, "NBWS_STATE": str(tmp_path / "state")}
    subprocess.run(command, check=True, capture_output=True, env=environment)
    found = json.loads(output.read_text())
    answers = found["questions"]
    assert answers["usage"]["files"] > 2_000
    assert answers["growth of all pairs"]["pairs"] == 3
    assert answers["growth of all pairs"]["new_stored_bytes"] > 3 * 20 * 50_000
    assert answers["growth of one pair"]["new_stored_bytes"] > 20 * 50_000
    for answer in answers.values():
        assert answer["requests"] > 0
        assert answer["peak_rss_bytes"] >= answer["idle_rss_bytes"] > 0
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("nbws-usage-")] == []
