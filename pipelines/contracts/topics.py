"""The topics as generators see them: entry, name in words, shape of the values. Pure."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pipelines.kafka.topics import Registry, TopicSpec, Version
from pipelines.schemas.shapes import ObjectOf, OneOf, shape_of


@dataclass(frozen=True, slots=True)
class Contract:
    """A topic, or a family of topics, and what is in it.

    Attributes:
        spec: the entry.
        title: what one message is, in words: `latest record`.
        description: what a value is; that of the entry where the value is not JSON.
        shape: of the newest version's values; None where they are not JSON.
    """

    spec: TopicSpec
    title: str
    description: str
    shape: ObjectOf | OneOf | None


def contracts(known: Registry) -> Iterator[Contract]:
    """Yields all topics, by name."""
    for _, spec in sorted(known.specs.items()):
        if not spec.versions:
            yield Contract(spec, spec.name.removesuffix("s"), spec.description, None)
            continue
        schema = load_schema(spec.versions[-1])
        yield Contract(spec, schema["title"], schema["description"], shape_of(schema))


def load_schema(version: Version) -> dict[str, Any]:
    """Returns the JSON Schema of a version."""
    schema = json.loads(version.schema.read_text(encoding="utf-8"))
    assert isinstance(schema, dict)
    return schema
