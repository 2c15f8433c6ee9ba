"""Where a record lies, of the topics that have or had its collection. Pure.

A collection that got a topic of its own, or lost it, has records in two topics: the current one
and a former one. What changes moves: its new content, if there is any, goes to the current topic,
and a null to the former one, in one transaction. So when both are read to a common end, one of
them at most has a record as its last word, whatever the order in which they were read:

    a null      takes out what its own topic said before, and nothing that the other one said
    a record    of a higher revision outdoes one of a lower: for one URI revisions never decrease
    a record    of the same revision stands beside the other topic's until a null of either comes:
                under one revision a record may be purged and come back, or be corrected, and the
                table may change in between

A collection with one topic is the plain case of it: the later message counts.
"""

from pipelines.atproto.syntax import Tid
from pipelines.compact.store import Record


def settle(known: Record | None, cid: bytes | None, rev: Tid, *, is_former: bool) -> Record | None:
    """Returns what is known of a record after the next message of one of its topics.

    Args:
        known: what is known before; None for no record.
        cid: raw CID in the message; None for a null.
        rev: revision in the message.
        is_former: whether it is of a former topic.
    """
    if known is None:
        return None if cid is None else Record(cid, rev, is_former)
    there = _other(known, is_former=is_former)
    at = known.rev
    if cid is not None and there is not None and rev < known.rev:
        return known
    if cid is not None and rev != known.rev:
        at, there = rev, None
    current, former = (there, cid) if is_former else (cid, there)
    if current is not None:
        return Record(current, at, former_cid=former)
    return None if former is None else Record(former, at, is_former=True)


def _other(known: Record, *, is_former: bool) -> bytes | None:
    """Returns what the other topic is known to have, seen from a former one or the current one."""
    if is_former:
        return None if known.is_former else known.cid
    return known.cid if known.is_former else known.former_cid
