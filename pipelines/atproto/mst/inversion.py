"""Undoing the operations of a commit on a partial tree.

The package's docstring has the terms. Source: draft-holmgren-at-repository "Commit Validation";
atproto.com/specs/sync. spec: G-09…G-15.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping

from pipelines.atproto.errors import CommitError, MstError, Reason
from pipelines.atproto.frames import Action, Op
from pipelines.atproto.mst.node import (
    EMPTY_ROOT_CID,
    MAX_LAYER,
    Child,
    Node,
    check_place,
    check_root,
    encode_child,
    layer_of,
    new_entry,
    parse_node,
)


def invert(blocks: Mapping[bytes, bytes], root: bytes, ops: Iterable[Op]) -> bytes:
    """Undoes operations on a partial tree.

    Args:
        blocks: raw CID → block, hashes already checked; other blocks may be among them.
        root: root of the tree after the operations.
        ops: what was done, in any order, each path at most once.

    Returns:
        The root's CID before the operations.

    Raises:
        MstError: a node breaks a rule, or a block that is needed is not there.
        CommitError: an op contradicts the tree (`commit.op_mismatch`).
    """
    tree = PartialTree(blocks, root)
    # Deletes first: what they insert again may bring the neighbours that removals need. The
    # result does not depend on the order, only which blocks are needed does. spec: G-13
    for op in sorted(ops, key=_undo_order):
        key = op.path.encode()
        if op.action is Action.DELETE:
            tree.insert(key, _required(op.prev))
        elif op.action is Action.UPDATE:
            tree.replace(key, _required(op.cid), _required(op.prev))
        elif op.action is Action.CREATE:
            tree.remove(key, _required(op.cid))
        else:
            raise CommitError(Reason.COMMIT_OP_MISMATCH, f"action {op.action!r}", path=op.path)
    return tree.root_cid()


def _undo_order(op: Op) -> tuple[bool, str]:
    return (op.action is not Action.DELETE, op.path)


def _required(cid: bytes | None) -> bytes:
    if cid is None:
        raise CommitError(Reason.COMMIT_OP_MISMATCH, "an op lacks a CID that its action has")
    return cid


class PartialTree:
    """A tree of which some nodes are known, changed in place.

    Nodes are loaded when an operation first reaches them, and encoded once, when the root is
    asked for. After an error the tree is unusable. Where nodes come from is the matter of `_has`,
    `_load` and `_parse` alone: a tree that is not partial has its own (`tree.py`).
    """

    def __init__(self, blocks: Mapping[bytes, bytes], root: bytes) -> None:
        """Starts at a root.

        Args:
            blocks: raw CID → block, hashes already checked.
            root: CID of the root node; its block is loaded by the first operation.
        """
        self._blocks = blocks
        self._loaded: set[bytes] = set()
        self._root: Child = None if root == EMPTY_ROOT_CID else root
        self._layer = 0

    def insert(self, key: bytes, value: bytes) -> None:
        """Adds a key that must be absent.

        Raises:
            MstError: as `invert`.
            CommitError: the key is present.
        """
        layer = layer_of(key)
        if layer > MAX_LAYER:
            raise MstError(Reason.MST_TOO_LARGE, f"a key of layer {layer}")
        root = self._open_root()
        if root is None:
            self._root, self._layer = Node([key], [new_entry(key, value, None)], None), layer
            return
        if layer > self._layer:
            while self._layer < layer - 1:
                root, self._layer = Node([], [], root), self._layer + 1
            left, right = self._split(root, key, layer - 1, None, None)
            self._root, self._layer = Node([key], [new_entry(key, value, right)], left), layer
            return
        node, low, high, _ = self._descend(root, key, layer, create=True)
        assert node is not None
        index = bisect_left(node.keys, key)
        if index < len(node.keys) and node.keys[index] == key:
            raise _mismatch(key, "was deleted but is in the tree")
        low, high = _bounds(node, index, low, high)
        left, right = self._split(node.child(index), key, layer - 1, low, high)
        node.set_child(index, left)
        node.keys.insert(index, key)
        node.entries.insert(index, new_entry(key, value, right))
        node.compress_key(index)
        node.compress_key(index + 1)

    def replace(self, key: bytes, expected: bytes, value: bytes) -> None:
        """Sets the value of a key that must have another one.

        Raises:
            MstError: as `invert`.
            CommitError: the key is absent or has a value other than `expected`.
        """
        node, index, *_ = self._find(key, expected)
        node.entries[index]["v"] = value

    def remove(self, key: bytes, expected: bytes) -> None:
        """Removes a key that must be present.

        Raises:
            MstError: as `invert`.
            CommitError: the key is absent or has a value other than `expected`.
        """
        node, index, low, high, path = self._find(key, expected)
        layer = self._layer - len(path) - 1
        outer_low = node.keys[index - 1] if index else low
        outer_high = node.keys[index + 1] if index + 1 < len(node.keys) else high
        left, right = node.child(index), node.child(index + 1)
        node.set_child(index, self._merge(left, right, key, layer, outer_low, outer_high))
        del node.keys[index], node.entries[index]
        node.compress_key(index)
        # A node without entries and without a child does not exist.
        while path and not node.keys and node.left is None:
            node, index = path.pop()
            node.set_child(index, None)

    def root_cid(self) -> bytes:
        """Returns the CID of the root; the last thing to ask of a tree, which is encoded by it."""
        return encode_child(self._trim()) or EMPTY_ROOT_CID

    def _trim(self) -> Child:
        """Returns the root after all changes."""
        root = self._root
        # A root without entries is not a root: its only child is. spec: B-27, G-14
        while isinstance(root, Node) and not root.keys:
            root, self._layer = root.left, self._layer - 1
            if isinstance(root, bytes) and self._has(root):
                root = self._load(root, self._layer, None, None)
        self._root = root
        return root

    def _open_root(self) -> Node | None:
        root = self._root
        if isinstance(root, bytes):
            node = self._parse(root)
            self._layer = check_root(node)
            self._root = root = node
        return root

    def _find(
        self, key: bytes, expected: bytes
    ) -> tuple[Node, int, bytes | None, bytes | None, list[tuple[Node, int]]]:
        root = self._open_root()
        layer = layer_of(key)
        if root is None or layer > self._layer:
            raise _mismatch(key, "is not in the tree")
        node, low, high, path = self._descend(root, key, layer, create=False)
        index = bisect_left(node.keys, key) if node is not None else 0
        if node is None or index == len(node.keys) or node.keys[index] != key:
            raise _mismatch(key, "is not in the tree")
        if node.entries[index]["v"] != expected:
            raise _mismatch(key, "has another record in the tree")
        return node, index, low, high, path

    def _descend(
        self, node: Node, key: bytes, layer: int, *, create: bool
    ) -> tuple[Node | None, bytes | None, bytes | None, list[tuple[Node, int]]]:
        """Walks to the node of `layer` in whose range a key lies, marking the way as changed.

        Returns:
            The node (None if there is none and `create` is not set), the keys of higher layers
            between which it lies, and the way there as (node, index of the child).
        """
        low: bytes | None = None
        high: bytes | None = None
        path: list[tuple[Node, int]] = []
        for depth in range(self._layer, layer, -1):
            node.cid = None
            index = bisect_left(node.keys, key)
            low, high = _bounds(node, index, low, high)
            child = node.child(index)
            if child is None:
                if not create:
                    return None, low, high, path
                child = Node([], [], None)
            elif isinstance(child, bytes):
                child = self._load(child, depth - 1, low, high)
            node.set_child(index, child)
            path.append((node, index))
            node = child
        node.cid = None
        return node, low, high, path

    def _merge(
        self,
        left: Child,
        right: Child,
        key: bytes,
        layer: int,
        low: bytes | None,
        high: bytes | None,
    ) -> Child:
        """Joins the two subtrees around a removed key."""
        if left is None or right is None:
            return right if left is None else left
        if isinstance(left, bytes):
            left = self._load(left, layer, low, key)
        if isinstance(right, bytes):
            right = self._load(right, layer, key, high)
        middle = self._merge(
            left.child(len(left.keys)),
            right.left,
            key,
            layer - 1,
            left.keys[-1] if left.keys else low,
            right.keys[0] if right.keys else high,
        )
        seam = len(left.keys)
        left.set_child(seam, middle)
        left.keys += right.keys
        left.entries += right.entries
        left.compress_key(seam)
        left.cid = None
        return left

    def _split(
        self, child: Child, key: bytes, layer: int, low: bytes | None, high: bytes | None
    ) -> tuple[Child, Child]:
        """Cuts a subtree in two at a key that is about to be inserted above it."""
        if child is None:
            return None, None
        node = self._load(child, layer, low, high) if isinstance(child, bytes) else child
        index = bisect_left(node.keys, key)
        low, high = _bounds(node, index, low, high)
        left, right = self._split(node.child(index), key, layer - 1, low, high)
        after = Node(node.keys[index:], node.entries[index:], right)
        after.compress_key(0)
        del node.keys[index:], node.entries[index:]
        node.set_child(index, left)
        node.cid = None
        return (
            node if node.keys or left is not None else None,
            after if after.keys or right is not None else None,
        )

    def _load(self, cid: bytes, layer: int, low: bytes | None, high: bytes | None) -> Node:
        """Loads a node into its place: at `layer`, between the keys `low` and `high`."""
        node = self._parse(cid)
        check_place(node, layer, low, high)
        return node

    def _has(self, cid: bytes) -> bool:
        return cid in self._blocks

    def _parse(self, cid: bytes) -> Node:
        # Key ranges are disjoint, so a subtree can occur only once. Also ends a cycle. spec: B-45
        if cid in self._loaded:
            raise MstError(Reason.MST_RECURRENCE, "a node occurs twice in one tree")
        self._loaded.add(cid)
        block = self._blocks.get(cid)
        if block is None:
            raise MstError(Reason.MST_BLOCK_MISSING, "a node that is needed was not sent")
        return parse_node(block, cid)


def _bounds(
    node: Node, index: int, low: bytes | None, high: bytes | None
) -> tuple[bytes | None, bytes | None]:
    """Narrows a range to that of a node's child."""
    keys = node.keys
    return (keys[index - 1] if index else low, keys[index] if index < len(keys) else high)


def _mismatch(key: bytes, what: str) -> CommitError:
    path = key.decode("utf-8", "replace")
    return CommitError(Reason.COMMIT_OP_MISMATCH, f"the record {what}", path=path)
