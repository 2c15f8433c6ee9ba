"""A whole tree in the order of its paths, from blocks that are asked for one by one.

The package's docstring has the terms. Source: draft-holmgren-at-repository "Tree Structure",
"Block Ordering", "Repository Import Validation"; atproto.com/specs/repository "Streamable CAR".
spec: B-20…B-46, C-10, C-11.
"""

from collections.abc import Generator
from typing import TypeAlias

from pipelines.atproto.mst.node import EMPTY_ROOT_CID, Node, check_place, check_root, parse_node

# What a traversal asks for: a raw CID; and for a record its key, for a node None.
Wanted: TypeAlias = tuple[bytes, bytes | None]
Traversal: TypeAlias = Generator[Wanted, bytes, None]


def traverse(root: bytes) -> Traversal:
    """Walks a whole tree in pre-order and checks every rule on the way.

    It asks for a block by yielding, and whoever drives it sends the block: so it neither cares
    where blocks come from nor how long they take. The order in which it asks is that of a
    streamable CAR: a node, then its entries in order, each record before the subtree behind it.
    Keys come in strictly ascending order, and a record is asked for only when its node has proven
    to be in its place.

    Takes the memory of the nodes on the way down. A node cannot occur twice: its keys would leave
    their range the second time. A record may; it is asked for as often as keys name it.

    Args:
        root: CID of the root node.

    Yields:
        The CID of the block that it needs next, and the key if that is a record.

    Receives:
        The block, its hash already checked. What is sent for a record is not looked at.

    Raises:
        MstError: a node breaks a rule.
    """
    node = parse_node((yield root, None), root)
    if root != EMPTY_ROOT_CID:
        yield from _below(node, check_root(node), None, None)


def _below(node: Node, layer: int, low: bytes | None, high: bytes | None) -> Traversal:
    """Walks a node that was checked, and all below it."""
    keys, entries = node.keys, node.entries
    child = node.left
    for index in range(len(keys) + 1):
        end = keys[index] if index < len(keys) else high
        if isinstance(child, bytes):
            inner = parse_node((yield child, None), child)
            check_place(inner, layer - 1, low, end)
            yield from _below(inner, layer - 1, low, end)
        if index < len(keys):
            entry = entries[index]
            yield entry["v"], keys[index]
            child, low = entry["t"], end
