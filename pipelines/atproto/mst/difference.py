"""What differs between two whole trees, without a look at what they share.

The package's docstring has the terms. Source: draft-holmgren-at-repository "Tree Structure";
atproto.com/specs/repository "Repository Diffs". spec: B-24…B-29.
"""

from collections.abc import Mapping
from typing import TypeAlias

from pipelines.atproto.errors import MstError, Reason
from pipelines.atproto.mst.node import (
    ABOVE_ALL_KEYS,
    BELOW_ALL_KEYS,
    EMPTY_ROOT_CID,
    Wire,
    children,
    parse_node,
)
from pipelines.atproto.mst.tree import Write

_Place: TypeAlias = tuple[bytes, bytes]


def diff(
    blocks_before: Mapping[bytes, bytes],
    root_before: bytes,
    blocks_after: Mapping[bytes, bytes],
    root_after: bytes,
) -> list[Write]:
    """Compares two trees.

    Goes down both layer by layer. A layer's nodes that stand in both trees are passed over with
    all below them, so no block of a node is read that both trees have; but for the roots, which
    are read if they differ, as only a root's keys tell its layer. The work is that of the change,
    not that of the tree.

    Takes the memory of the entries in all nodes that are read.

    Args:
        blocks_before: raw CID → block, hashes already checked; other blocks may be among them,
            and what is not read may be missing.
        root_before: CID of the root node of the one tree.
        blocks_after: as `blocks_before`; the same mapping will do, if it has both.
        root_after: CID of the root node of the other tree.

    Returns:
        What leads from the one tree to the other, in ascending order of the keys; nothing for
        equal trees.

    Raises:
        MstError: a node that is read breaks a rule or is not there. What both trees share is not
            checked, neither is its place.
    """
    if root_before == root_after:
        return []
    before, after = _Side(blocks_before, root_before), _Side(blocks_after, root_after)
    for layer in range(max(before.top_layer, after.top_layer), -1, -1):
        shared = before.nodes_of(layer).keys() & after.nodes_of(layer).keys()
        before.descend(layer, shared)
        after.descend(layer, shared)
    old, new = before.values, after.values
    return [
        Write(key, old.get(key), new.get(key))
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]


class _Side:
    """One of the trees, read from its root down, a layer at a time.

    Attributes:
        top_layer: the layer of the root; -1 for the empty tree.
        values: key → value, of all nodes that were read.
    """

    def __init__(self, blocks: Mapping[bytes, bytes], root: bytes) -> None:
        self.values: dict[bytes, bytes] = {}
        self.top_layer = -1
        self._blocks = blocks
        # The nodes of the next layer that has any, and between which keys each hangs.
        self._nodes: dict[bytes, _Place] = {}
        self._root = root
        self._root_parts: tuple[list[bytes], Wire] = ([], {})
        if root != EMPTY_ROOT_CID:
            # Read here, as its keys tell its layer, and taken when its layer's turn comes.
            keys, wire, self.top_layer = parse_node(self._block_of(root), None)
            self._root_parts = keys, wire
            self._nodes[root] = (BELOW_ALL_KEYS, ABOVE_ALL_KEYS)

    def nodes_of(self, layer: int) -> Mapping[bytes, _Place]:
        """Returns the CIDs of the nodes of a layer whose parents were read."""
        return self._nodes if layer <= self.top_layer else {}

    def descend(self, layer: int, shared: set[bytes]) -> None:
        """Reads the nodes of a layer, but for those that the other tree has as well."""
        nodes = self.nodes_of(layer)
        if not nodes:
            return
        self._nodes = {}
        for cid, (low, high) in nodes.items():
            if cid not in shared:
                self._take(*self._open(cid, layer, low, high), low, high)

    def _open(self, cid: bytes, layer: int, low: bytes, high: bytes) -> tuple[list[bytes], Wire]:
        if cid == self._root:
            return self._root_parts
        keys, wire, _ = parse_node(self._block_of(cid), layer, low, high)
        return keys, wire

    def _take(self, keys: list[bytes], wire: Wire, low: bytes, high: bytes) -> None:
        self.values.update(zip(keys, [entry["v"] for entry in wire["e"]], strict=True))
        for child, *place in zip(children(wire), [low, *keys], [*keys, high], strict=True):
            if isinstance(child, bytes):
                # Key ranges are disjoint, so a subtree can occur only once. spec: B-45
                if child in self._nodes:
                    raise MstError(Reason.MST_RECURRENCE, "a node occurs twice in one tree")
                self._nodes[child] = (place[0], place[1])

    def _block_of(self, cid: bytes) -> bytes:
        block = self._blocks.get(cid)
        if block is None:
            raise MstError(Reason.MST_BLOCK_MISSING, "a node that differs is not there")
        return block
