"""The export's lines and positions (spec: L-12)."""

from typing import Any

import pytest

from pipelines.mirror.export import (
    FIRST,
    ExportError,
    is_behind,
    is_sequenced,
    parse_page,
    position_after,
)


def _time(second: int) -> str:
    return f"2026-01-01T00:00:{second:02}.000Z"


def _sequenced(*seqs: Any) -> list[dict[str, Any]]:
    return [{"seq": seq, "createdAt": _time(1)} for seq in seqs]


def _timed(*seconds: int) -> list[dict[str, Any]]:
    return [{"createdAt": _time(second)} for second in seconds]


@pytest.mark.parametrize(
    "text", [b'{"a":1}\n{"b":2}', b'{"a":1}\n{"b":2}\n', b'{"a":1}\n\n{"b":2}']
)
def test_a_page_is_lines_of_json(text: bytes) -> None:
    assert parse_page(text) == [{"a": 1}, {"b": 2}]


def test_a_page_may_be_empty() -> None:
    assert parse_page(b"") == []


@pytest.mark.parametrize(
    "text", [b"{", b'{"a":1}\n{"b"', b"<html>", b"[]", b"5", b"null", b"\xff"]
)
def test_what_is_no_page_is_refused(text: bytes) -> None:
    with pytest.raises(ExportError, match=r"not JSON|not a JSON object"):
        parse_page(text)


@pytest.mark.parametrize(
    ("position", "expected"),
    [("0", True), ("12345", True), (_time(0), False), ("", False), ("-1", False), ("1e3", False)],
)
def test_a_position_is_a_number_or_a_time(position: str, expected: bool) -> None:
    assert is_sequenced(position) is expected


class TestBySequenceNumber:
    @pytest.mark.parametrize("is_full", [True, False])
    def test_the_next_page_begins_after_the_last_line(self, is_full: bool) -> None:
        assert position_after(FIRST, _sequenced(1, 2, 7), is_full=is_full) == "7"
        assert position_after("7", _sequenced(8), is_full=is_full) == "8"

    def test_without_lines_it_stays(self) -> None:
        assert position_after("7", [], is_full=False) == "7"

    @pytest.mark.parametrize(
        "lines",
        [
            _sequenced(7),
            _sequenced(8, 8),
            _sequenced(9, 8),
            _sequenced(8, None),
            _sequenced(8, "9"),
            _sequenced(8, 10**18),
            _sequenced(8, True),
        ],
    )
    def test_the_numbers_rise(self, lines: list[dict[str, Any]]) -> None:
        with pytest.raises(ExportError, match=r"sequence number .* follows"):
            position_after("7", lines, is_full=True)

    def test_a_dump_is_passed_over_up_to_the_position(self) -> None:
        assert [is_behind(line, "7") for line in _sequenced(6, 7, 8)] == [True, True, False]
        assert not is_behind(_timed(1)[0], FIRST)
        with pytest.raises(ExportError, match="no sequence number"):
            is_behind(_timed(1)[0], "7")


class TestByTime:
    def test_the_last_time_is_read_again(self) -> None:
        """A page may end between operations of the same time; positions are exclusive."""
        assert position_after(FIRST, _timed(1, 2, 3), is_full=True) == _time(2)
        assert position_after(_time(0), _timed(1, 3, 3, 3), is_full=True) == _time(1)

    def test_one_time_alone_leads_nowhere(self) -> None:
        with pytest.raises(ExportError, match="2 operations have the time"):
            position_after(FIRST, _timed(3, 3), is_full=True)
        assert position_after(_time(2), _timed(3, 3), is_full=False) == _time(2)

    def test_the_times_do_not_fall(self) -> None:
        with pytest.raises(ExportError, match="not in the order"):
            position_after(FIRST, _timed(2, 1), is_full=False)

    @pytest.mark.parametrize("time", [None, "yesterday", 5])
    def test_a_line_says_when(self, time: object) -> None:
        for check in (
            lambda line: position_after(FIRST, [line], is_full=False),
            lambda line: is_behind(line, _time(1)),
        ):
            with pytest.raises(ExportError, match="createdAt is not a datetime"):
                check({"createdAt": time})

    def test_a_dump_is_passed_over_up_to_the_position(self) -> None:
        assert [is_behind(line, _time(2)) for line in _timed(1, 2, 3)] == [True, True, False]
