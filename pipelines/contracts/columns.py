"""Tables as the contracts have them: the columns of a topic's values. Pure.

Whatever is written for an engine is made from these, so that all engines get the same tables: one
for each topic, or for each family of topics.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from pipelines.config import DEFAULT_TOPIC_PREFIX, KafkaConfig
from pipelines.contracts.topics import contracts
from pipelines.kafka.topics import Registry, TopicSpec
from pipelines.schemas.shapes import Field, Kind, ObjectOf, OneOf, Scalar, Shape, fields_of

MADE_BY: Final = "Made by `make generated` from schemas/: do not edit."
# What each table has before the fields of the value; no field begins like these.
KEY_COLUMN: Final = "message_key"
TOPIC_COLUMN: Final = "kafka_topic"
PARTITION_COLUMN: Final = "kafka_partition"
OFFSET_COLUMN: Final = "kafka_offset"

_KAFKA: Final = KafkaConfig(topic_prefix=DEFAULT_TOPIC_PREFIX)


@dataclass(frozen=True, slots=True)
class Column:
    """A field of a value as a column.

    Attributes:
        name: of both.
        shape: what is in it; nullable also where some values do not have the field.
        comment: what it means, with its unit.
    """

    name: str
    shape: Shape
    comment: str


@dataclass(frozen=True, slots=True)
class Table:
    """The values of a topic, or of a family of topics.

    Attributes:
        spec: the entry.
        description: what a row is.
        columns: in the order of the fields.
        topics: physical names, with the prefix that is there by default.
    """

    spec: TopicSpec
    description: str
    columns: tuple[Column, ...]
    topics: tuple[str, ...]

    @property
    def is_state(self) -> bool:
        """Whether the last message of a key is what counts."""
        return "compact" in self.spec.configs["cleanup.policy"]


def tables(known: Registry) -> Iterator[Table]:
    """Yields the table of each topic whose values are JSON, by name."""
    for contract in contracts(known):
        if contract.shape is not None:
            topics = tuple(_KAFKA.topic(topic) for topic in contract.spec.topics)
            columns = tuple(_columns(contract.shape))
            yield Table(contract.spec, contract.description, columns, topics)


def sql_text(text: str) -> str:
    """Returns a text as a literal of SQL, quoted."""
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def _columns(shape: ObjectOf | OneOf) -> Iterator[Column]:
    variants = [shape] if isinstance(shape, ObjectOf) else list(shape.variants.values())
    for field in fields_of(shape):
        found = [own for variant in variants for own in variant.fields if own.name == field.name]
        is_everywhere = len(found) == len(variants)
        yield Column(field.name, _merged(found, is_everywhere=is_everywhere), _comment(field))


def _merged(fields: Sequence[Field], *, is_everywhere: bool) -> Shape:
    """Returns what holds the field of every variant."""
    proper = [
        field.shape
        for field in fields
        if not (isinstance(field.shape, Scalar) and field.shape.kind is Kind.NOTHING)
    ]
    is_nullable = (
        not is_everywhere
        or len(proper) < len(fields)
        or any(field.is_optional or field.shape.is_nullable for field in fields)
    )
    shape = proper[0]
    assert all(type(other) is type(shape) for other in proper)
    if isinstance(shape, Scalar):
        scalars = [other for other in proper if isinstance(other, Scalar)]
        assert len({scalar.kind for scalar in scalars}) == 1
        choices = tuple(dict.fromkeys(choice for one in scalars for choice in one.choices))
        is_closed = all(scalar.choices for scalar in scalars)
        shape = replace(shape, choices=choices if is_closed else ())
    return replace(shape, is_nullable=is_nullable)


def _comment(field: Field) -> str:
    return field.description if field.unit is None else f"{field.description} Unit: {field.unit}."
