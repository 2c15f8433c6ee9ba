"""The registry of topics: `schemas/` as typed values.

Every topic has one entry there: its key, partitions, settings, headers and, for JSON, a schema
and examples per version. This module loads and checks the entries and turns them into the
topics of one deployment; `pipelines.kafka.admin` compares those with a cluster.

Pure, except that it reads the files that are part of the package. It does not compile the JSON
Schemas before somebody asks for a validator, and does not check the examples (the tests do).
"""

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from types import MappingProxyType
from typing import Any, Final

import yaml
from jsonschema import Draft202012Validator
from jsonschema.protocols import Validator

from pipelines.config import KafkaConfig
from pipelines.errors import ConfigError

# A topic is a directory name with a suffix in the broker, hence the limit.
MAX_TOPIC_NAME_LENGTH: Final = 249

# Last part of the name of the topic that holds a family's collections without a topic of their
# own. No collection has this name: an NSID has at least three segments.
OTHER: Final = "other"


class Format(StrEnum):
    """What a message value is."""

    FRAME = "frame"
    ORIGINAL = "original"
    JSON = "json"


class PartitionBy(StrEnum):
    """What chooses the partition of a message: a hash of the DID or key, or that of its source."""

    DID = "did"
    KEY = "key"
    SOURCE = "source"


@dataclass(frozen=True, slots=True)
class KeyRule:
    """The message key of a topic.

    Attributes:
        content: what it is, for a person: `did`, `host`, `at-uri`, …
        encoding: how it becomes bytes.
        partition_by: what tells the partition.
    """

    content: str
    encoding: str
    partition_by: PartitionBy


@dataclass(frozen=True, slots=True)
class Header:
    """One message header of a topic.

    Attributes:
        name: as written.
        description: meaning, unit, source.
        encoding: `utf-8`, or `decimal` for an integer in ASCII digits.
        is_optional: whether there are messages without it.
    """

    name: str
    description: str
    encoding: str
    is_optional: bool


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a JSON value.

    Attributes:
        number: from 1.
        schema: file of the JSON Schema.
        examples: folder of example values.
    """

    number: int
    schema: Traversable
    examples: Traversable


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """One entry of the registry: a topic, or a family of topics that differ only in their name.

    Attributes:
        name: logical name; of a family the first part (`records`).
        description: content, volume and retention, for a person.
        producers: stages that write it.
        consumers: stages that read it.
        key: the message key.
        partitions: a fixed number, or None for the deployment's common count.
        configs: Kafka's settings of the topic, as Kafka spells them.
        format: what the value is.
        headers: in the order in which they are written.
        versions: of a JSON value, from 1 without gaps; empty for other formats.
        is_family: whether there is a topic for each of `collections`, and one for the others.
        collections: of a family, the collections with a topic of their own; else empty. The
            families `records` and `latest` have the same.
    """

    name: str
    description: str
    producers: tuple[str, ...]
    consumers: tuple[str, ...]
    key: KeyRule
    partitions: int | None
    configs: Mapping[str, str]
    format: Format
    headers: tuple[Header, ...]
    versions: tuple[Version, ...]
    is_family: bool
    collections: tuple[str, ...]

    @property
    def topics(self) -> tuple[str, ...]:
        """The logical names of all topics of this entry."""
        if not self.is_family:
            return (self.name,)
        return tuple(f"{self.name}.{last}" for last in (*self.collections, OTHER))


@dataclass(frozen=True, slots=True)
class PhysicalTopic:
    """A topic as it should be on the cluster of one deployment.

    Attributes:
        name: physical name.
        partitions: how many.
        configs: settings, as Kafka spells them.
    """

    name: str
    partitions: int
    configs: Mapping[str, str]


class Registry:
    """All entries of `schemas/`.

    Attributes:
        specs: entry by its name (`frames`, `records`, …).
        topics: entry by the logical name of each topic (`frames`, `records.app.bsky.feed.like`).
    """

    def __init__(self, specs: Mapping[str, TopicSpec]) -> None:
        self.specs: Mapping[str, TopicSpec] = MappingProxyType(dict(specs))
        self.topics: Mapping[str, TopicSpec] = MappingProxyType(
            {topic: spec for spec in specs.values() for topic in spec.topics}
        )
        self._families = {
            spec.name: {nsid: f"{spec.name}.{nsid}" for nsid in spec.collections}
            for spec in specs.values()
            if spec.is_family
        }

    def admitting(self, collections: Collection[str]) -> "Registry":
        """Returns the registry of a deployment with another table of collections.

        Args:
            collections: those whose records have topics of their own.
        """
        listed = tuple(sorted(collections))
        return Registry(
            {
                name: replace(spec, collections=listed) if name in self._families else spec
                for name, spec in self.specs.items()
            }
        )

    @property
    def admitted_collections(self) -> tuple[str, ...]:
        """The collections whose records have a topic of their own."""
        return self.specs["records"].collections

    def topic_for_collection(self, collection: str, family: str = "records") -> str:
        """Returns the logical name of the topic that takes the records of a collection.

        Args:
            collection: an NSID; compared exactly, so another casing is another collection.
            family: `records` or `latest`.
        """
        return self._families[family].get(collection, f"{family}.{OTHER}")

    def physical_topics(self, kafka: KafkaConfig, partitions: int) -> tuple[PhysicalTopic, ...]:
        """Returns the topics of a deployment, sorted by name.

        Args:
            kafka: names the prefix.
            partitions: the common count of all topics that are partitioned by DID.

        Raises:
            ConfigError: a name would be longer than Kafka allows.
        """
        wanted = [
            PhysicalTopic(kafka.topic(topic), spec.partitions or partitions, spec.configs)
            for topic, spec in self.topics.items()
        ]
        too_long = [topic.name for topic in wanted if len(topic.name) > MAX_TOPIC_NAME_LENGTH]
        if too_long:
            raise ConfigError(
                *(
                    f"the topic name {name} has {len(name)} characters, Kafka allows "
                    f"{MAX_TOPIC_NAME_LENGTH}: use a shorter --topic-prefix"
                    for name in too_long
                )
            )
        return tuple(sorted(wanted, key=lambda topic: topic.name))


@cache
def registry() -> Registry:
    """Returns the registry that is part of the package."""
    return load_registry(_package_folder())


@cache
def validator(topic: str, version: int) -> Validator:
    """Returns the compiled JSON Schema of a topic's value.

    Args:
        topic: logical name of a topic, or of a family of topics.
        version: from 1.

    Raises:
        LookupError: the registry has no such topic, or the topic no such version.
    """
    known = registry()
    spec = known.specs.get(topic) or known.topics.get(topic)
    if spec is None:
        raise LookupError(f"no topic {topic!r} in the registry")
    for candidate in spec.versions:
        if candidate.number == version:
            schema = json.loads(candidate.schema.read_text(encoding="utf-8"))
            Draft202012Validator.check_schema(schema)
            return Draft202012Validator(schema)
    raise LookupError(f"the topic {topic!r} has no JSON value of version {version}")


def load_registry(folder: Traversable) -> Registry:
    """Reads and checks all entries.

    Args:
        folder: laid out as `schemas/`.

    Raises:
        ConfigError: with every problem found, each with the file it is in.
    """
    form = Draft202012Validator(
        json.loads((folder / "topic.schema.json").read_text(encoding="utf-8"))
    )
    problems: list[str] = []
    specs: dict[str, TopicSpec] = {}
    followed: dict[str, str] = {}
    for file in sorted((folder / "topics").iterdir(), key=lambda file: file.name):
        try:
            entry = yaml.safe_load(file.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            problems.append(f"{file.name}: not YAML: {' '.join(str(error).split())}")
            continue
        found = [f"{error.json_path}: {error.message}" for error in form.iter_errors(entry)]
        found = found or list(_contradictions(folder, file.name, entry))
        problems += [f"{file.name}: {problem}" for problem in found]
        if not found:
            specs[entry["topic"]] = _spec(folder, entry)
            if "collections_of" in entry:
                followed[entry["topic"]] = entry["collections_of"]
    if not problems and not specs.get("records"):
        problems.append("records.yaml: missing")
    if not problems:
        problems += [
            f"{name}.yaml: collections_of names {leader}, which has no entry"
            for name, leader in followed.items()
            if leader not in specs
        ]
    if problems:
        raise ConfigError(*problems)
    for name, leader in followed.items():
        specs[name] = replace(specs[name], collections=specs[leader].collections)
    return Registry(specs)


def _package_folder() -> Traversable:
    return resources.files("pipelines") / "_schemas"


def _contradictions(
    folder: Traversable, file_name: str, entry: Mapping[str, Any]
) -> Iterator[str]:
    """Yields what the form of a single entry cannot express."""
    if file_name != f"{entry['topic']}.yaml":
        yield f"describes the topic {entry['topic']!r}: name the file {entry['topic']}.yaml"
    versions = entry.get("versions", [])
    numbers = [version["version"] for version in versions]
    if numbers != list(range(1, len(numbers) + 1)):
        yield f"versions {numbers} are not consecutive from 1"
    for version in versions:
        if not (folder / version["schema"]).is_file():
            yield f"no file {version['schema']}"
        if not (folder / version["examples"]).is_dir():
            yield f"no folder {version['examples']}"
    headers = [header["name"] for header in entry["headers"]]
    if len(set(headers)) < len(headers):
        yield f"headers {headers} repeat a name"


def _spec(folder: Traversable, entry: Mapping[str, Any]) -> TopicSpec:
    partitions = entry["partitions"]
    return TopicSpec(
        name=entry["topic"],
        description=entry["description"],
        producers=tuple(entry["producers"]),
        consumers=tuple(entry["consumers"]),
        key=KeyRule(
            content=entry["key"]["content"],
            encoding=entry["key"]["encoding"],
            partition_by=PartitionBy(entry["key"]["partition_by"]),
        ),
        partitions=None if partitions == "shared" else partitions,
        configs=MappingProxyType({name: str(value) for name, value in entry["configs"].items()}),
        format=Format(entry["format"]),
        headers=tuple(
            Header(
                name=header["name"],
                description=header["description"],
                encoding=header["encoding"],
                is_optional=header.get("optional", False),
            )
            for header in entry["headers"]
        ),
        versions=tuple(
            Version(
                number=version["version"],
                schema=folder / version["schema"],
                examples=folder / version["examples"],
            )
            for version in entry.get("versions", [])
        ),
        is_family="collections" in entry or "collections_of" in entry,
        collections=tuple(entry.get("collections", [])),
    )
