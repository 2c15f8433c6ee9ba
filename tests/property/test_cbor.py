"""Codecs on any input: an item is its one canonical encoding, or it is refused."""

import json
from typing import Any

import cbor2
import cbrrr
import orjson
from hypothesis import given
from hypothesis import strategies as st
from property import strategies
from support.oracle import dag_cbor
from support.repo import outcome

from pipelines.atproto import atjson, cbor
from pipelines.atproto.cid import cid_of, encode_cid, parse_cid
from pipelines.atproto.errors import CidError, DagCborError, Reason

_ANY_BYTES = st.one_of(
    st.binary(max_size=200),
    strategies.records.map(dag_cbor).flatmap(strategies.damaged),
    st.just(dag_cbor({"a": [1, b"", None, {"b": "é"}]})).flatmap(strategies.damaged),
)
_ANY_JSON = st.one_of(
    st.binary(max_size=60),
    st.recursive(
        st.one_of(
            st.none(),
            st.booleans(),
            st.floats(),
            st.integers(-(2**65), 2**65),
            st.text(max_size=4),
            st.sampled_from(["AAE", "AAE=", "AB", encode_cid(cid_of(b""))]),
        ),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.dictionaries(
                st.one_of(st.text(max_size=2), st.sampled_from(["$link", "$bytes"])),
                inner,
                max_size=3,
            ),
        ),
        max_leaves=10,
    ).map(lambda value: json.dumps(value).encode()),
    strategies.records.map(lambda record: _json_or_nothing(dag_cbor(record))).flatmap(
        strategies.damaged
    ),
)
_OTHER_FORM = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS
_RECORD_REASONS = {
    Reason.CBOR_INVALID,
    Reason.CBOR_DATA_MODEL,
    Reason.CBOR_DEPTH,
    Reason.JSON_AMBIGUOUS,
}
_JSON_REASONS = {
    Reason.CBOR_DATA_MODEL,
    Reason.CBOR_DEPTH,
    Reason.JSON_AMBIGUOUS,
    Reason.JSON_INVALID,
}


@given(raw=_ANY_BYTES)
def test_any_bytes_are_one_canonical_item_or_refused(raw: bytes) -> None:
    """Spec: A-01, A-13."""
    value = outcome(lambda: cbor.decode(raw), DagCborError)
    assert isinstance(value, Reason) or cbor.encode(value) == raw


@given(raw=_ANY_BYTES)
def test_any_bytes_are_canonical_items_or_refused(raw: bytes) -> None:
    """Spec: F-10."""
    items = outcome(lambda: cbor.decode_sequence(raw), DagCborError)
    assert isinstance(items, Reason) or b"".join(map(cbor.encode, items)) == raw


@given(raw=_ANY_BYTES)
def test_any_bytes_decode_loosely_or_are_refused(raw: bytes) -> None:
    """It takes everything that the strict form takes, as the same value."""
    value = outcome(lambda: cbor.decode_loose(raw), DagCborError)
    assert value is Reason.CBOR_INVALID or not isinstance(value, Reason)
    strict = outcome(lambda: cbor.decode(raw), DagCborError)
    assert isinstance(strict, Reason) or strict == value


@given(values=st.lists(strategies.dag_values, max_size=3), limit=st.integers(0, 50))
def test_items_are_counted_as_a_decoder_meets_them(values: list[Any], limit: int) -> None:
    """Spec: M-01."""
    raw = b"".join(map(dag_cbor, values))
    count = sum(map(_items_count, values))
    assert cbor.count_items(raw, count) == count
    assert cbor.count_items(raw, limit) == min(count, limit + 1)


def _items_count(value: Any) -> int:
    if isinstance(value, cbor2.CBORTag):
        return 2
    if isinstance(value, dict):
        return 1 + len(value) + sum(map(_items_count, value.values()))
    return 1 + (sum(map(_items_count, value)) if isinstance(value, list) else 0)


@given(record=strategies.records)
def test_both_codecs_read_what_a_third_one_wrote(record: dict[str, object]) -> None:
    """Spec: A-01: only a byte string that looks like a CID has to be told apart by its block."""
    raw = dag_cbor(record)
    assert cbrrr.encode_dag_cbor(cbrrr.decode_dag_cbor(raw)) == raw
    value = outcome(lambda: cbor.decode(raw), DagCborError)
    if isinstance(value, Reason):
        assert value is Reason.CBOR_NOT_CANONICAL
        assert _holds_bytes_like_a_cid(cbor2.loads(raw))
    else:
        assert cbor.encode(value) == raw


@given(raw=_ANY_BYTES)
def test_a_record_leads_back_from_its_json_to_its_cid_or_is_refused(raw: bytes) -> None:
    """Spec: A-24."""
    json = outcome(lambda: atjson.to_json(raw), DagCborError)
    if isinstance(json, Reason):
        assert json in _RECORD_REASONS
    else:
        assert atjson.from_json(json) == raw


@given(record=strategies.records)
def test_a_canonical_record_is_refused_for_its_reserved_keys_only(
    record: dict[str, object],
) -> None:
    """Spec: A-24."""
    raw = dag_cbor(record)
    json = outcome(lambda: atjson.to_json(raw), DagCborError)
    if isinstance(json, Reason):
        assert json is Reason.JSON_AMBIGUOUS
        assert b"$link" in raw or b"$bytes" in raw
    else:
        assert atjson.from_json(json) == raw
        assert atjson.from_json(orjson.dumps(orjson.loads(json), option=_OTHER_FORM)) == raw


@given(text=_ANY_JSON)
def test_any_text_is_a_record_or_refused(text: bytes) -> None:
    """Spec: A-24."""
    record = outcome(lambda: atjson.from_json(text), DagCborError)
    if isinstance(record, Reason):
        assert record in _JSON_REASONS
    else:
        assert atjson.from_json(atjson.to_json(record)) == record
        # The same to a reader of JSON, but for integers written as decimals and for padding.
        assert orjson.loads(atjson.to_json(record)) == _without_padding(json.loads(text))


@given(digest=st.binary(min_size=32, max_size=32), codec=st.sampled_from([0x71, 0x55]))
def test_a_cid_comes_back_from_its_text(digest: bytes, codec: int) -> None:
    """Spec: A-42."""
    raw = bytes([1, codec, 0x12, 0x20]) + digest
    text = encode_cid(raw)
    assert len(text) == 59
    assert parse_cid(text) == raw


@given(
    text=st.one_of(
        st.text(),
        st.text(alphabet="abcdefghijklmnopqrstuvwxyz234567", min_size=59, max_size=59).map(
            lambda text: "bafyrei" + text[7:]
        ),
        st.text(min_size=58, max_size=58).map(lambda text: "b" + text),
    )
)
def test_any_text_is_the_one_form_of_a_cid_or_refused(text: str) -> None:
    """Spec: A-42."""
    raw = outcome(lambda: parse_cid(text), CidError)
    assert isinstance(raw, Reason) or encode_cid(raw) == text


def _json_or_nothing(record: bytes) -> bytes:
    text = outcome(lambda: atjson.to_json(record))
    return b"" if isinstance(text, Reason) else text


def _without_padding(value: object) -> object:
    if isinstance(value, dict):
        bytes_text = value.get("$bytes")
        if isinstance(bytes_text, str):
            return {"$bytes": bytes_text.rstrip("=")}
        return {key: _without_padding(item) for key, item in value.items()}
    return list(map(_without_padding, value)) if isinstance(value, list) else value


def _holds_bytes_like_a_cid(value: object) -> bool:
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, bytes) and item[:1] in {b"\x01", b"\x12"}:
            return True
        if isinstance(item, dict):
            pending += item.values()
        elif isinstance(item, list):
            pending += item
    return False
