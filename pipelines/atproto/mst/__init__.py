"""Merkle search trees: every rule of nodes, inversion of operations, whole trees, differences.

    invert      undoes operations on a partial tree: the proof of a commit message
    diff        what leads from one tree to another
    root_of     the root that a sorted list of records has
    traverse    a whole tree in the order of its paths, from blocks as they come
    mst.tree    a tree as a value: changed by writes, with the blocks that prove the change

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

from pipelines.atproto.mst.building import root_of, root_steps
from pipelines.atproto.mst.difference import diff
from pipelines.atproto.mst.inversion import PartialTree, invert
from pipelines.atproto.mst.node import (
    EMPTY_NODE,
    EMPTY_ROOT_CID,
    MAX_KEY_BYTES,
    MAX_LAYER,
    MAX_NODE_ENTRIES_COUNT,
    common_prefix_length,
    layer_of,
)
from pipelines.atproto.mst.traversal import Traversal, Wanted, traverse
from pipelines.atproto.mst.tree import Write

__all__ = [
    "EMPTY_NODE",
    "EMPTY_ROOT_CID",
    "MAX_KEY_BYTES",
    "MAX_LAYER",
    "MAX_NODE_ENTRIES_COUNT",
    "PartialTree",
    "Traversal",
    "Wanted",
    "Write",
    "common_prefix_length",
    "diff",
    "invert",
    "layer_of",
    "root_of",
    "root_steps",
    "traverse",
]
