"""`make demo`'s command, on the suite's broker."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.broker, pytest.mark.slow]


def test_the_demo_holds_what_it_promises(kafka: str, capture_folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from pipelines.cli import main; main()", "demo"]
    result = subprocess.run(
        [*command, "--capture", str(capture_folder), "--bootstrap-servers", kafka],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
        env={**os.environ, "STANDPIPE_HOME": str(tmp_path)},
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "OK  501 frames in" in result.stdout
    assert "refused: commit.path_twice" in result.stdout
    assert '"collection": "app.bsky.feed.post"' in result.stdout
