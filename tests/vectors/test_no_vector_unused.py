"""Every file of published vectors is read by a test that passes."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.shared

_TESTS = Path(__file__).parents[1]
_SUITES = ("interop", "dasl-cbor", "plc-interop")


def test_every_published_vector_is_used(shared_data: Path, tmp_path: Path) -> None:
    published = {
        path
        for suite in _SUITES
        for path in (shared_data / suite).rglob("*")
        if path.suffix in {".json", ".txt"}
    }
    assert {path.relative_to(shared_data).parts[0] for path in published} == set(_SUITES)
    readers = [
        path
        for path in sorted(Path(__file__).parent.glob("test_*.py"))
        if path != Path(__file__) and re.search("|".join(_SUITES), path.read_text())
    ]
    opened = tmp_path / "opened"
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "support.opened", *readers],
        check=False,
        cwd=_TESTS.parent,
        env=os.environ | {"PYTHONPATH": str(_TESTS), "OPENED_FILES": str(opened)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert ran.returncode == 0, ran.stdout
    assert published - {Path(name) for name in opened.read_text().splitlines()} == set()
