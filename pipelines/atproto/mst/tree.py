"""A whole tree as a value: changed by operations into the next one, with the blocks to prove it.

The producer's side. Nodes are immutable and shared between the trees before and after a change, so
that an older state of a repository costs nothing but the nodes in which it differs, and may be
read while newer ones are made. Only the nodes on the way to a change are decoded; the change
itself is done by the same code that undoes it for a verifier.

Source: draft-holmgren-at-repository "Tree Structure", "Commit Events"; atproto.com/specs/
repository "Repository Diffs". spec: B-23…B-29, C-10, C-15, G-21.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from pipelines.atproto import cbor
from pipelines.atproto.cid import cid_of
from pipelines.atproto.errors import CommitError, Reason
from pipelines.atproto.mst.building import root_of
from pipelines.atproto.mst.inversion import PartialTree
from pipelines.atproto.mst.node import EMPTY_NODE, EMPTY_ROOT_CID, Child, Node, Wire, layer_of


class StoredNode:
    """A node at rest, with all that hangs below it.

    Attributes:
        cid: raw CID of the node.
        block: its encoding, which has the keys and values.
        children: before the first entry and after each; empty if there is none at all, as for the
            three quarters of all nodes that are of layer 0.
    """

    __slots__ = ("block", "children", "cid")

    def __init__(
        self, cid: bytes, block: bytes, children: tuple["StoredNode | None", ...]
    ) -> None:
        self.cid = cid
        self.block = block
        self.children = children


_EMPTY = StoredNode(EMPTY_ROOT_CID, EMPTY_NODE, ())


class Write(NamedTuple):
    """What happens to one key.

    Attributes:
        key: a record's path as bytes.
        before: the record's raw CID before; None if there was none.
        after: the record's raw CID afterwards; None to remove it.
    """

    key: bytes
    before: bytes | None
    after: bytes | None


class Change(NamedTuple):
    """A tree after writes.

    Attributes:
        tree: the new tree.
        covering: raw CID → block of its nodes that a commit message has to bring: the way to each
            written key, or to where it would be, and to the keys beside it. All new nodes are
            among them. spec: G-21
    """

    tree: "Tree"
    covering: dict[bytes, bytes]


class Tree:
    """The tree of one state of a repository. Never changes; equal to one with the same root."""

    __slots__ = ("_root",)

    def __init__(self, root: StoredNode | None = None) -> None:
        """Makes the empty tree, or that below a root."""
        self._root = root

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tree) and other.root_cid == self.root_cid

    def __hash__(self) -> int:
        return hash(self.root_cid)

    @property
    def root_cid(self) -> bytes:
        """Raw CID of the root: what a commit signs as `data`."""
        return EMPTY_ROOT_CID if self._root is None else self._root.cid

    @classmethod
    def of(cls, items: Iterable[tuple[str | bytes, bytes]]) -> "Tree":
        """Makes the tree that holds exactly some records, in linear time.

        Args:
            items: path and raw record CID, in ascending order of the paths' bytes.

        Raises:
            MstError: as `root_of`.
        """
        # Children come before their parents: what is left in the end is the root.
        closed: dict[bytes, StoredNode] = {}

        def add(cid: bytes, block: bytes) -> None:
            wire: Wire = cbor.decode_matched(block)
            links = [wire["l"], *(entry["t"] for entry in wire["e"])]
            children = tuple(None if link is None else closed.pop(link) for link in links)
            has_children = any(child is not None for child in children)
            closed[cid] = StoredNode(cid, block, children if has_children else ())

        root_cid = root_of(items, add)
        return cls(None if root_cid == EMPTY_ROOT_CID else closed[root_cid])

    def apply(self, writes: Iterable[Write]) -> Change:
        """Returns the tree after writes.

        Args:
            writes: each key once.

        Raises:
            CommitError: a key has another value than `before` says (`commit.op_mismatch`).
            MstError: a key of a layer that no tree may have.
        """
        edit = _Edit(self._root)
        keys = []
        for key, before, after in writes:
            keys.append(key)
            if before is None:
                if after is None:
                    raise CommitError(Reason.COMMIT_OP_MISMATCH, f"nothing happens to {key!r}")
                edit.insert(key, after)
            elif after is None:
                edit.remove(key, before)
            else:
                edit.replace(key, before, after)
        root = edit.close()
        return Change(Tree(root), edit.covering(root, keys))

    def covering(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        """Returns raw CID → block of the nodes that prove what keys have, or that they are absent.

        Args:
            keys: of records that are there or not; as in `Change.covering`. spec: I-12
        """
        return _Edit(self._root).covering(self._root, keys)

    def walk(self) -> Iterator["StoredNode | Entry"]:
        """Yields the tree in pre-order: a node, then its entries in order, each with its subtree.

        That is the order of a streamable export, and the entries come in the order of their keys.
        The empty tree has one node, which is its root. spec: B-28, C-10
        """
        return _walk(_EMPTY if self._root is None else self._root)

    def entries(self) -> Iterator["Entry"]:
        """Yields the entries in the order of their keys."""
        return (item for item in self.walk() if isinstance(item, Entry))


class Entry(NamedTuple):
    """A record in a tree.

    Attributes:
        key: its path as bytes.
        record_cid: raw CID of the record.
    """

    key: bytes
    record_cid: bytes


def _walk(node: StoredNode) -> Iterator[StoredNode | Entry]:
    yield node
    keys, wire = _open(node)
    children = node.children or (None,) * (len(keys) + 1)
    if children[0] is not None:
        yield from _walk(children[0])
    for key, entry, child in zip(keys, wire["e"], children[1:], strict=True):
        yield Entry(key, entry["v"])
        if child is not None:
            yield from _walk(child)


def _open(stored: StoredNode) -> tuple[list[bytes], Wire]:
    """Decodes a node of our own making, which needs no checks."""
    wire: Wire = cbor.decode_matched(stored.block)
    keys = []
    key = b""
    for entry in wire["e"]:
        key = key[: entry["p"]] + entry["k"]
        keys.append(key)
    return keys, wire


class _Edit(PartialTree):
    """A tree while it is changed: opened where it is touched, at rest everywhere else."""

    def __init__(self, root: StoredNode | None) -> None:
        # What can be reached by opening one node more; grows as nodes are opened.
        self._stored = {} if root is None else {root.cid: root}
        super().__init__({}, EMPTY_ROOT_CID if root is None else root.cid)
        self._keys: dict[bytes, list[bytes]] = {}

    def close(self) -> StoredNode | None:
        """Encodes what was changed and returns the root; None for the empty tree."""
        return self._at_rest(self._trim())

    def covering(self, root: StoredNode | None, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        """Returns the blocks that prove what was done to some keys; after `close`."""
        blocks: dict[bytes, bytes] = {}
        for key in keys:
            node: StoredNode | None = _EMPTY if root is None else root
            while node is not None:
                blocks[node.cid] = node.block
                node_keys = self._keys_of(node)
                index = bisect_left(node_keys, key)
                is_here = index < len(node_keys) and node_keys[index] == key
                children = node.children
                if is_here and children:
                    # The neighbours are below this node, at the edges next to the key. Without a
                    # subtree there, the neighbour is in a node that is on the way already.
                    _descend_edge(children[index], -1, blocks)
                    _descend_edge(children[index + 1], 0, blocks)
                node = children[index] if children and not is_here else None
        return blocks

    def _has(self, cid: bytes) -> bool:
        return cid in self._stored

    def _load(
        self, holder: Wire, field: str, layer: int | None, _low: bytes, _high: bytes
    ) -> Node:
        stored = self._stored[holder[field]]
        for child in stored.children:
            if child is not None:
                self._stored[child.cid] = child
        keys, wire = _open(stored)
        return self._add(keys, wire, layer_of(keys[0]) if layer is None else layer, holder, field)

    def _close(self, node: Node) -> StoredNode:
        """Encodes an opened node and what is open below it."""
        wire = node.wire
        left = self._at_rest(wire["l"])
        wire["l"] = None if left is None else left.cid
        children = [left]
        has_children = left is not None
        for entry in wire["e"]:
            child = entry["t"]
            # In line, as most are None.
            subtree = None if child is None else self._at_rest(child)
            if subtree is not None:
                entry["t"] = subtree.cid
                has_children = True
            children.append(subtree)
        block = cbor.encode_matched(wire)
        stored = StoredNode(cid_of(block), block, tuple(children) if has_children else ())
        self._keys[stored.cid] = node.keys
        return stored

    def _at_rest(self, child: Child) -> StoredNode | None:
        if child is None:
            return None
        return self._stored[child] if isinstance(child, bytes) else self._close(child)

    def _keys_of(self, node: StoredNode) -> list[bytes]:
        keys = self._keys.get(node.cid)
        return _open(node)[0] if keys is None else keys


def _descend_edge(node: StoredNode | None, side: int, blocks: dict[bytes, bytes]) -> None:
    """Adds the way down one edge of a subtree: `side` 0 for its first keys, -1 for its last."""
    while node is not None:
        blocks[node.cid] = node.block
        node = node.children[side] if node.children else None
