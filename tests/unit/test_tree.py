"""The tree of a producer: what it refuses, and that it is a value."""

import pytest
from support.oracle import build, cid_of, sample_paths

from pipelines.atproto.errors import CommitError, Reason
from pipelines.atproto.mst import EMPTY_NODE, EMPTY_ROOT_CID
from pipelines.atproto.mst.tree import Entry, StoredNode, Tree, Write

ONE, TWO = cid_of(b"one"), cid_of(b"two")
PATHS = [*sample_paths(0, 9), *sample_paths(1, 4), *sample_paths(2, 2)]
RECORDS = dict.fromkeys(sorted(PATHS), ONE)
PRESENT, ABSENT = PATHS[0].encode(), b"com.example.note/absent"


@pytest.fixture
def tree() -> Tree:
    return Tree().apply([Write(path.encode(), None, ONE) for path in PATHS]).tree


def test_the_empty_tree_is_one_node() -> None:
    """spec: B-28."""
    [root] = Tree().walk()
    assert isinstance(root, StoredNode)
    assert (root.cid, root.block, root.children) == (EMPTY_ROOT_CID, EMPTY_NODE, ())
    assert Tree().root_cid == EMPTY_ROOT_CID
    assert list(Tree().entries()) == []


def test_a_tree_of_sorted_records_is_that_of_writes(tree: Tree) -> None:
    """Node by node, and it can be changed like any other."""
    made = Tree.of(RECORDS.items())

    def nodes(of: Tree) -> list[tuple[bytes, bytes, int] | Entry]:
        return [
            item if isinstance(item, Entry) else (item.cid, item.block, len(item.children))
            for item in of.walk()
        ]

    assert nodes(made) == nodes(tree)
    writes = [Write(PRESENT, ONE, None), Write(ABSENT, None, TWO)]
    assert made.apply(writes) == tree.apply(writes)
    assert nodes(Tree.of([])) == nodes(Tree())


def test_what_empties_a_tree_is_proven_by_the_empty_node(tree: Tree) -> None:
    change = tree.apply([Write(path.encode(), ONE, None) for path in PATHS])
    assert change.tree == Tree()
    assert change.covering == {EMPTY_ROOT_CID: EMPTY_NODE}


def test_no_writes_change_nothing(tree: Tree) -> None:
    """spec: B-11."""
    change = tree.apply([])
    assert change.tree == tree
    assert change.covering == {}


def test_an_update_with_the_same_value_is_proven_by_the_way_to_it(tree: Tree) -> None:
    """spec: G-10: deployed servers make such commits."""
    change = tree.apply([Write(PRESENT, ONE, ONE)])
    assert change.tree == tree
    assert tree.root_cid in change.covering


@pytest.mark.parametrize(
    "write",
    [
        Write(PRESENT, None, TWO),
        Write(PRESENT, TWO, ONE),
        Write(PRESENT, TWO, None),
        Write(ABSENT, ONE, TWO),
        Write(ABSENT, ONE, None),
        Write(ABSENT, None, None),
    ],
    ids=[
        "create what is there",
        "update another value",
        "delete another value",
        "update what is not there",
        "delete what is not there",
        "nothing",
    ],
)
def test_a_write_that_does_not_fit_is_refused_and_changes_nothing(
    tree: Tree, write: Write
) -> None:
    with pytest.raises(CommitError) as refusal:
        tree.apply([Write(b"com.example.note/new", None, ONE), write])
    assert refusal.value.reason is Reason.COMMIT_OP_MISMATCH
    assert tree.root_cid == build(RECORDS).root
    assert list(tree.entries()) == [(path.encode(), ONE) for path in RECORDS]


def test_trees_share_what_they_have_in_common(tree: Tree) -> None:
    """An older state costs only the nodes in which it differs."""
    changed = tree.apply([Write(ABSENT, None, ONE)]).tree
    nodes = {item.cid: item for item in tree.walk() if isinstance(item, StoredNode)}
    kept = [item for item in changed.walk() if isinstance(item, StoredNode) and item.cid in nodes]
    assert kept
    assert all(nodes[item.cid] is item for item in kept)


def test_trees_are_equal_by_their_root(tree: Tree) -> None:
    other = Tree().apply([Write(path.encode(), None, ONE) for path in reversed(PATHS)]).tree
    assert other == tree
    assert hash(other) == hash(tree)
    assert tree.apply([Write(PRESENT, ONE, None)]).tree != tree
    assert tree != tree.root_cid


def test_the_walk_is_in_pre_order(tree: Tree) -> None:
    """spec: C-10: a node before its entries, each entry before the subtree behind it."""
    seen: set[bytes] = set()
    before = b""
    for item in tree.walk():
        if isinstance(item, Entry):
            assert item.key > before
            before = item.key
        else:
            assert not seen & {child.cid for child in item.children if child is not None}
            seen.add(item.cid)
    first, second = list(tree.walk())[:2]
    assert isinstance(first, StoredNode)
    assert first.cid == tree.root_cid
    assert second is first.children[0]
