"""The proof of one record, or of its absence: what com.atproto.sync.getRecord answers.

A CAR with the signed commit, the nodes on the way from its root to the record, and the record. Of
a record that is not there, the way ends where it would be.

Source: lexicon com.atproto.sync.getRecord; draft-holmgren-at-repository "Tree Structure". spec:
I-12, B-20…B-46.

Always checked: the hash of every block, the commit object, its account and signature, every rule
of each node on the way, that the record is there, its size.
Not checked: whether the key is the right one and the commit the newest (the caller's choice),
blocks that are not on the way, the data model inside the record (`pipelines.atproto.atjson`).
"""

from typing import NamedTuple

from pipelines.atproto import mst
from pipelines.atproto.commit import (
    AuthenticCommit,
    SignedCommit,
    authenticate,
    open_commit,
    record_of,
)
from pipelines.atproto.keys import VerifyingKey
from pipelines.atproto.syntax import Did


class VerifiedRecord(NamedTuple):
    """What a signed commit says of one path.

    Attributes:
        commit: the signed commit object.
        path: of the record.
        record_cid: raw CID of the record; None if the repository has none there.
        record: its block, hashed but not decoded; None likewise.
    """

    commit: SignedCommit
    path: str
    record_cid: bytes | None
    record: bytes | None


def prove_record(authentic: AuthenticCommit, path: str) -> VerifiedRecord:
    """Follows a path from the root of an authentic commit.

    Args:
        authentic: opened from the CAR of the proof.
        path: of the record, `collection/rkey`.

    Raises:
        MstError: the tree breaks a rule on the way, or lacks a node that is needed.
        CommitError: the record is not among the blocks, or too large.
    """
    opened = authentic.opened
    record_cid = mst.PartialTree(opened.blocks, opened.commit.data_cid).get(path.encode())
    record = None if record_cid is None else record_of(opened.blocks, record_cid, path)
    return VerifiedRecord(opened.commit, path, record_cid, record)


def verify_record(car: bytes, signing_key: VerifyingKey, *, did: Did, path: str) -> VerifiedRecord:
    """Proves a record, or its absence, with one key: opened, authenticated, followed.

    Args:
        car: what was answered; the caller bounds its size.
        signing_key: of the account.
        did: the account.
        path: of the record, `collection/rkey`.

    Raises:
        ProtocolError: as `open_commit`, `authenticate` and `prove_record`.
    """
    return prove_record(authenticate(open_commit(did, car), signing_key), path)
