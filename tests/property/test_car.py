"""CAR files on any input: blocks with their hash come out, or the file is refused."""

from hashlib import sha256

from hypothesis import given
from hypothesis import strategies as st
from property import strategies
from support.oracle import cid_of
from support.repo import make_step, outcome
from support.wire import car, car_header, car_section

from pipelines.atproto.car import CarReader, read_car, write_car
from pipelines.atproto.errors import Reason

_BLOCKS = st.lists(st.binary(max_size=300), max_size=6)
_STEP = make_step()
_ANY_BYTES = st.one_of(
    st.binary(max_size=200),
    st.binary(max_size=200).map(lambda tail: car_header([cid_of(b"")]) + tail),
    _BLOCKS.map(lambda blocks: car(cid_of(b""), blocks)).flatmap(strategies.damaged),
    strategies.damaged(_STEP.car),
)


@given(blocks=_BLOCKS)
def test_what_was_written_is_read(blocks: list[bytes]) -> None:
    """Spec: C-01, C-07."""
    read = read_car(car(cid_of(b"root"), blocks))
    assert read.roots == (cid_of(b"root"),)
    assert read.blocks == {cid_of(block): block for block in blocks}
    assert write_car(read.roots[0], read.blocks.items()) == car(cid_of(b"root"), unique(blocks))


def unique(blocks: list[bytes]) -> list[bytes]:
    return list(dict.fromkeys(blocks))


@given(raw=_ANY_BYTES)
def test_any_bytes_are_hashed_blocks_or_refused(raw: bytes) -> None:
    """Spec: A-45, C-09."""
    read = outcome(lambda: read_car(raw))
    if isinstance(read, Reason):
        assert read.startswith(("car.", "cid."))
        return
    assert read.roots
    assert all(sha256(block).digest() == cid[4:] for cid, block in read.blocks.items())
    written = sum(len(car_section(cid, block)) for cid, block in read.blocks.items())
    assert written <= len(raw)


@given(raw=_ANY_BYTES, size=st.integers(1, 400))
def test_pieces_are_read_like_the_whole(raw: bytes, size: int) -> None:
    """Spec: C-09."""

    def read_pieces() -> tuple[tuple[bytes, ...], list[tuple[bytes, bytes]]]:
        reader = CarReader()
        sections = []
        for start in range(0, len(raw), size):
            sections += reader.feed(raw[start : start + size])
        reader.close()
        return reader.roots, sections

    whole, pieces = outcome(lambda: read_car(raw)), outcome(read_pieces)
    if isinstance(whole, Reason) or isinstance(pieces, Reason):
        assert whole == pieces
    else:
        assert whole == (pieces[0], dict(pieces[1]))
