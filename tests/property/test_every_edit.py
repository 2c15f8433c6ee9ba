"""Every commit between small repositories, against the oracle: nothing is left to chance here.

A place holds one of some paths, or none. So the first set has every shape of a tree of up to three
keys of the layers 0 to 3, and every way from one to another; the others are wider.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial

import pytest
from support import oracle
from support.edits import Edit, ascending_paths, every_edit, every_state, lies, prove
from support.oracle import cid_of, decode_node, encode_node, layer_of, replace_node
from support.repo import make_op, outcome

from pipelines.atproto import mst
from pipelines.atproto.errors import Reason
from pipelines.atproto.frames import Action
from pipelines.atproto.mst.tree import Tree, Write

_V1, _V2 = cid_of(b"one"), cid_of(b"two")


@pytest.mark.parametrize(
    ("places", "values"),
    [
        pytest.param([(0, 1, 2, 3)] * 3, [_V1], id="every shape of three keys"),
        pytest.param([(0,), (0,), (1,), (0,), (2,), (0,)], [_V1], id="one key in the middle"),
        pytest.param([(2,), (0,), (1,), (1,), (0,), (2,)], [_V1], id="two keys at the edges"),
        pytest.param([(0,), (3,), (0,), (4,), (0,)], [_V1], id="gaps between the layers"),
        pytest.param([(0, 1)] * 4, [_V1], id="every shape of two layers of four keys"),
        pytest.param([(0,), (1,), (0,), (2,)], [_V1, _V2], id="two values"),
    ],
)
def test_every_commit_is_undone_from_what_its_message_must_bring(
    places: Sequence[Sequence[int]], values: Sequence[bytes]
) -> None:
    """Spec: B-29, G-12, G-21: and without any block that is needed it is not."""
    states = every_state(ascending_paths(places), values)
    for state in states:
        assert mst.root_of(sorted(state.records.items())) == state.tree.root
    producers = [Tree().apply(_writes(Edit(states[0], state))).tree for state in states]
    count = dispensable_count = 0
    for n, edit in enumerate(every_edit(states)):
        ops, root, root_before = edit.ops, edit.after.tree.root, edit.before.tree.root
        blocks, writes = edit.after.covering(ops), _writes(edit)
        assert mst.diff(edit.before.tree.nodes, root_before, edit.after.tree.nodes, root) == writes
        sent = producers[n // len(states)].apply(writes)
        assert (sent.tree.root_cid, sent.covering) == (root, blocks)

        assert mst.invert(blocks, root, ops) == root_before
        # The node of an empty tree is known to everybody.
        known = edit.before.tree.nodes.keys() | {mst.EMPTY_ROOT_CID}
        needed = dict(blocks)
        for missing in blocks:
            fewer = {cid: block for cid, block in blocks.items() if cid != missing}
            if outcome(partial(mst.invert, fewer, root, ops)) == root_before:
                # It was there before and was moved as a whole, if at all.
                assert missing in known
                del needed[missing]
        assert mst.invert(needed, root, ops) == root_before
        # All that is new has to be sent and looked into.
        assert edit.after.tree.nodes.keys() - known <= needed.keys()
        count += len(ops) > 0
        dispensable_count += len(needed) < len(blocks)
    assert count == len(states) ** 2 - len(states)
    # The rule for what is sent names blocks at the edges that we do without.
    assert 0 < dispensable_count < count // 2


def _writes(edit: Edit) -> list[Write]:
    return [Write(op.path.encode(), op.prev, op.cid) for op in edit.ops]


@pytest.mark.parametrize(
    ("places", "values"),
    [
        pytest.param([(0,), (1,), (2,)], [_V1, _V2], id="two values"),
        pytest.param([(0,), (1,), (0,), (2,), (0,)], [_V1], id="neighbours"),
        pytest.param([(1,), (3,), (0,), (1,)], [_V1], id="gaps between the layers"),
    ],
)
def test_no_lie_about_any_commit_is_proven(
    places: Sequence[Sequence[int]], values: Sequence[bytes]
) -> None:
    """Spec: G-09, G-10, G-12, G-17."""
    places_of_paths = ascending_paths(places)
    paths = [path for place in places_of_paths for path in place]
    kinds: set[str] = set()
    for edit in every_edit(every_state(places_of_paths, values)):
        assert prove(edit, edit.ops).message.prev_data == edit.before.tree.root
        told = lies(edit, paths, [_V1, _V2])
        kinds |= told.keys()
        for kind, lists in told.items():
            for ops in lists:
                judged = outcome(partial(prove, edit, ops))
                assert isinstance(judged, Reason), (kind, ops)
    assert kinds == {"action", "added", "missing", "path", "prev", "repeated", "value"}


@pytest.mark.parametrize(
    "layers",
    [
        pytest.param((0, 1, 0, 1, 0, 2, 0, 1, 0), id="in the middle"),
        pytest.param((1, 0, 1, 0, 1, 0, 2, 0), id="at the end"),
        pytest.param((0, 2, 0, 1, 0, 1, 0, 1), id="at the beginning"),
    ],
)
def test_no_node_outside_the_range_of_its_place_is_passed(layers: Sequence[int]) -> None:
    """Spec: B-26: wherever one reads, keys lie between those of the nodes above.

    Of one node in the tree after a commit, the first or the last key is one of the same layer that
    lies outside. All above it are hashed anew: an account may sign such a tree.
    """
    places = ascending_paths([(layer,) for layer in layers])
    paths = [path for (path,) in places]
    refused: Counter[Reason] = Counter()
    for state in every_state(places, [_V1]):
        ops = [
            make_op(Action.CREATE, path, _V1, None)
            if path in state.records
            else make_op(Action.DELETE, path, None, _V1)
            for path in paths
        ]
        for cid, others in _outside(state.tree, [path.encode() for path in paths]):
            root, nodes = state.tree
            without = {other: block for other, block in nodes.items() if other != cid}
            leading = [
                op
                for op in ops
                if outcome(partial(mst.invert, without, root, [op])) is Reason.MST_BLOCK_MISSING
            ]
            for moved in (replace_node(state.tree, cid, other) for other in others):
                readers: list[Callable[[], object]] = [
                    partial(mst.invert, moved.nodes, moved.root, [op]) for op in leading
                ]
                readers += [partial(mst.diff, nodes, root, moved.nodes, moved.root)]
                readers += [partial(mst.diff, moved.nodes, moved.root, nodes, root)]
                readers += [partial(_walk, moved)]
                for read in readers:
                    judged = outcome(read)
                    assert isinstance(judged, Reason), (sorted(state.records), read)
                    refused[judged] += 1
    assert refused[Reason.MST_RANGE] > 500
    # A node may also become the same as another one.
    assert refused.keys() == {Reason.MST_RANGE, Reason.MST_RECURRENCE}


def _outside(tree: oracle.Tree, keys: Sequence[bytes]) -> Iterator[tuple[bytes, list[bytes]]]:
    """Yields each node, and what could stand in its place if ranges did not matter."""
    pending: list[tuple[bytes | None, bytes, bytes]] = [(tree.root, b"", b"~")]
    while pending:
        cid, low, high = pending.pop()
        if cid is None:
            continue
        node = decode_node(tree.nodes[cid])
        bounds = [low, *node.keys, high]
        pending += zip(node.children, bounds[:-1], bounds[1:], strict=True)
        if node.keys:
            alike = [key for key in keys if layer_of(key) == layer_of(node.keys[0])]
            below = [[key, *node.keys[1:]] for key in alike if key < low]
            above = [[*node.keys[:-1], key] for key in alike if key > high]
            yield cid, [encode_node(node._replace(keys=moved)) for moved in below + above]


def _walk(tree: oracle.Tree) -> None:
    walk = mst.traverse(tree.root)
    with suppress(StopIteration):
        cid, key = next(walk)
        while True:
            cid, key = walk.send(tree.nodes[cid] if key is None else b"any record")
