"""Identities of generated accounts, judged by the code that reads the real directory's."""

import json
from pathlib import Path

import pytest
from support.network import LIVELY, make_events

from pipelines.atproto.keys import parse_did_key
from pipelines.atproto.signing import SigningKey
from pipelines.atproto.syntax import Did, Handle, parse_datetime
from pipelines.identity.documents import parse_document
from pipelines.identity.plc import key_at, verify_audit_log
from pipelines.sim.identities import PlcIdentity, WebIdentity, create_identity
from pipelines.sim.mix import Settings

PDS = "https://pds.sim.example"
ROTATION_KEY = SigningKey("k256", bytes(31) + b"\1")
FIRST, SECOND = SigningKey("k256", bytes(31) + b"\2"), SigningKey("p256", bytes(31) + b"\3")
TIMES = ("2026-01-01T00:00:00.000Z", "2026-01-02T00:00:00.000Z", "2026-01-03T00:00:00.000Z")


@pytest.fixture
def identity() -> PlcIdentity:
    made = create_identity(
        FIRST.verifying_key,
        ROTATION_KEY,
        handle=Handle("one.sim.example"),
        pds=PDS,
        created_at=TIMES[0],
    )
    renamed = made.with_handle(Handle("two.sim.example"), ROTATION_KEY, TIMES[1])
    return renamed.with_signing_key(SECOND.verifying_key, ROTATION_KEY, TIMES[2])


def test_the_log_proves_itself(identity: PlcIdentity) -> None:
    """spec: L-02…L-06: the DID is the hash of the first operation, and each is signed."""
    history = verify_audit_log(identity.did, identity.audit_log())
    assert [change.signing_key for change in history] == [
        FIRST.verifying_key,
        FIRST.verifying_key,
        SECOND.verifying_key,
    ]
    assert [change.created_us for change in history] == [parse_datetime(t) for t in TIMES]
    assert key_at(history, parse_datetime(TIMES[1])) == FIRST.verifying_key
    assert key_at(history, parse_datetime(TIMES[2])) == SECOND.verifying_key


def test_the_document_follows_from_the_last_operation(identity: PlcIdentity) -> None:
    """spec: E-02…E-05, L-11."""
    parsed = parse_document(identity.did, identity.document())
    assert parsed.signing_key == SECOND.verifying_key
    assert parsed.handle == "two.sim.example"
    assert parsed.pds == PDS
    operation = identity.audit_log()[-1]["operation"]
    assert parse_did_key(operation["verificationMethods"]["atproto"]) == parsed.signing_key


@pytest.mark.shared
def test_documents_have_the_shape_of_the_real_directory_s(
    identity: PlcIdentity, shared_data: Path
) -> None:
    lines = (shared_data / "network-frames" / "identities.jsonl").read_text().splitlines()
    recorded = [json.loads(line)["document"] for line in lines]
    shapes = [_shape(document) for document in recorded]
    first = PlcIdentity(identity.did, identity.entries[:1]).document()
    assert _shape(first) in shapes
    assert first["@context"] in [document["@context"] for document in recorded]


@pytest.mark.shared
def test_logs_have_the_shape_of_the_real_directory_s(
    identity: PlcIdentity, shared_data: Path
) -> None:
    lines = (shared_data / "pds-corpus" / "identities.jsonl").read_text().splitlines()
    logs = [json.loads(line).get("plc_audit_log", []) for line in lines]
    shapes = [_shape(entry) for log in logs for entry in log]
    assert all(_shape(entry) in shapes for entry in identity.audit_log())


@pytest.mark.shared
def test_a_did_web_is_what_its_document_says(shared_data: Path) -> None:
    """spec: E-09: in the shape of one that the reference server reads."""
    did, handle = Did("did:web:user7.web.sim.example"), Handle("one.sim.example")
    first = WebIdentity(did, FIRST.verifying_key, handle, PDS)
    last = first.with_handle(Handle("two.sim.example")).with_signing_key(SECOND.verifying_key)
    for identity, key in (first, FIRST.verifying_key), (last, SECOND.verifying_key):
        parsed = parse_document(did, identity.document())
        assert (parsed.signing_key, parsed.pds) == (key, PDS)
        assert parsed.handle == identity.handle
    lines = (shared_data / "pds-corpus" / "identities.jsonl").read_text().splitlines()
    recorded = [json.loads(line) for line in lines]
    [document] = [it["document"] for it in recorded if it["did"].startswith("did:web:")]
    # The curve has a context of its own, as in the directory's documents.
    document["@context"].append("https://w3id.org/security/suites/ecdsa-2019/v1")
    assert _shape(last.document()) == _shape(document)


def test_every_account_of_a_network_proves_itself() -> None:
    events = make_events(Settings(accounts_count=10, mix=LIVELY), 1_000)
    last = {event.state.did: event.state for event in events}
    lengths = set()
    for did, state in last.items():
        parsed = parse_document(did, state.identity.document())
        assert (parsed.handle, parsed.pds) == (state.handle, PDS)
        assert parsed.signing_key == state.identity.signing_key
        if isinstance(state.identity, PlcIdentity):
            history = verify_audit_log(did, state.identity.audit_log())
            assert parsed.signing_key == history[-1].signing_key
            lengths.add(len(history))
    assert len(lengths) > 1, "no account changed anything"


def _shape(value: object) -> object:
    """Returns the names in a value and the kinds of what they name."""
    if isinstance(value, dict):
        return {name: _shape(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_shape(member) for member in value]
    return type(value).__name__ if not isinstance(value, str) else "text"
