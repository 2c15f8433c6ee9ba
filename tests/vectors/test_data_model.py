"""Published vectors for the data model: interop/data-model (spec: A-01, A-09, A-20 to A-25)."""

import base64
import json
from typing import Any

import orjson
import pytest
from support.oracle import dag_cbor, link
from support.repo import refusal
from support.shared import json_cases

from pipelines.atproto import atjson, cbor
from pipelines.atproto.cid import cid_of, encode_cid, parse_cid
from pipelines.atproto.errors import DagCborError, Reason

pytestmark = [pytest.mark.shared, pytest.mark.usefixtures("shared_data")]

# What is wrong with these is a matter of lexicons (`$type`, blobs): such a record is published as
# it is. The rest cannot be told from something else in JSON, or is outside the model.
_REASONS = {
    "top-level not an object": Reason.CBOR_DATA_MODEL,
    "float": Reason.CBOR_DATA_MODEL,
    "record with $type null": None,
    "record with $type wrong type": None,
    "record with empty $type string": None,
    "blob with string size": None,
    "blob with missing key": None,
    "bytes with wrong field type": Reason.JSON_AMBIGUOUS,
    "bytes with extra fields": Reason.JSON_AMBIGUOUS,
    "link with wrong field type": Reason.JSON_AMBIGUOUS,
    "link with bogus CID": Reason.JSON_AMBIGUOUS,
    "link with extra fields": Reason.JSON_AMBIGUOUS,
}


def _unpadded(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)


def _note(case: dict[str, Any]) -> str:
    return str(case["note"])


def _from_json(value: Any) -> Any:
    """Returns a JSON value as a record that has links and bytes where the JSON has them well."""
    if isinstance(value, list):
        return [_from_json(item) for item in value]
    if not isinstance(value, dict):
        return int(value) if isinstance(value, float) and value.is_integer() else value
    if value.keys() == {"$link"} and str(value["$link"]).startswith("ba"):
        return link(parse_cid(value["$link"]))
    return {key: _from_json(item) for key, item in value.items()}


@pytest.mark.parametrize(
    "case",
    json_cases("interop/data-model/data-model-fixtures.json", lambda case: ",".join(case["json"])),
)
def test_a_record_has_the_cid_and_the_json_of_the_fixture(case: dict[str, Any]) -> None:
    block = _unpadded(case["cbor_base64"])
    assert encode_cid(cid_of(block)) == case["cid"]
    assert orjson.loads(atjson.to_json(block)) == case["json"]
    assert atjson.from_json(json.dumps(case["json"]).encode()) == block
    assert cbor.encode(cbor.decode(block)) == block


@pytest.mark.parametrize("case", json_cases("interop/data-model/data-model-valid.json", _note))
def test_a_valid_record_comes_out_as_it_is(case: dict[str, Any]) -> None:
    record = dag_cbor(_from_json(case["json"]))
    assert orjson.loads(atjson.to_json(record)) == case["json"]
    assert atjson.from_json(json.dumps(case["json"]).encode()) == record


@pytest.mark.parametrize("case", json_cases("interop/data-model/data-model-invalid.json", _note))
def test_an_invalid_record_is_refused_where_its_json_would_be_unclear(
    case: dict[str, Any],
) -> None:
    record = dag_cbor(_from_json(case["json"]))
    reason = _REASONS[case["note"]]
    text = json.dumps(case["json"]).encode()
    if reason is None:
        assert orjson.loads(atjson.to_json(record)) == case["json"]
        assert atjson.from_json(text) == record
    else:
        for convert in (lambda: atjson.to_json(record), lambda: atjson.from_json(text)):
            error = refusal(convert)
            assert isinstance(error, DagCborError)
            assert error.reason is reason


def test_every_invalid_case_has_its_reason(shared_data: Any) -> None:
    cases = json.loads(
        (shared_data / "interop" / "data-model" / "data-model-invalid.json").read_bytes()
    )
    assert [case["note"] for case in cases] == list(_REASONS)
