"""Reports of records, TIDs, CIDs and keys."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from support.oracle import cid_of, dag_cbor
from support.repo import P256_SIGNER, SIGNER, record

from pipelines.atproto.cid import encode_cid
from pipelines.atproto.commit import MAX_CLOCK_SKEW_US, MAX_RECORD_BYTES
from pipelines.atproto.errors import Reason
from pipelines.atproto.keys import Curve
from pipelines.inspection.report import Failed, NotReached, Passed, Report
from pipelines.inspection.values import inspect_cid, inspect_key, inspect_record, inspect_tid

_EXAMPLES = Path(__file__).parents[2] / "schemas" / "examples"
_BLOCK = dag_cbor(record("hello"))
_CID = encode_cid(cid_of(_BLOCK))
_JSON = b'{"text":"hello","$type":"com.example.note"}'
_URI = "at://did:plc:ewvi7nxzyoun6zhxrhs64oiz/com.example.note/1"


def _failures(report: Report) -> list[Reason]:
    return [check.reason for check in report.checks if isinstance(check, Failed)]


def _facts(report: Report) -> dict[str, Any]:
    (section,) = report.sections
    return dict(section.facts)


class TestRecord:
    @pytest.mark.parametrize(
        "raw",
        [_BLOCK, _JSON, b' \n{ "$type": "com.example.note", "text": "hell\\u006f" }'],
        ids=["cbor", "json", "json-of-others"],
    )
    def test_a_record_in_any_form_has_one_cid(self, raw: bytes) -> None:
        report = inspect_record(raw)
        assert _facts(report) == {"cid": _CID, "path": None, "$type": "com.example.note"}
        assert report.title == f"record of {len(_BLOCK)} bytes"
        assert [view.json for view in report.records] == [_JSON]
        assert [check for check in report.checks if not isinstance(check, Passed)] == [
            NotReached("it has the CID that stands beside it", "none stands there")
        ]

    @pytest.mark.parametrize("field", ["value", "record"])
    def test_the_cid_beside_a_record_is_compared(self, field: str) -> None:
        beside = {"uri": _URI, "cid": _CID, field: record("hello")}
        report = inspect_record(json.dumps(beside).encode())
        assert all(isinstance(check, Passed) for check in report.checks)
        assert _facts(report)["path"] == "com.example.note/1"
        other = inspect_record(json.dumps(beside | {field: record("other")}).encode())
        assert _failures(other) == [Reason.CID_HASH_MISMATCH]

    def test_a_body_in_base64_is_taken_before_the_json(self) -> None:
        beside = {"uri": _URI, "cid": _CID, "record": None}
        body = base64.b64encode(_BLOCK).decode()
        report = inspect_record(json.dumps(beside | {"record_cbor": body}).encode())
        assert all(isinstance(check, Passed) for check in report.checks)
        assert _facts(report)["cid"] == _CID
        broken = inspect_record(json.dumps(beside | {"record_cbor": "%"}).encode())
        assert _failures(broken) == [Reason.JSON_INVALID]

    def test_a_delete_has_nothing_to_check(self) -> None:
        report = inspect_record(json.dumps({"uri": _URI, "cid": None, "record": None}).encode())
        assert report.title == "message without a record: a delete"
        assert report.is_good

    @pytest.mark.parametrize(
        "value",
        [
            {"$type": "com.example.note", "uri": _URI},
            {"$type": "com.example.note", "uri": "at://bad uri", "value": {}},
            {"$type": "com.example.note", "uri": 7, "record": {}},
        ],
        ids=["a uri", "a uri that is none", "a number"],
    )
    def test_a_record_with_such_a_field_of_its_own_is_a_record(self, value: Any) -> None:
        report = inspect_record(json.dumps(value).encode())
        assert _facts(report)["cid"] == encode_cid(cid_of(dag_cbor(value)))

    @pytest.mark.parametrize("topic", ["records", "latest"])
    def test_every_example_of_a_record_topic_is_good_or_says_what_it_is(self, topic: str) -> None:
        paths = sorted((_EXAMPLES / topic / "v1").glob("*.json"))
        assert paths
        for path in paths:
            message = path.read_bytes()
            report = inspect_record(message)
            if error := json.loads(message).get("record_error"):
                assert [str(reason) for reason in _failures(report)] == [error]
            else:
                assert report.is_good, path

    @pytest.mark.parametrize(
        ("raw", "reason"),
        [
            (b"\xa1", Reason.CBOR_INVALID),
            (b"\x80", Reason.CBOR_DATA_MODEL),
            (dag_cbor({"$link": "x"}), Reason.JSON_AMBIGUOUS),
            (b"{", Reason.JSON_INVALID),
            (b'{"a":1,"a":1}', Reason.JSON_INVALID),
            (b'{"a":1.5}', Reason.CBOR_DATA_MODEL),
            (json.dumps({"uri": _URI, "value": {"a": 1.5}}).encode(), Reason.CBOR_DATA_MODEL),
            (dag_cbor({"a": "x" * MAX_RECORD_BYTES}), Reason.COMMIT_RECORD_TOO_LARGE),
        ],
        ids=lambda value: value if isinstance(value, Reason) else "",
    )
    def test_what_is_wrong_is_named(self, raw: bytes, reason: Reason) -> None:
        assert _failures(inspect_record(raw)) == [reason]


class TestTid:
    def test_the_layout(self) -> None:
        report = inspect_tid("3lmxjza3nva27", 1_744_839_026_724_710 + 61_000_000)
        assert _facts(report) == {
            "time": "2025-04-16T21:30:26.724710Z",
            "time_us": 1_744_839_026_724_710,
            "clock_id": 5,
            "age_s": 61,
        }
        assert all(isinstance(check, Passed) for check in report.checks)

    def test_a_revision_may_be_a_little_ahead(self) -> None:
        then_us = 1_744_839_026_724_710
        assert inspect_tid("3lmxjza3nva27", then_us - MAX_CLOCK_SKEW_US).is_good
        ahead = inspect_tid("3lmxjza3nva27", then_us - MAX_CLOCK_SKEW_US - 1)
        assert _failures(ahead) == [Reason.COMMIT_REV_FUTURE]

    def test_the_highest_bit_is_told(self) -> None:
        report = inspect_tid("c222222222222", 2**62)
        assert _failures(report) == [Reason.SYNTAX_TID]
        assert "starts with 'c'" in str(report.checks[1])

    @pytest.mark.parametrize("text", ["", "3lmxjza3nva2", "3LMXJZA3NVA27", "k222222222222"])
    def test_what_is_none(self, text: str) -> None:
        report = inspect_tid(text, 0)
        assert _failures(report) == [Reason.SYNTAX_TID]
        assert report.sections == ()


class TestCid:
    def test_an_object(self) -> None:
        facts = _facts(inspect_cid(_CID, None))
        assert (facts["codec"], facts["hash"]) == ("dag-cbor: an object", "sha-256")
        assert facts["bytes"] == "01711220" + facts["digest"] == cid_of(_BLOCK).hex()

    def test_a_blob_is_compared_with_its_block(self) -> None:
        cid = encode_cid(b"\x01\x55\x12\x20" + cid_of(b"pixels")[4:])
        report = inspect_cid(cid, b"pixels")
        assert _facts(report)["codec"] == "raw: a blob"
        assert all(isinstance(check, Passed) for check in report.checks)
        assert _failures(inspect_cid(cid, b"pixel")) == [Reason.CID_HASH_MISMATCH]

    @pytest.mark.parametrize("text", ["", "bafyrei", _CID.upper(), f"{_CID}a", f"z{_CID[1:]}"])
    def test_what_is_none(self, text: str) -> None:
        assert _failures(inspect_cid(text, b"")) == [Reason.CID_INVALID]


class TestKey:
    @pytest.mark.parametrize(
        ("signer", "curve"),
        [(SIGNER, "K-256 (secp256k1)"), (P256_SIGNER, "P-256 (secp256r1)")],
        ids=["k256", "p256"],
    )
    def test_both_forms_are_the_same_key(self, signer: Any, curve: str) -> None:
        by_did, by_multikey = (
            inspect_key(text, None) for text in (signer.key.did_key(), signer.key.multikey())
        )
        assert by_did == by_multikey
        assert _facts(by_did) == {
            "curve": curve,
            "did_key": signer.key.did_key(),
            "multikey": signer.key.multikey(),
            "point": signer.key.compressed.hex(),
        }

    @pytest.mark.parametrize(
        ("curve", "text", "multikey"),
        [
            (
                "k256",
                "z25z9DTpsiYYJKGsWmSPJK2NFN8PcJtZig12K59UgW7q5t",
                "zQ3shqwJEJyMBsBXCWyCBpUBMqxcon9oHB7mCvx4sSpMdLJwc",
            ),
            (
                "p256",
                "zxdM8dSstjrpZaRUwBmDvjGXweKuEMVN95A9oJBFjkWMh",
                "zDnaembgSGUhZULN2Caob4HLJPaxBh92N7rtH21TErzqf8HQo",
            ),
        ],
    )
    def test_the_older_types_need_their_curve(
        self, curve: Curve, text: str, multikey: str
    ) -> None:
        assert _facts(inspect_key(text, curve))["multikey"] == multikey
        assert not inspect_key(text, None).is_good

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("", Reason.KEY_INVALID),
            ("did:key:", Reason.KEY_INVALID),
            ("z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK", Reason.KEY_UNSUPPORTED),
        ],
    )
    def test_what_is_none(self, text: str, reason: Reason) -> None:
        assert _failures(inspect_key(text, None)) == [reason]
