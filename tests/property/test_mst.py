"""Inversion against the oracle: what is undone is what was done, and nothing else passes."""

import itertools
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from property import strategies
from support import wire
from support.oracle import (
    build,
    cid_of,
    common_prefix_length,
    covering_nodes,
    decode_node,
    layer_of,
)
from support.repo import DID, make_op, make_ops, outcome

from pipelines.atproto import mst
from pipelines.atproto.commit import (
    AuthenticCommit,
    OpenedCommit,
    SignedCommit,
    prove_commit,
)
from pipelines.atproto.errors import Reason
from pipelines.atproto.frames import Action, CommitMessage, Op
from pipelines.atproto.syntax import Tid

_V1, _V2 = cid_of(b"one"), cid_of(b"two")
_BLOCK = b"any record: records are not looked into"


@given(edit=strategies.edits())
def test_undoing_a_commit_gives_the_tree_before(
    edit: tuple[dict[str, bytes], dict[str, bytes]],
) -> None:
    """Spec: G-12."""
    before, after = edit
    tree = build(after)
    assert mst.invert(tree.nodes, tree.root, make_ops(before, after)) == build(before).root


@given(edit=strategies.edits())
def test_the_covering_nodes_are_enough(edit: tuple[dict[str, bytes], dict[str, bytes]]) -> None:
    """Spec: G-21: whoever sends what the rule names is proven."""
    before, after = edit
    ops = make_ops(before, after)
    tree = build(after)
    blocks = covering_nodes(tree, [op.path for op in ops])
    assert mst.invert(blocks, tree.root, ops) == build(before).root


@given(edit=strategies.edits(), data=st.data())
def test_the_order_of_the_ops_does_not_matter(
    edit: tuple[dict[str, bytes], dict[str, bytes]], data: st.DataObject
) -> None:
    """Spec: G-13."""
    before, after = edit
    ops = data.draw(st.permutations(make_ops(before, after)))
    assert mst.invert(build(after).nodes, build(after).root, ops) == build(before).root


@given(edit=strategies.edits(), data=st.data())
def test_with_nodes_missing_it_fails_or_is_right(
    edit: tuple[dict[str, bytes], dict[str, bytes]], data: st.DataObject
) -> None:
    """Spec: B-46, G-14.

    A wrong answer is possible in one form only: the CID of a node without entries that was not
    sent, and so could not be seen to be no root. It is not the CID of any tree.
    """
    before, after = edit
    tree = build(after)
    kept = data.draw(st.sets(st.sampled_from(sorted(tree.nodes))))
    blocks = {cid: tree.nodes[cid] for cid in kept}
    undone = outcome(lambda: mst.invert(blocks, tree.root, make_ops(before, after)))
    if undone not in {build(before).root, Reason.MST_BLOCK_MISSING}:
        assert isinstance(undone, bytes)
        assert undone not in kept
        assert decode_node(tree.nodes[undone]).keys == []


@given(records=strategies.repositories(), data=st.data())
def test_a_tree_does_not_depend_on_the_order_of_its_making(
    records: dict[str, bytes], data: st.DataObject
) -> None:
    """Spec: B-29."""
    order = data.draw(st.permutations(sorted(records)))
    tree = mst.PartialTree({}, mst.EMPTY_ROOT_CID)
    for path in order:
        tree.insert(path.encode(), records[path])
    assert tree.root_cid() == build(records).root


@given(records=strategies.repositories(max_size=80))
def test_sorted_records_determine_the_root(records: dict[str, bytes]) -> None:
    """Spec: B-29."""
    root = build(records).root
    assert mst.root_of(sorted(records.items())) == root
    assert mst.root_of((path.encode(), cid) for path, cid in sorted(records.items())) == root


@given(records=strategies.repositories(), data=st.data())
def test_a_tree_is_taken_apart_in_any_order(
    records: dict[str, bytes], data: st.DataObject
) -> None:
    """Spec: B-27, B-28, B-29: and is right wherever one stops."""
    whole = build(records)
    order = data.draw(st.permutations(sorted(records)))
    for count in range(len(order) + 1):
        tree = mst.PartialTree(whole.nodes, whole.root)
        for path in order[:count]:
            tree.remove(path.encode(), records[path])
        left = {path: records[path] for path in order[count:]}
        assert tree.root_cid() == build(left).root


@given(left=st.binary(max_size=40), right=st.binary(max_size=40))
def test_the_common_prefix_is_that_of_the_definition(left: bytes, right: bytes) -> None:
    """Spec: B-41."""
    assert mst.common_prefix_length(left, right) == common_prefix_length(left, right)
    assert mst.common_prefix_length(left, left + right) == len(left)


@given(key=st.binary(max_size=40))
def test_the_layer_is_that_of_the_definition(key: bytes) -> None:
    """Spec: B-23."""
    assert mst.layer_of(key) == layer_of(key)


def _ascending_paths(layers: Sequence[int]) -> list[str]:
    """Returns paths of some layers in the order of their keys."""
    candidates = (f"com.example.note/{number:05}" for number in itertools.count())
    return [
        next(path for path in candidates if layer_of(path.encode()) == layer) for layer in layers
    ]


def _states(paths: Sequence[str], values: Sequence[bytes]) -> Iterator[dict[str, bytes]]:
    """Yields every repository over some paths, each absent or with one of the values."""
    for chosen in itertools.product((None, *values), repeat=len(paths)):
        yield {path: value for path, value in zip(paths, chosen, strict=True) if value is not None}


@pytest.mark.parametrize(
    ("layers", "values"),
    [
        ((0, 0, 1, 0, 2, 0), (_V1,)),
        ((2, 0, 1, 1, 0, 2), (_V1,)),
        ((0, 3, 0, 4, 0), (_V1,)),
        ((0, 1, 0, 2), (_V1, _V2)),
    ],
    ids=["one in the middle", "two at the edges", "gaps between layers", "two values"],
)
def test_every_pair_of_small_repositories(
    layers: tuple[int, ...], values: tuple[bytes, ...]
) -> None:
    """Spec: G-12, G-21: from all nodes, and for small commits from the covering ones."""
    states = list(_states(_ascending_paths(layers), values))
    trees = [build(state) for state in states]
    assert [mst.root_of(sorted(state.items())) for state in states] == [
        tree.root for tree in trees
    ]
    for (before, tree_before), (after, tree_after) in itertools.product(
        zip(states, trees, strict=True), repeat=2
    ):
        ops = make_ops(before, after)
        assert mst.invert(tree_after.nodes, tree_after.root, ops) == tree_before.root
        if len(ops) <= 2:
            covering = covering_nodes(tree_after, [op.path for op in ops])
            assert mst.invert(covering, tree_after.root, ops) == tree_before.root


@st.composite
def _forgeries(
    draw: st.DrawFn,
) -> tuple[dict[str, bytes], dict[str, bytes], tuple[Op, ...]]:
    """A commit, and a list of ops that is not what it did."""
    before, after = draw(strategies.edits())
    honest = make_ops(before, after)
    ops = list(honest)
    kind = draw(st.sampled_from(["value", "prev", "path", "missing", "added", "repeated"]))
    if kind == "added":
        forged = draw(_any_op())
        ops.insert(draw(st.integers(0, len(ops))), forged)
    else:
        assume(ops)
        index = draw(st.integers(0, len(ops) - 1))
        op = ops[index]
        # As frames have them: which CIDs an op has is fixed by its action.
        if kind == "value":
            assume(op.cid)
            ops[index] = op._replace(cid=draw(strategies.record_cids))
        elif kind == "prev":
            assume(op.prev)
            ops[index] = op._replace(prev=draw(strategies.record_cids))
        elif kind == "path":
            path = draw(strategies.paths)
            ops[index] = make_op(op.action, path, op.cid, op.prev)
        elif kind == "missing":
            del ops[index]
        else:
            ops.insert(draw(st.integers(0, len(ops))), op)
    changing = [op for op in ops if op.cid != op.prev]
    assume(set(changing) != set(honest) or len(changing) != len(honest))
    return before, after, tuple(ops)


@st.composite
def _any_op(draw: st.DrawFn) -> Op:
    action = draw(st.sampled_from(Action))
    return make_op(
        action,
        draw(strategies.paths),
        None if action is Action.DELETE else draw(strategies.record_cids),
        None if action is Action.CREATE else draw(strategies.record_cids),
    )


@settings(max_examples=250)
@given(forgery=_forgeries())
def test_no_forged_list_of_ops_is_ever_proven(
    forgery: tuple[dict[str, bytes], dict[str, bytes], tuple[Op, ...]],
) -> None:
    """Spec: G-09, G-10, G-12, G-17: every node and every record is at the forger's hands.

    Not a forgery: an update whose `prev` is its `cid`, of a record that is there. It says nothing,
    and deployed servers emit it.
    """
    before, after, ops = forgery
    assert isinstance(outcome(lambda: _prove(before, after, ops)), Reason)


@given(edit=strategies.edits())
def test_the_honest_list_is_proven(edit: tuple[dict[str, bytes], dict[str, bytes]]) -> None:
    """The control to the test above: the same judge accepts what is right."""
    before, after = edit
    _prove(before, after, make_ops(before, after))


def _prove(before: dict[str, bytes], after: dict[str, bytes], ops: tuple[Op, ...]) -> None:
    tree = build(after)
    rev, since = Tid(wire.rev(1)), Tid(wire.rev(0))
    records = dict.fromkeys((*before.values(), *after.values(), _V1, _V2), _BLOCK)
    records |= dict.fromkeys((op.cid for op in ops if op.cid), _BLOCK)
    signed = SignedCommit(DID, rev, tree.root, None, bytes(64), b"", b"")
    commit_cid = cid_of(b"")
    opened = OpenedCommit(signed, commit_cid, records | tree.nodes)
    message = CommitMessage(
        1, DID, wire.START_TIME, rev, since, commit_cid, build(before).root, ops, b""
    )
    prove_commit(message, AuthenticCommit(opened))
