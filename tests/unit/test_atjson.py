"""Records as AT JSON: what comes out, and which records are odd for which reason."""

from typing import Any

import cbrrr
import orjson
import pytest
from support.oracle import cid_of, dag_cbor, link
from support.repo import refusal

from pipelines.atproto import atjson
from pipelines.atproto.cid import encode_cid
from pipelines.atproto.errors import Reason

_CID = cid_of(b"")


def _reason(value: Any) -> Reason:
    return refusal(lambda: atjson.record_to_json(dag_cbor(value))).reason


def _nested(container: str, depth: int, *, filler: str = "", inner: bytes = b"\x00") -> bytes:
    """Returns a record in which a value lies so many levels deep; the record itself is the first.

    Args:
        container: `map` or `list`.
        depth: of `inner`.
        filler: text beside it.
        inner: what lies there, encoded.
    """
    head = {"map": b"\xa1\x61a", "list": b"\x81"}[container]
    record = b"\xa2\x61a" + head * (depth - 2) + inner
    return record + b"\x61b" + dag_cbor(filler)


def test_links_and_bytes_have_their_own_form() -> None:
    """Spec: A-24."""
    record = dag_cbor({"a": link(_CID), "b": b"\x00\x01", "c": [None, True, -1, "é\x00"]})
    assert orjson.loads(atjson.record_to_json(record)) == {
        "a": {"$link": encode_cid(_CID)},
        "b": {"$bytes": "AAE"},
        "c": [None, True, -1, "é\x00"],
    }


def test_keys_keep_the_order_of_the_block_and_no_space_is_added() -> None:
    assert atjson.record_to_json(dag_cbor({"aa": 1, "b": 2})) == b'{"b":2,"aa":1}'


@pytest.mark.parametrize("number", [2**63 - 1, -(2**63), 2**53 + 1, 0, -1])
def test_integers_of_64_bits_are_kept_to_the_last_digit(number: int) -> None:
    """Spec: A-10."""
    assert orjson.loads(atjson.record_to_json(dag_cbor({"n": number}))) == {"n": number}


@pytest.mark.parametrize("number", [2**63, 2**64 - 1, -(2**63) - 1, -(2**64)])
@pytest.mark.parametrize("place", ["field", "list", "deep"])
def test_integers_beyond_64_bits_are_refused(number: int, place: str) -> None:
    """Spec: A-10."""
    value: Any = {"field": number, "list": [1, number], "deep": {"a": [{"b": number}]}}[place]
    assert _reason({"n": value}) is Reason.CBOR_DATA_MODEL


@pytest.mark.parametrize("looks_like", [b"\x1b\xff", b"\x3b\x80"])
def test_bytes_that_look_like_a_large_integer_do_no_harm(looks_like: bytes) -> None:
    record = dag_cbor({"bytes": looks_like * 9, "text": "\x1b\u0400;\u0400"})
    json = atjson.record_to_json(record)
    assert cbrrr.encode_dag_cbor(orjson.loads(json), atjson_mode=True) == record


@pytest.mark.parametrize("number", ["fb3ff8000000000000", "fb0000000000000000"])
def test_floats_are_refused(number: str) -> None:
    """Spec: A-09."""
    error = refusal(lambda: atjson.record_to_json(b"\xa1\x61a\x81" + bytes.fromhex(number)))
    assert error.reason is Reason.CBOR_DATA_MODEL


@pytest.mark.parametrize("value", [[], "text", 1, None, True, b"", link(_CID)], ids=repr)
def test_a_record_is_a_map(value: Any) -> None:
    """Spec: A-20: also where its JSON would be one, as that of a byte string or a link."""
    assert _reason(value) is Reason.CBOR_DATA_MODEL


@pytest.mark.parametrize(
    "value",
    [
        pytest.param({"$link": "notacid"}, id="link that is no CID"),
        pytest.param({"$link": encode_cid(_CID)}, id="link as plain map"),
        pytest.param({"$link": 1}, id="link of another type"),
        pytest.param({"$link": encode_cid(_CID), "a": 1}, id="link with a further key"),
        pytest.param({"$bytes": "AAE"}, id="bytes as plain map"),
        pytest.param({"$bytes": [1]}, id="bytes of another type"),
        pytest.param({"$bytes": "AAE", "a": 1}, id="bytes with a further key"),
    ],
)
@pytest.mark.parametrize("place", ["record", "field", "list"])
def test_reserved_keys_used_as_plain_ones_are_refused(value: Any, place: str) -> None:
    """Spec: A-24: JSON could not be told from a real link or byte string."""
    record = {"record": value, "field": {"a": value}, "list": {"a": [value]}}[place]
    assert _reason(record) is Reason.JSON_AMBIGUOUS


def test_other_dollar_keys_are_plain() -> None:
    """Spec: A-23."""
    assert atjson.record_to_json(dag_cbor({"$type": "a.b.c", "$": 1})) == (
        b'{"$":1,"$type":"a.b.c"}'
    )


@pytest.mark.parametrize("filler", ["", "é" * 200], ids=["few heads", "many bytes like heads"])
@pytest.mark.parametrize("container", ["map", "list"])
@pytest.mark.parametrize(
    ("inner", "levels"),
    [(b"\x00", 1), (b"\x80", 1), (b"\xd8\x2a\x58\x25\x00" + _CID, 2), (b"\x41\x00", 2)],
    ids=["integer", "empty list", "link", "bytes"],
)
def test_a_value_may_lie_128_levels_deep_and_no_deeper(
    container: str, filler: str, inner: bytes, levels: int
) -> None:
    """Spec: A-31: levels of the JSON form, in which a link and a byte string have a level more."""
    depth = atjson.MAX_DEPTH + 1 - levels
    deepest = _nested(container, depth, filler=filler, inner=inner)
    json = atjson.record_to_json(deepest)
    assert cbrrr.encode_dag_cbor(orjson.loads(json), atjson_mode=True) == deepest
    deeper = _nested(container, depth + 1, filler=filler, inner=inner)
    assert refusal(lambda: atjson.record_to_json(deeper)).reason is Reason.CBOR_DEPTH


def test_very_deep_nesting_is_refused_without_recursion() -> None:
    """Spec: M-01."""
    record = _nested("list", 1_000_000)
    assert refusal(lambda: atjson.record_to_json(record)).reason is Reason.CBOR_DEPTH


def test_escapes_may_not_grow_a_record_without_bound() -> None:
    overhead = len(b'{"a":""}')
    longest = (atjson.MAX_JSON_BYTES - overhead) // 6
    assert len(atjson.record_to_json(dag_cbor({"a": "\x01" * longest}))) <= atjson.MAX_JSON_BYTES
    assert _reason({"a": "\x01" * (longest + 1)}) is Reason.JSON_TOO_LARGE


@pytest.mark.parametrize(
    "raw",
    ["", "a16161", "a0a0", "a161611800", "a16161fb7ff8000000000000"],
    ids=["nothing", "truncated", "two items", "not canonical", "NaN"],
)
def test_what_is_not_canonical_is_refused(raw: str) -> None:
    """Spec: A-02, A-12."""
    error = refusal(lambda: atjson.record_to_json(bytes.fromhex(raw)))
    assert error.reason is Reason.CBOR_INVALID
