"""A record that two topics have something to say about: what its store keeps of it."""

import pytest
from support.events import rev

from pipelines.atproto.cid import cid_of
from pipelines.compact.homes import settle
from pipelines.compact.store import Record

OURS, THEIRS = cid_of(b"0"), cid_of(b"1")
HERE = Record(OURS, rev(2))
THERE = Record(OURS, rev(2), is_former=True)
BOTH = Record(OURS, rev(2), former_cid=THEIRS)


@pytest.mark.parametrize(
    ("known", "cid", "number", "is_former", "expected"),
    [
        pytest.param(None, OURS, 2, False, HERE, id="the first one"),
        pytest.param(None, OURS, 2, True, THERE, id="the first one, of the former topic"),
        pytest.param(None, None, 2, True, None, id="a null for nothing"),
        pytest.param(HERE, THEIRS, 1, True, HERE, id="an older one"),
        pytest.param(THERE, OURS, 3, False, Record(OURS, rev(3)), id="a newer one"),
        pytest.param(HERE, THEIRS, 2, True, BOTH, id="one as old, of the former topic"),
        pytest.param(
            Record(THEIRS, rev(2), is_former=True), OURS, 2, False, BOTH, id="one as old"
        ),
        pytest.param(HERE, None, 2, True, HERE, id="a null of the other topic, as old"),
        pytest.param(HERE, None, 3, True, HERE, id="a newer null of the other topic"),
        pytest.param(THERE, None, 2, False, THERE, id="the other way round"),
        pytest.param(HERE, None, 2, False, None, id="a null of its own topic"),
        pytest.param(THERE, None, 2, True, None, id="a null of its own topic, a former one"),
        pytest.param(BOTH, None, 2, True, HERE, id="the former topic's is outdated"),
        pytest.param(
            BOTH, None, 2, False, Record(THEIRS, rev(2), is_former=True), id="the current one's is"
        ),
        pytest.param(HERE, THEIRS, 2, False, Record(THEIRS, rev(2)), id="a later one, as old"),
        pytest.param(
            Record(OURS, rev(2)), THEIRS, 1, False, Record(THEIRS, rev(1)), id="one topic: later"
        ),
    ],
)
def test_what_is_known_after_a_message(
    known: Record | None, cid: bytes | None, number: int, is_former: bool, expected: Record | None
) -> None:
    assert settle(known, cid, rev(number), is_former=is_former) == expected
