"""Where each field of a frame lies, in bytes: so that a test can say what it has damaged."""

from collections.abc import Iterator
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


def field_at(spans: list[Span], offset: int) -> str:
    """Returns the field in which a byte lies."""
    return next(span.field for span in spans if span.start <= offset < span.end)


def offsets(frame: bytes) -> Iterator[tuple[int, str]]:
    """Yields every offset of a frame with its field."""
    for span in frame_spans(frame):
        for offset in range(span.start, span.end):
            yield offset, span.field
