"""A process that starts notebooks when it is told to: `python starter.py URL STATE WORKSPACE`.

Reads ids, one a line; answers each with a line of JSON: the outcome of the start and the error's text.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from nbws.errors import NbwsError
from nbws.notebooks import Notebooks


def main(url: str, state: str, workspace: str) -> None:
    notebooks = Notebooks(url, state_dir=state)
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        notebook = notebooks.get(line.strip())
        place = Path(workspace) / notebook.id
        try:
            notebook.start(place)
            answer = ["RUNNING", notebook._run.hold is not None]
        except NbwsError as error:
            answer = [error.kind, str(error)]
        print(json.dumps(answer), flush=True)
        shutil.rmtree(place, ignore_errors=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
