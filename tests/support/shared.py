"""Cases from the shared data folder, one test for each, named by its content."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.captures import read_frames

_ROOT = Path(__file__).parent.parent.parent


def shared_folder() -> Path:
    """Returns the folder that STANDPIPE_DATA names; it need not exist."""
    return (_ROOT / os.environ.get("STANDPIPE_DATA", "../shared/data")).resolve()


def json_cases(path: str, name: Callable[[Any], str]) -> list[Any]:
    """Returns the cases of a JSON file as parameters of a test.

    Where the folder is missing there is one empty case: the test also has to use the fixture
    `shared_data`, which then skips it, or makes it fail under CI=true.

    Args:
        path: inside the shared folder.
        name: from a case to what its test is called.
    """
    folder = shared_folder()
    if not folder.is_dir():
        return [pytest.param(None, id="no-shared-data")]
    cases = json.loads((folder / path).read_bytes())
    return [pytest.param(case, id=name(case)) for case in cases]


def frame_cases(path: str) -> list[Any]:
    """Returns the frames of a capture as parameters of a test, likewise."""
    folder = shared_folder()
    if not folder.is_dir():
        return [pytest.param(None, id="no-shared-data")]
    return [pytest.param(frame, id=f"n={n}") for n, frame in enumerate(read_frames(folder / path))]
