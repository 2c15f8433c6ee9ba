"""A record is proven by what its message names, and by nothing else."""

import base64
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from support.recordings import load_recording
from support.reduced import reduce_recording
from support.repo import DID, OTHER_DID, OTHER_SIGNER, SIGNER
from support.snapshots import fetched

from pipelines.atproto.cid import cid_of, encode_cid
from pipelines.atproto.errors import IdentityError, Reason
from pipelines.atproto.keys import VerifyingKey
from pipelines.atproto.syntax import Did, Tid
from pipelines.compact.events import Body, Signed
from pipelines.compact.provenance import (
    Judgment,
    LatestRecord,
    Proof,
    judge_by_frame,
    judge_by_snapshot,
    parse_latest,
    signed_problem,
)
from pipelines.config import KafkaConfig
from pipelines.errors import IdentityUnavailableError
from pipelines.repair.manifests import Snapshot
from pipelines.verdict import KeyLookup

CONFIG = KafkaConfig("127.0.0.1:9092", "test")
WEB_DID = Did("did:web:alice.example.com")


class Keys:
    """One key, or an error, for everybody at all times."""

    def __init__(self, answer: VerifyingKey | Exception) -> None:
        self._answer = answer

    def current_key(self, did: Did) -> VerifyingKey:  # noqa: ARG002 - everybody's
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer

    def refreshed_key(self, did: Did, since_us: int | None) -> None:
        """Nothing changes."""

    def key_at(self, did: Did, time_us: int) -> None:
        """There is no history."""


class Case(NamedTuple):
    """A record and its frame."""

    record: LatestRecord
    frame: bytes
    keys: KeyLookup

    def judge(self, **changes: Any) -> Judgment:
        return judge_by_frame(replace(self.record, **changes), self.frame, self.keys)


@pytest.fixture(scope="module")
def cases(capture_folder: Path) -> list[Case]:
    reduced = reduce_recording(capture_folder, CONFIG, 1)
    keys = load_recording(capture_folder).keys
    records = [parse_latest(output.value or b"") for output in reduced.latest().values()]
    return [
        Case(record, reduced.frames[record.source.frame_offset or 0].value or b"", keys)
        for record in records
    ]


# --- frames


def test_every_record_of_a_recording_is_proven_by_its_frame(cases: list[Case]) -> None:
    """Also those that were signed by a key that was changed since."""
    assert len(cases) == 266
    for case in cases:
        judgment = case.judge()
        assert judgment == replace(judgment, proof=Proof.PROVEN, problem=None), case.record
        assert (judgment.signing_key or "").startswith("did:key:z")
        assert judgment.commit is not None
    assert len({case.judge().signing_key for case in cases}) > len(
        {case.record.did for case in cases}
    )


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        pytest.param({"path": "a.b.c/other"}, "no operation", id="path"),
        pytest.param({"cid": encode_cid(cid_of(b""))}, "no operation", id="cid"),
        pytest.param({"rev": "3lzzzzzzzzzzz"}, "at revision", id="revision"),
        pytest.param({"did": OTHER_DID}, "its frame is of", id="account"),
        pytest.param({"body": Body({"n": 1}, None, None)}, "its body has the CID", id="body"),
        pytest.param({"body": Body({"$link": 1}, None, None)}, "not the JSON", id="no record"),
    ],
)
def test_another_record_than_that_of_its_frame_is_refuted(
    cases: list[Case], changes: dict[str, Any], says: str
) -> None:
    judgment = cases[0].judge(**changes)
    assert judgment.proof is Proof.REFUTED
    assert says in (judgment.problem or "")


def test_a_record_whose_body_was_not_kept_is_proven_all_the_same(cases: list[Case]) -> None:
    assert cases[0].judge(body=Body(None, "json.too_large", None)).proof is Proof.PROVEN


def test_a_frame_that_does_not_hold_refutes(cases: list[Case]) -> None:
    record, frame, keys = cases[0]
    flipped = bytearray(frame)
    flipped[len(frame) // 2] ^= 1
    assert judge_by_frame(record, bytes(flipped), keys).proof is Proof.REFUTED
    assert judge_by_frame(record, b"", keys).proof is Proof.REFUTED


@pytest.mark.parametrize(
    ("did", "answer", "proof"),
    [
        (DID, OTHER_SIGNER.key, Proof.REFUTED),
        # Of did:web nobody has a history: the key may have been right.
        (WEB_DID, OTHER_SIGNER.key, Proof.UNDECIDED),
        (DID, IdentityUnavailableError("away"), Proof.UNDECIDED),
        (DID, IdentityError(Reason.IDENTITY_NOT_FOUND, "gone"), Proof.UNDECIDED),
    ],
)
def test_without_the_key_of_that_time_nobody_can_tell(
    cases: list[Case], did: Did, answer: VerifyingKey | Exception, proof: Proof
) -> None:
    case = cases[0]._replace(keys=Keys(answer))
    judgment = case.judge(did=did)
    assert judgment.proof is proof
    assert judgment.problem
    snapshot, chunks, record = fetched(did)
    assert judge_by_snapshot(record, snapshot, chunks, Keys(answer)).proof is proof


# --- snapshots


def test_a_record_is_proven_by_its_snapshot() -> None:
    snapshot, chunks, record = fetched()
    judgment = judge_by_snapshot(record, snapshot, iter(chunks), Keys(SIGNER.key))
    assert judgment == Judgment(Proof.PROVEN, None, SIGNER.key.did_key(), snapshot.commit)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param(
            lambda s, c, r: (s, c[1:], r), "chunks have the root", id="a chunk is missing"
        ),
        pytest.param(lambda s, c, r: (s, c[::-1], r), "mst.key_order", id="chunks out of order"),
        pytest.param(
            lambda s, c, r: (s, c, replace(r, path="a.b.c/x")), "does not have this", id="path"
        ),
        pytest.param(
            lambda s, c, r: (s, c, replace(r, rev="3lzzzzzzzzzzz")), "at revision", id="revision"
        ),
        pytest.param(
            lambda s, c, r: (s, c, replace(r, body=Body({}, None, None))), "body has", id="body"
        ),
        pytest.param(
            lambda s, c, r: (replace(s, data=s.commit), c, r), "commit block says", id="root"
        ),
        pytest.param(
            lambda s, c, r: (replace(s, commit_block=base64.b64encode(b"\xa0").decode()), c, r),
            "commit block is malformed",
            id="block",
        ),
    ],
)
def test_a_snapshot_that_is_not_the_signed_repository_refutes(
    change: Callable[
        [Snapshot, list[bytes], LatestRecord], tuple[Snapshot, list[bytes], LatestRecord]
    ],
    says: str,
) -> None:
    snapshot, chunks, record = change(*fetched())
    judgment = judge_by_snapshot(record, snapshot, chunks, Keys(SIGNER.key))
    assert judgment.proof is Proof.REFUTED
    assert says in (judgment.problem or "")


@pytest.mark.parametrize("value", [b"[]", b"{}", b"not json"])
def test_another_shape_is_no_record(value: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - of orjson or of ours
        parse_latest(value)


@pytest.mark.parametrize("block", ["block", "AAAA"])
def test_a_commit_block_that_is_none_contradicts_what_is_said(block: str) -> None:
    said = Signed(Tid("3kaaaaaaaaa22"), "a CID", "a root")
    assert "the commit block is malformed" in (signed_problem(DID, said, block) or "")
