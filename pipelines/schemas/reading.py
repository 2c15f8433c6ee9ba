"""Values and headers of messages, checked while they are read.

A reader of version N reads messages of every later version: fields and headers that it does not
know are left where they are. It reads those of earlier versions, too, which lack what was added.
Checked is the shape: every field is there, of its type, and one of its choices where the schema
lists them. Not checked are bounds, patterns, and which fields go with which: whoever wrote the
message proved or computed what is in it.
"""

import json
from collections.abc import Iterable
from functools import cache
from typing import Any, assert_never

import orjson

from pipelines.atproto.errors import MessageError, Reason
from pipelines.kafka.topics import registry
from pipelines.schemas.shapes import (
    Field,
    Kind,
    ListOf,
    MapOf,
    ObjectOf,
    OneOf,
    Scalar,
    Shape,
    shape_of,
)

_TYPES = {Kind.TEXT: str, Kind.INTEGER: int, Kind.FLAG: bool}


def parse_value(topic: str, value: bytes) -> dict[str, Any]:
    """Returns a message's value as the topic's newest version has it.

    Args:
        topic: name of the entry in `schemas/topics/`.
        value: JSON, of any version.

    Raises:
        MessageError: it is something else.
    """
    try:
        fields = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise MessageError(Reason.JSON_INVALID, f"a value of {topic}: {error}") from None
    check_value(fields, _newest_shape(topic), topic)
    assert isinstance(fields, dict)
    return fields


def parse_headers(topic: str, headers: Iterable[tuple[str, bytes]]) -> dict[str, Any]:
    """Returns the headers that the topic's entry lists, text and numbers decoded.

    Args:
        topic: name of the entry in `schemas/topics/`.
        headers: of a message; of several with one name the last counts.

    Raises:
        MessageError: one is missing, or not encoded as the entry says.
    """
    found = dict(headers)
    decoded: dict[str, Any] = {}
    for header in registry().specs[topic].headers:
        raw = found.get(header.name)
        if raw is None and header.is_optional:
            continue
        try:
            if raw is None:
                raise ValueError("it is missing")
            text = raw.decode()
            decoded[header.name] = _decimal(text) if header.encoding == "decimal" else text
        except ValueError as error:
            raise MessageError(
                Reason.JSON_INVALID, f"the header {header.name} of {topic}: {error}"
            ) from None
    return decoded


def check_value(value: object, shape: Shape, path: str) -> None:
    """Returns if a value has a shape.

    Args:
        value: as it came out of JSON.
        shape: what it should be; fields that it does not name may be there.
        path: where the value stands, for the error.

    Raises:
        MessageError: with the place of the first difference.
    """
    if value is None and shape.is_nullable:
        return
    match shape:
        case Scalar():
            _check_scalar(value, shape, path)
        case ListOf(item=item):
            for index, inner in enumerate(_array(value, path)):
                check_value(inner, item, f"{path}[{index}]")
        case MapOf(value=None):
            _object(value, path)
        case MapOf(value=inner_shape):
            assert inner_shape is not None
            for name, inner in _object(value, path).items():
                check_value(inner, inner_shape, f"{path}.{name}")
        case OneOf(by=by, variants=variants):
            choice = _object(value, path).get(by)
            if not isinstance(choice, str) or choice not in variants:
                raise _differs(choice, f"one of {', '.join(variants)}", f"{path}.{by}")
            check_value(value, variants[choice], path)
        case ObjectOf(fields=fields):
            _check_fields(_object(value, path), fields, path)
        case _:
            assert_never(shape)


def _check_scalar(value: object, shape: Scalar, path: str) -> None:
    # A bool is an int to Python, and not to JSON.
    if type(value) is not _TYPES.get(shape.kind):
        raise _differs(value, str(shape.kind), path)
    if shape.choices and value not in shape.choices:
        raise _differs(value, f"one of {', '.join(shape.choices)}", path)


def _check_fields(members: dict[str, object], fields: tuple[Field, ...], path: str) -> None:
    for field in fields:
        if field.name not in members:
            if field.is_optional:
                continue
            raise MessageError(Reason.JSON_INVALID, f"{path} has no field {field.name}")
        check_value(members[field.name], field.shape, f"{path}.{field.name}")


def _array(value: object, path: str) -> list[object]:
    if not isinstance(value, list):
        raise _differs(value, "array", path)
    return value


def _object(value: object, path: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise _differs(value, "object", path)
    return value


@cache
def _newest_shape(topic: str) -> ObjectOf | OneOf:
    newest = registry().specs[topic].versions[-1]
    return shape_of(json.loads(newest.schema.read_text(encoding="utf-8")))


def _decimal(text: str) -> int:
    if not (text.isascii() and text.removeprefix("-").isdigit()):
        raise ValueError(f"{text[:40]!r} is no integer in decimal")
    return int(text)


def _differs(value: object, expected: str, path: str) -> MessageError:
    shown = repr(value)
    if len(shown) > 60:
        shown = f"{shown[:60]}…"
    return MessageError(Reason.JSON_INVALID, f"{path} is {shown}, not {expected}")
