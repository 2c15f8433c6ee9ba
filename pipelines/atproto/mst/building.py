"""The tree that a set of records determines: sorted path → record CID, in one pass.

A tree's shape depends on its keys alone, so whoever holds the list of a repository's records can
compute the root that its commit must have signed. That is how an audit compares a state with the
network's, without any node of the network's; and how an export gets the nodes that nobody kept.

Source: draft-holmgren-at-repository "Tree Structure", "MST Construction". spec: B-23…B-29, B-41.
"""

from collections.abc import Callable, Generator, Iterable
from typing import Any, Final, TypeAlias

from pipelines.atproto import cbor
from pipelines.atproto.cid import cid_of, is_dag_cbor_cid
from pipelines.atproto.errors import MstError, Reason
from pipelines.atproto.mst.node import (
    EMPTY_NODE,
    EMPTY_ROOT_CID,
    MAX_KEY_BYTES,
    MAX_LAYER,
    MAX_NODE_ENTRIES_COUNT,
    check_suffix,
    common_prefix_length,
    layer_of,
)

# Items between two pauses: some 5 ms of work.
STEP_COUNT: Final = 1_000

# Takes the raw CID and the block of a node.
NodeSink: TypeAlias = Callable[[bytes, bytes], None]


class _OpenNode:
    """The last node of a layer: keys may still be added to it."""

    __slots__ = ("_on_node", "entries", "last_key", "left")

    def __init__(self, on_node: NodeSink | None) -> None:
        self._on_node = on_node
        self.left: bytes | None = None
        self.entries: list[dict[str, Any]] = []
        self.last_key = b""

    def hang(self, child: bytes) -> None:
        """Puts a closed node of the layer below after the last entry."""
        if self.entries:
            self.entries[-1]["t"] = child
        else:
            self.left = child

    def add(self, key: bytes, record_cid: bytes) -> None:
        if len(self.entries) == MAX_NODE_ENTRIES_COUNT:
            raise MstError(Reason.MST_TOO_LARGE, "a node with more entries than is plausible")
        prefix_length = common_prefix_length(self.last_key, key)
        suffix = key[prefix_length:]
        check_suffix(suffix)
        self.entries.append({"k": suffix, "p": prefix_length, "t": None, "v": record_cid})
        self.last_key = key

    def close(self) -> bytes | None:
        """Encodes the node, if there is one, and starts the next."""
        if not self.entries and self.left is None:
            return None
        block = cbor.encode({"e": self.entries, "l": self.left})
        cid = cid_of(block)
        if self._on_node is not None:
            self._on_node(cid, block)
        self.left, self.entries, self.last_key = None, [], b""
        return cid


def root_of(items: Iterable[tuple[str | bytes, bytes]], on_node: NodeSink | None = None) -> bytes:
    """Computes the root of the tree that holds exactly some records.

    Takes linear time, and the memory of one node a layer: at most `MAX_LAYER` + 1 nodes of
    `MAX_NODE_ENTRIES_COUNT` entries, practically a few kilobytes.

    Args:
        items: path (text, or its UTF-8 bytes) and the raw CID of the record, in ascending order of
            the paths' bytes, each path once. Text sorts like its UTF-8 bytes in Python.
        on_node: gets each node of the tree once it is whole: children before their parents, the
            root last.

    Returns:
        The root's raw CID; `EMPTY_ROOT_CID` for no records.

    Raises:
        MstError: paths not ascending (`mst.key_order`); a path that is empty, longer than
            `MAX_KEY_BYTES`, or has characters that no path has (`mst.key`); a value that is not
            the CID of an object (`mst.node`); a tree beyond `MAX_LAYER` or
            `MAX_NODE_ENTRIES_COUNT` (`mst.too_large`).
    """
    steps = root_steps(items, on_node)
    while True:
        try:
            next(steps)
        except StopIteration as done:
            root: bytes = done.value
            return root


def root_steps(
    items: Iterable[tuple[str | bytes, bytes]], on_node: NodeSink | None = None
) -> Generator[None, None, bytes]:
    """Computes a root as `root_of`, whose arguments and errors it has, with pauses.

    For whoever has other work in between: the items are taken as the generator goes on.

    Yields:
        Before the first and each further `STEP_COUNT` items.

    Returns:
        The root's raw CID.
    """
    open_nodes = [_OpenNode(on_node)]
    before = b""
    for count, (path, record_cid) in enumerate(items):
        if count % STEP_COUNT == 0:
            yield
        key = _key_of(path)
        if key <= before:
            raise MstError(Reason.MST_KEY_ORDER, f"paths not ascending at {key[:80]!r}")
        if not is_dag_cbor_cid(record_cid):
            raise MstError(Reason.MST_NODE, f"the value of {key[:80]!r} is no object's CID")
        before = key
        layer = layer_of(key)
        if layer >= len(open_nodes):
            if layer > MAX_LAYER:
                raise MstError(Reason.MST_TOO_LARGE, f"a key of layer {layer}")
            open_nodes += [_OpenNode(on_node) for _ in range(len(open_nodes), layer + 1)]
        # Whatever is open below this key is complete now: no later key can come before it.
        child = _close(open_nodes[:layer])
        node = open_nodes[layer]
        if child is not None:
            node.hang(child)
        node.add(key, record_cid)
    # The topmost open node has a key, or there is none at all: a root always has entries.
    root = _close(open_nodes)
    if root is None:
        root = EMPTY_ROOT_CID
        if on_node is not None:
            on_node(root, EMPTY_NODE)
    return root


def _close(open_nodes: list[_OpenNode]) -> bytes | None:
    """Closes nodes, lowest layer first, each hung into the next; returns the last one's CID."""
    child: bytes | None = None
    for node in open_nodes:
        if child is not None:
            node.hang(child)
        child = node.close()
    return child


def _key_of(path: str | bytes) -> bytes:
    try:
        key = path.encode() if isinstance(path, str) else path
    except UnicodeEncodeError:
        raise MstError(Reason.MST_KEY, "a path with a lone surrogate") from None
    if not 0 < len(key) <= MAX_KEY_BYTES:
        raise MstError(Reason.MST_KEY, f"a path of {len(key)} bytes")
    return key
