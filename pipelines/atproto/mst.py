"""Merkle search trees: nodes with every rule checked, and the inversion of operations.

A commit message brings the nodes of the new tree that its ops touched. Undoing the ops on this
partial tree must give the previous root: then the ops are the whole difference between the two
trees, and none was left out, added or changed. The ops themselves are unsigned; this is what
proves them.

Terms
    layer       half the number of leading zero bits of SHA-256(key); leaf layer is 0
    node        the entries of one layer between two keys of higher layers
    entry       key and value; a child node may hang before the first and after each entry
    stub        a child known only by its CID, because its block was not sent or not needed

    children    c0      c1      c2
    keys            k0      k1            a child's keys lie strictly between its neighbours

Where it goes wrong
    - The longest common prefix is per node: it starts anew at the first entry of each node.
    - A layer may be empty of keys on the way down: then a node has a child and no entries. Such
      a node is never the root, and never without its child.
    - Removing the highest key can leave a root that is known only as a stub; its CID is then the
      answer. Real frames need this.

Source: draft-holmgren-at-repository "Tree Structure", "MST Node Schema", "Commit Validation";
atproto.com/specs/repository. spec: B-20…B-46, G-09…G-15.

Always checked on every node that is loaded: canonical encoding, all fields, exact common prefix,
order, layer of each key, range between its neighbours, that no node occurs twice.
Not checked: the syntax of keys that no op names; nodes that no op touches.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any, TypeAlias

from pipelines.atproto import cbor
from pipelines.atproto.cid import CID_BYTES, DAG_CBOR_PREFIX, cid_of
from pipelines.atproto.errors import CommitError, DagCborError, MstError, Reason
from pipelines.atproto.frames import Action, Op

# The one node without entries that may be a root: `{e: [], l: null}`. spec: B-28
EMPTY_NODE = bytes.fromhex("a2616580616cf6")
EMPTY_ROOT_CID = cid_of(EMPTY_NODE)

# A run of keys in one node is geometric with ratio 3/4: 10^7 keys have a longest run of about 56,
# and 1,000 has a probability below 10^-120. A longer node was made to hurt. spec: M-02
MAX_NODE_ENTRIES_COUNT = 1_000
# A key of layer 16 costs 4·10^9 hashes to find; layer 31 is out of reach. Bounds recursion and
# the chain of empty nodes that one high key forces. spec: M-03
MAX_LAYER = 31
# indigo and the reference implementation share this limit. spec: B-22
MAX_KEY_BYTES = 1_024


# The hashes of the keys of a layer: from the first to the one after the last. Those of layer L
# begin with 2L or 2L+1 zero bits; those of layer 0 have no end below 2^256.
_FIRST_HASHES = [(1 << (254 - 2 * layer)).to_bytes(32) for layer in range(MAX_LAYER + 1)]
_LAYER_HASHES = list(zip(_FIRST_HASHES, [b"\xff" * 33, *_FIRST_HASHES], strict=False))


class _Node:
    """A node in memory, with a child before the first entry and after each.

    The entries stay the dicts that the codec made: most are encoded again just as they came.
    Their field `t` may hold a loaded child instead of its CID until the node is encoded.

    Attributes:
        keys: whole keys, one for each entry.
        entries: `{k, p, t, v}`, the wire form.
        left: the child before the first entry.
        cid: None once the node differs from what was loaded.
    """

    __slots__ = ("cid", "entries", "keys", "left")

    def __init__(
        self,
        keys: list[bytes],
        entries: list[dict[str, Any]],
        left: "_Child",
        cid: bytes | None = None,
    ) -> None:
        self.keys = keys
        self.entries = entries
        self.left = left
        self.cid = cid

    def child(self, index: int) -> "_Child":
        """Returns the child before the entry at `index`, or after the last one."""
        if index == 0:
            return self.left
        child: _Child = self.entries[index - 1]["t"]
        return child

    def set_child(self, index: int, child: "_Child") -> None:
        if index == 0:
            self.left = child
        else:
            self.entries[index - 1]["t"] = child

    def compress_key(self, index: int) -> None:
        """Sets an entry's prefix anew, after the entry before it changed."""
        if index < len(self.keys):
            key = self.keys[index]
            prefix_length = common_prefix_length(self.keys[index - 1], key) if index else 0
            entry = self.entries[index]
            entry["p"], entry["k"] = prefix_length, key[prefix_length:]


_Child: TypeAlias = _Node | bytes | None


def layer_of(key: bytes) -> int:
    """Returns the layer of a key: 0 for three quarters of all keys (spec: B-23)."""
    return (256 - int.from_bytes(sha256(key).digest(), "big").bit_length()) >> 1


def common_prefix_length(left: bytes, right: bytes) -> int:
    """Returns how many leading bytes two keys share."""
    length = min(len(left), len(right))
    difference = int.from_bytes(left[:length], "big") ^ int.from_bytes(right[:length], "big")
    return length - (difference.bit_length() + 7) // 8


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
    asked for. After an error the tree is unusable.
    """

    def __init__(self, blocks: Mapping[bytes, bytes], root: bytes) -> None:
        """Starts at a root.

        Args:
            blocks: raw CID → block, hashes already checked.
            root: CID of the root node; its block is loaded by the first operation.
        """
        self._blocks = blocks
        self._loaded: set[bytes] = set()
        self._root: _Child = None if root == EMPTY_ROOT_CID else root
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
            self._root, self._layer = _Node([key], [_entry(key, value, None)], None), layer
            return
        if layer > self._layer:
            while self._layer < layer - 1:
                root, self._layer = _Node([], [], root), self._layer + 1
            left, right = self._split(root, key, layer - 1, None, None)
            self._root, self._layer = _Node([key], [_entry(key, value, right)], left), layer
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
        node.entries.insert(index, _entry(key, value, right))
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
        root = self._root
        # A root without entries is not a root: its only child is. spec: B-27, G-14
        while isinstance(root, _Node) and not root.keys:
            root, self._layer = root.left, self._layer - 1
            if isinstance(root, bytes) and root in self._blocks:
                root = self._load(root, self._layer, None, None)
        self._root = root
        return _encode_child(root) or EMPTY_ROOT_CID

    def _open_root(self) -> _Node | None:
        root = self._root
        if isinstance(root, bytes):
            node = self._parse(root)
            if not node.keys:
                raise MstError(Reason.MST_NODE, "the root has no entries")
            self._layer = layer_of(node.keys[0])
            _check_layer(node, self._layer)
            self._root = root = node
        return root

    def _find(
        self, key: bytes, expected: bytes
    ) -> tuple[_Node, int, bytes | None, bytes | None, list[tuple[_Node, int]]]:
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
        self, node: _Node, key: bytes, layer: int, *, create: bool
    ) -> tuple[_Node | None, bytes | None, bytes | None, list[tuple[_Node, int]]]:
        """Walks to the node of `layer` in whose range a key lies, marking the way as changed.

        Returns:
            The node (None if there is none and `create` is not set), the keys of higher layers
            between which it lies, and the way there as (node, index of the child).
        """
        low: bytes | None = None
        high: bytes | None = None
        path: list[tuple[_Node, int]] = []
        for depth in range(self._layer, layer, -1):
            node.cid = None
            index = bisect_left(node.keys, key)
            low, high = _bounds(node, index, low, high)
            child = node.child(index)
            if child is None:
                if not create:
                    return None, low, high, path
                child = _Node([], [], None)
            elif isinstance(child, bytes):
                child = self._load(child, depth - 1, low, high)
            node.set_child(index, child)
            path.append((node, index))
            node = child
        node.cid = None
        return node, low, high, path

    def _merge(
        self,
        left: _Child,
        right: _Child,
        key: bytes,
        layer: int,
        low: bytes | None,
        high: bytes | None,
    ) -> _Child:
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
        self, child: _Child, key: bytes, layer: int, low: bytes | None, high: bytes | None
    ) -> tuple[_Child, _Child]:
        """Cuts a subtree in two at a key that is about to be inserted above it."""
        if child is None:
            return None, None
        node = self._load(child, layer, low, high) if isinstance(child, bytes) else child
        index = bisect_left(node.keys, key)
        low, high = _bounds(node, index, low, high)
        left, right = self._split(node.child(index), key, layer - 1, low, high)
        after = _Node(node.keys[index:], node.entries[index:], right)
        after.compress_key(0)
        del node.keys[index:], node.entries[index:]
        node.set_child(index, left)
        node.cid = None
        return (
            node if node.keys or left is not None else None,
            after if after.keys or right is not None else None,
        )

    def _load(self, cid: bytes, layer: int, low: bytes | None, high: bytes | None) -> _Node:
        """Loads a node into its place: at `layer`, between the keys `low` and `high`."""
        node = self._parse(cid)
        keys = node.keys
        if not keys:
            if layer == 0 or node.left is None:
                raise MstError(Reason.MST_NODE, "a node without entries and without a child")
            return node
        if (low is not None and keys[0] <= low) or (high is not None and keys[-1] >= high):
            raise MstError(Reason.MST_RANGE, "a node's keys leave the range of its place")
        _check_layer(node, layer)
        return node

    def _parse(self, cid: bytes) -> _Node:
        # Key ranges are disjoint, so a subtree can occur only once. Also ends a cycle. spec: B-45
        if cid in self._loaded:
            raise MstError(Reason.MST_RECURRENCE, "a node occurs twice in one tree")
        self._loaded.add(cid)
        block = self._blocks.get(cid)
        if block is None:
            raise MstError(Reason.MST_BLOCK_MISSING, "a node that is needed was not sent")
        return _parse_node(block, cid)


def _check_layer(node: _Node, layer: int) -> None:
    if layer > MAX_LAYER:
        raise MstError(Reason.MST_TOO_LARGE, f"a node of layer {layer}")
    low, high = _LAYER_HASHES[layer]
    if not all([low <= sha256(key).digest() < high for key in node.keys]):  # noqa: C419 - faster
        raise MstError(Reason.MST_LAYER, "a key does not lie in its layer")
    if layer == 0 and (node.left is not None or any(entry["t"] for entry in node.entries)):
        raise MstError(Reason.MST_LAYER, "a node of layer 0 has a child")


def _bounds(
    node: _Node, index: int, low: bytes | None, high: bytes | None
) -> tuple[bytes | None, bytes | None]:
    """Narrows a range to that of a node's child."""
    keys = node.keys
    return (keys[index - 1] if index else low, keys[index] if index < len(keys) else high)


def _mismatch(key: bytes, what: str) -> CommitError:
    path = key.decode("utf-8", "replace")
    return CommitError(Reason.COMMIT_OP_MISMATCH, f"the record {what}", path=path)


def _entry(key: bytes, value: bytes, child: _Child) -> dict[str, Any]:
    """Returns the entry of a key that shares nothing with the one before it."""
    return {"k": key, "p": 0, "t": child, "v": value}


def _parse_node(block: bytes, cid: bytes) -> _Node:
    """Checks one node by itself (spec: B-40…B-44)."""
    try:
        value = cbor.decode(block)
    except DagCborError as error:
        raise MstError(Reason.MST_NODE, error.detail) from None
    try:
        entries, left = value["e"], value["l"]
    except (TypeError, KeyError):
        raise MstError(Reason.MST_NODE, "not a map with `e` and `l`") from None
    if type(entries) is not list or len(value) != 2:
        raise MstError(Reason.MST_NODE, "`e` is not a list, or there are further fields")
    if len(entries) > MAX_NODE_ENTRIES_COUNT:
        raise MstError(Reason.MST_TOO_LARGE, f"a node with {len(entries)} entries")
    if left is not None:
        _check_link(left)
    return _Node(_parse_entries(entries), entries, left, cid)


def _parse_entries(entries: list[Any]) -> list[bytes]:
    """Checks the entries of a node and returns their whole keys."""
    keys = []
    previous = b""
    for entry in entries:
        try:
            suffix, prefix_length = entry["k"], entry["p"]
            record_cid, child = entry["v"], entry["t"]
        except (TypeError, KeyError):
            raise MstError(Reason.MST_NODE, "an entry without one of `k p v t`") from None
        # `type(...) is int` keeps out booleans, which are integers in Python.
        if type(prefix_length) is not int or type(suffix) is not bytes or len(entry) != 4:
            raise MstError(Reason.MST_NODE, "an entry with another field or type")
        # The byte after the shared prefix must be greater than the previous key's: that is at
        # once the order of the keys and the proof that the prefix could not be longer.
        if not 0 <= prefix_length <= len(previous) or not suffix:
            raise MstError(Reason.MST_PREFIX, "a prefix does not fit the previous key")
        if prefix_length < len(previous) and suffix[0] <= previous[prefix_length]:
            raise MstError(Reason.MST_KEY_ORDER, "keys not sorted, or sharing a longer prefix")
        # In line, as there are forty entries in a commit.
        if (
            type(record_cid) is not bytes
            or len(record_cid) != CID_BYTES
            or record_cid[:4] != DAG_CBOR_PREFIX
        ):
            raise MstError(Reason.MST_NODE, "a value is not the CID of an object")
        if child is not None:
            _check_link(child)
        previous = previous[:prefix_length] + suffix
        keys.append(previous)
    if keys and max(map(len, keys)) > MAX_KEY_BYTES:
        raise MstError(Reason.MST_KEY, f"a key of more than {MAX_KEY_BYTES} bytes")
    return keys


def _check_link(value: Any) -> None:
    if type(value) is not bytes or len(value) != CID_BYTES or value[:4] != DAG_CBOR_PREFIX:
        raise MstError(Reason.MST_NODE, "a link is not the CID of an object")


def _encode_child(child: _Child) -> bytes | None:
    """Returns the CID of a subtree, encoding what changed in it."""
    if child is None or isinstance(child, bytes):
        return child
    if child.cid is None:
        for entry in child.entries:
            if type(entry["t"]) is _Node:
                entry["t"] = _encode_child(entry["t"])
        child.cid = cid_of(cbor.encode({"e": child.entries, "l": _encode_child(child.left)}))
    return child.cid
