"""What a server says of a repository beside what is held of it."""

import json
from dataclasses import replace

import pytest
from support.events import DID, rev, signed, source

from pipelines.cli.audit_repos import Audited
from pipelines.compact.audit import Audit, Finding
from pipelines.compact.standing import (
    Comparison,
    NoAnswer,
    ServerAnswer,
    ServerHead,
    ServerRefusal,
    Standing,
    compare,
    has_arrived,
    parse_answer,
)
from pipelines.compact.state import Head, RepoState, Sync
from pipelines.repair.manifests import RepoError
from pipelines.repair.requests import Cause

STATE = RepoState(DID, source(), sync=Sync.SYNCHRONIZED, head=Head(signed(5), "block"))
NOW_US = 1_795_360_000_000_000
AUDIT = Audit(DID, Finding.MATCHES, Sync.SYNCHRONIZED, rev(5), 3, "root", "root")


@pytest.mark.parametrize(
    ("state", "answer", "standing", "says"),
    [
        (STATE, ServerHead(rev(5), "commit-5"), Standing.EQUAL, None),
        (
            STATE,
            ServerHead(rev(6), "commit-6"),
            Standing.BEHIND,
            f"revision {rev(6)}, we {rev(5)}",
        ),
        (STATE, ServerHead(rev(4), "commit-4"), Standing.DRIFT, "which is older"),
        (STATE, ServerHead(rev(5), "other"), Standing.DRIFT, "commit other, we commit-5"),
        (STATE, ServerRefusal(RepoError.TAKENDOWN), Standing.DRIFT, "RepoTakendown"),
        (STATE, NoAnswer("away"), Standing.UNREACHABLE, "away"),
        (replace(STATE, head=None), ServerHead(rev(1), "commit-1"), Standing.BEHIND, "we none"),
        (
            replace(STATE, upstream_active=False),
            ServerHead(rev(6), "commit-6"),
            Standing.INACTIVE,
            None,
        ),
        (replace(STATE, upstream_active=False), None, Standing.INACTIVE, None),
    ],
)
def test_each_answer_has_its_meaning(
    state: RepoState, answer: ServerAnswer | None, standing: Standing, says: str | None
) -> None:
    comparison = compare(state, answer)
    assert comparison.standing is standing
    assert (comparison.problem is None) is (says is None)
    assert (says or "") in (comparison.problem or "")


@pytest.mark.parametrize(
    ("status", "body", "answer"),
    [
        (200, {"cid": "bafy", "rev": rev(5)}, ServerHead(rev(5), "bafy")),
        (400, {"error": "RepoNotFound"}, ServerRefusal(RepoError.NOT_FOUND)),
        (400, {"error": "RepoDeactivated", "message": ""}, ServerRefusal(RepoError.DEACTIVATED)),
        (400, {"error": "InvalidRequest"}, NoAnswer("status 400 and no commit")),
        (200, {"cid": 1, "rev": rev(5)}, NoAnswer("status 200 and no commit")),
        (200, [], NoAnswer("status 200 and no commit")),
    ],
)
def test_an_answer_is_read_or_is_none(status: int, body: object, answer: ServerAnswer) -> None:
    assert parse_answer(status, json.dumps(body).encode(), NOW_US) == answer


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"<html>", "status 200 and no JSON"),
        (b'{"cid":"bafy","rev":"tomorrow"}', "a revision that cannot be"),
        (b'{"cid":"bafy","rev":"7zzzzzzzzzzzz"}', "a revision that cannot be"),
    ],
)
def test_what_cannot_be_is_no_answer(body: bytes, says: str) -> None:
    answer = parse_answer(200, body, NOW_US)
    assert isinstance(answer, NoAnswer)
    assert says in answer.detail


def test_what_was_behind_arrives_with_its_revision_or_a_later_one() -> None:
    assert has_arrived(STATE, rev(5))
    assert has_arrived(STATE, rev(4))
    assert not has_arrived(STATE, rev(6))
    assert not has_arrived(replace(STATE, head=None), rev(1))
    # Nothing of it is taken over any more.
    assert has_arrived(replace(STATE, upstream_active=False), rev(6))


@pytest.mark.parametrize(
    ("finding", "comparison", "is_good", "needs_repair", "min_rev"),
    [
        (Finding.MATCHES, None, True, False, rev(5)),
        (Finding.EMPTY, Comparison(Standing.EQUAL, None, rev(5)), True, False, rev(5)),
        (Finding.MATCHES, Comparison(Standing.UNREACHABLE, "away"), True, False, rev(5)),
        (Finding.MATCHES, Comparison(Standing.BEHIND, "", rev(7)), False, True, rev(7)),
        # What the server has now is wanted, although it is older.
        (Finding.MATCHES, Comparison(Standing.DRIFT, "", rev(3)), False, True, None),
        (Finding.MISMATCH, None, False, True, rev(5)),
        (Finding.CHANGING, None, False, False, rev(5)),
    ],
)
def test_what_is_not_right_is_asked_for_again(
    finding: Finding,
    comparison: Comparison | None,
    is_good: bool,
    needs_repair: bool,
    min_rev: str | None,
) -> None:
    audited = Audited(replace(AUDIT, finding=finding), comparison)
    assert (audited.is_good, audited.needs_repair) == (is_good, needs_repair)
    request = audited.request(NOW_US)
    assert (request.did, request.cause, request.min_rev) == (DID, Cause.AUDIT, min_rev)
    assert request.requested_us == NOW_US
