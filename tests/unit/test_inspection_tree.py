"""The picture of a tree: whole, partial, broken, cut off."""

import random
import re

import pytest
from support import oracle
from support.trees import (
    INNER_AFTER,
    INNER_BEFORE,
    LEAF_AFTER,
    LEAF_BEFORE,
    LEAF_BETWEEN,
    TOP,
    VALUE,
    node,
)

from pipelines.atproto import mst
from pipelines.atproto.cid import encode_cid
from pipelines.atproto.errors import Reason
from pipelines.inspection.tree import Survey, short_cid, survey_tree

_PATHS = (LEAF_BEFORE, INNER_BEFORE, LEAF_BETWEEN, TOP, LEAF_AFTER, INNER_AFTER)
_TREE = oracle.build(dict.fromkeys(_PATHS, VALUE))


def _survey(
    blocks: dict[bytes, bytes],
    root: bytes,
    max_lines: int = 100,
    marks: dict[str, str] | None = None,
) -> Survey:
    return survey_tree(blocks, root, marks=marks or {}, max_lines=max_lines)


def _picture(blocks: dict[bytes, bytes], root: bytes) -> list[str]:
    """Returns the lines without the CIDs, which say nothing here."""
    return [re.sub(r" baf\S+", "", line) for line in _survey(blocks, root).picture()]


def test_a_whole_tree() -> None:
    survey = _survey(dict(_TREE.nodes), _TREE.root)
    assert _picture(dict(_TREE.nodes), _TREE.root) == [
        "root  layer 2, 1 entry",
        "├─ node  layer 1, 1 entry",
        "│  ├─ node  layer 0, 1 entry",
        f"│  │  └─ {LEAF_BEFORE} ",
        f"│  ├─ {INNER_BEFORE} ",
        "│  └─ node  layer 0, 1 entry",
        f"│     └─ {LEAF_BETWEEN} ",
        f"├─ {TOP} ",
        "└─ node  layer 1, 1 entry",
        "   ├─ node  layer 0, 1 entry",
        f"   │  └─ {LEAF_AFTER} ",
        f"   └─ {INNER_AFTER} ",
    ]
    assert survey.records == [(path, VALUE) for path in _PATHS]
    assert (survey.node_count, survey.stub_count, survey.problems) == (len(_TREE.nodes), 0, [])


def test_cids_are_short_and_marks_stand_behind_a_record() -> None:
    survey = _survey(dict(_TREE.nodes), _TREE.root, marks={TOP: "created"})
    text = encode_cid(_TREE.root)
    assert survey.lines[0].startswith(f"root {text[:8]}…{text[-6:]}  ")
    assert f"├─ {TOP}  {short_cid(VALUE)}  created" in survey.lines


def test_what_was_not_sent_is_a_stub() -> None:
    root = node([TOP], None, oracle.cid_of(b"elsewhere"))
    cid = oracle.cid_of(root)
    assert _picture({cid: root}, cid) == ["root  layer 2, 1 entry", f"├─ {TOP} ", "└─ stub"]
    assert _survey({cid: root}, cid).stub_count == 1
    assert _picture({}, cid) == ["stub"]


def test_a_bad_node_is_named_with_its_reason_and_not_entered() -> None:
    misplaced = node([INNER_BEFORE, TOP])  # of layers 1 and 2, below a root of layer 2
    root = node([TOP], oracle.cid_of(misplaced), None)
    blocks = {oracle.cid_of(block): block for block in (root, misplaced)}
    survey = _survey(blocks, oracle.cid_of(root))
    assert [problem.reason for problem in survey.problems] == [Reason.MST_LAYER]
    assert "├─ BAD node" in survey.lines[1]
    assert "mst.layer" in survey.lines[1]
    assert [path for path, _ in survey.records] == [TOP]
    assert survey.node_count == 2


def test_a_bad_root_is_all_there_is() -> None:
    cid = oracle.cid_of(b"\xa0")
    survey = _survey({cid: b"\xa0"}, cid)
    assert [line.partition(" baf")[0] for line in survey.lines] == ["BAD root"]
    assert [problem.reason for problem in survey.problems] == [Reason.MST_NODE]


def test_a_node_that_occurs_again_is_not_read_again() -> None:
    """Spec: B-45."""
    leaf = node([LEAF_BEFORE])
    twice = node([INNER_BEFORE], oracle.cid_of(leaf), oracle.cid_of(leaf))
    root = node([TOP], oracle.cid_of(twice), None)
    blocks = {oracle.cid_of(block): block for block in (root, twice, leaf)}
    survey = _survey(blocks, oracle.cid_of(root))
    assert [problem.reason for problem in survey.problems] == [Reason.MST_RECURRENCE]
    assert [path for path, _ in survey.records] == [LEAF_BEFORE, INNER_BEFORE, TOP]
    assert survey.node_count == 3


def test_the_empty_tree() -> None:
    blocks = {mst.EMPTY_ROOT_CID: mst.EMPTY_NODE}
    assert _picture(blocks, mst.EMPTY_ROOT_CID) == ["root  layer 0, 0 entries"]


@pytest.mark.parametrize("max_lines", [0, 1, 11, 12, 13])
def test_a_picture_is_cut_off_and_says_so(max_lines: int) -> None:
    lines = list(_survey(dict(_TREE.nodes), _TREE.root, max_lines).picture())
    assert len(lines) == min(12, max_lines + 1)
    if max_lines < 12:
        assert lines[-1] == f"… {12 - max_lines} lines more"


def test_it_sees_what_the_oracle_sees_in_the_order_of_the_walk() -> None:
    rng = random.Random(5)
    for count in (1, 2, 7, 40, 200):
        records = {
            f"com.example.note/{rng.randrange(10**6):06}": oracle.cid_of(rng.randbytes(4))
            for _ in range(count)
        }
        tree = oracle.build(records)
        survey = _survey(dict(tree.nodes), tree.root)
        assert dict(survey.records) == oracle.read(tree.nodes, tree.root) == records
        walk = mst.traverse(tree.root)
        wanted = []
        cid, key = next(walk)
        try:
            while True:
                wanted.append(cid)
                cid, key = walk.send(tree.nodes[cid] if key is None else b"")
        except StopIteration:
            assert survey.order == wanted
