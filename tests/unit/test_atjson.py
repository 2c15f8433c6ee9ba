"""Records as AT JSON, and back: what comes out, and what is odd or refused for which reason."""

from functools import partial
from typing import Any

import orjson
import pytest
from support.oracle import cid_of, dag_cbor, link
from support.repo import refusal

from pipelines.atproto import atjson
from pipelines.atproto.cid import encode_cid
from pipelines.atproto.errors import DagCborError, Reason

_CID = cid_of(b"")


def _reason(value: Any) -> Reason:
    return refusal(lambda: atjson.to_json(dag_cbor(value))).reason


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
    assert orjson.loads(atjson.to_json(record)) == {
        "a": {"$link": encode_cid(_CID)},
        "b": {"$bytes": "AAE"},
        "c": [None, True, -1, "é\x00"],
    }


def test_keys_keep_the_order_of_the_block_and_no_space_is_added() -> None:
    assert atjson.to_json(dag_cbor({"aa": 1, "b": 2})) == b'{"b":2,"aa":1}'


@pytest.mark.parametrize("number", [2**63 - 1, -(2**63), 2**53 + 1, 0, -1])
def test_integers_of_64_bits_are_kept_to_the_last_digit(number: int) -> None:
    """Spec: A-10."""
    assert orjson.loads(atjson.to_json(dag_cbor({"n": number}))) == {"n": number}


@pytest.mark.parametrize("number", [2**63, 2**64 - 1, -(2**63) - 1, -(2**64)])
@pytest.mark.parametrize("place", ["field", "list", "deep"])
def test_integers_beyond_64_bits_are_refused(number: int, place: str) -> None:
    """Spec: A-10."""
    value: Any = {"field": number, "list": [1, number], "deep": {"a": [{"b": number}]}}[place]
    assert _reason({"n": value}) is Reason.CBOR_DATA_MODEL


@pytest.mark.parametrize("looks_like", [b"\x1b\xff", b"\x3b\x80"])
def test_bytes_that_look_like_a_large_integer_do_no_harm(looks_like: bytes) -> None:
    record = dag_cbor({"bytes": looks_like * 9, "text": "\x1b\u0400;\u0400"})
    assert atjson.from_json(atjson.to_json(record)) == record


@pytest.mark.parametrize("number", ["fb3ff8000000000000", "fb0000000000000000"])
def test_floats_are_refused(number: str) -> None:
    """Spec: A-09."""
    error = refusal(lambda: atjson.to_json(b"\xa1\x61a\x81" + bytes.fromhex(number)))
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
    assert atjson.to_json(dag_cbor({"$type": "a.b.c", "$": 1})) == (b'{"$":1,"$type":"a.b.c"}')


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
    assert atjson.from_json(atjson.to_json(deepest)) == deepest
    deeper = _nested(container, depth + 1, filler=filler, inner=inner)
    assert refusal(lambda: atjson.to_json(deeper)).reason is Reason.CBOR_DEPTH


def test_very_deep_nesting_is_refused_without_recursion() -> None:
    """Spec: M-01."""
    record = _nested("list", 100_000)
    assert refusal(lambda: atjson.to_json(record)).reason is Reason.CBOR_DEPTH


@pytest.mark.parametrize(("surplus_count", "is_refused"), [(0, False), (1, True)])
def test_a_record_has_so_many_items_and_no_more(surplus_count: int, *, is_refused: bool) -> None:
    """Spec: A-31, M-01: the record, its key and the list are items, too."""
    record = dag_cbor({"a": [1] * (atjson.MAX_ITEMS_COUNT - 3 + surplus_count)})
    if is_refused:
        assert refusal(lambda: atjson.to_json(record)).reason is Reason.JSON_TOO_LARGE
    else:
        assert atjson.from_json(atjson.to_json(record)) == record


def test_escapes_may_not_grow_a_record_without_bound() -> None:
    overhead = len(b'{"a":""}')
    longest = (atjson.MAX_JSON_BYTES - overhead) // 6
    assert len(atjson.to_json(dag_cbor({"a": "\x01" * longest}))) <= atjson.MAX_JSON_BYTES
    assert _reason({"a": "\x01" * (longest + 1)}) is Reason.JSON_TOO_LARGE


@pytest.mark.parametrize(
    "raw",
    ["", "a16161", "a0a0", "a161611800", "a16161fb7ff8000000000000"],
    ids=["nothing", "truncated", "two items", "not canonical", "NaN"],
)
def test_what_is_not_canonical_is_refused(raw: str) -> None:
    """Spec: A-02, A-12."""
    error = refusal(lambda: atjson.to_json(bytes.fromhex(raw)))
    assert error.reason is Reason.CBOR_INVALID


def test_a_record_comes_back_from_its_json() -> None:
    """Spec: A-24."""
    record = dag_cbor({"a": link(_CID), "b": b"\x00\x01", "c": [None, True, -1, "é\x00"], "d": {}})
    assert atjson.from_json(atjson.to_json(record)) == record


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('{"a":1,"bb":"é/"}', id="shortest form"),
        pytest.param('{"bb":"é/","a":1}', id="other order"),
        pytest.param('\n{ "a" :\t1 , "bb": "é/" }\r\n', id="white space"),
        pytest.param('{"\\u0061":1,"bb":"\\u00E9\\/"}', id="escapes"),
        pytest.param('{"a":1.0,"bb":"é/"}', id="decimals"),
        pytest.param('{"a":10e-1,"bb":"é/"}', id="exponent"),
    ],
)
def test_the_form_of_the_json_does_not_matter(text: str) -> None:
    """Spec: A-09, A-26."""
    assert atjson.from_json(text.encode()) == dag_cbor({"a": 1, "bb": "é/"})


@pytest.mark.parametrize(
    ("base64", "value"),
    [
        ("", b""),
        ("AAE", b"\x00\x01"),
        ("AAE=", b"\x00\x01"),
        ("AA==", b"\x00"),
        ("AAEC", b"\x00\x01\x02"),
    ],
)
def test_padding_of_base64_is_optional(base64: str, value: bytes) -> None:
    """Spec: A-24."""
    text = f'{{"a":{{"$bytes":"{base64}"}}}}'.encode()
    assert atjson.from_json(text) == dag_cbor({"a": value})


@pytest.mark.parametrize(
    "value",
    [
        pytest.param('{"$bytes":"AB"}', id="stray bits"),
        pytest.param('{"$bytes":"AB=="}', id="stray bits, padded"),
        pytest.param('{"$bytes":"AA="}', id="too little padding"),
        pytest.param('{"$bytes":"AAEC===="}', id="too much padding"),
        pytest.param('{"$bytes":"AA==="}', id="too much padding, odd"),
        pytest.param('{"$bytes":"=="}', id="padding of nothing"),
        pytest.param('{"$bytes":"A"}', id="six bits"),
        pytest.param('{"$bytes":"A E"}', id="space"),
        pytest.param('{"$bytes":"_-8"}', id="alphabet of URLs"),
        pytest.param('{"$bytes":1}', id="bytes of another type"),
        pytest.param('{"$bytes":"AA","a":1}', id="bytes with a further key"),
        pytest.param('{"$link":"notacid"}', id="no CID"),
        pytest.param('{"$link":""}', id="empty CID"),
        pytest.param(f'{{"$link":"{encode_cid(_CID).upper()}"}}', id="upper case"),
        pytest.param(f'{{"$link":"{encode_cid(_CID)[:-1]}b"}}', id="stray bits in a CID"),
        pytest.param(f'{{"$link":"{encode_cid(_CID)}="}}', id="padded CID"),
        pytest.param(f'{{"$link":"{encode_cid(_CID)}","a":1}}', id="link with a further key"),
        pytest.param(f'{{"$link":"{encode_cid(_CID)}","$bytes":""}}', id="link and bytes"),
        pytest.param('{"$link":null}', id="link of another type"),
    ],
)
@pytest.mark.parametrize("place", ['{"a":%s}', '{"a":[1,%s]}', '{"a":{"b":%s}}'])
def test_json_of_links_and_bytes_has_one_form(value: str, place: str) -> None:
    """Spec: A-24."""
    error = refusal(lambda: atjson.from_json((place % value).encode()))
    assert error.reason is Reason.JSON_AMBIGUOUS


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b'{"a":1', id="truncated"),
        pytest.param(b'{"a":1}}', id="something after it"),
        pytest.param(b'{"a":1,}', id="comma too many"),
        pytest.param(b"{'a':1}", id="other quotes"),
        pytest.param(b'{"a":NaN}', id="NaN"),
        pytest.param(b'{"a":-Infinity}', id="infinity"),
        pytest.param(b'{"a":01}', id="leading zero"),
        pytest.param(b'{"a":"\xff"}', id="not UTF-8"),
        pytest.param('{"a":1}'.encode("utf-16"), id="UTF-16"),
        pytest.param(b'\xef\xbb\xbf{"a":1}', id="byte order mark"),
        pytest.param(b'{"a":"\n"}', id="control character in text"),
        pytest.param(b'{"a":1,"a":1}', id="key twice"),
        pytest.param(b'{"b":[{"a":1,"\\u0061":1}]}', id="key twice, once as an escape"),
        pytest.param(b'{"a":{"$bytes":"AA","$bytes":"AA"}}', id="bytes twice"),
    ],
)
def test_what_is_not_json_is_refused(text: bytes) -> None:
    assert refusal(lambda: atjson.from_json(text)).reason is Reason.JSON_INVALID


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('{"a":1.5}', id="fraction"),
        pytest.param('{"a":1.00000000000000000001}', id="fraction beyond a float's precision"),
        pytest.param('{"a":1e-400}', id="fraction below a float's range"),
        pytest.param('{"a":9223372036854775808}', id="2^63"),
        pytest.param('{"a":-9223372036854775809}', id="-2^63 - 1"),
        pytest.param('{"a":9223372036854775808.0}', id="2^63 as decimal"),
        pytest.param('{"a":1e19}', id="10^19"),
        pytest.param('{"a":1e999999999}', id="a number that would fill the memory"),
        pytest.param('{"a":1e99999999999999999999}', id="an exponent of twenty digits"),
        pytest.param('{"a":1e-99999999999999999999}', id="a tiny one"),
        pytest.param('{"a":%s}' % ("9" * 100_000), id="100,000 digits"),
        pytest.param('{"a":"\\ud800"}', id="half a surrogate pair"),
        pytest.param('{"\\udc00":1}', id="half a surrogate pair as key"),
        pytest.param("[]", id="list"),
        pytest.param("null", id="null"),
        pytest.param("1", id="number"),
        pytest.param('"a"', id="text"),
        pytest.param('{"$bytes":"AA"}', id="bytes"),
        pytest.param(f'{{"$link":"{encode_cid(_CID)}"}}', id="link"),
    ],
)
def test_json_beyond_the_data_model_is_refused(text: str) -> None:
    """Spec: A-09, A-10, A-20."""
    assert refusal(lambda: atjson.from_json(text.encode())).reason is Reason.CBOR_DATA_MODEL


@pytest.mark.parametrize("number", [2**63 - 1, -(2**63), 2**53 + 1, 0])
def test_integers_of_64_bits_are_read_to_the_last_digit(number: int) -> None:
    """Spec: A-10."""
    for literal in (f"{number}", f"{number}.0", f"{number}.000e0"):
        assert atjson.from_json(f'{{"n": {literal}}}'.encode()) == dag_cbor({"n": number})


@pytest.mark.parametrize("space", ["", " "])
def test_json_may_be_128_levels_deep_and_no_deeper(space: str) -> None:
    """Spec: A-31. Brackets inside text are no levels."""
    value = '"[{\\"[["'

    def nested(levels: int) -> bytes:
        lists = levels - 2  # the record, and the text
        return f'{space}{{"a":{"[" * lists}{value}{"]" * lists}}}'.encode()

    deepest = atjson.from_json(nested(atjson.MAX_DEPTH))
    assert atjson.to_json(deepest) == nested(atjson.MAX_DEPTH).strip()
    for levels in (atjson.MAX_DEPTH + 1, atjson.MAX_DEPTH + 2, 1_000, 100_000):
        error = refusal(partial(atjson.from_json, nested(levels)))
        assert error.reason is Reason.CBOR_DEPTH


@pytest.mark.parametrize("unit", [b'\\"', b'"', b"[", b"{", b"\\", b"1"])
def test_bad_json_is_refused_in_linear_time(unit: bytes) -> None:
    """Spec: M-01: where each of a million quotes started a search of its own, this took hours."""
    text = b'{"a":"' + unit * (atjson.MAX_JSON_BYTES // 2 // len(unit))
    assert isinstance(refusal(partial(atjson.from_json, text)), DagCborError)


def test_json_has_a_limit() -> None:
    def sized(size: int) -> bytes:
        return b'{"a":"%s"}' % (b"x" * (size - len(b'{"a":""}')))

    assert atjson.from_json(sized(atjson.MAX_JSON_BYTES))
    error = refusal(lambda: atjson.from_json(sized(atjson.MAX_JSON_BYTES + 1)))
    assert error.reason is Reason.JSON_TOO_LARGE
