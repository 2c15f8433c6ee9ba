"""Every reason has a meaning of its own, and a line in the documentation that is true."""

import random
import re
from pathlib import Path
from typing import NamedTuple

from support.damage import damage
from support.recordings import load_recording
from support.repo import SIGNER, ScriptedKeys, make_step
from support.wire import START_US

from pipelines.atproto.errors import Reason
from pipelines.atproto.meanings import MEANINGS
from pipelines.verdict import Refused, judge_frame

_PAGE = Path(__file__).parents[2] / "schemas" / "REASONS.md"
_AS_BEFORE, _SUSPECT = "as before", "suspect"
_EITHER = "suspect, if the commit in it is real"


class _Row(NamedTuple):
    reason: str
    meaning: str
    rules: str
    repository: str


def _rows() -> list[_Row]:
    lines = [line for line in _PAGE.read_text().splitlines() if line.startswith("| `")]
    return [_Row(*(cell.strip(" `") for cell in line.strip("|").split("|"))) for line in lines]


def test_each_reason_has_a_meaning_and_no_two_share_one() -> None:
    assert MEANINGS.keys() == set(Reason)
    assert len(set(MEANINGS.values())) == len(Reason)
    for meaning in MEANINGS.values():
        assert meaning.strip(" .") == meaning
        assert len(meaning) > 10


def test_the_page_has_each_reason_once_with_its_meaning() -> None:
    expected = [(str(reason), MEANINGS[reason]) for reason in Reason]
    assert [(row.reason, row.meaning) for row in _rows()] == expected


def test_rules_are_cited_as_in_the_sources() -> None:
    for row in _rows():
        assert re.fullmatch("[A-M]-[0-9]{2}( [A-M]-[0-9]{2})*", row.rules), row
    kinds = {_AS_BEFORE, _SUSPECT, _EITHER, "proven; in `record_error", "-"}
    assert {row.repository for row in _rows()} == kinds


def test_what_the_page_says_of_the_repository_is_what_the_verdict_does(
    capture_folder: Path,
) -> None:
    """A refused frame marks a repository exactly if its commit is authentic."""
    repository_of = {row.reason: row.repository for row in _rows()}
    rng = random.Random(12)
    step, keys = make_step(), ScriptedKeys(SIGNER.key)
    recording = load_recording(capture_folder)
    cases = [
        (damage(frame, rng, rng.randrange(1, 3)), keys)
        for frame in (step.frame(), step.sync_frame())
        for _ in range(1_000)
    ]
    verdicts = [judge_frame(frame, keys, START_US) for frame, keys in cases]
    verdicts += [judge_frame(frame, recording.keys, None) for frame in recording.frames]
    seen = set()
    for verdict in verdicts:
        if isinstance(verdict, Refused):
            expected = _AS_BEFORE if verdict.authentic is None else _SUSPECT
            assert repository_of[verdict.error.reason] in {expected, _EITHER}, verdict.error
            seen.add(expected)
    assert seen == {_AS_BEFORE, _SUSPECT}
