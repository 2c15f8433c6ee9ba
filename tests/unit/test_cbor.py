"""How strict the codecs are by themselves, and that our module closes every gap."""

import re
import struct
from functools import partial
from typing import Any

import cbor2
import cbrrr
import libipld
import pytest
from support.oracle import cid_of, dag_cbor, link
from support.repo import refusal

from pipelines.atproto import cbor
from pipelines.atproto.errors import Reason

_CID = cid_of(b"")
_LINK = b"\xd8\x2a\x58\x25\x00" + _CID

# Not canonical DAG-CBOR; the codec notices the first, the comparison after it the second.
_BY_CODEC = {
    "nothing": "",
    "trailing byte": "0000",
    "truncated array": "8200",
    "truncated text": "6261",
    "array longer than the input": "9affffffff",
    "text longer than the input": "7b7fffffffffffffff",
    "bytes longer than the input": "5bffffffffffffffff",
    "map longer than the input": "bbffffffffffffffff",
    "unsorted keys": "a2616201616100",
    "keys sorted as text, not by length": "a262616100616200",
    "duplicate keys": "a2616100616101",
    "integer as key": "a10000",
    "bytes as key": "a1416100",
    "link as key": f"a1{_LINK.hex()}00",
    "indefinite array": "9fff",
    "indefinite map": "bfff",
    "indefinite bytes": "5f4100ff",
    "indefinite text": "7f6161ff",
    "break alone": "ff",
    "tag 0": "c074323032362d30312d30315430303a30303a30305a",
    "tag 2": "c249010000000000000000",
    "tag 55799": "d9d9f700",
    "tag 42 over text": "d82a6100",
    "tag 42 over nothing": "d82a40",
    "tag 42 without the null byte": f"d82a5824{_CID.hex()}",
    "tag 42 over half a CID": f"d82a5500{_CID[:20].hex()}",
    "half float": "f93e00",
    "half infinity": "f97c00",
    "NaN": "fb7ff8000000000000",
    "infinity": "fb7ff0000000000000",
    "undefined": "f7",
    "unassigned simple value": "e0",
    "simple value of two bytes": "f820",
    "reserved head": "1c",
    "text that is not UTF-8": "62c328",
    "text with a surrogate": "63eda080",
    "overlong text": "62c080",
}
_BY_COMPARISON = {
    "integer of one byte too many": "1817",
    "integer of two bytes too many": "190017",
    "integer of four bytes too many": "1a00000017",
    "integer of eight bytes too many": "1b0000000000000017",
    "long negative integer": "3800",
    "long length of text": "780161",
    "long length of bytes": "580100",
    "long length of an array": "980100",
    "long length of a map": "b801616100",
    "long tag": f"d9002a582500{_CID.hex()}",
    "float of 32 bits": "fa3fc00000",
    "byte string that looks like a link": f"5824{_CID.hex()}",
}
# What cbor2 takes without a word. The second group also survives encoding it anew in cbor2's own
# canonical form, so that this is no test of strictness either.
_TAKEN_BY_CBOR2 = (
    "trailing byte",
    "unsorted keys",
    "duplicate keys",
    "indefinite array",
    "integer of one byte too many",
    "float of 32 bits",
)
_CANONICAL_FOR_CBOR2 = (
    "integer as key",
    "tag 0",
    "tag 2",
    "half float",
    "undefined",
    "unassigned simple value",
)


def _named(samples: dict[str, str]) -> list[Any]:
    return [pytest.param(bytes.fromhex(text), id=name) for name, text in samples.items()]


@pytest.mark.parametrize("raw", _named(_BY_CODEC))
def test_the_codec_refuses(raw: bytes) -> None:
    """Spec: A-02 to A-08, A-11, A-12, A-14."""
    assert refusal(lambda: cbor.decode(raw)).reason is Reason.CBOR_INVALID


@pytest.mark.parametrize("raw", _named(_BY_COMPARISON))
def test_the_comparison_refuses_what_the_codec_takes(raw: bytes) -> None:
    """Spec: A-02, A-07, A-09, A-13."""
    assert libipld.encode_dag_cbor(libipld.decode_dag_cbor(raw)) != raw
    assert refusal(lambda: cbor.decode(raw)).reason is Reason.CBOR_NOT_CANONICAL


@pytest.mark.parametrize("raw", _named(_BY_CODEC | _BY_COMPARISON))
def test_an_item_of_a_sequence_is_judged_as_strictly(raw: bytes) -> None:
    """Spec: F-10. The break stops short what only a single item must not have: an end, a next."""
    assert refusal(lambda: cbor.decode_sequence(b"\xa0" + raw + b"\xff")).reason in {
        Reason.CBOR_INVALID,
        Reason.CBOR_NOT_CANONICAL,
    }


@pytest.mark.parametrize(
    "raw",
    _named(
        {
            name: text
            for name, text in (_BY_CODEC | _BY_COMPARISON).items()
            if name not in {"tag 42 over half a CID", "byte string that looks like a link"}
        }
    ),
)
def test_a_record_is_judged_as_strictly(raw: bytes) -> None:
    """Spec: A-02 to A-12."""
    assert refusal(lambda: cbor.decode_as_json_value(raw)).reason is Reason.CBOR_INVALID


def test_a_record_keeps_links_and_byte_strings_apart() -> None:
    assert list(cbor.decode_as_json_value(b"\x58\x24" + _CID)) == ["$bytes"]
    assert list(cbor.decode_as_json_value(_LINK)) == ["$link"]


def test_a_link_in_a_record_may_hold_any_bytes() -> None:
    """Spec: A-34: links in records are passed on, not followed; they map back as they came."""
    half = bytes.fromhex(_BY_CODEC["tag 42 over half a CID"])
    value = cbor.decode_as_json_value(half)
    assert list(value) == ["$link"]
    assert cbrrr.encode_dag_cbor(value, atjson_mode=True) == half


@pytest.mark.parametrize("name", _TAKEN_BY_CBOR2)
def test_cbor2_alone_would_take(name: str) -> None:
    """Why it is the second opinion in tests and never the only check."""
    raw = bytes.fromhex((_BY_CODEC | _BY_COMPARISON)[name])
    assert cbor2.dumps(cbor2.loads(raw), canonical=True) != raw


@pytest.mark.parametrize("name", _CANONICAL_FOR_CBOR2)
def test_cbor2_alone_would_even_call_canonical(name: str) -> None:
    raw = bytes.fromhex(_BY_CODEC[name])
    assert cbor2.dumps(cbor2.loads(raw), canonical=True) == raw


def test_cbor2_alone_would_refuse_a_legal_float() -> None:
    raw = bytes.fromhex("fb3ff8000000000000")
    assert cbor2.dumps(cbor2.loads(raw), canonical=True) != raw
    assert cbor.decode(raw) == 1.5


@pytest.mark.parametrize(
    "value",
    [0, 23, 24, -1, -(2**63), 2**63 - 1, "", "é", b"", b"\x00" * 300, [], {}, None, True, False],
    ids=repr,
)
def test_canonical_values_come_back(value: Any) -> None:
    """Spec: A-01."""
    assert cbor.decode(dag_cbor(value)) == value
    assert cbor.encode(value) == dag_cbor(value)


def test_keys_are_sorted_by_length_before_bytes() -> None:
    """Spec: A-05: of the encoding, so that é is longer than b."""
    raw = cbor.encode({"é": 1, "b": 2, "aa": 3})
    assert raw == bytes.fromhex("a3 6162 02 626161 03 62c3a9 01")
    assert cbor.decode(raw) == {"b": 2, "aa": 3, "é": 1}


def test_a_link_comes_out_as_its_cid_and_goes_in_again() -> None:
    """Spec: A-41."""
    assert dag_cbor([link(_CID)]) == b"\x81" + _LINK
    assert cbor.decode(b"\x81" + _LINK) == [_CID]
    assert cbor.encode([_CID]) == b"\x81" + _LINK


@pytest.mark.parametrize("value", [2**64, -(2**64) - 1, object(), {1: 2}, "\ud800", float("nan")])
def test_what_dag_cbor_cannot_express_is_refused(value: Any) -> None:
    assert refusal(lambda: cbor.encode(value)).reason is Reason.CBOR_INVALID


def test_nesting_beyond_the_interpreter_is_refused() -> None:
    """Spec: M-01: neither a crash of the codec nor a RecursionError."""
    deep = b"\x81" * 1_000_000 + b"\x00"
    for decode in (cbor.decode, cbor.decode_loose, cbor.decode_sequence):
        assert refusal(partial(decode, deep)).reason is Reason.CBOR_INVALID
    value: Any = None
    for _ in range(10_000):
        value = [value]
    assert refusal(lambda: cbor.encode(value)).reason is Reason.CBOR_INVALID


def test_loose_decoding_leaves_the_comparison_to_the_caller() -> None:
    assert cbor.decode_loose(b"\x18\x17") == 23
    assert refusal(lambda: cbor.decode_loose(b"\x00\x00")).reason is Reason.CBOR_INVALID


def test_a_sequence_is_every_item_and_nothing_else() -> None:
    assert cbor.decode_sequence(b"") == []
    assert cbor.decode_sequence(b"\xa0\x01\x80") == [{}, 1, []]


def test_walking_tells_the_depth_of_every_value() -> None:
    seen = sorted(
        cbor.walk({"a": [1, {"b": 2}], "c": 3}), key=lambda pair: (pair[1], str(pair[0]))
    )
    assert [(item, depth) for item, depth in seen if isinstance(item, int)] == [
        (3, 2),
        (1, 3),
        (2, 4),
    ]
    assert seen[0][1] == 1


def test_walking_needs_no_recursion() -> None:
    value: Any = None
    for _ in range(50_000):
        value = [value]
    assert max(depth for _, depth in cbor.walk(value)) == 50_001


def test_cbrrr_alone_takes_an_integer_beyond_64_bits_signed() -> None:
    """Why records have their range checked afterwards (spec: A-10)."""
    assert cbrrr.decode_dag_cbor(b"\x1b" + struct.pack(">Q", 2**63)) == 2**63


def test_a_number_has_one_head_and_the_pattern_takes_no_other() -> None:
    """Spec: A-02: by a third codec, for every number that a pattern has to do with."""
    matches = [re.compile(cbor.head_pattern(major), re.DOTALL).fullmatch for major in range(8)]
    expected = set()
    for number in range(65_536):
        unsigned = dag_cbor(number)
        for major in (0, 2, 4):
            head = bytes([unsigned[0] | major << 5]) + unsigned[1:]
            assert cbor.head(major, number) == head
            assert matches[major](head)
        expected.add(unsigned)
    # Whatever else one to three bytes may be is no head of an integer, and no other type is one.
    for first in range(256):
        tails = [b"", *(bytes([second]) for second in range(256)), b"\x00\x00", b"\x00\xff"]
        for tail in [*tails, b"\x01\x00", b"\x17\x00", b"\xff\xff", b"\x00\x00\x00\x01\x00"]:
            raw = bytes([first]) + tail
            assert bool(matches[0](raw)) == (raw in expected)
