"""Published vectors for the strictness of CBOR: dasl-cbor (spec: A-01 to A-14).

DRISL is wider than the AT data model: it has floats and integers up to 64 bits unsigned. Both pass
as structure (whoever reads a commit or a node checks the types of its fields) and are refused in
records.
"""

from functools import partial
from typing import Any

import cbor2
import pytest
from support.repo import refusal
from support.shared import json_cases

from pipelines.atproto import atjson, cbor
from pipelines.atproto.errors import DagCborError, Reason

pytestmark = [pytest.mark.shared, pytest.mark.usefixtures("shared_data")]

_FILES = (
    "cid",
    "concat",
    "floats",
    "indefinite",
    "integer_range",
    "map_keys",
    "numeric_reduction",
    "short_form",
    "simple",
    "tags",
    "utf8",
)
# Cases with none of these describe other profiles (dCBOR, CBOR::Core, bare RFC 8949). No record
# may hold what they are about (floats, large integers), but for text of any normal form.
_OUR_TAGS = {"basic", "dag-cbor", "dasl-cid"}
_ANY_TEXT = "text not in Unicode Normalization Form C"
# Links of other kinds are values that nobody here follows (spec: A-34); where a link is followed,
# its kind is checked (tests/unit/test_mst.py, test_commit.py).
_ODD_LINKS = {
    "CIDv0",
    "empty CID",
    "short hash digest",
    "long hash digest",
    "CIDv1 that isn't raw or cbor",
    "disallowed hash type (SHA-1)",
}
# Of a record not even that much is asked: its links are passed on as they are.
_ODD_LINKS_IN_RECORDS = _ODD_LINKS | {"invalid CID", "invalid hash size"}
_BEYOND_INT64 = {"largest CBOR integer, 2^64-1", "smallest CBOR integer, -(2^64)"}


def _name(file: str, case: dict[str, Any]) -> str:
    return f"{file}: {case['type']} {case['name']}"


_CASES = [
    case for file in _FILES for case in json_cases(f"dasl-cbor/{file}.json", partial(_name, file))
]


def _cases(*kinds: str) -> list[Any]:
    """Returns the cases of our profile and of some kinds, or the one that stands for no data."""
    return [
        case
        for case in _CASES
        if case.values[0] is None or (case.values[0]["type"] in kinds and _is_ours(case.values[0]))
    ]


def _other_cases() -> list[Any]:
    """Returns the cases of other profiles, likewise."""
    return [case for case in _CASES if case.values[0] is None or not _is_ours(case.values[0])]


def _is_ours(case: dict[str, Any]) -> bool:
    return not _OUR_TAGS.isdisjoint(case["tags"])


def _as_record(raw: bytes) -> bytes:
    return b"\xa1\x61a" + raw


def _is_float(raw: bytes) -> bool:
    return raw[0] == 0xFB


def test_all_vectors_are_there() -> None:
    kinds = [case.values[0]["type"] for case in _CASES]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {
        "roundtrip": 30,
        "invalid_in": 66,
        "invalid_out": 9,
    }


@pytest.mark.parametrize("case", _cases("roundtrip"))
def test_a_canonical_item_comes_back(case: dict[str, Any]) -> None:
    raw = bytes.fromhex(case["data"])
    assert cbor.encode(cbor.decode(raw)) == raw


@pytest.mark.parametrize("case", _cases("invalid_in"))
def test_an_item_that_is_not_canonical_is_refused(case: dict[str, Any]) -> None:
    raw = bytes.fromhex(case["data"])
    if case["name"] in _ODD_LINKS:
        assert cbor.decode(raw) == cbor2.loads(raw).value[1:]
    else:
        assert isinstance(refusal(lambda: cbor.decode(raw)), DagCborError)


@pytest.mark.parametrize("case", _cases("invalid_out"))
def test_what_must_not_be_written_is_refused(case: dict[str, Any]) -> None:
    value = cbor2.loads(bytes.fromhex(case["data"]))
    if case["name"] == "negative zero":
        assert cbor.encode(value) == cbor.encode(0.0)
    else:
        assert refusal(lambda: cbor.encode(value)).reason is Reason.CBOR_INVALID


@pytest.mark.parametrize("case", _cases("roundtrip"))
def test_a_record_may_hold_it_if_the_data_model_has_it(case: dict[str, Any]) -> None:
    """Spec: A-09, A-10."""
    raw = bytes.fromhex(case["data"])
    if _is_float(raw) or case["name"] in _BEYOND_INT64:
        error = refusal(lambda: atjson.to_json(_as_record(raw)))
        assert error.reason is Reason.CBOR_DATA_MODEL
    else:
        assert atjson.to_json(_as_record(raw)).startswith(b'{"a":')


@pytest.mark.parametrize("case", _cases("invalid_in"))
def test_a_record_may_not_hold_what_is_not_canonical(case: dict[str, Any]) -> None:
    raw = bytes.fromhex(case["data"])
    if case["name"] in _ODD_LINKS_IN_RECORDS:
        assert atjson.to_json(_as_record(raw)).startswith(b'{"a":{"$link":"b')
    else:
        assert isinstance(refusal(lambda: atjson.to_json(_as_record(raw))), DagCborError)


@pytest.mark.parametrize("case", _other_cases())
def test_a_record_may_not_hold_what_other_profiles_are_about(case: dict[str, Any]) -> None:
    raw = bytes.fromhex(case["data"])
    if case["name"] == _ANY_TEXT:
        assert atjson.to_json(_as_record(raw)) == b'{"a":"e\xcc\x81"}'
    else:
        assert isinstance(refusal(lambda: atjson.to_json(_as_record(raw))), DagCborError)
