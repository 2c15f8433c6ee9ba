"""DID documents: which key, server and handle count (spec: E-02 to E-05, D-08)."""

import json
from pathlib import Path
from typing import Any

import pytest
from multiformats import multibase, multicodec

from pipelines.atproto import keys
from pipelines.atproto.errors import IdentityError, Reason
from pipelines.atproto.syntax import Did
from pipelines.identity.documents import Identity, parse_document

_DID = Did("did:plc:ewvi7nxzyoun6zhxrhs64oiz")
# Public keys from published vectors.
_K256 = "zQ3shqwJEJyMBsBXCWyCBpUBMqxcon9oHB7mCvx4sSpMdLJwc"
_K256_LEGACY = "z25z9DTpsiYYJKGsWmSPJK2NFN8PcJtZig12K59UgW7q5t"
_P256 = "zDnaembgSGUhZULN2Caob4HLJPaxBh92N7rtH21TErzqf8HQo"
_P256_LEGACY = "zxdM8dSstjrpZaRUwBmDvjGXweKuEMVN95A9oJBFjkWMh"
_K256_TYPE = "EcdsaSecp256k1VerificationKey2019"
_P256_TYPE = "EcdsaSecp256r1VerificationKey2019"


def _method(**changes: Any) -> dict[str, Any]:
    return {
        "id": f"{_DID}#atproto",
        "type": "Multikey",
        "controller": _DID,
        "publicKeyMultibase": _K256,
    } | changes


def _service(**changes: Any) -> dict[str, Any]:
    return {
        "id": "#atproto_pds",
        "type": "AtprotoPersonalDataServer",
        "serviceEndpoint": "https://pds.example.com",
    } | changes


def _parse(**members: Any) -> Identity:
    return parse_document(_DID, {"id": _DID} | members)


def _key_of(*methods: Any) -> keys.VerifyingKey | None:
    return _parse(verificationMethod=list(methods)).signing_key


def test_a_whole_document_is_read() -> None:
    identity = _parse(
        alsoKnownAs=["at://alice.example.com"],
        verificationMethod=[_method()],
        service=[_service()],
    )
    assert identity == Identity(
        did=_DID,
        signing_key=keys.parse_multikey(_K256),
        pds="https://pds.example.com",
        handle="alice.example.com",  # type: ignore[arg-type]  # a literal stands for a handle
    )


@pytest.mark.parametrize("identifier", ["#atproto", f"{_DID}#atproto"])
@pytest.mark.parametrize(
    ("kind", "text", "multikey"),
    [
        ("Multikey", _K256, _K256),
        ("Multikey", _P256, _P256),
        (_K256_TYPE, _K256_LEGACY, _K256),
        (_P256_TYPE, _P256_LEGACY, _P256),
    ],
)
def test_every_form_of_a_key_is_the_same_key(
    identifier: str, kind: str, text: str, multikey: str
) -> None:
    """Spec: E-03, D-08."""
    method = _method(id=identifier, type=kind, publicKeyMultibase=text)
    assert _key_of(method) == keys.parse_multikey(multikey)


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "#atproto_label"},
        {"id": "atproto"},
        {"id": "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa#atproto"},
        {"id": None},
        {"controller": "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"},
        {"controller": None},
        {"type": "JsonWebKey2020"},
        {"type": ["Multikey"]},
        {"type": None},
        {"type": _P256_TYPE},
        {"publicKeyMultibase": _K256_LEGACY},
        {"publicKeyMultibase": f"did:key:{_K256}"},
        {"publicKeyMultibase": None},
        {"publicKeyMultibase": 5},
        {
            "publicKeyMultibase": multibase.encode(
                multicodec.wrap("ed25519-pub", bytes(32)), "base58btc"
            )
        },
    ],
    ids=str,
)
def test_a_method_that_does_not_count_is_passed_over(changes: dict[str, Any]) -> None:
    """Spec: E-03: the first valid entry counts, not the first of its name."""
    unusable = _method(**changes)
    assert _key_of(unusable) is None
    assert _key_of(unusable, _method(publicKeyMultibase=_P256)) == keys.parse_multikey(_P256)


def test_the_first_valid_method_wins() -> None:
    """Spec: E-03."""
    assert _key_of(_method(), _method(publicKeyMultibase=_P256)) == keys.parse_multikey(_K256)


def test_a_document_without_key_is_an_identity_that_cannot_sign() -> None:
    """Spec: E-15."""
    identity = _parse(service=[_service()])
    assert identity.pds == "https://pds.example.com"
    with pytest.raises(IdentityError) as refusal:
        identity.require_key()
    assert refusal.value.reason is Reason.IDENTITY_NO_KEY
    assert refusal.value.did == _DID


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        "document",
        {},
        {"id": None},
        {"id": "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"},
        {"id": _DID.upper()},
        {"message": f"DID not available: {_DID}"},
    ],
    ids=str,
)
def test_what_is_not_the_document_of_the_did_is_refused(document: object) -> None:
    """Spec: E-02."""
    with pytest.raises(IdentityError) as refusal:
        parse_document(_DID, document)
    assert refusal.value.reason is Reason.IDENTITY_DOCUMENT


@pytest.mark.parametrize(
    "value", [None, 1, "text", {}, {"id": "#atproto"}, [None], [[]], ["x"], [7]]
)
@pytest.mark.parametrize("member", ["verificationMethod", "service", "alsoKnownAs"])
def test_a_malformed_member_counts_as_missing(member: str, value: object) -> None:
    assert _parse(**{member: value}) == Identity(_DID, None, None, None)


@pytest.mark.parametrize("member", ["verificationMethod", "service", "alsoKnownAs", "@context"])
def test_nesting_is_never_entered(member: str) -> None:
    """Spec: M-01."""
    nested: object = {}
    for _ in range(100_000):
        nested = [nested]
    assert _parse(**{member: [nested]}) == Identity(_DID, None, None, None)


@pytest.mark.parametrize(
    ("endpoint", "pds"),
    [
        ("https://pds.example.com", "https://pds.example.com"),
        ("https://pds.example.com/", "https://pds.example.com"),
        ("https://pds.example.com:8443", "https://pds.example.com:8443"),
        ("http://localhost:2583", "http://localhost:2583"),
        ("http://[::1]:2583", "http://[::1]:2583"),
        ("http://127.0.0.1", "http://127.0.0.1"),
        ("http://pds:2583", "http://pds:2583"),
        ("http://pds.internal", "http://pds.internal"),
        ("http://pds.example.com", None),
        ("https://pds.example.com/path", None),
        ("https://pds.example.com?query", None),
        ("https://pds.example.com#fragment", None),
        ("https://user:secret@pds.example.com", None),
        ("https://pds.example.com\n", None),
        ("ftp://pds.example.com", None),
        ("pds.example.com", None),
        ("", None),
        (None, None),
        ({"uri": "https://pds.example.com"}, None),
    ],
)
def test_a_server_is_scheme_host_and_port(endpoint: object, pds: str | None) -> None:
    """Spec: E-04."""
    assert _parse(service=[_service(serviceEndpoint=endpoint)]).pds == pds


def test_a_server_of_another_type_is_passed_over() -> None:
    """Spec: E-04."""
    labeler = _service(type="AtprotoLabeler", serviceEndpoint="https://other.example.com")
    assert _parse(service=[labeler]).pds is None
    assert _parse(service=[labeler, _service(id=f"{_DID}#atproto_pds")]).pds is not None
    assert _parse(service=[_service(id="#bsky_fg")]).pds is None


@pytest.mark.parametrize(
    ("names", "handle"),
    [
        (["at://alice.example.com"], "alice.example.com"),
        (["at://Alice.Example.COM"], "alice.example.com"),
        (
            ["https://example.com", "at://alice.example.com", "at://bob.example.com"],
            "alice.example.com",
        ),
        (["at://not_a_handle", "at://alice.example.com"], "alice.example.com"),
        (["at://alice.example.com/"], None),
        ([{"at": 1}, 5], None),
        ([], None),
    ],
)
def test_the_first_valid_handle_counts(names: list[object], handle: str | None) -> None:
    """Spec: E-05."""
    assert _parse(alsoKnownAs=names).handle == handle


def _accounts(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def _check_recorded(account: dict[str, Any]) -> keys.VerifyingKey:
    """Parses every form of an account's document; returns the key that they agree on."""
    identities = [
        parse_document(account["did"], account[form])
        for form in ("document", "document_multikey")
        if form in account
    ]
    assert len(set(identities)) == 1
    if "document_at_start" in account:
        parse_document(account["did"], account["document_at_start"]).require_key()
    assert identities[0].pds is not None
    assert identities[0].handle is not None
    return identities[0].require_key()


def test_recorded_documents_give_the_same_key_in_every_form(capture_folder: Path) -> None:
    accounts = _accounts(capture_folder / "identities.jsonl")
    given_up = [account for account in accounts if "id" not in account["document"]]
    assert [account["document"]["message"][:17] for account in given_up] == ["DID not available"]
    curves = {_check_recorded(account).curve for account in accounts if account not in given_up}
    assert curves == {"k256", "p256"}


@pytest.mark.shared
@pytest.mark.parametrize(
    ("folder", "count", "given_up_count"), [("pds-corpus", 35, 1), ("network-frames", 75, 0)]
)
def test_larger_recordings_give_the_same_key_in_every_form(
    shared_data: Path, folder: str, count: int, given_up_count: int
) -> None:
    accounts = _accounts(shared_data / folder / "identities.jsonl")
    assert len(accounts) == count
    usable = [account for account in accounts if "id" in account["document"]]
    assert len(usable) == count - given_up_count
    for account in usable:
        _check_recorded(account)
