"""Every commit between small repositories, against the oracle: nothing is left to chance here.

A place holds one of some paths, or none. So the first set has every shape of a tree of up to three
keys of the layers 0 to 3, and every way from one to another; the others are wider.
"""

from collections.abc import Sequence
from functools import partial

import pytest
from support.edits import Edit, ascending_paths, every_edit, every_state, lies, prove
from support.oracle import cid_of
from support.repo import outcome

from pipelines.atproto import mst
from pipelines.atproto.errors import Reason
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
