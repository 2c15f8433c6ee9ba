"""`standpipe identity check` and `standpipe inspect did` as a user meets them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import plc
from support.cli import standpipe
from support.repo import OTHER_SIGNER

from pipelines.sim.network import CapturedNetwork, load_network
from pipelines.sim.ports import Identity
from pipelines.sim.service import SimServer

_FIRST = plc.operation()
_DID = plc.did_of(_FIRST)
_FORGED = plc.operation(_FIRST, OTHER_SIGNER)


def _check(*arguments: str, **options: str) -> tuple[int, dict[str, Any]]:
    result = standpipe("identity", "check", "--json", *arguments, **options)
    assert result.stdout, result.stderr
    return result.returncode, json.loads(result.stdout)


class TestFile:
    def test_a_valid_log_is_shown_with_what_stands(self, tmp_path: Path) -> None:
        path = tmp_path / "log.json"
        path.write_text(json.dumps(plc.log_of(_FIRST)))
        code, shown = _check(str(path))
        assert (code, shown["did"], shown["is_valid"], shown["problems"]) == (0, _DID, True, [])
        assert shown["document"] is None
        assert shown["current"] == {
            "signing_key": _FIRST["verificationMethods"]["atproto"],
            "pds": "https://pds.example.com",
            "handle": "alice.example.com",
        }
        (entry,) = shown["log"]
        assert entry["state"] == "standing"
        assert entry["cid"] == plc.cid_text(_FIRST)
        assert entry["created_at"] == "2026-01-01T00:00:00.000Z"
        assert entry["rotation_keys"] == _FIRST["rotationKeys"]
        assert entry["signed_by"] == _FIRST["rotationKeys"][0]

    def test_a_forged_operation_is_refused_and_named(self) -> None:
        log = json.dumps(plc.log_of(_FIRST, _FORGED))
        code, shown = _check("-", stdin=log)
        assert (code, shown["is_valid"]) == (1, False)
        assert [entry["state"] for entry in shown["log"]] == ["standing", "refused"]
        assert shown["log"][1]["reason"] == "signature.invalid"
        result = standpipe("identity", "check", "-", stdin=log)
        assert result.returncode == 1
        assert "REFUSED: signature.invalid" in result.stdout
        assert "FAILED   signature.invalid: operation 1: no key" in result.stdout

    @pytest.mark.parametrize(
        ("text", "complaint"),
        [
            ("{", "is not JSON"),
            ("{}", "is not an audit log"),
            ("[]", "is not an audit log"),
            ('[{"did": 5}]', "is not an audit log"),
            ('[{"did": "plc"}]', "not a DID"),
        ],
    )
    def test_what_is_no_log_is_wrong_usage(self, text: str, complaint: str) -> None:
        result = standpipe("identity", "check", "-", stdin=text)
        assert result.returncode == 2
        assert complaint in result.stderr

    def test_a_missing_file_is_wrong_usage(self, tmp_path: Path) -> None:
        result = standpipe("identity", "check", str(tmp_path / "none.json"))
        assert result.returncode == 2
        assert "No such file" in result.stderr


@pytest.fixture(scope="module")
def network(capture_folder: Path) -> CapturedNetwork:
    return load_network(capture_folder)


@pytest.fixture(scope="module")
def options(network: CapturedNetwork) -> Iterator[list[str]]:
    """Options that name a directory with the capture's accounts, and two that it lies about."""
    genuine = next(did for did, known in network.identities.items() if known.audit_log)
    document = dict(network.identities[genuine].document or {}) | {"id": _DID}
    identities = {
        **network.identities,
        _DID: Identity(document, plc.log_of(_FIRST)),
        "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa": Identity(
            {"id": "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"}, None
        ),
    }
    with SimServer(CapturedNetwork(frames=(), identities=identities)) as sim:
        yield ["--plc-url", sim.addresses.plc, "--did-web-url", sim.addresses.did_web]


class TestDid:
    def test_recorded_accounts_are_in_order(
        self, network: CapturedNetwork, options: list[str]
    ) -> None:
        longest = max(network.identities.items(), key=lambda item: len(item[1].audit_log or ()))
        did, known = longest
        assert known.audit_log is not None
        code, shown = _check(did, *options)
        assert (code, shown["problems"]) == (0, [])
        assert len(shown["log"]) == len(known.audit_log) == 4
        assert shown["current"] == shown["document"]

    def test_a_did_that_was_given_up_is_in_order(
        self, network: CapturedNetwork, options: list[str]
    ) -> None:
        """Spec: E-10, E-11."""
        did = next(did for did, known in network.identities.items() if known.document is None)
        code, shown = _check(did, *options)
        assert (code, shown["problems"]) == (0, [])
        assert shown["current"] == {"is_tombstone": True}
        assert shown["document"]["reason"] == "identity.not_found"

    def test_a_handle_that_leads_nowhere_is_a_problem_where_that_is_asked(
        self, network: CapturedNetwork, options: list[str]
    ) -> None:
        """Spec: E-06, E-08: the recording's names are all below .test."""
        did = next(did for did, known in network.identities.items() if known.audit_log)
        code, shown = _check(did, "--handle", *options)
        handle = shown["document"]["handle"]
        assert code == 1
        assert shown["handle"] == {"handle": handle, "leads_to": None}
        assert shown["problems"] == [
            f"the handle {handle} is not the account's: it is no name of the public network"
        ]
        assert _check(did, *options)[1]["handle"] is None

    def test_a_did_web_has_no_log(self, network: CapturedNetwork, options: list[str]) -> None:
        did = next(did for did in network.identities if did.startswith("did:web:"))
        code, shown = _check(did, *options)
        assert (code, shown["log"], shown["current"]) == (0, [], None)
        assert shown["document"]["signing_key"].startswith("did:key:z")

    def test_a_document_that_the_log_does_not_bear_out_is_noticed(
        self, options: list[str]
    ) -> None:
        code, shown = _check(_DID, *options)
        assert code == 1
        assert any("the handle is alice.example.com by the log" in p for p in shown["problems"])

    def test_a_document_without_log_is_noticed(self, options: list[str]) -> None:
        code, shown = _check("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", *options)
        assert code == 1
        assert shown["problems"] == [
            "identity.log: the directory has a document of this DID, but no log"
        ]

    @pytest.mark.parametrize(
        ("did", "reason"),
        [
            ("did:plc:bbbbbbbbbbbbbbbbbbbbbbbb", "identity.not_found"),
            ("did:key:zQ3sh", "identity.unsupported_method"),
            ("did:plc:abc", "identity.unsupported_method"),
        ],
    )
    def test_a_did_without_identity_fails(self, options: list[str], did: str, reason: str) -> None:
        """Spec: E-01."""
        code, shown = _check(did, *options)
        assert code == 1
        assert shown["document"]["reason"] == reason

    def test_a_directory_that_is_away_is_no_verdict(self) -> None:
        """Spec: E-18."""
        result = standpipe("identity", "check", _DID, "--plc-url", "http://127.0.0.1:9")
        assert (result.returncode, result.stdout) == (1, "")
        assert "Error: cannot fetch http://127.0.0.1:9" in result.stderr

    def test_wrong_usage(self) -> None:
        assert standpipe("identity", "check", "did:").returncode == 2


class TestInspect:
    def test_the_document_is_shown_as_served(
        self, network: CapturedNetwork, options: list[str]
    ) -> None:
        did, known = next(item for item in network.identities.items() if item[1].audit_log)
        result = standpipe("inspect", "did", did, "--json", "--no-handle", *options)
        shown = json.loads(result.stdout)
        assert (result.returncode, shown["problems"]) == (0, [])
        assert shown["served_document"] == known.document
        assert shown["current"] == shown["document"]
        result = standpipe("inspect", "did", did, "--no-handle", *options)
        document, _, rest = result.stdout.partition(f"\n{did}\n")
        assert json.loads(document) == known.document
        assert f"signing key  {shown['current']['signing_key']}" in rest
        assert rest.endswith("ok: nothing is wrong\n")

    def test_the_handle_is_looked_up_without_being_asked(
        self, network: CapturedNetwork, options: list[str]
    ) -> None:
        did = next(did for did, known in network.identities.items() if known.audit_log)
        result = standpipe("inspect", "did", did, *options)
        assert result.returncode == 1
        assert "it is no name of the public network" in result.stdout

    def test_a_did_without_document_shows_why(self, options: list[str]) -> None:
        result = standpipe("inspect", "did", "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb", *options)
        assert result.returncode == 1
        assert result.stdout.startswith("did:plc:bbbbbbbbbbbbbbbbbbbbbbbb\ndocument\n")
        assert "FAILED   identity.not_found" in result.stdout

    def test_wrong_usage(self) -> None:
        assert standpipe("inspect", "did", "alice.example.com").returncode == 2
