"""The difference between two trees against the oracle, and the way from one to the other."""

from hypothesis import given
from property import strategies
from support.oracle import build
from support.repo import make_ops

from pipelines.atproto import mst
from pipelines.atproto.mst import Write
from pipelines.atproto.mst.tree import Tree


@given(edit=strategies.edits())
def test_it_is_what_was_done(edit: tuple[dict[str, bytes], dict[str, bytes]]) -> None:
    """Operations, difference and trees say the same of each other."""
    before, after = edit
    old, new = build(before), build(after)
    writes = mst.diff(old.nodes, old.root, new.nodes, new.root)
    ops = make_ops(before, after)
    assert writes == [Write(op.path.encode(), op.prev, op.cid) for op in ops]
    made = Tree().apply(Write(path.encode(), None, cid) for path, cid in before.items()).tree
    assert made.apply(writes).tree.root_cid == new.root
    assert mst.invert(new.nodes, new.root, ops) == old.root


@given(before=strategies.repositories(), after=strategies.repositories())
def test_the_way_back_is_the_way_turned_around(
    before: dict[str, bytes], after: dict[str, bytes]
) -> None:
    old, new = build(before), build(after)
    there = mst.diff(old.nodes, old.root, new.nodes, new.root)
    back = mst.diff(new.nodes, new.root, old.nodes, old.root)
    assert back == [Write(write.key, write.after, write.before) for write in there]
