"""A whole tree in the order of its paths, from blocks that are asked for one by one.

The package's docstring has the terms. Source: draft-holmgren-at-repository "Tree Structure",
"Block Ordering", "Repository Import Validation"; atproto.com/specs/repository "Streamable CAR".
spec: B-20…B-46, C-10, C-11.
"""

from collections.abc import Generator, Iterator
from typing import TypeAlias

from pipelines.atproto.mst.node import (
    ABOVE_ALL_KEYS,
    BELOW_ALL_KEYS,
    EMPTY_ROOT_CID,
    Wire,
    parse_node,
)

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
    block = yield root, None
    if root == EMPTY_ROOT_CID:
        return
    keys, wire, layer = parse_node(block, None)
    # Not a generator within a generator for each layer: a block would pass through all of them.
    way_down = [_items(keys, wire, BELOW_ALL_KEYS, ABOVE_ALL_KEYS)]
    while way_down:
        for cid, key, low, high in way_down[-1]:
            if key is not None:
                yield cid, key
                continue
            layer -= 1
            keys, wire, _ = parse_node((yield cid, None), layer, low, high)
            way_down.append(_items(keys, wire, low, high))
            break
        else:
            way_down.pop()
            layer += 1


def _items(
    keys: list[bytes], wire: Wire, low: bytes, high: bytes
) -> Iterator[tuple[bytes, bytes | None, bytes, bytes]]:
    """Yields a node's records and children in order.

    Of a record its CID and key, of a child its CID, None, and the keys between which it hangs.
    """
    child = wire["l"]
    for key, entry in zip(keys, wire["e"], strict=True):
        if child is not None:
            yield child, None, low, key
        yield entry["v"], key, low, high
        child, low = entry["t"], key
    if child is not None:
        yield child, None, low, high
