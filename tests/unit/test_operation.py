"""One operation of did:plc (spec: L-02 to L-06, L-09, L-10)."""

from base64 import urlsafe_b64decode
from typing import Any

import pytest
from support import plc
from support.oracle import cid_of, dag_cbor
from support.repo import OTHER_SIGNER, P256_SIGNER, SIGNER, Signer, refusal

from pipelines.atproto.errors import PlcError, Reason
from pipelines.atproto.syntax import Handle
from pipelines.identity.operation import MAX_OPERATION_BYTES, Form, Operation, parse_operation

_FIRST = plc.operation()
_CREATE = plc.create()
_TOMBSTONE = plc.tombstone(_FIRST)
_KEYS = (SIGNER.key, P256_SIGNER.key)
_ED25519 = "did:key:z6MkpTHR8VNsBxYAAWHut2Geadd9jSwuBV8xRoAnwWsdvktH"


def _reason(value: object) -> Reason:
    error = refusal(lambda: parse_operation(value))
    assert type(error) is PlcError
    return error.reason


def test_an_operation_is_read() -> None:
    following = plc.operation(_FIRST)
    unsigned = {name: member for name, member in following.items() if name != "sig"}
    assert parse_operation(following) == Operation(
        form=Form.OPERATION,
        cid=cid_of(dag_cbor(following)),
        prev_cid=cid_of(dag_cbor(_FIRST)),
        rotation_keys=_KEYS,
        signing_key=SIGNER.key,
        pds="https://pds.example.com",
        handle=Handle("alice.example.com"),
        unsigned=dag_cbor(unsigned),
        signature=urlsafe_b64decode(following["sig"] + "=="),
    )


def test_the_form_before_2023_means_the_same() -> None:
    """Spec: L-06: the recovery key is the more powerful one."""
    read = parse_operation(_CREATE)
    assert (read.form, read.cid) == (Form.CREATE, cid_of(dag_cbor(_CREATE)))
    assert read.rotation_keys == (P256_SIGNER.key, SIGNER.key)
    assert read.signing_key == SIGNER.key
    assert (read.pds, read.handle) == ("https://pds.example.com", "alice.example.com")


@pytest.mark.parametrize(
    ("service", "pds"),
    [
        ("pds.example.com", "https://pds.example.com"),
        ("http://localhost:8080/", "http://localhost:8080"),
        ("ftp://pds.example.com", None),
    ],
)
def test_a_server_without_scheme_is_taken_for_https(service: str, pds: str | None) -> None:
    assert parse_operation(plc.create(service=service)).pds == pds


def test_a_tombstone_allows_nothing_and_names_nothing() -> None:
    read = parse_operation(_TOMBSTONE)
    assert (read.form, read.prev_cid) == (Form.TOMBSTONE, cid_of(dag_cbor(_FIRST)))
    assert (read.rotation_keys, read.signing_key, read.pds, read.handle) == ((), None, None, None)


@pytest.mark.parametrize("first", [_FIRST, _CREATE], ids=["plc_operation", "create"])
def test_the_did_is_the_start_of_the_hash(first: plc.Json) -> None:
    assert parse_operation(first).did() == plc.did_of(first)


@pytest.mark.parametrize(
    ("changes", "signing_key"),
    [
        ({"verificationMethods": {}}, None),
        ({"verificationMethods": {"atproto": _ED25519}}, None),
        ({"verificationMethods": {"atproto": "did:key:"}}, None),
        ({"verificationMethods": {"other": SIGNER.key.did_key()}}, None),
        ({"verificationMethods": {"atproto": P256_SIGNER.key.did_key()}}, P256_SIGNER.key),
    ],
    ids=repr,
)
def test_an_account_may_have_no_usable_key(changes: dict[str, Any], signing_key: object) -> None:
    """Spec: L-10, E-15."""
    assert parse_operation(plc.operation(**changes)).signing_key == signing_key


@pytest.mark.parametrize(
    ("rotation_keys", "expected"),
    [
        ([], ()),
        ([SIGNER.key.did_key()] * 2, (SIGNER.key, SIGNER.key)),
        ([_ED25519, "", SIGNER.key.did_key()], (None, None, SIGNER.key)),
        ([SIGNER.key.did_key()] * 11, (SIGNER.key,) * 11),
    ],
    ids=["none", "twice", "unusable", "many"],
)
def test_rotation_keys_keep_their_places(
    rotation_keys: list[str], expected: tuple[object, ...]
) -> None:
    """Spec: L-09: the directory has logs with empty and with double lists."""
    read = parse_operation(plc.operation(rotationKeys=rotation_keys))
    assert read.rotation_keys == expected


def _without(name: str, whole: plc.Json) -> plc.Json:
    return {other: member for other, member in whole.items() if other != name}


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        "plc_operation",
        {},
        {"type": "plc_operation"},
        _FIRST | {"type": "plc_surprise"},
        _FIRST | {"type": None},
        _FIRST | {"type": ["plc_operation"]},
        *(_without(name, _FIRST) for name in _FIRST),
        *(_without(name, _CREATE) for name in _CREATE),
        *(_without(name, _TOMBSTONE) for name in _TOMBSTONE),
        _FIRST | {"vanity": "x"},
        _CREATE | {"vanity": "x"},
        _TOMBSTONE | {"vanity": "x"},
        _TOMBSTONE | {"prev": None},
        _CREATE | {"prev": plc.cid_text(_FIRST)},
        _FIRST | {"prev": ""},
        _FIRST | {"prev": plc.cid_text(_FIRST).upper()},
        _FIRST | {"prev": {"$link": plc.cid_text(_FIRST)}},
        _FIRST | {"rotationKeys": {}},
        _FIRST | {"rotationKeys": [None]},
        _FIRST | {"verificationMethods": []},
        _FIRST | {"verificationMethods": {"atproto": None}},
        _FIRST | {"alsoKnownAs": "at://alice.example.com"},
        _FIRST | {"alsoKnownAs": [1]},
        _FIRST | {"services": []},
        _FIRST | {"services": {"atproto_pds": "https://pds.example.com"}},
        _FIRST | {"services": {"atproto_pds": {"type": "x"}}},
        _FIRST | {"services": {"x": {"type": "x", "endpoint": None}}},
        _FIRST | {"services": {"x": {"type": "x", "endpoint": "", "more": ""}}},
        _FIRST | {"sig": None},
        _FIRST | {"alsoKnownAs": ["\ud800"]},
    ],
)
def test_any_other_form_is_refused(value: object) -> None:
    """Spec: L-02."""
    assert _reason(value) is Reason.PLC_OPERATION


def test_the_size_is_bounded() -> None:
    """Spec: L-09."""
    room = MAX_OPERATION_BYTES - len(dag_cbor(plc.operation(alsoKnownAs=["x" * 300])))
    largest = plc.operation(alsoKnownAs=["x" * (300 + room)])
    assert len(dag_cbor(largest)) == MAX_OPERATION_BYTES
    assert parse_operation(largest).cid == cid_of(dag_cbor(largest))
    assert _reason(plc.operation(alsoKnownAs=["x" * (301 + room)])) is Reason.PLC_TOO_LARGE


_SIGNATURE = _FIRST["sig"]


@pytest.mark.parametrize(
    ("signature", "reason"),
    [
        pytest.param("", Reason.SIGNATURE_FORM, id="empty"),
        pytest.param(_SIGNATURE[:-2], Reason.SIGNATURE_FORM, id="63 bytes"),
        pytest.param(_SIGNATURE + "AA", Reason.SIGNATURE_FORM, id="66 bytes"),
        pytest.param(_SIGNATURE[:-1], Reason.SIGNATURE_ENCODING, id="no whole bytes"),
        pytest.param(_SIGNATURE + "==", Reason.SIGNATURE_ENCODING, id="padded"),
        pytest.param(_SIGNATURE + "\n", Reason.SIGNATURE_ENCODING, id="line feed"),
        pytest.param("+" + _SIGNATURE[1:], Reason.SIGNATURE_ENCODING, id="the other alphabet"),
        pytest.param("é" + _SIGNATURE[1:], Reason.SIGNATURE_ENCODING, id="no ASCII"),
        pytest.param(
            _SIGNATURE[:-1] + chr(ord(_SIGNATURE[-1]) + 1),
            Reason.SIGNATURE_ENCODING,
            id="bits after the last byte",
        ),
    ],
)
def test_a_signature_has_one_encoding(signature: str, reason: Reason) -> None:
    """Spec: L-03."""
    assert _reason(_FIRST | {"sig": signature}) is reason


def test_the_first_key_that_fits_is_the_signer() -> None:
    read = parse_operation(_FIRST)
    assert read.signer_index((SIGNER.key,)) == 0
    assert read.signer_index((None, P256_SIGNER.key, SIGNER.key, SIGNER.key)) == 2


@pytest.mark.parametrize("keys", [(), (None,), (P256_SIGNER.key, OTHER_SIGNER.key)])
def test_without_a_key_that_fits_nobody_signed(keys: tuple[Any, ...]) -> None:
    error = refusal(lambda: parse_operation(_FIRST).signer_index(keys))
    assert (type(error), error.reason) == (PlcError, Reason.SIGNATURE_INVALID)


@pytest.mark.parametrize("signer", [SIGNER, P256_SIGNER], ids=["k256", "p256"])
def test_a_high_s_is_refused_whatever_the_place_of_its_key(signer: Signer) -> None:
    """Spec: L-03, D-03."""
    unsigned = plc.fields()
    high = signer.with_high_s(signer.sign(dag_cbor(unsigned)))
    read = parse_operation(unsigned | {"sig": plc.signature_text(high)})
    for keys in ((signer.key, OTHER_SIGNER.key), (OTHER_SIGNER.key, signer.key)):
        error = refusal(lambda keys=keys: read.signer_index(keys))  # type: ignore[misc]  # bound
        assert (type(error), error.reason) == (PlcError, Reason.SIGNATURE_HIGH_S)
