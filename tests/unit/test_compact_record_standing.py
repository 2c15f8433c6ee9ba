"""What a server proves of a record beside what is held of it."""

import json
from dataclasses import replace

import pytest
from support.events import source
from support.exports import export
from support.oracle import cid_of, dag_cbor
from support.repo import DID, OTHER_DID, OTHER_SIGNER, SIGNER, record
from support.wire import START_US, rev

from pipelines.atproto.cid import encode_cid
from pipelines.atproto.commit import MAX_CLOCK_SKEW_US, parse_commit
from pipelines.atproto.record_proof import VerifiedRecord
from pipelines.atproto.syntax import Tid, tid_time_us
from pipelines.compact.events import Body
from pipelines.compact.provenance import LatestRecord
from pipelines.compact.record_standing import (
    FalseProof,
    RecordAnswer,
    compare_record,
    has_record_arrived,
    parse_record_answer,
)
from pipelines.compact.standing import Comparison, NoAnswer, ServerRefusal, Standing
from pipelines.repair.manifests import RepoError

PATH, ABSENT = "com.example.note/1", "com.example.note/2"
EXPORT = export({PATH: record("one")}, rev=rev(5))
COMMIT = parse_commit(EXPORT.commit)
OURS = LatestRecord(
    DID, PATH, encode_cid(EXPORT.records[PATH]), Tid(rev(5)), source(), Body(None, None, None)
)
OTHER_CID = encode_cid(cid_of(dag_cbor(record("two"))))
PROVEN = VerifiedRecord(COMMIT, PATH, EXPORT.records[PATH], EXPORT.bodies[EXPORT.records[PATH]])
GONE = VerifiedRecord(COMMIT, PATH, None, None)


def parse(status: int, body: bytes, path: str = PATH, now_us: int = START_US) -> RecordAnswer:
    return parse_record_answer(status, body, SIGNER.key, did=DID, path=path, now_us=now_us)


def test_a_proof_is_what_holds_with_the_current_key() -> None:
    """Spec: I-12."""
    now_us = tid_time_us(COMMIT.rev)
    assert parse(200, EXPORT.car(), now_us=now_us) == PROVEN
    assert parse(200, EXPORT.car(), ABSENT, now_us) == PROVEN._replace(
        path=ABSENT, record_cid=None, record=None
    )
    stranger = export({PATH: record("one")}, OTHER_SIGNER)
    other = export({PATH: record("one")}, did=OTHER_DID)
    for body, reason in (
        (stranger.car(), "signature.invalid"),
        (other.car(), "commit.did_mismatch"),
        (EXPORT.car()[:-1], "car.truncated"),
        (EXPORT.car([EXPORT.commit]), "mst.block_missing"),
        (b"<html>", "car."),
    ):
        answer = parse(200, body)
        assert isinstance(answer, FalseProof)
        assert reason in answer.detail


def test_a_commit_from_the_future_proves_nothing_yet() -> None:
    """Spec: G-05."""
    early_us = tid_time_us(COMMIT.rev) - MAX_CLOCK_SKEW_US - 1
    answer = parse(200, EXPORT.car(), now_us=early_us)
    assert isinstance(answer, FalseProof)
    assert "commit.rev_future" in answer.detail


@pytest.mark.parametrize(
    ("status", "body", "answer"),
    [
        (400, {"error": "RepoTakendown"}, ServerRefusal(RepoError.TAKENDOWN)),
        (400, {"error": "RecordNotFound"}, NoAnswer("status 400 and no proof")),
        (404, "x", NoAnswer("status 404 and no proof")),
    ],
)
def test_whoever_proves_nothing_is_not_believed(
    status: int, body: object, answer: RecordAnswer
) -> None:
    assert parse(status, json.dumps(body).encode()) == answer


@pytest.mark.parametrize(
    ("ours", "answer", "standing", "says"),
    [
        (OURS, PROVEN, Standing.EQUAL, None),
        (None, GONE, Standing.EQUAL, None),
        (None, PROVEN, Standing.BEHIND, "we none"),
        (replace(OURS, rev=Tid(rev(4))), GONE, Standing.BEHIND, "the server has record none"),
        (replace(OURS, rev=Tid(rev(4)), cid=OTHER_CID), PROVEN, Standing.BEHIND, rev(4)),
        (replace(OURS, cid=OTHER_CID), PROVEN, Standing.DRIFT, OURS.cid),
        (OURS, GONE, Standing.DRIFT, "none"),
        (replace(OURS, rev=Tid(rev(6)), cid=OTHER_CID), PROVEN, Standing.DRIFT, rev(6)),
        (OURS, FalseProof("why"), Standing.DRIFT, "does not hold: why"),
        (OURS, ServerRefusal(RepoError.SUSPENDED), Standing.INACTIVE, "RepoSuspended"),
        (OURS, NoAnswer("away"), Standing.UNREACHABLE, "away"),
    ],
)
def test_each_answer_has_its_meaning(
    ours: LatestRecord | None, answer: RecordAnswer, standing: Standing, says: str | None
) -> None:
    comparison = compare_record(ours, answer)
    assert comparison.standing is standing
    assert (comparison.problem is None) is (says is None)
    assert (says or "") in (comparison.problem or "")
    assert comparison.rev == (COMMIT.rev if isinstance(answer, VerifiedRecord) else None)
    is_bad = standing in {Standing.BEHIND, Standing.DRIFT}
    assert Comparison(standing).is_apart is is_bad


def test_what_was_behind_arrives() -> None:
    older = replace(OURS, rev=Tid(rev(4)), cid=OTHER_CID)
    assert not has_record_arrived(older, PROVEN)
    assert has_record_arrived(OURS, PROVEN)
    assert has_record_arrived(replace(older, rev=Tid(rev(6))), PROVEN)
    assert not has_record_arrived(None, PROVEN)
    assert has_record_arrived(None, GONE)
    assert not has_record_arrived(older, GONE)
