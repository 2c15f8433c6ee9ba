"""The guided fuzzer: every parser is under it, and what breaks one ends it with the input kept."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.parsers import PARSERS

pytest.importorskip("atheris", reason="the extra `fuzz` is not installed: make fuzz installs it")

_PROGRAM = Path(__file__).parents[1] / "fuzz" / "guided.py"


# The program with a parser that cannot take a zero.
_BROKEN = f"""
import sys
sys.path.insert(0, {str(_PROGRAM.parents[1])!r})
from fuzz import guided
from support.parsers import Parser
guided.PARSERS["cbor.decode"] = Parser(lambda raw: 1 // raw[0], b"\\x01")
guided.main()
"""


def _run(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        env=os.environ | {"STANDPIPE_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_it_begins_with_an_input_for_each_parser(tmp_path: Path) -> None:
    ran = _run(tmp_path, str(_PROGRAM), "1")
    assert ran.returncode == 0, ran.stderr
    seeds = sorted((tmp_path / "fuzz" / "corpus").glob("seed-*"))
    assert [path.name.removeprefix("seed-") for path in seeds] == sorted(PARSERS)
    assert "stat::number_of_executed_units" in ran.stderr


def test_what_breaks_a_parser_is_kept_and_breaks_it_again(tmp_path: Path) -> None:
    ran = _run(tmp_path, "-c", _BROKEN, "50")
    assert ran.returncode != 0
    assert "found in cbor.decode" in ran.stderr
    (finding,) = (tmp_path / "fuzz").glob("guided-crash-*")
    again = _run(tmp_path, "-c", _BROKEN, "--replay", str(finding))
    assert again.returncode == 1
    assert "Error" in again.stderr
    # The parser itself takes it.
    assert _run(tmp_path, str(_PROGRAM), "--replay", str(finding)).returncode == 0
