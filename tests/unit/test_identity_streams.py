"""Bodies that are handed on while they arrive: how large, long and slow they may be."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.identity.streams import (
    PIECE_BYTES,
    SpeedCheck,
    StreamLimits,
    TooSlowError,
    pour,
)

LIMITS = StreamLimits(total_bytes=10_000_000, total_s=60, window_s=10, window_bytes=1_000)


class Body:
    """A body that has arrived already; without an end if it `hangs`."""

    def __init__(self, *pieces: bytes, hangs: bool = False) -> None:
        self._pieces = list(pieces)
        self._hangs = hangs

    async def readany(self) -> bytes:
        if not self._pieces and self._hangs:
            await asyncio.Event().wait()
        return self._pieces.pop(0) if self._pieces else b""


def poured(body: Body, limits: StreamLimits = LIMITS) -> tuple[bool, list[bytes]]:
    taken: list[bytes] = []

    async def sink(piece: bytes) -> None:
        taken.append(piece)

    return asyncio.run(pour(body, sink, limits)), taken


@given(st.lists(st.binary(min_size=1, max_size=2 * PIECE_BYTES), max_size=8))
def test_everything_arrives_in_order_and_in_pieces_worth_the_way(pieces: list[bytes]) -> None:
    is_whole, taken = poured(Body(*pieces))
    assert is_whole
    assert b"".join(taken) == b"".join(pieces)
    assert all(len(piece) >= PIECE_BYTES for piece in taken[:-1])


def test_the_largest_size_is_taken_and_one_byte_more_is_not() -> None:
    limits = StreamLimits(total_bytes=2 * PIECE_BYTES, total_s=60)
    assert poured(Body(bytes(PIECE_BYTES), bytes(PIECE_BYTES)), limits)[0]
    is_whole, taken = poured(Body(bytes(PIECE_BYTES), bytes(PIECE_BYTES), b"!"), limits)
    assert not is_whole
    assert sum(map(len, taken)) <= 2 * PIECE_BYTES


def test_a_body_without_an_end_is_given_up_after_the_longest_time() -> None:
    limits = StreamLimits(total_bytes=10, total_s=0.01)
    with pytest.raises(TimeoutError, match=r"not at its end after 0\.01 s"):
        poured(Body(b"begun", hangs=True), limits)


def test_what_the_taker_raises_comes_through() -> None:
    async def sink(_piece: bytes) -> None:
        raise TimeoutError("of the taker")

    with pytest.raises(TimeoutError, match="of the taker"):
        asyncio.run(pour(Body(b"x"), sink, LIMITS))


def test_a_window_that_brings_enough_is_followed_by_the_next() -> None:
    check = SpeedCheck(LIMITS)
    for _ in range(5):
        check.took(6, 500)
        check.took(6, 500)  # the window is over, with just enough in it


def test_a_window_that_brings_too_little_is_the_last() -> None:
    check = SpeedCheck(LIMITS)
    check.took(10, 5_000)  # what was more than enough does not count for the next one
    check.took(9.9, 999)
    with pytest.raises(TooSlowError, match="only 999 bytes"):
        check.took(0.1, 0)


@given(st.lists(st.tuples(st.floats(0, 9), st.integers(0, 400)), max_size=60))
def test_whoever_passes_kept_up_the_speed(pieces: list[tuple[float, int]]) -> None:
    check = SpeedCheck(LIMITS)
    total_bytes, total_s = 0, 0.0
    try:
        for waited_s, size in pieces:
            total_bytes += size
            total_s += waited_s
            check.took(waited_s, size)
    except TooSlowError:
        return
    # A window ends up to one wait late.
    windows_count = int(total_s // (LIMITS.window_s + 9))
    assert total_bytes >= windows_count * LIMITS.window_bytes
