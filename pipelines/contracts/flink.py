"""Tables for Flink SQL over the topics. Pure.

A log is a table that grows; of a topic that keeps the last message of each key, the table is its
state: a message without a value deletes the row.

Source: nightlies.apache.org/flink/flink-docs-stable, connectors `kafka` and `upsert-kafka`.
"""

from collections.abc import Iterator
from typing import Final, assert_never

from pipelines.config import DEFAULT_BOOTSTRAP_SERVERS
from pipelines.contracts.columns import (
    KEY_COLUMN,
    MADE_BY,
    OFFSET_COLUMN,
    PARTITION_COLUMN,
    TOPIC_COLUMN,
    Column,
    Table,
    sql_text,
    tables,
)
from pipelines.kafka.topics import Registry
from pipelines.schemas.shapes import Kind, ListOf, MapOf, ObjectOf, OneOf, Scalar, Shape

_SCALARS: Final = {
    Kind.TEXT: "STRING",
    Kind.INTEGER: "BIGINT",
    Kind.FLAG: "BOOLEAN",
    Kind.NOTHING: "STRING",
}
_METADATA: Final = (
    f"    {TOPIC_COLUMN} STRING METADATA FROM 'topic' VIRTUAL",
    f"    {PARTITION_COLUMN} INT METADATA FROM 'partition' VIRTUAL",
    f"    {OFFSET_COLUMN} BIGINT METADATA FROM 'offset' VIRTUAL",
    "    kafka_time TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL",
)
_HEAD: Final = f"""-- {MADE_BY}
--
-- Tables of Flink SQL over the topics; flink-sql-connector-kafka has to be on its class path. The
-- broker is {DEFAULT_BOOTSTRAP_SERVERS} and the prefix of the topics `atproto`.
--
-- Objects of unknown form are JSON in a STRING: JSON_VALUE(record, '$.text').
-- kafka_time is when the frame was received. What Flink writes is only as exact as its sink.
"""


def render_flink(known: Registry) -> str:
    """Returns the statements."""
    return _HEAD + "".join(_statements(table) for table in tables(known))


def _statements(table: Table) -> str:
    if not (table.is_state and table.spec.is_family):
        return _table(table, table.spec.name, ";".join(table.topics))
    # An upsert reads one topic.
    names = [topic.replace(".", "_") for topic in table.spec.topics]
    first = _table(table, names[0], table.topics[0])
    others = (
        f"\nCREATE TABLE {name} WITH ('topic' = '{topic}') LIKE {names[0]};\n"
        for name, topic in zip(names[1:], table.topics[1:], strict=True)
    )
    return first + "".join(others)


def _table(table: Table, name: str, topic: str) -> str:
    columns = [
        f"    {KEY_COLUMN} STRING NOT NULL",
        *(_column(column) for column in table.columns),
        *_METADATA,
    ]
    if table.is_state:
        columns.append(f"    PRIMARY KEY ({KEY_COLUMN}) NOT ENFORCED")
    else:
        columns.append("    WATERMARK FOR kafka_time AS kafka_time - INTERVAL '1' MINUTE")
    listed = ",\n".join(columns)
    options = ",\n".join(f"    '{key}' = '{value}'" for key, value in _options(table, name, topic))
    return f"""
-- {table.spec.name}

CREATE TABLE {name} (
{listed}
)
COMMENT {sql_text(table.description)}
WITH (
{options}
);
"""


def _options(table: Table, name: str, topic: str) -> Iterator[tuple[str, str]]:
    prefix, _, _ = KEY_COLUMN.partition("key")
    yield "connector", "upsert-kafka" if table.is_state else "kafka"
    yield "topic", topic
    yield "properties.bootstrap.servers", DEFAULT_BOOTSTRAP_SERVERS
    yield "properties.group.id", f"flink.{name}"
    yield "properties.isolation.level", "read_committed"
    if not table.is_state:
        yield "scan.startup.mode", "earliest-offset"
        yield "key.fields", KEY_COLUMN
    yield "key.format", "raw"
    yield "key.fields-prefix", prefix
    yield "value.format", "json"
    yield "value.fields-include", "EXCEPT_KEY"


def _column(column: Column) -> str:
    return f"    `{column.name}` {_type(column.shape)} COMMENT {sql_text(column.comment)}"


def _type(shape: Shape) -> str:
    match shape:
        case Scalar(kind=kind):
            return _SCALARS[kind]
        case ListOf(item=item):
            return f"ARRAY<{_type(item)}>"
        case MapOf(value=inner) if inner is not None:
            return f"MAP<STRING, {_type(inner)}>"
        case ObjectOf(fields=fields):
            inside = ", ".join(f"`{field.name}` {_type(field.shape)}" for field in fields)
            return f"ROW<{inside}>"
        case MapOf() | OneOf():
            return "STRING"
        case _:
            assert_never(shape)
