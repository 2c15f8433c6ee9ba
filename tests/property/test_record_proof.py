"""Proofs of single records against the oracle."""

from functools import partial

from hypothesis import given
from hypothesis import strategies as st
from property import strategies
from support.oracle import cid_of
from support.repo import DID, SIGNER, commit_fields, outcome, sign_commit

from pipelines.atproto.car import write_car
from pipelines.atproto.errors import Reason
from pipelines.atproto.mst import PartialTree
from pipelines.atproto.mst.tree import Tree
from pipelines.atproto.record_proof import VerifiedRecord, verify_record

_MISSING = {Reason.MST_BLOCK_MISSING, Reason.COMMIT_RECORD_MISSING}


@given(records=strategies.repositories(), other=strategies.repositories(), data=st.data())
def test_covering_nodes_prove_what_each_key_has(
    records: dict[str, bytes], other: dict[str, bytes], data: st.DataObject
) -> None:
    """Spec: I-12: with a node less it is the same, or not proven; never something else."""
    tree = Tree.of(sorted(records.items()))
    for path in records.keys() | other.keys():
        blocks = tree.covering([path.encode()])
        expected = records.get(path)
        assert PartialTree(blocks, tree.root_cid).get(path.encode()) == expected
        left_out = data.draw(st.sampled_from(sorted(blocks)))
        del blocks[left_out]
        partial_tree = PartialTree(blocks, tree.root_cid)
        found = outcome(partial(partial_tree.get, path.encode()))
        assert found in {expected, Reason.MST_BLOCK_MISSING}


@given(
    values=st.dictionaries(st.integers(0, 40), st.binary(max_size=20), max_size=12),
    number=st.integers(0, 40),
    damage=st.data(),
)
def test_a_damaged_proof_says_nothing_false(
    values: dict[int, bytes], number: int, damage: st.DataObject
) -> None:
    """Whatever bytes are changed or blocks left out."""
    bodies = {f"com.example.note/{key:03}": value for key, value in values.items()}
    records = {path: cid_of(body) for path, body in sorted(bodies.items())}
    path = f"com.example.note/{number:03}"
    tree = Tree.of(records.items())
    commit = sign_commit(commit_fields(tree.root_cid))
    blocks = {cid_of(commit): commit, **tree.covering([path.encode()])}
    if path in records:
        blocks[records[path]] = bodies[path]
    honest = write_car(cid_of(commit), blocks.items())
    expected = (records.get(path), bodies.get(path))

    def verify(raw: bytes) -> VerifiedRecord | Reason:
        return outcome(lambda: verify_record(raw, SIGNER.key, did=DID, path=path))

    found = verify(honest)
    assert isinstance(found, VerifiedRecord)
    assert (found.record_cid, found.record) == expected
    found = verify(damage.draw(strategies.damaged(honest)))
    assert isinstance(found, Reason) or (found.record_cid, found.record) == expected
    kept = damage.draw(st.sets(st.sampled_from(sorted(blocks))))
    found = verify(write_car(cid_of(commit), [(c, b) for c, b in blocks.items() if c in kept]))
    if isinstance(found, Reason):
        assert found in _MISSING | {Reason.CAR_ROOT_MISSING}
    else:
        assert (found.record_cid, found.record) == expected
