"""Tables for ClickHouse that fill themselves from the topics, with its Kafka engine. Pure.

For each topic three things: a queue that reads it, a table that keeps it, and a view that carries
over. The queue may deliver a message again; the table drops what it has already, by position.

Source: clickhouse.com/docs/engines/table-engines/integrations/kafka.
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
    Kind.TEXT: "String",
    Kind.INTEGER: "Int64",
    Kind.FLAG: "Bool",
    Kind.NOTHING: "String",
}
# The engine's own columns, and what they are called in the table that keeps them.
_POSITION: Final = (
    (KEY_COLUMN, "_key", "String"),
    (TOPIC_COLUMN, "_topic", "LowCardinality(String)"),
    (PARTITION_COLUMN, "_partition", "UInt64"),
    (OFFSET_COLUMN, "_offset", "UInt64"),
)
_HEAD: Final = f"""-- {MADE_BY}
--
-- ClickHouse reads the topics with its Kafka engine. clickhouse-kafka.xml belongs to it, into
-- config.d/ of the server: it makes the engine read committed messages only. Take the tables that
-- you want; the broker is {DEFAULT_BOOTSTRAP_SERVERS} and the prefix of the topics `atproto`.
--
-- Rows that were delivered twice go when ClickHouse merges; `SELECT … FINAL` shows each once.
-- Objects of unknown form are JSON in a String: JSONExtractString(record, 'text').
-- The engine skips messages without a value. Where a table keeps the last message of a key, a row
-- whose key was deleted stays: look into `records`, whose deletes have a value.

CREATE DATABASE IF NOT EXISTS atproto;
"""
_CONFIG: Final = f"""<!-- {MADE_BY} -->
<clickhouse>
    <kafka>
        <consumer>
            <isolation_level>read_committed</isolation_level>
            <auto_offset_reset>earliest</auto_offset_reset>
        </consumer>
    </kafka>
</clickhouse>
"""


def render_clickhouse(known: Registry) -> str:
    """Returns the statements."""
    return _HEAD + "".join(_statements(table) for table in tables(known))


def render_clickhouse_config() -> str:
    """Returns the settings of the server that the tables rely on."""
    return _CONFIG


def _statements(table: Table) -> str:
    name = table.spec.name
    topics = ",\n".join(table.topics).replace("\n", "\n        ")
    fields = ",\n".join(_column(column, with_comment=False) for column in table.columns)
    kept = ",\n".join([*_position(), *(_column(column) for column in table.columns)])
    carried = ",\n".join(
        [
            *(f"    {given} AS {own}" for own, given, _ in _POSITION),
            *(f"    `{column.name}`" for column in table.columns),
        ]
    )
    order = f"{KEY_COLUMN}, {TOPIC_COLUMN}"
    engine = f"ReplacingMergeTree({OFFSET_COLUMN})"
    if not table.is_state:
        order += f", {PARTITION_COLUMN}, {OFFSET_COLUMN}"
        engine = "ReplacingMergeTree"
    return f"""
-- {name}

CREATE TABLE atproto.{name}_queue
(
{fields}
)
ENGINE = Kafka
SETTINGS
    kafka_broker_list = '{DEFAULT_BOOTSTRAP_SERVERS}',
    kafka_topic_list = '{topics}',
    kafka_group_name = 'clickhouse.{name}',
    kafka_format = 'JSONEachRow',
    input_format_skip_unknown_fields = 1,
    input_format_json_read_objects_as_strings = 1;

CREATE TABLE atproto.{name}
(
{kept}
)
ENGINE = {engine}
ORDER BY ({order})
COMMENT {sql_text(table.description)};

CREATE MATERIALIZED VIEW atproto.{name}_view TO atproto.{name} AS
SELECT
{carried}
FROM atproto.{name}_queue;
"""  # noqa: S608 - from the project's own files


def _position() -> Iterator[str]:
    return (f"    {own} {kind}" for own, _, kind in _POSITION)


def _column(column: Column, *, with_comment: bool = True) -> str:
    line = f"    `{column.name}` {_type(column.shape)}"
    return f"{line} COMMENT {sql_text(column.comment)}" if with_comment else line


def _type(shape: Shape) -> str:
    match shape:
        case Scalar(kind=kind, choices=choices):
            shown = _SCALARS[kind]
            if shape.is_nullable or kind is Kind.NOTHING:
                shown = f"Nullable({shown})"
            return f"LowCardinality({shown})" if choices else shown
        case ListOf(item=item):
            # Neither an Array nor a Map can be null: it is empty then.
            return f"Array({_type(item)})"
        case MapOf(value=inner) if inner is not None:
            return f"Map(String, {_type(inner)})"
        case MapOf():
            return "Nullable(String)" if shape.is_nullable else "String"
        case ObjectOf(fields=fields) if not shape.is_nullable:
            inside = ", ".join(f"`{field.name}` {_type(field.shape)}" for field in fields)
            return f"Tuple({inside})"
        case ObjectOf() | OneOf():
            return "Nullable(String)"
        case _:
            assert_never(shape)
