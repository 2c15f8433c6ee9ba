"""Signed commits: parsed, authenticated, and proven against their tree.

Three types mark how far a commit is proven; a later one is made only from an earlier one:

    OpenedCommit    every block hashed, commit parsed     (open_commit)
    AuthenticCommit signed by the account's key           (authenticate)
    VerifiedCommit  the message's claims hold: ops, records, previous root   (prove_commit)
    VerifiedSync    likewise for a `#sync`                                   (prove_sync)

The first two need only the blocks of a message. An authentic commit whose message cannot be
proven still tells that its repository changed: the message is refused, the repository suspect.

Source: draft-holmgren-at-repository "Commit Objects", "Signature Generation", "Commit
Validation"; atproto.com/specs/sync. spec: B-01…B-11, G-01…G-18, G-30.

Always checked: block hashes, canonical commit object, DID, revision and CID against the message,
signature with low S, every op against the tree, each created or updated record present, undoing
all ops gives `prevData` exactly.
Checked by a call of its own: that a revision is not from the future (needs the time of arrival).
Not checked here: the chain to the previous commit (needs state), whether the key is the right one
(the caller's choice), the data model inside records (`pipelines.atproto.atjson`).
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

from pipelines.atproto import cbor, mst
from pipelines.atproto.car import read_car
from pipelines.atproto.errors import CommitError, DagCborError, MstError, Reason
from pipelines.atproto.frames import CommitMessage, Op, SyncMessage
from pipelines.atproto.keys import VerifyingKey
from pipelines.atproto.syntax import (
    DID_PATTERN,
    MAX_DID_LENGTH,
    TID_PATTERN,
    Did,
    Tid,
    tid_time_us,
)

COMMIT_VERSION = 3
# atproto.com/specs/sync says 1,000,000; the deployed relay and the data validation guide take
# 1 MiB, and a stricter reader would lose what the network accepted. spec: A-30
MAX_RECORD_BYTES = 1_048_576
# With the longest DID and both links a commit object has 2,245 bytes; up to here one of another
# version is still told by its version. Without a limit a block of the size of its frame would be
# decoded, to eighty times its size of memory, only to say what is wrong with it. A bound of ours.
# spec: M-01
MAX_COMMIT_BYTES = 4_096
# "A few minutes" in the specification, five in indigo. spec: G-05
MAX_CLOCK_SKEW_US = 5 * 60 * 1_000_000

_SIGNED_HEAD, _UNSIGNED_HEAD = b"\xa6", b"\xa5"  # map of six, map of five
_SIGNATURE_HEAD = b"\x63sig\x58\x40"  # text key of 3, byte string of 64
# The one canonical form. A codec alone could not tell a signature that begins like a CID from a
# link. spec: B-02, B-03
_match_commit = re.compile(
    rb"\xa6\x63did(%b)(%b)\x63rev\x6d(%b)\x63sig\x58\x40(.{64})"
    rb"\x64data%b(%b)\x64prev(?:\xf6|%b(%b))\x67version\x03"
    % (
        cbor.head_pattern(3),
        DID_PATTERN.encode(),
        TID_PATTERN.encode(),
        cbor.LINK_HEAD_PATTERN,
        cbor.CID_PATTERN,
        cbor.LINK_HEAD_PATTERN,
        cbor.CID_PATTERN,
    ),
    re.DOTALL,
).fullmatch


class SignedCommit(NamedTuple):
    """A commit object; canonical and complete, its signature not verified.

    Attributes:
        did: the repository.
        rev: its revision.
        data_cid: MST root.
        prev: CID of an earlier commit; practically always None.
        signature: r ‖ s, 64 bytes.
        unsigned: the bytes that were signed.
        block: the signed commit as it was received.
    """

    did: Did
    rev: Tid
    data_cid: bytes
    prev: bytes | None
    signature: bytes
    unsigned: bytes
    block: bytes


class OpenedCommit(NamedTuple):
    """A commit object, and the blocks that came with it, each hashed.

    Attributes:
        commit: the commit object that the CAR's root names.
        commit_cid: its CID.
        blocks: raw CID → block.
    """

    commit: SignedCommit
    commit_cid: bytes
    blocks: dict[bytes, bytes]


class AuthenticCommit(NamedTuple):
    """An opened commit whose signature was verified."""

    opened: OpenedCommit


class VerifiedOp(NamedTuple):
    """An operation that the tree confirms.

    Attributes:
        op: the operation.
        record: the record block, hashed but not decoded; None for a delete.
    """

    op: Op
    record: bytes | None


class VerifiedCommit(NamedTuple):
    """A proven commit.

    Attributes:
        message: the `#commit`, now confirmed but for `seq`, `time` and its place in the chain.
        commit: the signed commit object.
        ops: the complete difference between the trees of `prev_data` and of the commit.
    """

    message: CommitMessage
    commit: SignedCommit
    ops: tuple[VerifiedOp, ...]


class VerifiedSync(NamedTuple):
    """A proven `#sync`.

    Attributes:
        message: the message.
        commit: the signed commit object.
        commit_cid: its CID.
    """

    message: SyncMessage
    commit: SignedCommit
    commit_cid: bytes


class CommitLayout(NamedTuple):
    """The fields of a commit object in canonical order, but for the signature among them.

    Laid out by hand because a signature may begin like a CID, and the codec would take it for a
    link.

    Attributes:
        head: the encoded fields before the signature.
        tail: those after it.
    """

    head: bytes
    tail: bytes

    @classmethod
    def of(cls, did: Did, rev: Tid, data_cid: bytes, prev: bytes | None) -> "CommitLayout":
        """Encodes the fields; links as raw CIDs."""
        head = cbor.encode({"did": did, "rev": rev})[1:]
        tail = cbor.encode({"data": data_cid, "prev": prev, "version": COMMIT_VERSION})[1:]
        return cls(head, tail)

    def unsigned(self) -> bytes:
        """Returns the bytes to sign, a map of five fields (spec: B-07)."""
        return _UNSIGNED_HEAD + self.head + self.tail

    def signed(self, signature: bytes) -> bytes:
        """Returns the block of the commit object: a map of six fields."""
        return _SIGNED_HEAD + self.head + _SIGNATURE_HEAD + signature + self.tail


def parse_commit(block: bytes) -> SignedCommit:
    """Parses a signed commit object.

    Args:
        block: canonical DAG-CBOR of exactly `did rev sig data prev version`.

    Raises:
        CommitError: another version (`commit.version`); another shape or encoding, or more than
            `MAX_COMMIT_BYTES` (`commit.field`). spec: B-01…B-08
    """
    if len(block) > MAX_COMMIT_BYTES:
        raise CommitError(Reason.COMMIT_FIELD, f"{len(block)} bytes are no commit object")
    match = _match_commit(block)
    if match is None:
        raise _refusal(block)
    did_head, did_bytes, rev, signature, data_cid, prev = match.groups()
    # What a DID may consist of could also be the start of the next field: its length decides.
    if len(did_bytes) > MAX_DID_LENGTH or did_head != cbor.head(3, len(did_bytes)):
        raise _refusal(block)
    sig_start, sig_end = match.span(4)
    unsigned = b"%b%b%b" % (
        _UNSIGNED_HEAD,
        block[1 : sig_start - len(_SIGNATURE_HEAD)],
        block[sig_end:],
    )
    did, rev = Did(did_bytes.decode()), Tid(rev.decode())
    return SignedCommit(did, rev, data_cid, prev, signature, unsigned, block)


def parse_root(block: bytes | None) -> SignedCommit:
    """Parses the commit object that the first root of a CAR names.

    Args:
        block: the root's block; None if the CAR has none.

    Raises:
        CommitError: there is none (`car.root_missing`), or as `parse_commit`. spec: C-04
    """
    if block is None:
        raise CommitError(Reason.CAR_ROOT_MISSING, "the commit's block is not in the CAR")
    return parse_commit(block)


def _refusal(block: bytes) -> CommitError:
    """Says of a block that is no commit whether it is one of another version."""
    try:
        value = cbor.decode_loose(block)
    except DagCborError as error:
        return CommitError(Reason.COMMIT_FIELD, error.detail)
    if not isinstance(value, dict):
        return CommitError(Reason.COMMIT_FIELD, "not a map")
    version = value.get("version")
    if type(version) is not int or version != COMMIT_VERSION:
        # Not `repr`: that of a deep list or map can exceed the interpreter's recursion limit.
        shown = version if isinstance(version, int) else f"of type {type(version).__name__}"
        return CommitError(Reason.COMMIT_VERSION, f"version {shown}")
    detail = "not exactly the six fields of a commit, each of its type and in canonical form"
    return CommitError(Reason.COMMIT_FIELD, detail)


def open_commit(did: Did, blocks: bytes) -> OpenedCommit:
    """Reads the blocks of a `#commit` or `#sync` and finds the commit object.

    Args:
        did: the repository that the message is about.
        blocks: the message's CAR; the caller bounds its size.

    Raises:
        CarError: the CAR is malformed.
        CidError: a block does not match its CID.
        CommitError: the commit object is missing, malformed, or of another repository.
    """
    roots, blocks_by_cid = read_car(blocks)
    commit = parse_root(blocks_by_cid.get(roots[0]))
    if commit.did != did:
        raise CommitError(Reason.COMMIT_DID_MISMATCH, f"the commit is of {commit.did}")
    return OpenedCommit(commit, roots[0], blocks_by_cid)


def authenticate(opened: OpenedCommit, signing_key: VerifyingKey) -> AuthenticCommit:
    """Verifies a commit's signature.

    Raises:
        SignatureError: not signed by this key, malformed, or with high S.
    """
    signing_key.verify(opened.commit.unsigned, opened.commit.signature)
    return AuthenticCommit(opened)


def check_rev_not_future(rev: Tid, received_us: int) -> None:
    """Refuses a revision from the future, which would block its repository until then.

    Args:
        rev: the revision.
        received_us: when its frame was received, microseconds since the epoch; a replay so gives
            the same verdict.

    Raises:
        CommitError: more than `MAX_CLOCK_SKEW_US` ahead. spec: G-05
    """
    ahead_us = tid_time_us(rev) - received_us
    if ahead_us > MAX_CLOCK_SKEW_US:
        raise CommitError(Reason.COMMIT_REV_FUTURE, f"{ahead_us / 1e6:.0f} s ahead")


def prove_commit(message: CommitMessage, authentic: AuthenticCommit) -> VerifiedCommit:
    """Proves what a `#commit` claims about its authentic commit.

    Args:
        message: the claims.
        authentic: opened from this message, which is where the account was compared.

    Raises:
        CommitError: message and commit differ, or the operations are not the difference.
        MstError: the tree breaks a rule or lacks a node that is needed.
    """
    opened = authentic.opened
    commit, blocks = opened.commit, opened.blocks
    if commit.rev != message.rev:
        raise CommitError(Reason.COMMIT_REV_MISMATCH, f"the message says rev {message.rev}")
    if opened.commit_cid != message.commit_cid:
        raise CommitError(Reason.COMMIT_CID_MISMATCH, "the message names another commit")

    ops = message.ops
    if len(ops) > 1 and len({op.path for op in ops}) != len(ops):
        raise CommitError(Reason.COMMIT_PATH_TWICE, "two ops have the same path")
    verified_ops = tuple(
        [
            VerifiedOp(op, None if op.cid is None else record_of(blocks, op.cid, op.path))
            for op in ops
        ]
    )
    data_before = mst.invert(blocks, commit.data_cid, ops)
    if message.prev_data is not None:
        if data_before != message.prev_data:
            raise MstError(Reason.COMMIT_PREV_DATA_MISMATCH, "undoing the ops gives another root")
    elif message.since is not None:
        raise CommitError(Reason.COMMIT_PREV_DATA_MISSING, "since is set and prevData is not")
    elif data_before != mst.EMPTY_ROOT_CID:
        raise CommitError(Reason.COMMIT_NOT_GENESIS, "undoing a first commit leaves records")
    return VerifiedCommit(message, commit, verified_ops)


def prove_sync(message: SyncMessage, authentic: AuthenticCommit) -> VerifiedSync:
    """Proves what a `#sync` claims about its authentic commit.

    Raises:
        CommitError: the message's revision is not the commit's.
    """
    opened = authentic.opened
    if opened.commit.rev != message.rev:
        raise CommitError(Reason.COMMIT_REV_MISMATCH, f"the message says rev {message.rev}")
    return VerifiedSync(message, opened.commit, opened.commit_cid)


def verify_commit(message: CommitMessage, signing_key: VerifyingKey) -> VerifiedCommit:
    """Proves a `#commit` message with one key: opened, authenticated, operations inverted.

    Not checked, as it needs more than the message: its place behind the last commit, and whether
    its revision lies in the future (`check_rev_not_future`).

    Raises:
        ProtocolError: as `open_commit`, `authenticate` and `prove_commit`.
    """
    return prove_commit(
        message, authenticate(open_commit(message.did, message.blocks), signing_key)
    )


def verify_sync(message: SyncMessage, signing_key: VerifyingKey) -> VerifiedSync:
    """Proves a `#sync` message with one key; not checked is what `verify_commit` leaves out.

    Raises:
        ProtocolError: as `open_commit`, `authenticate` and `prove_sync`.
    """
    return prove_sync(message, authenticate(open_commit(message.did, message.blocks), signing_key))


def record_of(blocks: Mapping[bytes, bytes], record_cid: bytes, path: str) -> bytes:
    """Returns a record that has to be among blocks.

    Args:
        blocks: raw CID → block.
        record_cid: raw CID of the record.
        path: where it is.

    Raises:
        CommitError: it is not there (`commit.record_missing`), or as `check_record_size`.
    """
    record = blocks.get(record_cid)
    if record is None:
        raise CommitError(Reason.COMMIT_RECORD_MISSING, "a record was not sent", path=path)
    check_record_size(record, path)
    return record


def check_record_size(record: bytes, path: str | None) -> None:
    """Refuses a record that is larger than the network takes.

    Args:
        record: its block.
        path: where it is, if that is known.

    Raises:
        CommitError: more than `MAX_RECORD_BYTES` (`commit.record_too_large`). spec: A-30
    """
    if len(record) > MAX_RECORD_BYTES:
        detail = f"a record of {len(record)} bytes"
        raise CommitError(Reason.COMMIT_RECORD_TOO_LARGE, detail, path=path)
