"""Nodes of Merkle search trees: parsed with every rule that a node can break by itself, encoded.

Layer and range depend on the place at which a node hangs: `check_layer` and the callers check
them. The package's docstring has the terms.

Source: draft-holmgren-at-repository "MST Node Schema", "Layer Calculation"; atproto.com/specs/
repository. spec: B-23, B-40…B-44, M-02, M-03.
"""

from hashlib import sha256
from typing import Any, TypeAlias

from pipelines.atproto import cbor
from pipelines.atproto.cid import CID_BYTES, DAG_CBOR_PREFIX, cid_of
from pipelines.atproto.errors import DagCborError, MstError, Reason

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


class Node:
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
        left: "Child",
        cid: bytes | None = None,
    ) -> None:
        self.keys = keys
        self.entries = entries
        self.left = left
        self.cid = cid

    def child(self, index: int) -> "Child":
        """Returns the child before the entry at `index`, or after the last one."""
        if index == 0:
            return self.left
        child: Child = self.entries[index - 1]["t"]
        return child

    def set_child(self, index: int, child: "Child") -> None:
        """Sets the child before the entry at `index`, or after the last one."""
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


Child: TypeAlias = Node | bytes | None


def layer_of(key: bytes) -> int:
    """Returns the layer of a key: 0 for three quarters of all keys (spec: B-23)."""
    return (256 - int.from_bytes(sha256(key).digest(), "big").bit_length()) >> 1


def common_prefix_length(left: bytes, right: bytes) -> int:
    """Returns how many leading bytes two keys share."""
    length = min(len(left), len(right))
    difference = int.from_bytes(left[:length], "big") ^ int.from_bytes(right[:length], "big")
    return length - (difference.bit_length() + 7) // 8


def check_layer(node: Node, layer: int) -> None:
    """Refuses a node with keys of another layer, and a leaf with a child (spec: B-24, B-25)."""
    if layer > MAX_LAYER:
        raise MstError(Reason.MST_TOO_LARGE, f"a node of layer {layer}")
    low, high = _LAYER_HASHES[layer]
    if not all([low <= sha256(key).digest() < high for key in node.keys]):  # noqa: C419 - faster
        raise MstError(Reason.MST_LAYER, "a key does not lie in its layer")
    if layer == 0 and (node.left is not None or any(entry["t"] for entry in node.entries)):
        raise MstError(Reason.MST_LAYER, "a node of layer 0 has a child")


def check_root(node: Node) -> int:
    """Refuses what cannot be the root of a tree with records; returns the root's layer.

    The layer follows from the keys: a root always has some (spec: B-24, B-27).
    """
    if not node.keys:
        raise MstError(Reason.MST_NODE, "the root has no entries")
    layer = layer_of(node.keys[0])
    check_layer(node, layer)
    return layer


def check_place(node: Node, layer: int, low: bytes | None, high: bytes | None) -> None:
    """Refuses a node that cannot hang at `layer` between the keys `low` and `high`.

    None stands for an end that is open. spec: B-24…B-27
    """
    keys = node.keys
    if not keys:
        if layer == 0 or node.left is None:
            raise MstError(Reason.MST_NODE, "a node without entries and without a child")
        return
    if (low is not None and keys[0] <= low) or (high is not None and keys[-1] >= high):
        raise MstError(Reason.MST_RANGE, "a node's keys leave the range of its place")
    check_layer(node, layer)


def check_suffix(suffix: bytes) -> None:
    """Refuses an empty suffix, and one that begins with a byte that no path has.

    The codec would write a byte string that begins like a CID as a link. All that it takes for a
    CID begins with a control character. spec: B-20
    """
    if suffix < b"!":
        raise MstError(Reason.MST_KEY, "a key that is empty or has a control character")


def new_entry(key: bytes, value: bytes, child: Child) -> dict[str, Any]:
    """Returns the entry of a key that shares nothing with the one before it."""
    return {"k": key, "p": 0, "t": child, "v": value}


def parse_node(block: bytes, cid: bytes) -> Node:
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
    return Node(_parse_entries(entries), entries, left, cid)


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
        check_suffix(suffix)
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


def encode_child(child: Child) -> bytes | None:
    """Returns the CID of a subtree, encoding what changed in it."""
    if child is None or isinstance(child, bytes):
        return child
    if child.cid is None:
        for entry in child.entries:
            if type(entry["t"]) is Node:
                entry["t"] = encode_child(entry["t"])
        child.cid = cid_of(cbor.encode({"e": child.entries, "l": encode_child(child.left)}))
    return child.cid
