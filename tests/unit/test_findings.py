"""What is wrong with an account's log and document, taken together (spec: E-02, E-10, L-15)."""

from typing import Any

import pytest
from support import plc
from support.oracle import cid_of, dag_cbor
from support.repo import OTHER_SIGNER, P256_SIGNER, SIGNER

from pipelines.atproto.errors import IdentityError, Reason
from pipelines.atproto.syntax import Handle
from pipelines.identity.documents import Identity
from pipelines.identity.findings import Findings
from pipelines.identity.plc import judge_log

_FIRST = plc.operation()
_DID = plc.did_of(_FIRST)
_TOMBSTONE = plc.tombstone(_FIRST)
_GONE = IdentityError(Reason.IDENTITY_NOT_FOUND, "it does not exist", did=_DID)


def _document(**changes: Any) -> Identity:
    members: dict[str, Any] = {
        "did": _DID,
        "signing_key": SIGNER.key,
        "pds": "https://pds.example.com",
        "handle": Handle("alice.example.com"),
    }
    return Identity(**members | changes)


def _findings(*operations: plc.Json, document: Identity | IdentityError | None = None) -> Findings:
    return Findings(_DID, judge_log(_DID, plc.log_of(*operations)), document=document)


def test_a_log_and_its_document_agree() -> None:
    found = _findings(_FIRST, document=_document())
    assert found.problems() == []
    assert found.standing is not None
    assert found.standing.signing_key == SIGNER.key


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"signing_key": OTHER_SIGNER.key},
            f"by the log, {OTHER_SIGNER.key.did_key()} by the document",
        ),
        ({"signing_key": None}, f"is {SIGNER.key.did_key()} by the log, missing by the document"),
        ({"pds": "https://other.example.com"}, "the server is https://pds.example.com by the log"),
        ({"handle": None}, "the handle is alice.example.com by the log, missing by the document"),
    ],
)
def test_a_document_that_says_something_else_is_noticed(
    changes: dict[str, Any], problem: str
) -> None:
    (found,) = _findings(_FIRST, document=_document(**changes)).problems()
    assert problem in found


def test_a_did_that_was_given_up_has_no_document() -> None:
    """Spec: E-10, E-11."""
    assert _findings(_FIRST, _TOMBSTONE, document=_GONE).problems() == []
    assert _findings(_FIRST, _TOMBSTONE, document=_document()).problems() == [
        "the DID was given up, but a document is served"
    ]


def test_a_did_that_stands_has_one() -> None:
    assert _findings(_FIRST, document=_GONE).problems() == [
        "identity.not_found: it does not exist"
    ]


def test_the_document_is_compared_with_what_stands() -> None:
    stolen = plc.operation(_FIRST, P256_SIGNER, alsoKnownAs=["at://mallory.example.com"])
    recovered = plc.operation(_FIRST, alsoKnownAs=["at://alice.example.com"])
    log = plc.log_of(_FIRST, stolen, recovered)
    log[1]["nullified"] = True
    found = Findings(_DID, judge_log(_DID, log), document=_document())
    assert found.problems() == []


def test_each_bad_operation_and_each_false_claim_is_named() -> None:
    stolen = plc.operation(_FIRST, P256_SIGNER)
    recovered = plc.operation(_FIRST)
    forged = plc.operation(recovered, OTHER_SIGNER)
    log = plc.log_of(_FIRST, stolen, recovered, forged)
    log[2]["nullified"] = True
    found = Findings(_DID, judge_log(_DID, log))
    assert found.problems() == [
        "operation 1: the directory has it as standing, by the rules it is void",
        "operation 2: the directory has it as void, by the rules it is standing",
        "signature.invalid: operation 3: no key that may sign it did",
    ]
    assert found.standing is not None
    assert found.standing.cid == cid_of(dag_cbor(recovered))


def test_a_log_that_cannot_be_read_is_a_problem_itself() -> None:
    error = IdentityError(Reason.IDENTITY_LOG, "too large", did=_DID)
    found = Findings(_DID, log_error=error, document=_document())
    assert found.problems() == ["identity.log: too large"]
    assert found.standing is None


def test_a_did_web_has_a_document_only() -> None:
    assert Findings(_DID, document=_document()).problems() == []
    assert Findings(_DID, document=_GONE).problems() == ["identity.not_found: it does not exist"]
