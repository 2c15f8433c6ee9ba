"""What a cursor means: rows of numbers, marks, and what was deleted."""

import pytest

from pipelines.kafka.messages import Position
from pipelines.serving.cursors import Cursors, FutureCursorError, Start

EPOCHS = ("epochs", 0)
FRAMES = ("frames", 0)
NOTHING_DELETED = {FRAMES: 0}


def _place(offset: int) -> dict[Position, int]:
    """The place at an epoch: each has ten frames."""
    return {EPOCHS: offset, FRAMES: 10 * offset}


def _cursors(*seqs: tuple[int, int], mark_epochs: int = 2, max_marks_count: int = 100) -> Cursors:
    cursors = Cursors(mark_epochs=mark_epochs, max_marks_count=max_marks_count)
    for offset, found in enumerate(seqs):
        cursors.add(offset, found, _place(offset), _place(offset + 1))
    return cursors


FOUR = ((101, 110), (111, 120), (121, 130), (131, 140))
PRESENT = _place(4)


# The first epoch has a mark, the second, and each second one from there on.
@pytest.mark.parametrize(
    ("cursor", "mark"), [(100, 0), (109, 0), (110, 1), (129, 1), (130, 3), (139, 3)]
)
def test_a_cursor_begins_at_the_mark_before_its_successor(cursor: int, mark: int) -> None:
    found = _cursors(*FOUR).find(cursor, PRESENT, NOTHING_DELETED)
    assert found == Start(_place(mark), after_seq=cursor, skip_end=4)


def test_the_last_number_goes_on_at_the_present() -> None:
    assert _cursors(*FOUR).find(140, PRESENT, NOTHING_DELETED) == Start(PRESENT)
    # Also where everything before it was deleted: nothing is missing.
    assert _cursors(*FOUR).find(140, PRESENT, {FRAMES: 40}) == Start(PRESENT)


def test_zero_is_all_there_is_and_what_is_too_old_is_said_to_be() -> None:
    cursors = _cursors(*FOUR)
    assert cursors.find(0, PRESENT, NOTHING_DELETED) == Start(_place(0))
    assert cursors.find(99, PRESENT, NOTHING_DELETED) == Start(_place(0), is_outdated=True)


def test_a_number_above_all_is_from_the_future() -> None:
    with pytest.raises(FutureCursorError):
        _cursors(*FOUR).find(141, PRESENT, NOTHING_DELETED)
    with pytest.raises(FutureCursorError):
        Cursors().find(1, PRESENT, NOTHING_DELETED)
    assert Cursors().find(0, PRESENT, NOTHING_DELETED) == Start(PRESENT)


def test_what_was_deleted_is_no_longer_the_oldest() -> None:
    cursors = _cursors(*FOUR)
    deleted = {FRAMES: 1}
    assert cursors.find(0, PRESENT, deleted) == Start(_place(1))
    assert cursors.find(109, PRESENT, deleted) == Start(_place(1), is_outdated=True)
    assert cursors.find(110, PRESENT, deleted).is_outdated is False
    assert cursors.find(0, PRESENT, {FRAMES: 11}) == Start(_place(3))
    # Nothing is left.
    gone = {FRAMES: 40}
    assert cursors.find(0, PRESENT, gone) == Start(PRESENT)
    assert cursors.find(125, PRESENT, gone) == Start(PRESENT, is_outdated=True)


def test_what_others_have_lost_in_a_partition_does_not_matter() -> None:
    cursors = Cursors()
    quiet = ("frames", 1)
    before, after = {**_place(0), quiet: 0}, {**_place(1), quiet: 0}
    cursors.add(0, (1, 9), before, after)
    log_starts = {FRAMES: 0, quiet: 500}
    # Reading begins where there is something to read.
    assert cursors.find(0, after, log_starts) == Start({**_place(0), quiet: 500})


def test_of_an_upstream_that_began_anew_the_latest_row_counts() -> None:
    cursors = _cursors((1, 450), (451, 900), (1, 20), (21, 40))
    assert cursors.find(30, PRESENT, NOTHING_DELETED) == Start(_place(2), 30, 4)
    # Only the latest row's numbers are left out, up to where it was.
    assert cursors.find(500, PRESENT, NOTHING_DELETED) == Start(_place(1), 500, 2)
    with pytest.raises(FutureCursorError):
        cursors.find(901, PRESENT, NOTHING_DELETED)
    assert cursors.find(40, PRESENT, NOTHING_DELETED) == Start(PRESENT)


def test_between_two_rows_nothing_is_known() -> None:
    cursors = _cursors((500, 900), (1, 40))
    assert cursors.find(200, _place(2), NOTHING_DELETED) == Start(_place(0), is_outdated=True)


def test_marks_have_a_limit() -> None:
    cursors = _cursors(*FOUR, mark_epochs=1, max_marks_count=2)
    assert cursors.find(0, PRESENT, NOTHING_DELETED) == Start(_place(2))
    assert cursors.find(115, PRESENT, NOTHING_DELETED) == Start(_place(2), is_outdated=True)
