"""`make demo`'s command, on the suite's broker."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.broker, pytest.mark.slow]

CLAIMS_COUNT = 6


def test_the_demo_holds_what_it_promises(kafka: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from pipelines.cli import main; main()", "demo"]
    result = subprocess.run(
        [*command, "--bootstrap-servers", kafka],
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
        env={**os.environ, "STANDPIPE_HOME": str(tmp_path)},
    )
    assert result.returncode == 0, result.stdout + result.stderr
    verdicts = [line for line in result.stdout.splitlines() if line.startswith("OK ")]
    assert len(verdicts) == CLAIMS_COUNT, result.stdout
    assert '"sync": "synchronized"' in result.stdout
    assert "  matches  did:plc:" in result.stdout
