"""The tree of a producer against the oracle."""

from hypothesis import given
from hypothesis import strategies as st
from property import strategies
from support.oracle import build, covering_nodes
from support.repo import make_ops

from pipelines.atproto import mst
from pipelines.atproto.mst.tree import StoredNode, Tree, Write


def _tree(records: dict[str, bytes]) -> Tree:
    return Tree().apply(Write(path.encode(), None, cid) for path, cid in records.items()).tree


def _writes(before: dict[str, bytes], after: dict[str, bytes]) -> list[Write]:
    return [Write(op.path.encode(), op.prev, op.cid) for op in make_ops(before, after)]


@given(records=strategies.repositories(), data=st.data())
def test_a_tree_is_that_of_the_definition(records: dict[str, bytes], data: st.DataObject) -> None:
    """Spec: B-29, C-10: in whatever order and in however many steps it was made."""
    paths = data.draw(st.permutations(sorted(records)))
    cut = data.draw(st.integers(0, len(paths)))
    tree = _tree({path: records[path] for path in paths[:cut]})
    for path in paths[cut:]:
        tree = tree.apply([Write(path.encode(), None, records[path])]).tree
    oracle = build(records)
    assert tree.root_cid == oracle.root
    assert {n.cid: n.block for n in tree.walk() if isinstance(n, StoredNode)} == oracle.nodes
    assert list(tree.entries()) == [(key.encode(), records[key]) for key in sorted(records)]


@given(edit=strategies.edits(), data=st.data())
def test_a_change_brings_the_next_tree_and_what_proves_it(
    edit: tuple[dict[str, bytes], dict[str, bytes]], data: st.DataObject
) -> None:
    """Spec: C-15, G-12, G-21."""
    before, after = edit
    tree = _tree(before)
    writes = data.draw(st.permutations(_writes(before, after)))
    changed, covering = tree.apply(writes)
    oracle_before, oracle = build(before), build(after)
    assert changed.root_cid == oracle.root
    ops = make_ops(before, after)
    assert covering == covering_nodes(oracle, [op.path for op in ops])
    assert mst.invert(covering, oracle.root, ops) == oracle_before.root
    # Every new node is among them, and the tree before is what it was.
    if ops:
        assert oracle.nodes.keys() - oracle_before.nodes.keys() <= covering.keys()
    assert tree.root_cid == oracle_before.root
    assert list(tree.entries()) == [(key.encode(), before[key]) for key in sorted(before)]
