"""moto's S3 on loopback: `python moto_server.py PORT`.

moto looks whether a name is free and writes later, with nothing in between that another thread could not get into: on a busy machine,
2 of 16 creates were seen to succeed. Here its requests take turns, so that a conditional PUT is what it is on S3.
"""

from __future__ import annotations

import sys
from threading import Lock
from typing import TYPE_CHECKING, Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple

if TYPE_CHECKING:
    from collections.abc import Iterable


def main(port: int) -> None:
    moto = DomainDispatcherApplication(create_backend_app)
    turn = Lock()

    def taking_turns(environment: Any, start_response: Any) -> Iterable[bytes]:
        with turn:
            return list(moto(environment, start_response))

    run_simple("127.0.0.1", port, taking_turns, threaded=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
