"""The export of a PLC directory: its lines, and where to go on after them. Pure.

`/export?after=…` answers with up to a thousand JSON lines. A position, which `after` takes, has
two forms, and so have the lines:

    0, 12345                    {type: sequenced_op, did, operation, cid, createdAt, seq}
    2023-04-12T04:53:57.057Z    {did, operation, cid, nullified, createdAt}

An older directory takes every position for a time, and `0` for the year 2000, before its first
operation. So the answer to `0` tells which kind of directory it is. Dumps have the same lines.

By time, a page begins after the time named, and several operations may have the same one. Where a
page ends between them, the next one begins at the time before and has them again.

Implements "Bulk Export" of https://web.plc.directory/spec/v0.1/did-plc. spec: L-12.
"""

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

import orjson

from pipelines.atproto.errors import IdentifierError
from pipelines.atproto.syntax import parse_datetime

FIRST: Final = "0"
# The most that a directory answers with.
PAGE_LINES: Final = 1_000

# What fits in a position; the directory has given out 10⁸ in its first years.
MAX_SEQ: Final = 10**18 - 1

_match_seq = re.compile("[0-9]{1,18}").fullmatch

# The JSON object in a line.
Line = Mapping[str, Any]


class ExportError(Exception):
    """Lines are not those of an export, or do not go on from where they should."""


def parse_page(text: bytes) -> list[Line]:
    """Reads a page.

    Args:
        text: JSON objects, separated by line feeds; behind the last one there need not be any.

    Raises:
        ExportError: one is no JSON object.
    """
    return [parse_line(line) for line in text.split(b"\n") if line]


def parse_line(text: bytes) -> Line:
    """Reads one line.

    Raises:
        ExportError: it is no JSON object.
    """
    try:
        line = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ExportError(f"not JSON: {error}") from None
    if not isinstance(line, dict):
        raise ExportError("not a JSON object")
    return line


def is_sequenced(position: str) -> bool:
    """Tells whether a position is a sequence number, not a time."""
    return _match_seq(position) is not None


def seq_of(line: Line) -> int | None:
    """Returns the sequence number of a line; None if it has none, or none that can be."""
    seq = line.get("seq")
    return seq if type(seq) is int and 0 <= seq <= MAX_SEQ else None


def is_behind(line: Line, position: str) -> bool:
    """Tells whether a line of a dump lies before a position, so that it was read already.

    Raises:
        ExportError: the line does not say where it is.
    """
    seq = seq_of(line)
    if is_sequenced(position):
        if seq is None and position != FIRST:
            # It would be read from its beginning, and the position fall back to its last time.
            raise ExportError(f"no sequence number, while the position is the one of {position}")
        return seq is not None and seq <= int(position)
    return _created_us(line) <= parse_datetime(position)


def position_after(position: str, lines: Sequence[Line], *, is_full: bool) -> str:
    """Returns where to go on after some lines.

    Args:
        position: what they come after.
        lines: in the export's order; may be none.
        is_full: whether there are as many as there can be, so that others may follow at once.

    Raises:
        ExportError: they do not say where they are, are out of order, or lead no further.
    """
    if not lines:
        return position
    if seq_of(lines[0]) is not None:
        return str(_last_seq(lines, int(position) if is_sequenced(position) else 0))
    times_us = [_created_us(line) for line in lines]
    if any(later < earlier for earlier, later in pairwise(times_us)):
        raise ExportError("the lines are not in the order of their times")
    for line, time_us in zip(reversed(lines), reversed(times_us), strict=True):
        if time_us < times_us[-1]:
            # The lines of the last time come again, and with them those that had no room.
            return str(line["createdAt"])
    if is_full:
        raise ExportError(
            f"{len(lines)} operations have the time {lines[-1]['createdAt']}: more cannot be read"
        )
    return position


def _last_seq(lines: Sequence[Line], last: int) -> int:
    for line in lines:
        seq = seq_of(line)
        if seq is None or seq <= last:
            raise ExportError(f"sequence number {seq} follows {last}")
        last = seq
    return last


def _created_us(line: Line) -> int:
    try:
        return parse_datetime(line.get("createdAt"))
    except IdentifierError as error:
        raise ExportError(f"createdAt is {error.detail}") from None
