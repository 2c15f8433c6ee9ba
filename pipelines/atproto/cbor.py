"""Strict DAG-CBOR: the one module that knows the codecs and owns how strict we are.

Structural objects of open form (frames, CAR headers) go through libipld, which is the fastest,
plus one comparison that closes its leniencies: what it decodes must encode to the same bytes. That
refuses what libipld lets pass (integers and lengths in a longer form than needed, 32-bit floats).
libipld returns links and byte strings alike as `bytes`, and encodes whatever begins like a CID as
a link; so after the comparison a value that begins with a blessed CID prefix is known to have been
a link, which is what the callers check.

The two objects of one fixed form, commits and tree nodes, are matched with a pattern over their
bytes before they are decoded; this module has the pieces of such patterns.

Records are free-form and may hold byte strings that look like CIDs; they go through cbrrr, which
is strict by itself and keeps the two apart (`pipelines.atproto.atjson`).

Source: draft-holmgren-at-repository "Deterministic CBOR Encoding"; RFC 8949 section 4.2;
dasl.ing/drisl. spec: A-01…A-14.
"""

from collections.abc import Iterator
from typing import Any, Final

import cbrrr
import libipld

from pipelines.atproto.errors import DagCborError, Reason

_STRINGS: Final = (2, 3)  # the major types whose content follows the head

# Patterns of canonical pieces, for the two objects whose form is stated as a pattern: commits and
# tree nodes. A pattern with them needs `re.DOTALL`.
# Tag 42 over a byte string of 37: a zero, and the CID of an object. spec
LINK_HEAD_PATTERN: Final = rb"\xd8\x2a\x58\x25\x00"
CID_PATTERN: Final = rb"\x01\x71\x12\x20.{32}"
LINK_PATTERN: Final = LINK_HEAD_PATTERN + CID_PATTERN


def head_pattern(major_type: int) -> bytes:
    """Returns a pattern of the shortest heads of numbers up to 65,535."""
    first = major_type << 5
    return rb"(?:[\x%02x-\x%02x]|\x%02x[\x18-\xff]|\x%02x[\x01-\xff].)" % (
        first,
        first | 23,
        first | 24,
        first | 25,
    )


def decode(raw: bytes) -> Any:
    """Decodes one structural object, such as the header of a CAR.

    Args:
        raw: exactly one canonical DAG-CBOR item.

    Returns:
        dict, list, str, int, bool, None, float, or bytes (byte strings, and links as their raw
        CID). The caller checks the shape, and so excludes floats.

    Raises:
        DagCborError: not one canonical item.
    """
    try:
        value = libipld.decode_dag_cbor(raw)
        canonical = libipld.encode_dag_cbor(value)
    except (ValueError, RecursionError, OverflowError) as error:
        raise DagCborError(Reason.CBOR_INVALID, str(error)) from None
    if canonical != raw:
        raise DagCborError(Reason.CBOR_NOT_CANONICAL, "not the shortest, sorted encoding")
    return value


def decode_loose(raw: bytes) -> Any:
    """Decodes one item without the proof that it is canonical: to say what is wrong with it.

    Raises:
        DagCborError: not one item of DAG-CBOR.
    """
    try:
        return libipld.decode_dag_cbor(raw)
    except (ValueError, RecursionError) as error:
        raise DagCborError(Reason.CBOR_INVALID, str(error)) from None


# For bytes that a pattern of a canonical form matched, and for values that were decoded from such.
# Without the wrapping of errors, as they run ten times a commit: the former raises ValueError for
# what a pattern cannot see (how many items a list says it has), the latter cannot fail.
decode_matched: Final = libipld.decode_dag_cbor
encode_matched: Final = libipld.encode_dag_cbor


def decode_sequence(raw: bytes) -> list[Any]:
    """Decodes concatenated structural objects, as in a frame of the event stream.

    Raises:
        DagCborError: not a sequence of canonical items, with nothing after them.
    """
    try:
        items = libipld.decode_dag_cbor_multi(raw)
        canonical = b"".join(map(libipld.encode_dag_cbor, items))
    except (ValueError, RecursionError, OverflowError) as error:
        raise DagCborError(Reason.CBOR_INVALID, str(error)) from None
    if canonical != raw:
        raise DagCborError(Reason.CBOR_NOT_CANONICAL, "not the shortest, sorted encoding")
    return list(items)


def encode(value: Any) -> bytes:
    """Encodes a structural object; `bytes` that begin like a CID become links.

    Args:
        value: of the types that `decode` returns, links as raw CIDs.

    Raises:
        DagCborError: a value that DAG-CBOR cannot express.
    """
    try:
        return libipld.encode_dag_cbor(value)
    except (ValueError, TypeError, RecursionError, OverflowError) as error:
        raise DagCborError(Reason.CBOR_INVALID, str(error)) from None


def head(major_type: int, number: int) -> bytes:
    """Returns the shortest head: of an integer, or of a string or container with a length.

    Args:
        major_type: 0 to 7.
        number: 0 to 65,535; nothing for which a head is made by hand is longer.
    """
    initial = major_type << 5
    if number < 24:
        return bytes((initial | number,))
    if number < 256:
        return bytes((initial | 24, number))
    return bytes((initial | 25, *number.to_bytes(2)))


def decode_as_json_value(raw: bytes) -> Any:
    """Decodes a record into the values of its AT JSON form.

    Links become `{"$link": text}`, byte strings `{"$bytes": base64}`. Nesting and the range of
    integers are not limited here (`pipelines.atproto.atjson` does).

    Raises:
        DagCborError: not one canonical item (`cbor.invalid`), a float in it
            (`cbor.data_model`), or a map with the reserved keys `$link` or `$bytes`, which JSON
            could not tell from a link or a byte string (`json.ambiguous`).
    """
    try:
        return cbrrr.decode_dag_cbor(raw, atjson_mode=True)
    except (cbrrr.CbrrrDecodeError, ValueError) as error:
        refusal = str(error)
    try:
        value = cbrrr.decode_dag_cbor(raw)
    except (cbrrr.CbrrrDecodeError, ValueError) as error:
        raise DagCborError(Reason.CBOR_INVALID, str(error)) from None
    has_float = any(isinstance(item, float) for item, _ in walk(value))
    raise DagCborError(Reason.CBOR_DATA_MODEL if has_float else Reason.JSON_AMBIGUOUS, refusal)


def encode_json_value(value: Any) -> bytes:
    """Encodes a record from the values of its AT JSON form: the way back.

    Takes forms that the way there never gives, such as padded base64: the caller compares.

    Args:
        value: dict, list, str, bool, None, or int of 64 bits.

    Raises:
        DagCborError: text with half a surrogate pair (`cbor.data_model`), or a map with `$link`
            or `$bytes` that is neither a link nor a byte string (`json.ambiguous`).
    """
    try:
        return cbrrr.encode_dag_cbor(value, atjson_mode=True)
    except UnicodeEncodeError:
        raise DagCborError(Reason.CBOR_DATA_MODEL, "half a surrogate pair") from None
    except (ValueError, TypeError) as error:
        raise DagCborError(Reason.JSON_AMBIGUOUS, str(error)) from None


def count_items(raw: bytes, limit: int) -> int:
    """Counts the items in concatenated CBOR without making any of them.

    A value takes up to a hundred times the memory of its bytes: who bounds only the bytes that a
    codec reads hardly bounds what it makes of them. spec: M-01

    Args:
        raw: any bytes.
        limit: where the counting may end.

    Returns:
        The number of values, names and tags, or a number beyond `limit`. Of bytes that are no
        CBOR, at least the number of those before the first fault, which is where codecs stop.
    """
    count = position = 0
    while position < len(raw) and count <= limit:
        count += 1
        head = raw[position]
        position += 1
        argument = head & 31
        if argument >= 24:
            start, position = position, position + (1 << argument - 24)
            argument = int.from_bytes(raw[start:position])
        if head >> 5 in _STRINGS:
            position += argument
    return count


def walk(value: Any) -> Iterator[tuple[Any, int]]:
    """Yields every value inside a decoded one, with its depth (the outermost has 1).

    Iterative, so that nesting does not meet Python's recursion limit.
    """
    pending = [(value, 1)]
    while pending:
        item, depth = pending.pop()
        yield item, depth
        if isinstance(item, dict):
            pending.extend((child, depth + 1) for child in item.values())
        elif isinstance(item, list):
            pending.extend((child, depth + 1) for child in item)
