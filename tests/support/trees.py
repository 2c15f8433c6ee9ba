"""Trees that no honest repository has, and questions that make the verifier look at them."""

from support import oracle
from support.repo import make_op

from pipelines.atproto import mst
from pipelines.atproto.frames import Action, Op

VALUE = oracle.cid_of(b"a record")
OTHER_VALUE = oracle.cid_of(b"another record")

# One path of layer 2, one of layer 1 and two of layer 0 on either side of it.
TOP = oracle.sample_paths(2, 3)[1]
INNER_BEFORE = next(path for path in oracle.sample_paths(1, 99) if path < TOP)
INNER_AFTER = next(path for path in oracle.sample_paths(1, 99) if path > TOP)
LEAF_BEFORE, LEAF_BETWEEN = (
    next(path for path in oracle.sample_paths(0, 999) if low < path < high)
    for low, high in (("", INNER_BEFORE), (INNER_BEFORE, TOP))
)
LEAF_AFTER = next(path for path in oracle.sample_paths(0, 999) if TOP < path < INNER_AFTER)


def node(paths: list[str], *children: bytes | None) -> bytes:
    """Returns the block of a node.

    Args:
        paths: of its entries, in any order; all have the record `VALUE`.
        *children: before, between and after them; none at all for none.
    """
    keys = [path.encode() for path in paths]
    hanging = list(children) or [None] * (len(keys) + 1)
    return oracle.encode_node(oracle.Node(keys, [VALUE] * len(keys), hanging))


def update(path: str) -> Op:
    """Returns an update that is undone without changing anything: it only looks."""
    return make_op(Action.UPDATE, path, VALUE, VALUE)


def look_at(root: bytes, *blocks: bytes, paths: tuple[str, ...]) -> bytes:
    """Makes the verifier load the nodes on the way to some paths.

    Args:
        root: block of the root node.
        *blocks: other blocks.
        paths: what is said to have been updated.
    """
    blocks_by_cid = {oracle.cid_of(block): block for block in (root, *blocks)}
    return mst.invert(blocks_by_cid, oracle.cid_of(root), [update(path) for path in paths])
