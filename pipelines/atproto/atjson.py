"""Records as AT JSON: links as `{"$link": …}`, byte strings as `{"$bytes": …}`.

A record that has no faithful JSON form is odd, not invalid: its commit stands, and whoever
publishes it passes on its CBOR instead. `record_to_json` says why.

Source: atproto.com/specs/data-model "JSON Representation". spec: A-09, A-10, A-20, A-24…A-26,
A-31.
"""

import re
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

# An eight-byte head of an integer beyond int64. May also match inside text or a hash: then the
# slow check decides.
_SUSPECT_INTEGER = re.compile(rb"[\x1b\x3b][\x80-\xff]")
_CONTAINER_HEADS = bytes(range(0x80, 0xC0))
_MAP = 5  # major type


def record_to_json(record: bytes) -> bytes:
    """Converts a record block to AT JSON that maps back to the same CID.

    Args:
        record: a DAG-CBOR block.

    Returns:
        UTF-8 JSON without white space, keys in the order of the block.

    Raises:
        DagCborError: `cbor.invalid` (not canonical DAG-CBOR), `cbor.data_model` (not a map, a
            float, an integer beyond 64 bits), `cbor.depth`, `json.ambiguous` (reserved keys used
            as plain ones), `json.too_large`.
    """
    value = cbor.decode_as_json_value(record)
    # By the head and not by the value: in JSON a lone link or byte string is a map as well.
    if record[0] >> 5 != _MAP:
        raise DagCborError(Reason.CBOR_DATA_MODEL, "a record that is not a map")
    # What lies deeper than 128 lies inside at least 127 maps or lists, and perhaps the map that
    # JSON makes of a link: fewer such bytes prove that a record is shallow.
    heads_count = len(record) - len(record.translate(None, _CONTAINER_HEADS))
    if heads_count >= MAX_DEPTH - 1 or _SUSPECT_INTEGER.search(record):
        _check_data_model(value)
    json = orjson.dumps(value)
    if len(json) > MAX_JSON_BYTES:
        raise DagCborError(Reason.JSON_TOO_LARGE, f"{len(json)} bytes of JSON")
    return json


def _check_data_model(value: Any) -> None:
    for item, depth in cbor.walk(value):
        if depth > MAX_DEPTH:
            raise DagCborError(Reason.CBOR_DEPTH, f"nested deeper than {MAX_DEPTH}")
        if isinstance(item, int) and not -(2**63) <= item < 2**63:
            raise DagCborError(Reason.CBOR_DATA_MODEL, "an integer beyond 64 bits")
