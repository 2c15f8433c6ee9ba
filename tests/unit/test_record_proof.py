"""Proofs of one record, or of its absence: what holds, and what does not."""

from collections.abc import Mapping

import pytest
from support.exports import export
from support.oracle import build, cid_of, covering_nodes, layer_of, sample_paths
from support.repo import (
    DID,
    OTHER_DID,
    OTHER_SIGNER,
    P256_SIGNER,
    SIGNER,
    Signer,
    commit_fields,
    record,
    refusal,
    sign_commit,
)
from support.wire import rev

from pipelines.atproto.car import write_car
from pipelines.atproto.commit import MAX_RECORD_BYTES
from pipelines.atproto.errors import Reason
from pipelines.atproto.keys import VerifyingKey
from pipelines.atproto.mst.tree import Tree
from pipelines.atproto.record_proof import VerifiedRecord, verify_record
from pipelines.atproto.syntax import Did

VALUES = {f"com.example.note/{n:03}": record(f"note {n}") for n in range(64)}
EXPORT = export(VALUES)
PRESENT, ABSENT = "com.example.note/021", "com.example.note/0215"
# Of a higher layer than the root: its key cannot be below it.
[HIGH] = sample_paths(5)


def proof(path: str) -> dict[bytes, bytes]:
    """Returns the blocks that a server sends of a path."""
    tree = Tree.of(sorted(EXPORT.records.items()))
    blocks = {cid_of(EXPORT.commit): EXPORT.commit, **tree.covering([path.encode()])}
    if path in EXPORT.records:
        record_cid = EXPORT.records[path]
        blocks[record_cid] = EXPORT.bodies[record_cid]
    return blocks


def verify(
    blocks: Mapping[bytes, bytes],
    path: str,
    *,
    signing_key: VerifyingKey = SIGNER.key,
    did: Did = DID,
) -> VerifiedRecord:
    root = next(iter(blocks))
    return verify_record(write_car(root, blocks.items()), signing_key, did=did, path=path)


def test_a_record_is_proven_with_its_block() -> None:
    """Spec: I-12."""
    found = verify(proof(PRESENT), PRESENT)
    assert (found.commit.did, found.commit.rev, found.path) == (DID, rev(0), PRESENT)
    assert found.record_cid == EXPORT.records[PRESENT]
    assert found.record == EXPORT.bodies[EXPORT.records[PRESENT]]


@pytest.mark.parametrize("path", [ABSENT, HIGH], ids=["between", "above"])
def test_that_a_record_is_absent_is_proven(path: str) -> None:
    assert path not in EXPORT.records
    found = verify(proof(path), path)
    assert (found.record_cid, found.record) == (None, None)


def test_the_path_that_is_above_all_needs_the_root_alone() -> None:
    """Spec: B-24."""
    assert layer_of(HIGH.encode()) > max(layer_of(path.encode()) for path in VALUES)
    root = build(EXPORT.records).root
    blocks = {cid_of(EXPORT.commit): EXPORT.commit, root: EXPORT.nodes[root]}
    assert verify(blocks, HIGH).record_cid is None


def test_a_proof_is_the_way_to_the_record_and_the_keys_beside_it() -> None:
    nodes = proof(PRESENT).items() - {(cid_of(EXPORT.commit), EXPORT.commit)}
    record_cid = EXPORT.records[PRESENT]
    covering = covering_nodes(build(EXPORT.records), [PRESENT])
    assert nodes == covering.items() | {(record_cid, EXPORT.bodies[record_cid])}
    assert len(covering) < len(EXPORT.nodes)


def test_an_empty_repository_has_no_record() -> None:
    """Spec: B-28: whether its one node is sent does not matter."""
    empty = export({})
    commit_cid = cid_of(empty.commit)
    for nodes in (empty.nodes, {}):
        found = verify({commit_cid: empty.commit, **nodes}, PRESENT)
        assert found.record_cid is None


def test_a_whole_repository_proves_all_its_records() -> None:
    for path, record_cid in EXPORT.records.items():
        found = verify_record(EXPORT.car(), SIGNER.key, did=DID, path=path)
        assert found.record_cid == record_cid
    assert verify_record(EXPORT.car(), SIGNER.key, did=DID, path=ABSENT).record_cid is None


@pytest.mark.parametrize("signer", [OTHER_SIGNER, P256_SIGNER], ids=["k256", "p256"])
def test_another_key_proves_nothing(signer: Signer) -> None:
    error = refusal(lambda: verify(proof(PRESENT), PRESENT, signing_key=signer.key))
    assert error.reason is Reason.SIGNATURE_INVALID


def test_a_proof_of_another_account_proves_nothing() -> None:
    error = refusal(lambda: verify(proof(PRESENT), PRESENT, did=OTHER_DID))
    assert error.reason is Reason.COMMIT_DID_MISMATCH


@pytest.mark.parametrize("path", [PRESENT, ABSENT], ids=["present", "absent"])
def test_a_node_on_the_way_may_not_be_missing(path: str) -> None:
    """In particular: what is not sent is no proof of absence."""
    tree = build(EXPORT.records)
    blocks = proof(path)
    del blocks[tree.root]
    assert refusal(lambda: verify(blocks, path)).reason is Reason.MST_BLOCK_MISSING


def test_the_record_may_not_be_missing() -> None:
    blocks = proof(PRESENT)
    del blocks[EXPORT.records[PRESENT]]
    error = refusal(lambda: verify(blocks, PRESENT))
    assert (error.reason, error.path) == (Reason.COMMIT_RECORD_MISSING, PRESENT)


def test_a_record_that_no_relay_would_take_is_refused() -> None:
    """Spec: A-30."""
    body = bytes(MAX_RECORD_BYTES + 1)
    tree = build({PRESENT: cid_of(body)})
    commit = sign_commit(commit_fields(tree.root))
    blocks = {cid_of(commit): commit, **tree.nodes, cid_of(body): body}
    assert refusal(lambda: verify(blocks, PRESENT)).reason is Reason.COMMIT_RECORD_TOO_LARGE


def test_a_block_under_the_name_of_another_is_refused() -> None:
    blocks = proof(PRESENT)
    record_cid = EXPORT.records[PRESENT]
    blocks[record_cid] = EXPORT.bodies[EXPORT.records["com.example.note/022"]]
    assert refusal(lambda: verify(blocks, PRESENT)).reason is Reason.CID_HASH_MISMATCH


def test_a_node_of_another_tree_proves_nothing() -> None:
    """The commit names its root: without that node the way does not begin."""
    other = build({path: cid for path, cid in EXPORT.records.items() if path != PRESENT})
    blocks = {cid_of(EXPORT.commit): EXPORT.commit, **other.nodes}
    assert refusal(lambda: verify(blocks, PRESENT)).reason is Reason.MST_BLOCK_MISSING
