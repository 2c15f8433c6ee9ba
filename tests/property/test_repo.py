"""Whole repositories on any input: what is accepted is exactly what was signed."""

import random
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from property import strategies
from support import oracle
from support.damage import damage
from support.exports import Export, export, export_tree
from support.oracle import Tree, cid_of
from support.repo import SIGNER, outcome

from pipelines.atproto import repo
from pipelines.atproto.errors import Reason

_REPO = export({path: {"n": n} for n, path in enumerate(strategies.PATHS[::4])})


def _read(pieces: list[bytes]) -> tuple[list[repo.RepoRecord], repo.VerifiedRepo] | Reason:
    stream = repo.stream_repo(pieces, SIGNER.key)
    return outcome(lambda: (list(stream), stream.verified))


@st.composite
def _exports(draw: st.DrawFn) -> tuple[Export, list[bytes]]:
    """A repository, and its blocks in some order, some of them repeated, some of them surplus."""
    made = export(draw(st.dictionaries(strategies.paths, strategies.records, max_size=16)))
    blocks = made.ordered()
    if draw(st.booleans()):
        blocks = list(dict.fromkeys(blocks))
    kept_count = draw(st.integers(0, len(blocks)))
    rest = draw(st.permutations(blocks[kept_count:])) if draw(st.booleans()) else []
    more = draw(st.lists(st.one_of(st.sampled_from(blocks), st.binary(max_size=9)), max_size=3))
    return made, [*blocks[:kept_count], *(rest or blocks[kept_count:]), *more]


def _cut(raw: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({0, len(raw), *(place % (len(raw) + 1) for place in places)})
    return [raw[start:end] for start, end in pairwise(ends)]


@given(exported=_exports(), places=st.lists(st.integers(0, 10_000), max_size=9))
def test_any_order_in_any_pieces_gives_the_same(
    exported: tuple[Export, list[bytes]], places: list[int]
) -> None:
    """Spec: C-06, C-07, C-11."""
    made, blocks = exported
    read = _read(_cut(made.car(blocks), places))
    assert not isinstance(read, Reason), read
    records, verified = read
    assert records == made.contents()
    assert verified.record_count == len(records)
    assert verified.node_count == len(made.nodes)
    assert verified.block_count == len(blocks)


@given(
    raw=st.one_of(st.binary(max_size=100), strategies.damaged(_REPO.car())),
    size=st.integers(1, 999),
)
def test_any_bytes_are_that_repository_or_refused(raw: bytes, size: int) -> None:
    """Spec: A-45, B-07."""
    read = _read([raw[start : start + size] for start in range(0, len(raw), size)])
    if not isinstance(read, Reason):
        assert read[0] == _REPO.contents()
        assert read[1].commit.block == _REPO.commit


@given(records=strategies.repositories(), seed=st.integers(0, 2**32), way=st.integers(0, 2))
def test_a_tree_is_accepted_only_in_the_one_form_that_its_records_have(
    records: dict[str, bytes], seed: int, way: int
) -> None:
    """Spec: B-29: a node is damaged, and all above it hashed anew and signed."""
    rng = random.Random(seed)
    tree = oracle.build(records)
    damaged = _damaged_tree(tree, rng)
    bodies = {cid: b"record %d" % n for n in range(4) for cid in [cid_of(b"record %d" % n)]}
    made = export_tree(damaged, records, bodies)
    blocks = [made.commit, *damaged.nodes.values(), *tree.nodes.values(), *bodies.values()]
    read = _read([made.car([blocks, blocks[::-1], rng.sample(blocks, len(blocks))][way])])
    if isinstance(read, Reason):
        assert read.startswith(("mst.", "commit."))
        assert damaged.root != tree.root
    else:
        found = {record.path: record.cid for record in read[0]}
        assert oracle.build(found).root == damaged.root


def _damaged_tree(tree: Tree, rng: random.Random) -> Tree:
    """Changes one node, and the links to it on the way up."""
    cid = rng.choice(sorted(tree.nodes))
    return oracle.replace_node(tree, cid, damage(tree.nodes[cid], rng, 1))
