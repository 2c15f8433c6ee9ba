"""A plugin of pytest that notes which files were opened: `pytest -p support.opened`.

The files are written to the one that the variable OPENED_FILES names, one a line.
"""

import os
import sys
from pathlib import Path

import pytest

_opened: set[str] = set()


def _note(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open" and isinstance(arguments[0], str):
        _opened.add(arguments[0])


def pytest_configure() -> None:
    sys.addaudithook(_note)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if not session.testsfailed:
        names = "".join(f"{name}\n" for name in sorted(_opened))
        Path(os.environ["OPENED_FILES"]).write_text(names)
