"""Subjects of a schema registry: which it should have, and what is to be done about each. Pure."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from pipelines.config import KafkaConfig
from pipelines.contracts.topics import load_schema
from pipelines.kafka.topics import Registry


class State(StrEnum):
    """What there is to do about one version of a subject."""

    PRESENT = "present"
    MISSING = "missing"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class SubjectVersion:
    """One version of a value, as a registry takes it.

    Attributes:
        subject: `<physical topic>-value`: the name that clients look for by default.
        version: of the value, from 1.
        schema: JSON Schema, as text; always the same for one version.
    """

    subject: str
    version: int
    schema: str


@dataclass(frozen=True, slots=True)
class Finding:
    """What a registry says about one version.

    Attributes:
        wanted: the version.
        state: what there is to do.
        schema_id: its number in the registry; None unless it is present.
        detail: why it is refused; else empty.
    """

    wanted: SubjectVersion
    state: State
    schema_id: int | None = None
    detail: str = ""


def subject_versions(known: Registry, kafka: KafkaConfig) -> Iterator[SubjectVersion]:
    """Yields what a registry should have of a deployment's topics.

    Topics whose values are no JSON have no subject.

    Args:
        known: the topics, with the collections that the deployment admits.
        kafka: names the prefix.

    Returns:
        By topic, the versions of each from 1.
    """
    for topic, spec in sorted(known.topics.items()):
        for version in spec.versions:
            schema = json.dumps(load_schema(version), ensure_ascii=False, separators=(",", ":"))
            yield SubjectVersion(f"{kafka.topic(topic)}-value", version.number, schema)
