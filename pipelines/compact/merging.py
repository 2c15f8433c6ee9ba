"""The records of a snapshot against those that are held: what has to change. Pure.

Both come in the order of their paths, whose characters are ASCII, so that text sorts like bytes.
One slice takes some records of the snapshot, in one chunk, and all that is held between them.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from pipelines.atproto.cid import encode_cid
from pipelines.atproto.frames import Action
from pipelines.atproto.syntax import parse_path
from pipelines.compact.events import Body, EventOp
from pipelines.compact.store import Record
from pipelines.repair.chunks import ChunkRecord


class Slice(NamedTuple):
    """What a part of a snapshot changes.

    Attributes:
        ops: operations to carry out on the records.
        after_path: path up to which everything is compared; None if nothing was there.
        is_whole: whether that is all there was to compare.
    """

    ops: tuple[EventOp, ...]
    after_path: str | None
    is_whole: bool


def merge_slice(
    wanted: Sequence[ChunkRecord],
    held: Iterable[tuple[str, Record]],
    limit: int,
    *,
    is_last: bool,
) -> Slice:
    """Compares the records of a chunk with those that are held, up to a number of operations.

    Args:
        wanted: the records of the chunk that were not compared yet, in the order of their paths.
        held: the records of the repository that were not compared yet, in that order; it is read
            as far as needed.
        limit: operations that are enough.
        is_last: whether the snapshot has no record behind these, so that everything else that is
            held has to go.
    """
    end = None if is_last else wanted[-1].path
    ops: list[EventOp] = []
    after_path: str | None = None
    for path, target, record in _pairs(wanted, held, end):
        if len(ops) == limit:
            return Slice(tuple(ops), after_path, is_whole=False)
        op = _op(path, target, record)
        if op is not None:
            ops.append(op)
        after_path = path
    return Slice(tuple(ops), after_path, is_whole=True)


def _pairs(
    wanted: Sequence[ChunkRecord], held: Iterable[tuple[str, Record]], end: str | None
) -> Iterator[tuple[str, ChunkRecord | None, Record | None]]:
    """Yields each path of either side, up to `end`, with what it has there."""
    rest = iter(held)
    path, record = next(rest, (None, None))
    for target in wanted:
        while path is not None and path < target.path:
            yield path, None, record
            path, record = next(rest, (None, None))
        if path == target.path:
            yield path, target, record
            path, record = next(rest, (None, None))
        else:
            yield target.path, target, None
    while path is not None and (end is None or path <= end):
        yield path, None, record
        path, record = next(rest, (None, None))


def _op(path: str, target: ChunkRecord | None, record: Record | None) -> EventOp | None:
    """Returns what has to be done at a path, or None if nothing."""
    prev = None if record is None else encode_cid(record.cid)
    if target is None:
        return EventOp(Action.DELETE, *parse_path(path), None, prev, None)
    if target.cid == prev:
        return None
    action = Action.CREATE if prev is None else Action.UPDATE
    body = Body(target.record, target.record_error, target.record_cbor)
    return EventOp(action, target.collection, target.rkey, target.cid, prev, body)
