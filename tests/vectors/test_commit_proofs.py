"""Published vectors for inversion: interop/firehose (spec: G-12, G-21)."""

import itertools
from functools import partial
from typing import Any, NamedTuple

import pytest
from support import oracle
from support.oracle import build, covering_nodes
from support.repo import make_ops, outcome, refusal
from support.shared import json_cases

from pipelines.atproto import mst
from pipelines.atproto.cid import encode_cid, parse_cid
from pipelines.atproto.errors import Reason
from pipelines.atproto.frames import Op
from pipelines.atproto.mst.tree import Tree, Write

pytestmark = [pytest.mark.shared, pytest.mark.usefixtures("shared_data")]

_CASES = json_cases(
    "interop/firehose/commit-proof-fixtures.json", lambda case: str(case["comment"])
)
# Here the neighbours' nodes belong to the proof, but the root alone is enough for us: the new key
# stands at the edge, so that undoing it moves one child and looks into none.
_MORE_THAN_NEEDED = "add on edge with neighbor two layers down"


class _Proof(NamedTuple):
    before: oracle.Tree
    after: oracle.Tree
    ops: tuple[Op, ...]
    blocks: dict[bytes, bytes]


def _proof(case: dict[str, Any]) -> _Proof:
    value = parse_cid(case["leafValue"])
    before = dict.fromkeys(case["keys"], value)
    after = {key: value for key in [*case["keys"], *case["adds"]] if key not in set(case["dels"])}
    tree = build(after)
    blocks = {cid: tree.nodes[cid] for cid in map(parse_cid, case["blocksInProof"])}
    return _Proof(build(before), tree, make_ops(before, after), blocks)


@pytest.mark.parametrize("case", _CASES)
def test_the_trees_have_the_roots_of_the_fixture(case: dict[str, Any]) -> None:
    proof = _proof(case)
    assert encode_cid(proof.before.root) == case["rootBeforeCommit"]
    assert encode_cid(proof.after.root) == case["rootAfterCommit"]


@pytest.mark.parametrize("case", _CASES)
def test_the_listed_blocks_are_enough(case: dict[str, Any]) -> None:
    proof = _proof(case)
    assert mst.invert(proof.blocks, proof.after.root, proof.ops) == proof.before.root


@pytest.mark.parametrize("case", _CASES)
def test_the_listed_blocks_are_those_of_the_rule(case: dict[str, Any]) -> None:
    """What our own oracle calls the covering nodes is what the fixture lists."""
    proof = _proof(case)
    assert covering_nodes(proof.after, [op.path for op in proof.ops]) == proof.blocks


@pytest.mark.parametrize("case", _CASES)
def test_the_blocks_that_we_would_send_are_the_listed_ones(case: dict[str, Any]) -> None:
    """The producer's side, spec G-21: neither more nor less, in any order of the writes."""
    proof = _proof(case)
    value = parse_cid(case["leafValue"])
    before = Tree().apply([Write(key.encode(), None, value) for key in case["keys"]]).tree
    assert before.root_cid == proof.before.root
    writes = [Write(op.path.encode(), op.prev, op.cid) for op in proof.ops]
    for order in itertools.permutations(writes):
        change = before.apply(order)
        assert change.tree.root_cid == proof.after.root
        assert change.covering == proof.blocks


@pytest.mark.parametrize("case", _CASES)
def test_without_any_listed_block_it_fails(case: dict[str, Any]) -> None:
    proof = _proof(case)
    for missing in proof.blocks:
        blocks = {cid: block for cid, block in proof.blocks.items() if cid != missing}
        if case["comment"] == _MORE_THAN_NEEDED and missing != proof.after.root:
            assert mst.invert(blocks, proof.after.root, proof.ops) == proof.before.root
        else:
            error = refusal(partial(mst.invert, blocks, proof.after.root, proof.ops))
            assert error.reason is Reason.MST_BLOCK_MISSING


@pytest.mark.parametrize("case", _CASES)
def test_no_op_can_be_left_out(case: dict[str, Any]) -> None:
    proof = _proof(case)
    for op in proof.ops:
        others = [other for other in proof.ops if other != op]
        root = outcome(partial(mst.invert, proof.after.nodes, proof.after.root, others))
        assert root != proof.before.root


def test_all_six_are_there() -> None:
    assert len(_CASES) == 6
