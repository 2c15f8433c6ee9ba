"""A repository's tree the slow and obvious way: the definition, written down.

Independent of `pipelines.atproto`: another codec, whole trees only, everything built anew from the
map of paths. It says what is right; it is no example of how to do it.

Source: draft-holmgren-at-repository "Tree Structure", "MST Node Schema". spec: B-23 to B-29, B-40
to B-43.
"""

import itertools
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from functools import cache, lru_cache
from hashlib import sha256
from typing import Any, NamedTuple

import cbor2


class Tree(NamedTuple):
    """A whole tree: the root's CID, and every node by CID."""

    root: bytes
    nodes: dict[bytes, bytes]


class Node(NamedTuple):
    """A node as it is written: whole keys and values, and a child before, between and after."""

    keys: list[bytes]
    values: list[bytes]
    children: list[bytes | None]


def dag_cbor(value: Any) -> bytes:
    """Encodes a value; a link is made by `link`."""
    return cbor2.dumps(value, canonical=True)


def link(cid: bytes) -> cbor2.CBORTag:
    return cbor2.CBORTag(42, b"\x00" + cid)


def cid_of(block: bytes) -> bytes:
    return b"\x01\x71\x12\x20" + sha256(block).digest()


def layer_of(key: bytes) -> int:
    bits = "".join(f"{byte:08b}" for byte in sha256(key).digest())
    return (len(bits) - len(bits.lstrip("0"))) // 2


def build(records: Mapping[str, bytes]) -> Tree:
    """Builds the tree of path → record CID."""
    items = sorted((path.encode(), cid) for path, cid in records.items())
    nodes: dict[bytes, bytes] = {}
    if not items:
        block = dag_cbor({"e": [], "l": None})
        return Tree(cid_of(block), {cid_of(block): block})
    root = _build_node(items, max(layer_of(key) for key, _ in items), nodes)
    assert root is not None
    return Tree(root, nodes)


def _build_node(
    items: list[tuple[bytes, bytes]], layer: int, nodes: dict[bytes, bytes]
) -> bytes | None:
    """Builds the node of one layer over a run of keys, and all below it; returns its CID."""
    if not items:
        return None
    # Cut the run at the keys of this layer: what lies between them belongs to the children.
    here = [index for index, (key, _) in enumerate(items) if layer_of(key) == layer]
    cuts = [-1, *here, len(items)]
    children = [
        _build_node(items[left + 1 : right], layer - 1, nodes)
        for left, right in itertools.pairwise(cuts)
    ]
    keys, values = [items[index][0] for index in here], [items[index][1] for index in here]
    block = encode_node(Node(keys, values, children))
    nodes[cid_of(block)] = block
    return cid_of(block)


def encode_node(node: Node) -> bytes:
    entries = []
    before = b""
    for key, value, child in zip(node.keys, node.values, node.children[1:], strict=True):
        prefix_length = common_prefix_length(before, key)
        entries.append(
            {
                "p": prefix_length,
                "k": key[prefix_length:],
                "v": link(value),
                "t": None if child is None else link(child),
            }
        )
        before = key
    left = node.children[0]
    return dag_cbor({"e": entries, "l": None if left is None else link(left)})


@lru_cache(maxsize=10_000)
def decode_node(block: bytes) -> Node:
    value = cbor2.loads(block)
    node = Node([], [], [_cid(value["l"])])
    key = b""
    for entry in value["e"]:
        key = key[: entry["p"]] + entry["k"]
        node.keys.append(key)
        node.values.append(entry["v"].value[1:])
        node.children.append(_cid(entry["t"]))
    return node


def common_prefix_length(left: bytes, right: bytes) -> int:
    length = 0
    while length < min(len(left), len(right)) and left[length] == right[length]:
        length += 1
    return length


def read(blocks: Mapping[bytes, bytes], root: bytes) -> dict[str, bytes]:
    """Returns path → record CID of a whole tree."""
    records: dict[str, bytes] = {}
    pending: list[bytes | None] = [root]
    while pending:
        cid = pending.pop()
        if cid is not None:
            node = decode_node(blocks[cid])
            records |= {
                key.decode(): value for key, value in zip(node.keys, node.values, strict=True)
            }
            pending += node.children
    return records


def replace_node(tree: Tree, cid: bytes, block: bytes) -> Tree:
    """Puts another block into the place of a node, and hashes all above it anew."""
    nodes = dict(tree.nodes)
    while True:
        nodes[cid_of(block)] = block
        if cid == tree.root:
            return Tree(cid_of(block), nodes)
        parent = next(above for above, raw in tree.nodes.items() if cid in raw)
        block, cid = tree.nodes[parent].replace(cid, cid_of(block)), parent


def covering_nodes(tree: Tree, paths: Iterable[str]) -> dict[bytes, bytes]:
    """Returns what a commit message has to bring for operations on some paths.

    The nodes on the way to each path (or to where it would be) and to the keys beside it, in the
    tree after the operations. spec: G-21
    """
    keys = sorted(path.encode() for path in read(tree.nodes, tree.root))
    needed: set[bytes] = set()
    for path in paths:
        key = path.encode()
        needed |= _way(tree, key)
        index = bisect_left(keys, key)
        after = index + 1 if index < len(keys) and keys[index] == key else index
        for neighbour in (*keys[max(index - 1, 0) : index], *keys[after : after + 1]):
            needed |= _way(tree, neighbour)
    return {cid: tree.nodes[cid] for cid in needed}


def _way(tree: Tree, key: bytes) -> set[bytes]:
    way: set[bytes] = set()
    cid: bytes | None = tree.root
    while cid is not None:
        way.add(cid)
        node = decode_node(tree.nodes[cid])
        index = bisect_left(node.keys, key)
        if index < len(node.keys) and node.keys[index] == key:
            break
        cid = node.children[index]
    return way


def _cid(tag: cbor2.CBORTag | None) -> bytes | None:
    if tag is None:
        return None
    cid: bytes = tag.value[1:]
    return cid


@cache
def sample_paths(layer: int, count: int = 1) -> tuple[str, ...]:
    """Returns paths whose keys have a layer, in the order in which counting finds them."""
    candidates = (f"com.example.note/{n:05}" for n in itertools.count())
    found = (path for path in candidates if layer_of(path.encode()) == layer)
    return tuple(itertools.islice(found, count))
