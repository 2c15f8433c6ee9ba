"""ClickHouse, in a process of its own: inside the tests' it would change signals, and stay.

A statement goes there as a line of JSON, and its rows come back as one, or its error.
"""

import json
import subprocess
import sys
from pathlib import Path


class ClickHouseError(Exception):
    """ClickHouse refuses a statement."""


class ClickHouse:
    """An engine with a database in a folder, for as long as it is not closed."""

    def __init__(self, folder: Path) -> None:
        # Isolated: the modules beside this file are not to be found by their bare names.
        command = [sys.executable, "-I", __file__, str(folder)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )

    def query(self, statement: str) -> str:
        """Runs a statement and returns its rows as lines of JSON."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{json.dumps(statement)}\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        if "error" in answer:
            raise ClickHouseError(answer["error"])
        return str(answer["rows"])

    def close(self) -> None:
        """Ends the process."""
        self._process.communicate(timeout=60)


def _serve(folder: str) -> None:
    from chdb.session import Session  # noqa: PLC0415 - in this process only

    session = Session(folder)  # type: ignore[no-untyped-call]  # chdb has no types
    for line in sys.stdin:
        try:
            rows = session.query(json.loads(line), "JSONEachRow")  # type: ignore[no-untyped-call]  # as above
            answer = {"rows": str(rows)}
        except RuntimeError as error:
            answer = {"error": str(error)}
        sys.stdout.write(f"{json.dumps(answer)}\n")
        sys.stdout.flush()
    session.close()  # type: ignore[no-untyped-call]  # as above


if __name__ == "__main__":
    _serve(sys.argv[1])
