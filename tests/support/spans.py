"""Where each field of a frame lies, in bytes: so that a test can say what it has damaged."""

from typing import NamedTuple


class Span(NamedTuple):
    """A piece of a frame.

    Attributes:
        field: what it is, such as `header.t`, `rev`, `ops[0].cid` or `rev (name)`.
        start: offset of its first byte.
        end: offset after its last byte.
    """

    field: str
    start: int
    end: int


def frame_spans(frame: bytes) -> list[Span]:
    """Returns the spans of every scalar, name and container head, without a gap.

    Args:
        frame: two canonical DAG-CBOR items.
    """
    header_end, header = _walk(frame, 0, "header")
    payload_end, payload = _walk(frame, header_end, "")
    assert payload_end == len(frame)
    spans = [*header, *payload]
    assert [span.end for span in spans[:-1]] == [span.start for span in spans[1:]]
    return spans


def _walk(raw: bytes, start: int, field: str) -> tuple[int, list[Span]]:
    """Returns where an item ends, and its spans."""
    major, argument, position = _head(raw, start)
    if major in (2, 3):
        return position + argument, [Span(field, start, position + argument)]
    if major == 6:
        end, _ = _walk(raw, position, field)
        return end, [Span(field, start, end)]
    if major not in (4, 5):
        return position, [Span(field, start, position)]
    spans = [Span(f"{field or 'payload'} (head)", start, position)]
    for index in range(argument):
        name = f"{field}[{index}]"
        if major == 5:
            _, length, text = _head(raw, position)
            key = raw[text : text + length].decode()
            name = f"{field}.{key}" if field else key
            spans.append(Span(f"{name} (name)", position, text + length))
            position = text + length
        position, inner = _walk(raw, position, name)
        spans += inner
    return position, spans


def _head(raw: bytes, start: int) -> tuple[int, int, int]:
    """Returns major type, argument and the offset after the head."""
    major, info = raw[start] >> 5, raw[start] & 31
    if info < 24:
        return major, info, start + 1
    size = 1 << (info - 24)
    return major, int.from_bytes(raw[start + 1 : start + 1 + size]), start + 1 + size


def block_spans(frame: bytes) -> list[Span]:
    """Returns the sections of the CAR in a frame's `blocks`; the first is its header."""
    (blocks,) = [span for span in frame_spans(frame) if span.field == "blocks"]
    _, _, position = _head(frame, blocks.start)
    spans: list[Span] = []
    while position < blocks.end:
        length, start = _varint(frame, position)
        spans.append(Span(f"section {len(spans)}", position, start + length))
        position = start + length
    assert position == blocks.end
    return spans


def cid_offset(frame: bytes, section: Span) -> int:
    """Returns where the CID of a section starts."""
    return _varint(frame, section.start)[1]


def _varint(raw: bytes, start: int) -> tuple[int, int]:
    """Returns value and the offset after it."""
    value, shift = 0, 0
    for position in range(start, start + 9):
        value |= (raw[position] & 0x7F) << shift
        shift += 7
        if raw[position] < 0x80:
            return value, position + 1
    raise AssertionError("a length of more than 63 bits")
