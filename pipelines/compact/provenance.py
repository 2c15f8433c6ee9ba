"""Where a record in `latest.*` comes from, and whether that still proves it. Pure.

    a frame      judged again as on its day: hashes, the signature with a key of that time, the
                 inversion of its operations; one of them has to be the record
    a snapshot   the records of its chunks have to have the root that its commit signs; one of
                 them has to be the record

The message of `latest.*` itself is checked too: its body has to have its CID.
"""

import base64
import binascii
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

import orjson

from pipelines.atproto import cbor, mst
from pipelines.atproto.cid import cid_of, encode_cid, parse_cid
from pipelines.atproto.commit import OpenedCommit, VerifiedCommit, parse_commit
from pipelines.atproto.errors import (
    DagCborError,
    IdentityError,
    ProtocolError,
    SignatureError,
)
from pipelines.atproto.syntax import Did, Tid, is_plc_did
from pipelines.compact.events import Body, Signed, Source, parse_source
from pipelines.errors import IdentityUnavailableError
from pipelines.repair.chunks import parse_chunk
from pipelines.repair.manifests import Snapshot
from pipelines.verdict import (
    KeyLookup,
    NotedKeys,
    Proven,
    Refused,
    authenticate_with_any,
    judge_frame,
)


class Proof(StrEnum):
    """What the source of a record says of it today."""

    PROVEN = "proven"
    REFUTED = "refuted"  # what is there is not the record, or does not hold
    EXPIRED = "expired"  # what proved it is no longer kept
    UNDECIDED = "undecided"  # nobody can tell a key of that time now


@dataclass(frozen=True, slots=True)
class LatestRecord:
    """A record as `latest.*` has it.

    Attributes:
        did: its repository.
        path: where it is in there.
        cid: its CID, as text.
        rev: revision of the commit that wrote it, or of the snapshot.
        source: the frame or snapshot.
        body: the record.
    """

    did: Did
    path: str
    cid: str
    rev: Tid
    source: Source
    body: Body

    @property
    def uri(self) -> str:
        """Its at-uri."""
        return f"at://{self.did}/{self.path}"


@dataclass(frozen=True, slots=True)
class Judgment:
    """Whether a record is proven.

    Attributes:
        proof: what its source says.
        problem: why it is not proven, and what helps, or None.
        signing_key: the key that was tried last, as did:key; None if none was found or needed.
        commit: CID of the commit that proves it, as text, or None.
    """

    proof: Proof
    problem: str | None = None
    signing_key: str | None = None
    commit: str | None = None


def parse_latest(value: bytes) -> LatestRecord:
    """Takes a value of `latest.*` apart.

    Args:
        value: JSON, version 1.

    Raises:
        ValueError: it is of another shape, which a newer compact may have written.
    """
    try:
        found = orjson.loads(value)
        return LatestRecord(
            found["did"],
            f"{found['collection']}/{found['rkey']}",
            found["cid"],
            found["rev"],
            parse_source(found),
            Body(found["record"], found["record_error"], found["record_cbor"]),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a record of version 1: {error!r}") from error


def block_of(body: Body) -> bytes | None:
    """Returns the record block that a message stands for; None without a body.

    Whether it has the message's CID is not checked.

    Raises:
        DagCborError: the JSON stands for no block.
    """
    if body.record_cbor is not None:
        return base64.b64decode(body.record_cbor)
    return None if body.record is None else cbor.encode_json_value(body.record)


def signed_problem(did: Did, signed: Signed, block: str) -> str | None:
    """Returns how a signed block contradicts what is said of it, or None.

    Args:
        did: the repository.
        signed: what is said.
        block: the commit block in base64.
    """
    try:
        raw = base64.b64decode(block)
        commit = parse_commit(raw)
    except (binascii.Error, ProtocolError) as error:
        return f"the commit block is malformed: {error}"
    said = (did, signed.rev, signed.data, signed.commit)
    found = (commit.did, commit.rev, encode_cid(commit.data_cid), encode_cid(cid_of(raw)))
    return None if said == found else f"the commit block says {found}"


def judge_by_frame(record: LatestRecord, frame: bytes, keys: KeyLookup) -> Judgment:
    """Proves a record by the frame that its message names.

    Args:
        record: as `latest.*` has it.
        frame: the websocket message.
        keys: where to look up signing keys.
    """
    noted = NotedKeys(keys)
    try:
        verdict = judge_frame(frame, noted, record.source.received_us)
    except IdentityUnavailableError as error:
        return _judgment(Proof.UNDECIDED, str(error), noted)
    if isinstance(verdict, Refused):
        return _refused(record.did, verdict.error, noted)
    if not isinstance(verdict, Proven) or not isinstance(verdict.verified, VerifiedCommit):
        return _judgment(Proof.REFUTED, "its frame holds no commit", noted)
    verified = verdict.verified
    commit = encode_cid(verified.message.commit_cid)
    written = {verified_op.op.path: verified_op.op.cid for verified_op in verified.ops}
    problem = _body_problem(record)
    if (verified.commit.did, verified.commit.rev) != (record.did, record.rev):
        problem = f"its frame is of {verified.commit.did} at revision {verified.commit.rev}"
    elif written.get(record.path) != parse_cid(record.cid):
        problem = "no operation of its frame writes this record"
    return _judgment(Proof.REFUTED if problem else Proof.PROVEN, problem, noted, commit)


def judge_by_snapshot(
    record: LatestRecord, snapshot: Snapshot, chunks: Iterable[bytes], keys: KeyLookup
) -> Judgment:
    """Proves a record by the snapshot that its message names.

    Args:
        record: as `latest.*` has it.
        snapshot: its manifest.
        chunks: values of all messages of `chunks` in the manifest's range, in order; taken one at
            a time.
        keys: where to look up signing keys.

    Raises:
        ValueError: a chunk is of another shape, which a newer resync may have written.
    """
    noted = NotedKeys(keys)
    signed = Signed(snapshot.rev, snapshot.commit, snapshot.data)
    problem = signed_problem(snapshot.did, signed, snapshot.commit_block) or _body_problem(record)
    if (snapshot.did, snapshot.rev) != (record.did, record.rev):
        problem = f"its snapshot is of {snapshot.did} at revision {snapshot.rev}"
    if problem is not None:
        return _judgment(Proof.REFUTED, problem, noted, snapshot.commit)
    block = base64.b64decode(snapshot.commit_block)
    opened = OpenedCommit(parse_commit(block), cid_of(block), {})
    try:
        authenticate_with_any(opened, noted, snapshot.fetched_us)
    except IdentityUnavailableError as error:
        return _judgment(Proof.UNDECIDED, str(error), noted)
    except ProtocolError as error:
        return _refused(record.did, error, noted)
    is_there = False

    def items() -> Iterator[tuple[str, bytes]]:
        nonlocal is_there
        for value in chunks:
            for item in parse_chunk(value).records:
                is_there |= (item.path, item.cid) == (record.path, record.cid)
                yield item.path, parse_cid(item.cid)

    try:
        root = encode_cid(mst.root_of(items()))
    except ProtocolError as error:
        root = str(error)
    if root != snapshot.data:
        problem = f"its snapshot's chunks have the root {root}, not the signed {snapshot.data}"
    elif not is_there:
        problem = "its snapshot does not have this record"
    return _judgment(Proof.REFUTED if problem else Proof.PROVEN, problem, noted, snapshot.commit)


def _body_problem(record: LatestRecord) -> str | None:
    try:
        block = block_of(record.body)
    except DagCborError as error:
        return f"its body is not the JSON of a record: {error}"
    if block is None or cid_of(block) == parse_cid(record.cid):
        return None
    return f"its body has the CID {encode_cid(cid_of(block))}"


def _refused(did: Did, error: ProtocolError, noted: NotedKeys) -> Judgment:
    if isinstance(error, IdentityError):
        return _judgment(Proof.UNDECIDED, f"no key of that time can be told: {error}", noted)
    if isinstance(error, SignatureError) and not is_plc_did(did):
        what = f"{error}; of {did} only today's key is known, and it may have had another"
        return _judgment(Proof.UNDECIDED, what, noted)
    return _judgment(Proof.REFUTED, str(error), noted)


def _judgment(
    proof: Proof, problem: str | None, noted: NotedKeys, commit: str | None = None
) -> Judgment:
    key = None if noted.last is None else noted.last.did_key()
    return Judgment(proof, problem, key, commit)
