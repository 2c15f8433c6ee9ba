"""CAR files: what is read, and what is refused for which reason."""

import io
from functools import partial
from typing import Any

import pytest
from support.oracle import cid_of, dag_cbor, link
from support.repo import refusal
from support.wire import car_header, car_section, varint
from support.work import peak_bytes

from pipelines.atproto import car
from pipelines.atproto.cid import RAW_PREFIX
from pipelines.atproto.errors import Reason

_BLOCKS = [dag_cbor({"n": n, "filler": "x" * size}) for n, size in enumerate((0, 40, 100, 20_000))]
_ROOT = cid_of(_BLOCKS[0])
_SECTIONS = [car_section(cid_of(block), block) for block in _BLOCKS]
_HEADER = car_header([_ROOT])


def _reason(data: bytes) -> Reason:
    return refusal(lambda: car.read_car(data)).reason


def _header_of(value: Any) -> bytes:
    raw = value if isinstance(value, bytes) else dag_cbor(value)
    return varint(len(raw)) + raw


def test_every_block_is_found_under_its_cid() -> None:
    """Spec: C-01, with lengths of one, two and three bytes."""
    read = car.read_car(_HEADER + b"".join(_SECTIONS))
    assert read.roots == (_ROOT,)
    assert read.blocks == {cid_of(block): block for block in _BLOCKS}


def test_order_and_repetition_do_not_matter() -> None:
    """Spec: C-06, C-07."""
    forward = car.read_car(_HEADER + b"".join(_SECTIONS))
    backward = car.read_car(_HEADER + b"".join(reversed(_SECTIONS * 2)))
    assert backward == forward


def test_a_file_may_have_no_block() -> None:
    assert car.read_car(_HEADER) == ((_ROOT,), {})


def test_blobs_are_blocks_too() -> None:
    """Spec: C-08."""
    cid = RAW_PREFIX + cid_of(b"a blob")[4:]
    assert car.read_car(_HEADER + car_section(cid, b"a blob")).blocks == {cid: b"a blob"}


def test_an_empty_block_is_a_block() -> None:
    assert car.read_car(_HEADER + car_section(cid_of(b""), b"")).blocks == {cid_of(b""): b""}


def test_further_roots_are_passed_on() -> None:
    """Spec: C-03."""
    assert car.read_car(car_header([_ROOT, cid_of(b"")])).roots == (_ROOT, cid_of(b""))


def test_the_header_of_the_draft_is_taken() -> None:
    """Spec: C-02: the draft says `root`, everything deployed `roots`."""
    assert car.read_car(_header_of({"root": [link(_ROOT)], "version": 1})).roots == (_ROOT,)


def test_every_truncation_is_refused_unless_it_lies_between_blocks() -> None:
    """Spec: C-09: a short read is never taken for the end."""
    data = _HEADER + b"".join(_SECTIONS[:3])
    ends = {len(_HEADER) + sum(map(len, _SECTIONS[:count])) for count in range(4)}
    for length in range(len(data)):
        if length in ends:
            assert len(car.read_car(data[:length]).blocks) < 3
        else:
            assert _reason(data[:length]) is Reason.CAR_TRUNCATED


def test_every_flipped_bit_of_a_block_is_noticed() -> None:
    """Spec: A-45."""
    section = _SECTIONS[1]
    for bit in range(8 * (len(section) - len(_BLOCKS[1])), 8 * len(section)):
        damaged = bytearray(section)
        damaged[bit // 8] ^= 1 << bit % 8
        assert _reason(_HEADER + damaged) is Reason.CID_HASH_MISMATCH


@pytest.mark.parametrize(
    "header",
    [
        pytest.param([link(_ROOT)], id="not a map"),
        pytest.param({"roots": [link(_ROOT)]}, id="no version"),
        pytest.param({"roots": [link(_ROOT)], "version": 2}, id="version 2"),
        pytest.param({"roots": [link(_ROOT)], "version": True}, id="version true"),
        pytest.param({"roots": [link(_ROOT)], "version": "1"}, id="version as text"),
        pytest.param({"version": 1}, id="no roots"),
        pytest.param({"roots": [], "version": 1}, id="empty roots"),
        pytest.param({"roots": link(_ROOT), "version": 1}, id="root not in a list"),
        pytest.param({"roots": [_ROOT], "version": 1}, id="root as byte string"),
        pytest.param({"roots": [None], "version": 1}, id="root null"),
        pytest.param({"roots": [link(RAW_PREFIX + _ROOT[4:])], "version": 1}, id="root of a blob"),
        pytest.param({"roots": [link(_ROOT)], "version": 1, "pad": "x" * 4096}, id="too long"),
        pytest.param(dag_cbor({"roots": [link(_ROOT)], "version": 1}) + b"\x00", id="two items"),
        pytest.param(b"\xff", id="not CBOR"),
    ],
)
def test_a_bad_header_is_refused(header: Any) -> None:
    """Spec: C-02, C-04."""
    assert _reason(_header_of(header) + _SECTIONS[0]) is Reason.CAR_HEADER


@pytest.mark.parametrize(
    "section",
    [
        pytest.param(b"\x00", id="length 0"),
        pytest.param(b"\x00" + _SECTIONS[0], id="length 0 before a block"),
        pytest.param(varint(35) + _ROOT[:35], id="shorter than a CID"),
        pytest.param(varint(1) + _SECTIONS[0], id="shorter than a CID, with a block after it"),
        pytest.param(b"\xac\x00" + _SECTIONS[0][1:], id="padded to two bytes"),
        pytest.param(b"\xac\x80\x00" + _SECTIONS[0][1:], id="padded to three bytes"),
        pytest.param(b"\xff" * 9 + b"\x01", id="more than 63 bits"),
        pytest.param(b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f", id="2^63 - 1"),
        pytest.param(varint(car.MAX_SECTION_BYTES + 1), id="larger than any block may be"),
    ],
)
def test_a_bad_length_is_refused(section: bytes) -> None:
    """Spec: C-05."""
    assert _reason(_HEADER + section) is Reason.CAR_SECTION


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(varint(35) + _ROOT, id="length"),
        pytest.param(varint(2**30) + _ROOT, id="long length"),
        pytest.param(b"\xac\x00", id="padded"),
        pytest.param(b"\xff" * 10, id="more than 63 bits"),
        pytest.param(car_section(_ROOT, b""), id="hash"),
        pytest.param(car_section(b"\x00" * 36, b""), id="CID"),
    ],
)
def test_an_error_says_where_in_the_file(bad: bytes) -> None:
    """However the file was cut."""
    assert "at 0" in refusal(lambda: car.read_car(b"\xff" * 10)).detail
    data = _HEADER + b"".join(_SECTIONS)
    error = refusal(lambda: car.read_car(data + bad))
    assert f"at {len(data)}" in error.detail
    for size in (1, 7, len(data), len(data) + 1):
        streamed = refusal(partial(_feed, data + bad, size))
        assert (streamed.reason, streamed.detail) == (error.reason, error.detail)


def _feed(data: bytes, size: int) -> list[tuple[bytes, bytes]]:
    reader = car.CarReader()
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    return [section for piece in pieces for section in reader.feed(piece)]


def test_a_length_beyond_its_limit_is_refused_before_its_bytes_are_there() -> None:
    """Spec: C-05, M-06: 4 KiB for the header, 2 MiB for a block with its CID."""
    assert _reason(varint(4_096)) is Reason.CAR_TRUNCATED
    assert _reason(varint(4_097)) is Reason.CAR_HEADER
    assert _reason(_HEADER + varint(2_097_152)) is Reason.CAR_TRUNCATED
    assert _reason(_HEADER + varint(2_097_153)) is Reason.CAR_SECTION


@pytest.mark.parametrize(
    "start",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\xff", id="inside the header's length"),
        pytest.param(_HEADER[:1], id="before the header"),
        pytest.param(_HEADER + b"\xff\xff", id="inside a block's length"),
        pytest.param(_HEADER + varint(car.MAX_SECTION_BYTES), id="before the largest block"),
        pytest.param(_HEADER + b"\x24", id="before a CID"),
    ],
)
def test_an_end_inside_something_is_refused(start: bytes) -> None:
    """Spec: C-09, A-14."""
    assert _reason(start) is Reason.CAR_TRUNCATED


def test_a_header_without_length_is_refused() -> None:
    assert _reason(b"\x00") is Reason.CAR_HEADER


def test_a_block_may_have_two_mebibytes() -> None:
    """Spec: M-06."""
    block = b"x" * (car.MAX_SECTION_BYTES - len(_ROOT))
    assert list(car.read_car(_HEADER + car_section(cid_of(block), block)).blocks) == [
        cid_of(block)
    ]
    larger = block + b"x"
    assert _reason(_HEADER + car_section(cid_of(larger), larger)) is Reason.CAR_SECTION


def test_a_header_may_not_claim_more_than_it_can_need() -> None:
    assert _reason(varint(car.MAX_HEADER_BYTES + 1)) is Reason.CAR_HEADER


@pytest.mark.parametrize(
    "prefix",
    [
        pytest.param("12201220", id="version 0"),
        pytest.param("01701220", id="codec dag-pb"),
        pytest.param("01711e20", id="hash BLAKE3"),
        pytest.param("0171121f", id="short hash"),
        pytest.param("02711220", id="version 2"),
        pytest.param("01f10112", id="long codec"),
    ],
)
def test_a_cid_that_cannot_be_checked_is_refused(prefix: str) -> None:
    """Spec: A-40, A-46."""
    cid = bytes.fromhex(prefix) + _ROOT[4:]
    assert _reason(_HEADER + car_section(cid, _BLOCKS[0])) is Reason.CID_UNSUPPORTED


def test_a_block_under_anothers_cid_is_refused() -> None:
    """Spec: A-45."""
    section = car_section(cid_of(_BLOCKS[1]), _BLOCKS[2])
    assert _reason(_HEADER + section) is Reason.CID_HASH_MISMATCH


def test_a_file_is_written_as_the_format_has_it() -> None:
    """Spec: C-01, with lengths of one, two and three bytes."""
    blocks = [(cid_of(block), block) for block in _BLOCKS]
    assert car.write_car(_ROOT, blocks) == _HEADER + b"".join(_SECTIONS)
    assert car.write_car(_ROOT, []) == _HEADER


@pytest.mark.parametrize("length", [36, 126, 127, 128, 129, 16_383, 16_384, 16_385, 2_097_152])
def test_lengths_around_another_byte_are_written_and_read(length: int) -> None:
    """Spec: C-05."""
    block = bytes(length - 36)
    data = car.write_car(_ROOT, [(cid_of(block), block)])
    assert data == _HEADER + car_section(cid_of(block), block)
    assert car.read_car(data).blocks == {cid_of(block): block}


def test_a_file_may_be_written_block_by_block() -> None:
    blobs = [(RAW_PREFIX + cid_of(blob)[4:], blob) for blob in (b"a blob", b"another one")]
    pieces = list(car.write_car_chunks(_ROOT, blobs))
    assert pieces == [_HEADER, *(car_section(*blob) for blob in blobs)]


@pytest.mark.parametrize("prefix", ["01701220", "01711e20", "12201220", ""])
def test_nothing_is_written_that_no_reader_could_check(prefix: str) -> None:
    """Spec: A-40."""
    cid = bytes.fromhex(prefix) + _ROOT[4:]
    for call in (
        lambda: car.write_car(cid, []),
        lambda: car.write_car(_ROOT, [(cid, _BLOCKS[0])]),
    ):
        assert refusal(call).reason is Reason.CID_UNSUPPORTED


def test_a_blob_is_no_root() -> None:
    cid = RAW_PREFIX + _ROOT[4:]
    assert refusal(lambda: car.write_car(cid, [])).reason is Reason.CID_UNSUPPORTED


@pytest.mark.parametrize("size", [1, 2, 58, 59, 60, 1_000, 10**6])
def test_a_file_that_arrives_in_pieces_is_read_alike(size: int) -> None:
    data = _HEADER + b"".join(_SECTIONS)
    reader = car.CarReader()
    sections = []
    for start in range(0, len(data), size):
        sections += reader.feed(data[start : start + size])
        # Nothing is held back: what is whole has been given.
        assert reader.taken_bytes + len(_SECTIONS[3]) > min(start + size, len(data))
    reader.close()
    assert sections == [(cid_of(block), block) for block in _BLOCKS]
    assert reader.roots == (_ROOT,)
    assert reader.taken_bytes == len(data)


def test_the_roots_are_there_with_the_header() -> None:
    reader = car.CarReader()
    assert reader.feed(_HEADER[:-1]) == []
    before = reader.roots
    assert reader.feed(_HEADER[-1:]) == []
    assert (before, reader.roots) == ((), (_ROOT,))


def test_an_end_between_blocks_only_is_an_end() -> None:
    """Spec: C-09."""
    data = _HEADER + b"".join(_SECTIONS[:2])
    ends = {len(_HEADER), len(_HEADER) + len(_SECTIONS[0]), len(data)}
    for length in range(len(data) + 1):
        reader = car.CarReader()
        reader.feed(data[:length])
        if length in ends:
            reader.close()
        else:
            assert refusal(reader.close).reason is Reason.CAR_TRUNCATED


@pytest.mark.parametrize(
    ("start", "reason"),
    [
        (_HEADER + varint(car.MAX_SECTION_BYTES + 1), Reason.CAR_SECTION),
        (_HEADER + b"\xff" * 9, Reason.CAR_SECTION),
        (b"\xff" * 9, Reason.CAR_SECTION),
        (varint(car.MAX_HEADER_BYTES + 1), Reason.CAR_HEADER),
        (_HEADER + _SECTIONS[1][:-1] + b"?", Reason.CID_HASH_MISMATCH),
        (_HEADER + b"\x23", Reason.CAR_SECTION),
    ],
)
def test_what_is_bad_is_refused_as_soon_as_it_is_there(start: bytes, reason: Reason) -> None:
    """Spec: M-06: before anything else has to be kept."""
    reader = car.CarReader()
    for position in range(len(start) - 1):
        assert reader.feed(start[position : position + 1]) == []
    assert refusal(lambda: reader.feed(start[-1:])).reason is reason


def test_errors_name_the_place_in_the_whole_file() -> None:
    reader = car.CarReader()
    for section in (_HEADER, *_SECTIONS[:2]):
        reader.feed(section)
    place = len(_HEADER) + len(_SECTIONS[0]) + len(_SECTIONS[1])
    assert f"at {place}" in refusal(lambda: reader.feed(b"\x01")).detail


_WHOLE = _HEADER + b"".join(_SECTIONS)
_IN_ORDER = [(cid_of(block), block) for block in _BLOCKS]


@pytest.mark.parametrize(
    "source",
    [
        pytest.param(_WHOLE, id="bytes"),
        pytest.param(io.BytesIO(_WHOLE), id="a file"),
        pytest.param((_WHOLE[n : n + 7] for n in range(0, len(_WHOLE), 7)), id="pieces"),
        pytest.param([b"", _WHOLE, b""], id="empty pieces"),
    ],
)
def test_a_stream_gives_every_block_in_order(source: car.CarSource) -> None:
    roots, blocks = car.stream_car(source)
    assert roots == (_ROOT,)
    assert list(blocks) == _IN_ORDER


def test_a_stream_reads_no_further_than_it_is_asked() -> None:
    left = [_HEADER, *_SECTIONS]
    stream = car.stream_car(left.pop(0) for _ in range(len(left)))
    assert left == _SECTIONS
    assert next(stream.blocks) == _IN_ORDER[0]
    assert left == _SECTIONS[1:]


def test_a_stream_of_a_file_takes_the_memory_of_a_piece() -> None:
    many = _HEADER + b"".join(_SECTIONS * 500)
    blocks = car.stream_car(io.BytesIO(many)).blocks
    assert peak_bytes(lambda: sum(1 for _ in blocks)) < 6 * car._PIECE_BYTES < len(many) // 5


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", Reason.CAR_TRUNCATED),
        (_HEADER[:-1], Reason.CAR_TRUNCATED),
        (_WHOLE[:-1], Reason.CAR_TRUNCATED),
        (_WHOLE[:-1] + b"?", Reason.CID_HASH_MISMATCH),
        (_header_of({"version": 1, "roots": []}), Reason.CAR_HEADER),
    ],
)
def test_a_stream_refuses_what_a_whole_file_is_refused_for(data: bytes, reason: Reason) -> None:
    assert refusal(lambda: list(car.stream_car(data).blocks)).reason is reason
    assert _reason(data) is reason
