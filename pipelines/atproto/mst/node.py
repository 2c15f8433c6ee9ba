"""Nodes of Merkle search trees: parsed with every rule that a node can break at its place.

Recurrence depends on the rest of the tree: whoever walks it checks it. The package's docstring has
the terms.

A node's form is stated once, as a pattern over its bytes: what matches is a node in the one
canonical encoding, so nothing that a codec is lenient about can pass, and its decoded value needs
no further look at fields, types or links. The codec then only cuts it into pieces.

Source: draft-holmgren-at-repository "MST Node Schema", "Layer Calculation"; atproto.com/specs/
repository. spec: B-23…B-28, B-40…B-44, M-02, M-03.
"""

import re
from typing import Any, Final, TypeAlias

from pipelines.atproto import cbor
from pipelines.atproto.cid import cid_of
from pipelines.atproto.errors import MstError, Reason

# For keys, of which forty are hashed a commit: the interpreter's own implementation starts much
# faster than OpenSSL's, which wins from some hundred bytes on.
try:
    from _sha256 import (  # type: ignore[import-not-found]  # until Python 3.11
        sha256 as short_sha256,
    )
except ImportError:
    try:
        from _sha2 import sha256 as short_sha256  # type: ignore[import-not-found]  # from 3.12
    except ImportError:  # a Python that was built without its own
        from hashlib import sha256 as short_sha256

# The one node without entries that may be a root: `{e: [], l: null}`. spec: B-28
EMPTY_NODE: Final = bytes.fromhex("a2616580616cf6")
EMPTY_ROOT_CID: Final = cid_of(EMPTY_NODE)

# A run of keys in one node is geometric with ratio 3/4: 10^7 keys have a longest run of about 56,
# and 1,000 has a probability below 10^-120. A longer node was made to hurt. spec: M-02
MAX_NODE_ENTRIES_COUNT: Final = 1_000
# A key of layer 16 costs 4·10^9 hashes to find; layer 31 is out of reach. Bounds recursion and
# the chain of empty nodes that one high key forces. spec: M-03
MAX_LAYER: Final = 31
# indigo and the reference implementation share this limit. spec: B-22
MAX_KEY_BYTES: Final = 1_024


def _byte_string(max_length: int) -> bytes:
    """Returns a pattern of the byte strings of 1 up to some length, each with its one head.

    The first byte is printable ASCII, as all of a path is: the codec would write a byte string
    that begins like a CID (with 01 or 12) as a link. spec: B-20
    """
    forms: dict[bytes, list[bytes]] = {}
    for length in range(1, max_length + 1):
        head = cbor.head(2, length)
        body = b"%b[!-~].{%d}" % (re.escape(head[-1:]), length - 1)
        forms.setdefault(head[:-1], []).append(body)
    # Grouped by all but the last byte of the head, or a long key would try 1,000 alternatives.
    groups = [b"%b(?:%b)" % (re.escape(start), b"|".join(ends)) for start, ends in forms.items()]
    return b"(?:%b)" % b"|".join(groups)


def _node(child: bytes) -> re.Pattern[bytes]:
    """Returns the pattern of nodes whose links to children match another one."""
    entry = b"\xa4\x61k%b\x61p%b\x61t%b\x61v%b" % (
        _byte_string(MAX_KEY_BYTES),
        cbor.head_pattern(0),
        child,
        cbor.LINK_PATTERN,
    )
    form = b"\xa2\x61e%b(?:%b)*+\x61l%b" % (cbor.head_pattern(4), entry, child)
    return re.compile(form, re.DOTALL)


_match_node = _node(b"(?:\xf6|%b)" % cbor.LINK_PATTERN).fullmatch
_match_leaf = _node(b"\xf6").fullmatch

# The hashes of the keys of a layer: from the first to the one after the last. Those of layer L
# begin with 2L or 2L+1 zero bits; those of layer 0 have no end below 2^256.
_FIRST_HASHES: Final = [(1 << (254 - 2 * layer)).to_bytes(32) for layer in range(MAX_LAYER + 1)]
_LAYER_HASHES: Final = list(zip(_FIRST_HASHES, [b"\xff" * 33, *_FIRST_HASHES], strict=False))

# What lies outside the keys of a tree: the first byte of a key is "!" to "~". The former has one
# byte, as if there were a key before the first of a node, but no prefix takes it.
BELOW_ALL_KEYS: Final = b" "
ABOVE_ALL_KEYS: Final = b"\x7f"

# The decoded form of a node, `{"e": [{"k", "p", "t", "v"}, …], "l"}`, and of one of its entries.
Wire: TypeAlias = dict[str, Any]


class Node:
    """A node in memory, and the place where it hangs.

    The wire form stays the maps that the codec made: most of it is encoded again just as it came.
    A link in it is the raw CID of a child, or the child itself from when it is loaded until it is
    encoded.

    Attributes:
        keys: whole keys, one for each entry.
        wire: the decoded node.
        holder: the map that links to this node: the entry before it, or its parent's own. None
            once the node is no longer part of the tree.
        field: name of the link in `holder`.
    """

    __slots__ = ("field", "holder", "keys", "wire")

    def __init__(self, keys: list[bytes], wire: Wire, holder: Wire | None, field: str) -> None:
        self.keys = keys
        self.wire = wire
        self.holder = holder
        self.field = field

    def link(self, index: int) -> tuple[Wire, str]:
        """Returns where the child before the entry at `index`, or after the last one, hangs."""
        return (self.wire["e"][index - 1], "t") if index else (self.wire, "l")

    def compress_key(self, index: int) -> None:
        """Sets an entry's prefix anew, after the entry before it changed."""
        if index < len(self.keys):
            key = self.keys[index]
            prefix_length = common_prefix_length(self.keys[index - 1], key) if index else 0
            suffix = key[prefix_length:]
            check_suffix(suffix)
            entry = self.wire["e"][index]
            entry["p"], entry["k"] = prefix_length, suffix


Child: TypeAlias = Node | bytes | None


def children(wire: Wire) -> list[Child]:
    """Returns the children of a node: before its first entry, and after each."""
    return [wire["l"], *[entry["t"] for entry in wire["e"]]]


def layer_of(key: bytes) -> int:
    """Returns the layer of a key: 0 for three quarters of all keys (spec: B-23)."""
    return (256 - int.from_bytes(short_sha256(key).digest(), "big").bit_length()) >> 1


def common_prefix_length(left: bytes, right: bytes) -> int:
    """Returns how many leading bytes two keys share."""
    length = min(len(left), len(right))
    difference = int.from_bytes(left[:length], "big") ^ int.from_bytes(right[:length], "big")
    return length - (difference.bit_length() + 7) // 8


def check_suffix(suffix: bytes) -> None:
    """Refuses what cannot stand in a node as a key or the rest of one.

    Raises:
        MstError: empty, or beginning with a byte that is no printable ASCII (`mst.key`).
    """
    if not b"!" <= suffix < ABOVE_ALL_KEYS:
        raise MstError(Reason.MST_KEY, "a key that is empty or not printable ASCII")


def parse_node(
    block: bytes, layer: int | None, low: bytes = BELOW_ALL_KEYS, high: bytes = ABOVE_ALL_KEYS
) -> tuple[list[bytes], Wire, int]:
    """Parses a node and checks all that it can break by itself or at its place.

    Args:
        block: the node; not that of the empty tree, which has no place.
        layer: where it hangs; None for a root, whose layer is that of its first key.
        low: the key of a higher layer before the node.
        high: that after it.

    Returns:
        The whole keys in ascending order, the decoded node (links are raw CIDs), and its layer.

    Raises:
        MstError: `mst.node` (another form than the one canonical, or no entries where there must
            be some), `mst.prefix`, `mst.key_order`, `mst.layer` (a key of another layer, or a
            node of layer 0 with a child), `mst.range` (a key not between `low` and `high`),
            `mst.key` (too long), `mst.too_large` (too many entries, or a root beyond
            `MAX_LAYER`). spec: B-24…B-27, B-40…B-44
    """
    # A node of the lowest layer has no children, which its pattern says.
    if not (_match_leaf if layer == 0 else _match_node)(block):
        raise _refusal(block)
    try:
        wire: Wire = cbor.decode_matched(block)
    except ValueError:  # its list says another number of entries than there are
        raise MstError(Reason.MST_NODE, "a node that miscounts its entries") from None
    entries = wire["e"]
    if len(entries) > MAX_NODE_ENTRIES_COUNT:
        raise MstError(Reason.MST_TOO_LARGE, f"a node with {len(entries)} entries")
    if layer is None:
        layer = _root_layer(block, wire)
    first_hash, hash_end = _LAYER_HASHES[layer]
    keys: list[bytes] = []
    previous = BELOW_ALL_KEYS
    # Written out, as it runs forty times a commit: beside its signature, most of what one costs.
    for entry in entries:
        suffix = entry["k"]
        prefix_length = entry["p"]
        # The byte after the shared prefix must be greater than the previous key's: that is at
        # once the order of the keys and the proof that the prefix could not be longer. A key that
        # extends the one before it has no such byte.
        if prefix_length >= len(previous):
            if prefix_length > len(previous) or not keys:
                raise MstError(Reason.MST_PREFIX, "a prefix that does not fit its key")
        elif previous[prefix_length] >= suffix[0]:
            raise MstError(Reason.MST_KEY_ORDER, "keys not sorted, or sharing a longer prefix")
        previous = previous[:prefix_length] + suffix
        digest = short_sha256(previous).digest()
        if digest < first_hash or digest >= hash_end:
            raise MstError(Reason.MST_LAYER, "a key does not lie in its layer")
        keys.append(previous)
    if keys and (keys[0] <= low or previous >= high):
        raise MstError(Reason.MST_RANGE, "a node's keys leave the range of its place")
    # A key is made of bytes of its node, so most nodes are too short for one that is too long.
    if len(block) > MAX_KEY_BYTES and max(map(len, keys), default=0) > MAX_KEY_BYTES:
        raise MstError(Reason.MST_KEY, f"a key of more than {MAX_KEY_BYTES} bytes")
    if not keys and wire["l"] is None:
        raise MstError(Reason.MST_NODE, "a node without entries and without a child")
    return keys, wire, layer


def _refusal(block: bytes) -> MstError:
    """Says of a block that is no node, or none of its layer, which of the two it is."""
    if _match_node(block):
        return MstError(Reason.MST_LAYER, "a node of layer 0 has a child")
    return MstError(Reason.MST_NODE, f"{len(block)} bytes that are no node in canonical form")


def _root_layer(block: bytes, wire: Wire) -> int:
    if not wire["e"]:
        raise MstError(Reason.MST_NODE, "a root without entries")
    layer = layer_of(wire["e"][0]["k"])
    if layer > MAX_LAYER:
        raise MstError(Reason.MST_TOO_LARGE, f"a root of layer {layer}")
    if not layer and not _match_leaf(block):
        raise _refusal(block)
    return layer
