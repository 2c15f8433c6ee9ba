"""The difference between two trees: what it is, and which blocks are read to find it."""

import itertools
import random
from collections.abc import Iterator, Mapping

import pytest
from support import oracle
from support.oracle import Tree, build
from support.repo import refusal
from support.trees import (
    INNER_AFTER,
    INNER_BEFORE,
    LEAF_AFTER,
    LEAF_BEFORE,
    LEAF_BETWEEN,
    OTHER_VALUE,
    TOP,
    VALUE,
    node,
)

from pipelines.atproto import mst
from pipelines.atproto.errors import MstError, Reason
from pipelines.atproto.mst import Write

_PATHS = (LEAF_BEFORE, INNER_BEFORE, LEAF_BETWEEN, TOP, LEAF_AFTER, INNER_AFTER)


class _Watched(Mapping[bytes, bytes]):
    """The nodes of a tree, and which of them were asked for."""

    def __init__(self, nodes: Mapping[bytes, bytes]) -> None:
        self._nodes = nodes
        self.read: list[bytes] = []

    def __getitem__(self, cid: bytes) -> bytes:
        self.read.append(cid)
        return self._nodes[cid]

    def __iter__(self) -> Iterator[bytes]:
        raise AssertionError("the blocks were listed")

    def __len__(self) -> int:
        raise AssertionError("the blocks were counted")


def _expected(before: Mapping[str, bytes], after: Mapping[str, bytes]) -> list[Write]:
    return [
        Write(path.encode(), before.get(path), after.get(path))
        for path in sorted(before.keys() | after.keys())
        if before.get(path) != after.get(path)
    ]


def _check(
    before: Mapping[str, bytes], after: Mapping[str, bytes], trees: tuple[Tree, Tree]
) -> int:
    """Compares two repositories; returns how many nodes were read."""
    (old, new) = trees
    old_nodes, new_nodes = _Watched(old.nodes), _Watched(new.nodes)
    found = mst.diff(old_nodes, old.root, new_nodes, new.root)
    assert found == _expected(before, after)
    # Each node once that only one of the trees has, and the roots.
    if old.root == new.root:
        assert old_nodes.read == new_nodes.read == []
    else:
        old_only, new_only = (
            old.nodes.keys() - new.nodes.keys(),
            new.nodes.keys() - old.nodes.keys(),
        )
        empty = {mst.EMPTY_ROOT_CID}
        assert sorted(old_nodes.read) == sorted((old_only | {old.root}) - empty)
        assert sorted(new_nodes.read) == sorted((new_only | {new.root}) - empty)
    return len(old_nodes.read) + len(new_nodes.read)


def test_all_pairs_of_small_trees_of_every_shape() -> None:
    """Three layers, every set of six keys against every other."""
    repositories = [
        dict.fromkeys(paths, VALUE)
        for count in range(len(_PATHS) + 1)
        for paths in itertools.combinations(_PATHS, count)
    ]
    trees = [build(records) for records in repositories]
    pairs = list(itertools.product(zip(repositories, trees, strict=True), repeat=2))
    assert len(pairs) == 4096
    for (before, old), (after, new) in pairs:
        _check(before, after, (old, new))


def test_all_pairs_of_small_trees_with_two_values() -> None:
    paths = (LEAF_BEFORE, INNER_BEFORE, TOP, LEAF_AFTER)
    repositories = [
        {path: value for path, value in zip(paths, values, strict=True) if value is not None}
        for values in itertools.product((None, VALUE, OTHER_VALUE), repeat=len(paths))
    ]
    trees = [build(records) for records in repositories]
    for (before, old), (after, new) in itertools.product(
        zip(repositories, trees, strict=True), repeat=2
    ):
        _check(before, after, (old, new))


def test_the_work_is_that_of_the_change() -> None:
    rng = random.Random(8)
    before = {f"com.example.note/{n:06}": oracle.cid_of(b"%d" % n) for n in range(5_000)}
    old = build(before)
    height = max(oracle.layer_of(path.encode()) for path in before)
    for path in rng.sample(sorted(before), 20):
        after = {**before, path: OTHER_VALUE}
        assert _check(before, after, (old, build(after))) <= 2 * (height + 1)
    after = {path: cid for path, cid in before.items() if path > "com.example.note/000500"}
    read = _check(before, after, (old, build(after)))
    assert read < len(old.nodes) // 4


def test_one_mapping_may_hold_both_trees() -> None:
    before, after = {TOP: VALUE}, {TOP: OTHER_VALUE, LEAF_AFTER: VALUE}
    old, new = build(before), build(after)
    nodes = {**old.nodes, **new.nodes, oracle.cid_of(b"more"): b"more"}
    assert mst.diff(nodes, old.root, nodes, new.root) == _expected(before, after)


def test_the_empty_tree_needs_no_block() -> None:
    tree = build({TOP: VALUE})
    writes = [Write(TOP.encode(), None, VALUE)]
    assert mst.diff({}, mst.EMPTY_ROOT_CID, tree.nodes, tree.root) == writes
    assert mst.diff(tree.nodes, tree.root, {}, mst.EMPTY_ROOT_CID) == [
        Write(TOP.encode(), VALUE, None)
    ]


def test_every_node_that_is_read_must_be_there() -> None:
    before = dict.fromkeys(_PATHS, VALUE)
    after = {**before, LEAF_BETWEEN: OTHER_VALUE}
    old, new = build(before), build(after)
    for tree, side in ((old, 0), (new, 1)):
        only = tree.nodes.keys() - (new if side == 0 else old).nodes.keys()
        assert len(only) == 3
        for cid in only:
            nodes = [dict(old.nodes), dict(new.nodes)]
            del nodes[side][cid]
            missing = nodes[0], old.root, nodes[1], new.root
            assert refusal(lambda: mst.diff(*missing)).reason is Reason.MST_BLOCK_MISSING  # noqa: B023 - called at once
    shared = old.nodes.keys() & new.nodes.keys()
    assert shared
    rest = {cid: block for cid, block in new.nodes.items() if cid not in shared}
    assert mst.diff(old.nodes, old.root, rest, new.root) == _expected(before, after)


_LEAF = node([LEAF_BEFORE])
_INNER = node([INNER_BEFORE], oracle.cid_of(_LEAF), None)


@pytest.mark.parametrize(
    ("blocks", "reason"),
    [
        pytest.param([b"\xa0"], Reason.MST_NODE, id="no node"),
        pytest.param([node([], oracle.cid_of(_INNER)), _INNER], Reason.MST_NODE, id="no entries"),
        pytest.param([node([LEAF_BEFORE, TOP])], Reason.MST_LAYER, id="two layers in a root"),
        pytest.param(
            [node([TOP], oracle.cid_of(_LEAF), None), _LEAF],
            Reason.MST_LAYER,
            id="a layer left out",
        ),
        pytest.param(
            [node([TOP], None, oracle.cid_of(_INNER)), _INNER], Reason.MST_RANGE, id="out of range"
        ),
        pytest.param(
            [node([TOP], oracle.cid_of(_INNER), oracle.cid_of(_INNER)), _INNER],
            Reason.MST_RECURRENCE,
            id="a node twice",
        ),
    ],
)
def test_a_tree_that_breaks_a_rule_is_refused(blocks: list[bytes], reason: Reason) -> None:
    nodes = {oracle.cid_of(block): block for block in blocks}
    root = oracle.cid_of(blocks[0])
    good = build({INNER_AFTER: VALUE})
    for call in (
        lambda: mst.diff(good.nodes, good.root, nodes, root),
        lambda: mst.diff(nodes, root, good.nodes, good.root),
    ):
        error = refusal(call)
        assert isinstance(error, MstError)
        assert error.reason is reason
