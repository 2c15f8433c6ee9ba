"""Undoing the operations of a commit on a partial tree.

The package's docstring has the terms. Source: draft-holmgren-at-repository "Commit Validation";
atproto.com/specs/sync. spec: G-09…G-15.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from hashlib import sha256

from pipelines.atproto.cbor import encode_matched
from pipelines.atproto.cid import DAG_CBOR_PREFIX
from pipelines.atproto.errors import CommitError, MstError, Reason
from pipelines.atproto.frames import Action, Op
from pipelines.atproto.mst.node import (
    ABOVE_ALL_KEYS,
    BELOW_ALL_KEYS,
    EMPTY_ROOT_CID,
    MAX_LAYER,
    Child,
    Node,
    Wire,
    layer_of,
    parse_node,
)

# Looking up a member of an enumeration takes ten times as long as looking up a global.
_CREATE, _UPDATE, _DELETE = Action.CREATE, Action.UPDATE, Action.DELETE


def invert(blocks: Mapping[bytes, bytes], root: bytes, ops: Sequence[Op]) -> bytes:
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
    for op in sorted(ops, key=_undo_order) if len(ops) > 1 else ops:
        action = op.action
        key = op.path.encode()
        if action is _CREATE:
            tree.remove(key, _required(op.cid))
        elif action is _DELETE:
            tree.insert(key, _required(op.prev))
        elif action is _UPDATE:
            tree.replace(key, _required(op.cid), _required(op.prev))
        else:
            raise CommitError(Reason.COMMIT_OP_MISMATCH, f"action {op.action!r}", path=op.path)
    return tree.root_cid()


def _undo_order(op: Op) -> tuple[bool, str]:
    return (op.action is not _DELETE, op.path)


def _required(cid: bytes | None) -> bytes:
    if cid is None:
        raise CommitError(Reason.COMMIT_OP_MISMATCH, "an op lacks a CID that its action has")
    return cid


class PartialTree:
    """A tree of which some nodes are known, changed in place.

    Nodes are loaded when an operation first reaches them, and encoded once, when the root is
    asked for. After an error the tree is unusable. Where nodes come from is the matter of `_has`
    and `_load` alone: a tree that is not partial has its own (`tree.py`).
    """

    def __init__(self, blocks: Mapping[bytes, bytes], root: bytes) -> None:
        """Starts at a root.

        Args:
            blocks: raw CID → block, hashes already checked.
            root: CID of the root node; its block is loaded by the first operation.
        """
        self._blocks = blocks
        self._unread = dict(blocks)
        # Where the root hangs, a map like those in which other nodes hang.
        self._top: Wire = {"root": None if root == EMPTY_ROOT_CID else root}
        # The nodes in memory by layer: so they are encoded, children before their parents.
        self._layers: list[list[Node]] = []

    def get(self, key: bytes) -> bytes | None:
        """Returns the value of a key; None if the tree is proven to lack it.

        Only the way down to the key's layer is needed: below that, no node can have it.

        Raises:
            MstError: as `invert`.
        """
        self._open_root()
        node, *_ = self._descend(key, layer_of(key), create=False)
        if node is None:
            return None
        index = bisect_left(node.keys, key)
        if index == len(node.keys) or node.keys[index] != key:
            return None
        value: bytes = node.wire["e"][index]["v"]
        return value

    def insert(self, key: bytes, value: bytes) -> None:
        """Adds a key that must be absent.

        Raises:
            MstError: as `invert`.
            CommitError: the key is present.
        """
        layer = layer_of(key)
        if layer > MAX_LAYER:
            raise MstError(Reason.MST_TOO_LARGE, f"a key of layer {layer}")
        self._open_root()
        self._grow(layer)
        node, low, high, _ = self._descend(key, layer, create=True)
        assert node is not None
        keys, entries = node.keys, node.wire["e"]
        index = bisect_left(keys, key)
        if index < len(keys) and keys[index] == key:
            raise _mismatch(key, "was deleted but is in the tree")
        entry = {"k": key, "p": 0, "t": None, "v": value}
        holder, field = node.link(index)
        low, high = _bounds(keys, index, low, high)
        _hang(self._split(holder, field, key, layer - 1, low, high), entry, "t")
        keys.insert(index, key)
        entries.insert(index, entry)
        node.compress_key(index)
        node.compress_key(index + 1)

    def replace(self, key: bytes, expected: bytes, value: bytes) -> None:
        """Sets the value of a key that must have another one.

        Raises:
            MstError: as `invert`.
            CommitError: the key is absent or has a value other than `expected`.
        """
        node, index, *_ = self._find(key, expected)
        node.wire["e"][index]["v"] = value

    def remove(self, key: bytes, expected: bytes) -> None:
        """Removes a key that must be present.

        Raises:
            MstError: as `invert`.
            CommitError: the key is absent or has a value other than `expected`.
        """
        node, index, low, high, ancestors = self._find(key, expected)
        keys, entries = node.keys, node.wire["e"]
        if index:
            low = keys[index - 1]
        if index + 1 < len(keys):
            high = keys[index + 1]
        layer = len(self._layers) - len(ancestors) - 1
        holder, field = node.link(index)
        self._merge(holder, field, entries[index], "t", key, layer - 1, low, high)
        del keys[index], entries[index]
        node.compress_key(index)
        # A node without entries and without a child does not exist.
        while ancestors and not node.keys and node.wire["l"] is None:
            _take_off(node)
            node = ancestors.pop()

    def root_cid(self) -> bytes:
        """Returns the CID of the root; the last thing to ask of a tree, which is encoded by it."""
        self._trim()
        for nodes in self._layers:
            for node in nodes:
                holder = node.holder
                if holder is not None:
                    digest = sha256(encode_matched(node.wire)).digest()
                    holder[node.field] = DAG_CBOR_PREFIX + digest
        return self._top["root"] or EMPTY_ROOT_CID

    def _trim(self) -> Child:
        """Returns the root after all changes.

        One without entries is none: its only child is. spec: B-27, G-14
        """
        top = self._top
        root: Child = top["root"]
        while type(root) is Node and not root.keys:
            self._layers.pop()
            root = root.wire["l"]
            _hang(root, top, "root")
            if type(root) is bytes and self._has(root):
                root = self._load(
                    top, "root", len(self._layers) - 1, BELOW_ALL_KEYS, ABOVE_ALL_KEYS
                )
        return root

    def _open_root(self) -> None:
        """Loads the root, whose layer is that of its first key."""
        if type(self._top["root"]) is bytes:
            self._load(self._top, "root", None, BELOW_ALL_KEYS, ABOVE_ALL_KEYS)

    def _grow(self, layer: int) -> None:
        """Puts nodes without entries on top, until the root is of a layer at least."""
        while len(self._layers) <= layer:
            self._layers.append([])
            root = self._top["root"]
            # Below the first key of an empty tree there is nothing.
            if root is not None or len(self._layers) > layer:
                wire: Wire = {"e": [], "l": None}
                _hang(root, wire, "l")
                self._add([], wire, len(self._layers) - 1, self._top, "root")

    def _find(self, key: bytes, expected: bytes) -> tuple[Node, int, bytes, bytes, list[Node]]:
        """Returns the node of a key with its ancestors, as `_descend`, and the key's index."""
        self._open_root()
        node, low, high, ancestors = self._descend(key, layer_of(key), create=False)
        index = bisect_left(node.keys, key) if node is not None else 0
        if node is None or index == len(node.keys) or node.keys[index] != key:
            raise _mismatch(key, "is not in the tree")
        if node.wire["e"][index]["v"] != expected:
            raise _mismatch(key, "has another record in the tree")
        return node, index, low, high, ancestors

    def _descend(
        self, key: bytes, layer: int, *, create: bool
    ) -> tuple[Node | None, bytes, bytes, list[Node]]:
        """Walks to the node of `layer` in whose range a key lies.

        Returns:
            The node (None if there is none and `create` is not set), the keys of higher layers
            between which it lies, and the nodes on the way there.
        """
        low, high = BELOW_ALL_KEYS, ABOVE_ALL_KEYS
        ancestors: list[Node] = []
        node: Child = self._top["root"] if layer < len(self._layers) else None
        for child_layer in range(len(self._layers) - 2, layer - 1, -1):
            if type(node) is not Node:
                break
            ancestors.append(node)
            keys = node.keys
            index = bisect_left(keys, key)
            if index < len(keys):
                high = keys[index]
            if index:
                low = keys[index - 1]
                holder, field = node.wire["e"][index - 1], "t"
            else:
                holder, field = node.wire, "l"
            node = holder[field]
            if type(node) is bytes:
                node = self._load(holder, field, child_layer, low, high)
            elif node is None and create:
                node = self._add([], {"e": [], "l": None}, child_layer, holder, field)
        assert not isinstance(node, bytes)
        return node, low, high, ancestors

    def _merge(
        self,
        holder: Wire,
        field: str,
        right_holder: Wire,
        right_field: str,
        key: bytes,
        layer: int,
        low: bytes,
        high: bytes,
    ) -> None:
        """Joins the two subtrees around a removed key at the place of the left one."""
        left, right = holder[field], right_holder[right_field]
        if left is None or right is None:
            _hang(right if left is None else left, holder, field)
            return
        if type(left) is bytes:
            left = self._load(holder, field, layer, low, key)
        if type(right) is bytes:
            right = self._load(right_holder, right_field, layer, key, high)
        seam = len(left.keys)
        holder, field = left.link(seam)
        low = left.keys[-1] if left.keys else low
        high = right.keys[0] if right.keys else high
        self._merge(holder, field, right.wire, "l", key, layer - 1, low, high)
        left.keys += right.keys
        left.wire["e"] += right.wire["e"]
        left.compress_key(seam)
        _take_off(right)

    def _split(
        self,
        holder: Wire,
        field: str,
        key: bytes,
        layer: int,
        low: bytes,
        high: bytes,
    ) -> Node | None:
        """Cuts a subtree in two at a key that is about to be inserted above it.

        Returns:
            The part behind the key; the one before it stays at its place.
        """
        node = holder[field]
        if node is None:
            return None
        if type(node) is bytes:
            node = self._load(holder, field, layer, low, high)
        keys, entries = node.keys, node.wire["e"]
        index = bisect_left(keys, key)
        low, high = _bounds(keys, index, low, high)
        holder, field = node.link(index)
        right = self._split(holder, field, key, layer - 1, low, high)
        after = None
        if index < len(keys) or right is not None:
            after = Node(keys[index:], {"e": entries[index:], "l": None}, None, "")
            _hang(right, after.wire, "l")
            after.compress_key(0)
            self._layers[layer].append(after)
        del keys[index:], entries[index:]
        if not keys and node.wire["l"] is None:
            _take_off(node)
        return after

    def _load(self, holder: Wire, field: str, layer: int | None, low: bytes, high: bytes) -> Node:
        """Loads a node into its place: at `layer`, between the keys `low` and `high`.

        A layer of None stands for the root, whose keys tell it.
        """
        cid = holder[field]
        block = self._unread.pop(cid, None)
        if block is None:
            # Key ranges are disjoint, so a subtree can occur only once (spec: B-45). Also ends
            # a cycle.
            if cid in self._blocks:
                raise MstError(Reason.MST_RECURRENCE, "a node occurs twice in one tree")
            raise MstError(Reason.MST_BLOCK_MISSING, "a node that is needed was not sent")
        keys, wire, layer = parse_node(block, layer, low, high)
        return self._add(keys, wire, layer, holder, field)

    def _has(self, cid: bytes) -> bool:
        return cid in self._blocks

    def _add(self, keys: list[bytes], wire: Wire, layer: int, holder: Wire, field: str) -> Node:
        """Puts a node in memory into its place."""
        layers = self._layers
        while len(layers) <= layer:  # it is the root
            layers.append([])
        node = holder[field] = Node(keys, wire, holder, field)
        layers[layer].append(node)
        return node


def _hang(child: Child, holder: Wire, field: str) -> None:
    """Puts a child, or none, into another place."""
    holder[field] = child
    if type(child) is Node:
        child.holder, child.field = holder, field


def _take_off(node: Node) -> None:
    """Takes a node out of the tree."""
    assert node.holder is not None
    node.holder[node.field] = None
    node.holder = None


def _bounds(keys: list[bytes], index: int, low: bytes, high: bytes) -> tuple[bytes, bytes]:
    """Narrows a range to that of a node's child."""
    return (keys[index - 1] if index else low, keys[index] if index < len(keys) else high)


def _mismatch(key: bytes, what: str) -> CommitError:
    path = key.decode("utf-8", "replace")
    return CommitError(Reason.COMMIT_OP_MISMATCH, f"the record {what}", path=path)
