"""Each kind of fault once, while a network goes through everything: nothing is lost or twice."""

from pathlib import Path

import pytest
from chaos.faults import SHORT_ROUND, Kind
from chaos.rounds import run_round

pytestmark = [pytest.mark.broker, pytest.mark.slow]

SEED = 20261125


def test_each_kind_of_fault(capture_folder: Path, tmp_path: Path) -> None:
    outcome = run_round(tmp_path, capture_folder, SEED, SHORT_ROUND, print)
    assert [str(wrong) for wrong in outcome.wrong] == []
    assert set(outcome.counted) == set(Kind)
