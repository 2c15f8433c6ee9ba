"""The pipeline broken on purpose: the judge of the chaos notices each time.

Each file in `breakages/` takes one of the things away on which the guarantee rests, and mostly
strikes the process at the moment at which that matters (`strike.py`).
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
from chaos import strike
from chaos.faults import Kind
from chaos.outcome import Outcome
from chaos.rounds import run_round

from pipelines.config import state_directory

_ROOT = Path(__file__).parent.parent.parent
_PATCHES = Path(__file__).parent / "breakages"
SEED = 7


class Breakage(NamedTuple):
    """What a patch breaks.

    Attributes:
        what: the comparison that tells.
        is_lost: whether something is missing there; else something is there too often.
        faults: under which it shows, if it is not the process that strikes itself.
        relays_count: of how many upstreams. What the bridge lost of one, another one would bring,
            and what one brings again, the window would keep out.
        strikes: whether the process strikes itself.
    """

    what: str
    is_lost: bool
    faults: Mapping[Kind, int] = {}
    relays_count: int = 1
    strikes: bool = True


BREAKAGES = {
    # A worker says that frames are done before their events are there for good.
    "offsets-outside-the-transaction": Breakage("events of frames", is_lost=True),
    # The bridge says that it has frames before they are there for good.
    "cursor-early": Breakage("frames", is_lost=True),
    # The bridge takes what it has had already.
    "dedupe-off": Breakage("frames", is_lost=False, faults={Kind.RESEND: 1}, strikes=False),
    # The bridge takes what another upstream has brought.
    "window-off": Breakage("frames", is_lost=False, relays_count=2, strikes=False),
    # A worker that has lost its partitions goes on writing.
    "fencing-off": Breakage("events of frames", is_lost=False),
}


@pytest.fixture(params=sorted(BREAKAGES))
def name(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture
def broken(name: str, tmp_path: Path) -> Path:
    """A folder with a copy of the package, broken."""
    folder = tmp_path / "broken"
    shutil.copytree(
        _ROOT / "pipelines", folder / "pipelines", ignore=shutil.ignore_patterns("__pycache__")
    )
    applied = subprocess.run(
        ["git", "apply", "--whitespace=nowarn", _PATCHES / f"{name}.patch"],
        cwd=folder,
        # Inside another repository the patch would be one for that.
        env={**os.environ, "GIT_CEILING_DIRECTORIES": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert applied.returncode == 0, f"write the patch anew: {applied.stderr}"
    shutil.copy(strike.__file__, folder)
    return folder


def test_each_patch_is_a_breakage() -> None:
    assert {path.stem for path in _PATCHES.iterdir()} == BREAKAGES.keys()


def test_each_patch_applies_and_what_a_process_runs_is_broken(name: str, broken: Path) -> None:
    lines = (_PATCHES / f"{name}.patch").read_text().splitlines()
    paths = {line.removeprefix("+++ b/") for line in lines if line.startswith("+++ ")}
    assert paths
    for path in paths:
        assert (broken / path).read_bytes() != (_ROOT / path).read_bytes()
    found = subprocess.run(
        [sys.executable, "-c", "import pipelines.cli; print(pipelines.__file__)"],
        cwd=broken,
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == str(broken / "pipelines" / "__init__.py")


@pytest.mark.broker
@pytest.mark.slow
def test_a_breakage_is_noticed(
    name: str,
    broken: Path,
    capture_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The stages find their package in the folder in which they are started; this process, and so
    # the judge, has the sound one.
    monkeypatch.setenv("STANDPIPE_HOME", str(state_directory()))
    monkeypatch.chdir(broken)
    breakage = BREAKAGES[name]
    folder = tmp_path / "round"
    folder.mkdir()
    outcome = run_round(
        folder,
        capture_folder,
        SEED,
        breakage.faults,
        print,
        relays_count=breakage.relays_count,
        bridges_count=1,
        repeats_count=0,
        has_struck=lambda: not breakage.strikes or strike.DONE.exists(),
    )
    assert is_noticed(outcome, breakage), [str(found) for found in outcome.comparisons]


def is_noticed(outcome: Outcome, breakage: Breakage) -> bool:
    (found,) = [found for found in outcome.comparisons if found.what == breakage.what]
    if found.lost.total() == found.expected_count:
        return False  # the judge had nothing to look at
    return bool(found.lost if breakage.is_lost else found.surplus)
