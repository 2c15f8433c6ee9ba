"""Records as AT JSON, and back: links as `{"$link": …}`, byte strings as `{"$bytes": …}`.

A record that has no faithful JSON form is odd, not invalid: its commit stands, and whoever
publishes it passes on its CBOR instead. `to_json` says why. What it returns leads back to the same
block, and so to the same CID, by `from_json`, which also reads the JSON of others.

Source: atproto.com/specs/data-model "JSON Representation". spec: A-09, A-10, A-20, A-24…A-26,
A-31.
"""

import json
import re
from decimal import Decimal, InvalidOperation
from typing import Any

import orjson

from pipelines.atproto import cbor
from pipelines.atproto.errors import DagCborError, Reason

# Levels of the JSON form, of which the record is the first. Deeper than any lexicon, and well
# inside what JSON readers take (orjson writes 254). The data validation guide recommends 32.
# A bound of ours. spec: A-31
MAX_DEPTH = 128
# JSON escapes can grow a record of 1 MiB to 6 MiB; a message has to stay below Kafka's limit.
MAX_JSON_BYTES = 2 * 1024 * 1024
# Values, names and tags of a record. The data validation guide recommends as many elements of one
# list or map. Without a limit a record of 1 MiB of empty byte strings would take 470 MB for a
# moment. spec: A-31, M-01
MAX_ITEMS_COUNT = 131_072

# An eight-byte head of an integer beyond int64. May also match inside text or a hash: then the
# slow check decides.
_SUSPECT_INTEGER = re.compile(rb"[\x1b\x3b][\x80-\xff]")
# Takes an unfinished string to the end of the text, so that each byte is looked at once.
_JSON_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"?', re.DOTALL)
_BRACKET = re.compile(rb"[\[\]{}]")
# Beyond any way to write an integer of 64 bits; bounds what a number can cost.
_MAX_NUMBER_LENGTH = 64
_NOT_AN_INTEGER = Decimal("0.5")
_CONTAINER_HEADS = bytes(range(0x80, 0xC0))
_MAP = 5  # major type


def to_json(record: bytes) -> bytes:
    """Converts a record block to AT JSON that maps back to the same CID.

    Args:
        record: a DAG-CBOR block.

    Returns:
        UTF-8 JSON without white space, keys in the order of the block.

    Raises:
        DagCborError: `cbor.invalid` (not canonical DAG-CBOR), `cbor.data_model` (not a map, a
            float, an integer beyond 64 bits), `cbor.depth`, `json.ambiguous` (reserved keys used
            as plain ones), `json.too_large` (beyond `MAX_ITEMS_COUNT` or `MAX_JSON_BYTES`).
    """
    if len(record) > MAX_ITEMS_COUNT:  # most are smaller: no more items than bytes
        _check_items(record)
    value = cbor.decode_as_json_value(record)
    # By the head and not by the value: in JSON a lone link or byte string is a map as well.
    if record[0] >> 5 != _MAP:
        raise DagCborError(Reason.CBOR_DATA_MODEL, "a record that is not a map")
    # What lies deeper than 128 lies inside at least 127 maps or lists, and perhaps the map that
    # JSON makes of a link: fewer such bytes prove that a record is shallow.
    heads_count = len(record) - len(record.translate(None, _CONTAINER_HEADS))
    # The two look-ups before the search take a tenth of its time, and seldom find anything.
    if heads_count >= MAX_DEPTH - 1 or (
        (b"\x1b" in record or b"\x3b" in record) and _SUSPECT_INTEGER.search(record)
    ):
        _check_data_model(value)
    text = orjson.dumps(value)
    if len(text) > MAX_JSON_BYTES:
        raise DagCborError(Reason.JSON_TOO_LARGE, f"{len(text)} bytes of JSON")
    return text


def _check_items(record: bytes) -> None:
    if cbor.count_items(record, MAX_ITEMS_COUNT) > MAX_ITEMS_COUNT:
        raise DagCborError(Reason.JSON_TOO_LARGE, f"more than {MAX_ITEMS_COUNT} items")


def from_json(text: bytes) -> bytes:
    """Converts AT JSON to the record block that it stands for.

    White space, the order of keys, escapes and the padding of base64 are free. Integers may be
    written as decimals (`123.0`), since JSON does not tell them apart; the published vectors have
    such a record.

    Args:
        text: UTF-8 JSON of one record.

    Returns:
        Canonical DAG-CBOR; for what `to_json` returned, the block it was made from.

    Raises:
        DagCborError: `json.invalid` (not JSON, or a key twice in one object), `cbor.data_model`
            (not an object, a fraction, an integer beyond 64 bits, half a surrogate pair),
            `cbor.depth`, `json.ambiguous` (reserved keys that are no link or byte string, or in
            another than their one form), `json.too_large` (the text, or its shortest form).
    """
    if len(text) > MAX_JSON_BYTES:
        raise DagCborError(Reason.JSON_TOO_LARGE, f"{len(text)} bytes of JSON")
    try:
        record = cbor.encode_json_value(orjson.loads(text))
        # The way there is strict: who gets back to the same text was right in everything.
        if to_json(record) == text:
            return record
    except (DagCborError, orjson.JSONDecodeError):
        pass  # a form of others, or bad: the slow way says
    value = _parse_json(text)
    record = cbor.encode_json_value(value)
    if orjson.loads(to_json(record)) != value:
        raise DagCborError(Reason.JSON_AMBIGUOUS, "a link or bytes in another than their one form")
    return record


def _parse_json(text: bytes) -> Any:
    """Parses JSON in any of its forms into the values of the shortest one."""
    # The parser recurses, so it gets no more levels than a record may have.
    depth = deepest = 0
    for bracket in _BRACKET.findall(_JSON_STRING.sub(b"", text)):
        depth += 1 if bracket in b"[{" else -1
        deepest = max(deepest, depth)
    if deepest > MAX_DEPTH:
        raise DagCborError(Reason.CBOR_DEPTH, f"nested deeper than {MAX_DEPTH}")
    try:
        return json.loads(
            text.decode(),
            object_pairs_hook=_object,
            parse_int=_integer,
            parse_float=_integer,
            parse_constant=_no_number,
        )
    except ValueError as error:
        raise DagCborError(Reason.JSON_INVALID, str(error)) from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise DagCborError(Reason.JSON_INVALID, "a key twice in one object")
    base64 = value.get("$bytes")
    if type(base64) is str and len(base64) % 4 == 0:
        # Padding is optional; `to_json` writes none. spec: A-24
        value["$bytes"] = base64.removesuffix("=").removesuffix("=")
    return value


def _integer(literal: str) -> int:
    """Returns the integer that a JSON number is, in any notation (spec: A-09, A-10)."""
    if len(literal) <= _MAX_NUMBER_LENGTH:
        try:
            number = Decimal(literal)
        except InvalidOperation:  # an exponent of twenty digits
            number = _NOT_AN_INTEGER
        if -(2**63) <= number < 2**63 and number == int(number):
            return int(number)
    raise DagCborError(Reason.CBOR_DATA_MODEL, f"{literal[:40]} is not an integer of 64 bits")


def _no_number(literal: str) -> None:
    raise DagCborError(Reason.JSON_INVALID, f"{literal} is not JSON")


def _check_data_model(value: Any) -> None:
    for item, depth in cbor.walk(value):
        if depth > MAX_DEPTH:
            raise DagCborError(Reason.CBOR_DEPTH, f"nested deeper than {MAX_DEPTH}")
        if isinstance(item, int) and not -(2**63) <= item < 2**63:
            raise DagCborError(Reason.CBOR_DATA_MODEL, "an integer beyond 64 bits")
