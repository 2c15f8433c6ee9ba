"""The fuzzer itself: it finds what is to be found, keeps it, and finds it again."""

import random
from pathlib import Path

import pytest
from fuzz.run import Target, fuzz, load_targets, replay

from pipelines.atproto.errors import DagCborError, Reason


def _change_last_byte(raw: bytes, rng: random.Random) -> bytes:
    return raw[:-1] + rng.randbytes(1)


def _fails_on_seven(raw: bytes) -> None:
    if raw[-1] == 7:
        raise ZeroDivisionError
    if raw[-1] > 7:
        raise DagCborError(Reason.CBOR_INVALID, "expected")


_FAILING = Target("failing", _fails_on_seven, [b"input"], _change_last_byte)
_SOUND = Target("sound", len, [b"input"], _change_last_byte)


def test_an_unexpected_exception_is_kept_with_its_input(tmp_path: Path) -> None:
    assert fuzz([_FAILING, _SOUND], 1, 0, tmp_path / "current", tmp_path) == 1
    (finding,) = tmp_path.glob("failing-*.txt")
    text = finding.read_text()
    assert "input: " + b"inpu\x07".hex() in text
    assert "ZeroDivisionError" in text
    assert replay([_SOUND, _FAILING], finding) == 1
    mended = _FAILING._replace(run=len)
    assert replay([mended], finding) == 0


def test_a_file_that_is_no_finding_is_named(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("no finding")
    with pytest.raises(SystemExit, match=r"notes\.txt is not a finding"):
        replay([_SOUND], path)


def test_refusals_are_no_finding(tmp_path: Path) -> None:
    refusing = Target("refusing", _fails_on_seven, [b"\xff"], lambda raw, _: raw)
    assert fuzz([refusing], 0.1, 0, tmp_path / "current", tmp_path) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["current"]


def test_good_inputs_pass_their_targets_undamaged(capture_folder: Path) -> None:
    """Else the fuzzing would only ever meet the first check."""
    targets = load_targets([capture_folder])
    assert {target.name.partition("@")[0] for target in targets} == {
        "car",
        "cid",
        "commit",
        "field",
        "frame",
        "json",
        "log",
        "record",
        "tree",
    }
    for target in targets:
        if not target.name.startswith("record"):  # some recorded ones are odd on purpose
            for seed in target.seeds[:40]:
                target.run(seed)
