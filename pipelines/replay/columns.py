"""The columns of a table that a topic's messages make. Pure.

They follow from `schemas/`: the members of a JSON value, or key, headers and value of a frame, and
then where the message is in Kafka. What is no text, whole number or truth value, such as a record,
is JSON in a text column.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any, Final, NamedTuple

import orjson

from pipelines.kafka.messages import InputMessage
from pipelines.kafka.topics import Format, TopicSpec


class Type(StrEnum):
    """What a column holds; every column may be null."""

    TEXT = "text"
    INTEGER = "integer"  # 64 bits
    NUMBER = "number"
    BOOLEAN = "boolean"
    BYTES = "bytes"
    TIME = "time"  # milliseconds since 1970, UTC
    JSON = "json"  # text


class Origin(StrEnum):
    """Where in a message a column comes from."""

    MEMBER = "member"  # of the value
    HEADER = "header"
    VALUE = "value"
    KEY = "key"
    PLACE = "place"


class Column(NamedTuple):
    """One column.

    Attributes:
        name: in the table.
        type: of its values.
        origin: where they come from.
    """

    name: str
    type: Type
    origin: Origin


# Tells the table of a record from that of another collection; the folders have it, and the at-uri.
COLLECTION: Final = "collection"

_TYPES: Final[Mapping[frozenset[str], Type]] = {
    frozenset({"string"}): Type.TEXT,
    frozenset({"integer"}): Type.INTEGER,
    frozenset({"number"}): Type.NUMBER,
    frozenset({"integer", "number"}): Type.NUMBER,
    frozenset({"boolean"}): Type.BOOLEAN,
}
_JSON_NAMES: Final[Mapping[type, str]] = {
    str: "string",
    int: "integer",
    bool: "boolean",
    type(None): "null",
}
_PLACES: Final = (
    Column("kafka_topic", Type.TEXT, Origin.PLACE),
    Column("kafka_partition", Type.INTEGER, Origin.PLACE),
    Column("kafka_offset", Type.INTEGER, Origin.PLACE),
    Column("kafka_time", Type.TIME, Origin.PLACE),
)


def columns_of(spec: TopicSpec) -> tuple[Column, ...]:
    """Returns the columns of a topic, without the one that its folders stand for.

    Args:
        spec: its entry in `schemas/`.
    """
    columns = [Column("key", Type.TEXT, Origin.KEY)]
    if spec.format is Format.JSON:
        schema = json.loads(spec.versions[-1].schema.read_text(encoding="utf-8"))
        columns += _members(schema)
    else:
        columns.append(Column("value", Type.BYTES, Origin.VALUE))
    named = {column.name for column in columns}
    columns += [
        Column(
            header.name,
            Type.INTEGER if header.encoding == "decimal" else Type.TEXT,
            Origin.HEADER,
        )
        for header in spec.headers
        if header.name not in named
    ]
    return tuple(column for column in (*columns, *_PLACES) if column.name != COLLECTION)


def row_of(columns: Sequence[Column], message: InputMessage) -> list[Any]:
    """Returns the values of a message, in the order of the columns.

    A null leaves the members of the value to the headers of the same names, which tell what is
    gone.

    Args:
        columns: those of its topic.
        message: of version 1 of its topic, or of one that only has more.
    """
    headers = dict(message.headers)
    is_json = any(column.origin is Origin.MEMBER for column in columns)
    members = orjson.loads(message.value) if is_json and message.value is not None else None
    return [_cell(column, message, members, headers) for column in columns]


def _cell(
    column: Column,
    message: InputMessage,
    members: Mapping[str, Any] | None,
    headers: Mapping[str, bytes],
) -> Any:
    match column.origin:
        case Origin.MEMBER if members is not None:
            value = members.get(column.name)
            is_text = column.type is Type.JSON and value is not None
            return orjson.dumps(value).decode() if is_text else value
        case Origin.MEMBER | Origin.HEADER:
            text = headers.get(column.name)
            if text is None or column.type not in {Type.TEXT, Type.INTEGER}:
                return None
            return int(text) if column.type is Type.INTEGER else text.decode(errors="replace")
        case Origin.KEY:
            return None if message.key is None else message.key.decode(errors="replace")
        case Origin.VALUE:
            return message.value
    return {
        "kafka_topic": message.topic,
        "kafka_partition": message.partition,
        "kafka_offset": message.offset,
        "kafka_time": message.timestamp_ms,
    }[column.name]


def _members(schema: Mapping[str, Any]) -> list[Column]:
    found: dict[str, set[str]] = {}
    for form in _forms(schema, schema):
        for name, member in form.get("properties", {}).items():
            found.setdefault(name, set()).update(_json_types(member, schema))
    return [
        Column(name, _TYPES.get(frozenset(types - {"null"}), Type.JSON), Origin.MEMBER)
        for name, types in found.items()
    ]


def _forms(form: Mapping[str, Any], schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yields a schema and all that a value has to fit as well, or may."""
    form = _resolved(form, schema)
    yield form
    for name in ("oneOf", "anyOf", "allOf"):
        for part in form.get(name, ()):
            yield from _forms(part, schema)
    for name in ("then", "else"):
        if name in form:
            yield from _forms(form[name], schema)


def _resolved(form: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = form.get("$ref")
    if reference is None:
        return form
    target: Any = schema
    for part in reference.removeprefix("#/").split("/"):
        target = target[part]
    return _resolved(target, schema)


def _json_types(member: Mapping[str, Any], schema: Mapping[str, Any]) -> set[str]:
    types: set[str] = set()
    for form in _forms(member, schema):
        named = form.get("type", ())
        types |= {named} if isinstance(named, str) else set(named)
        values = [*form.get("enum", ()), *([form["const"]] if "const" in form else ())]
        types |= {_JSON_NAMES[type(value)] for value in values}
    return types
