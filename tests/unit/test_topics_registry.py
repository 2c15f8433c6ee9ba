"""Loading schemas/: what it gives, and that every defect is named with its file."""

import shutil
from pathlib import Path

import pytest

from pipelines.config import KafkaConfig
from pipelines.errors import ConfigError
from pipelines.kafka.topics import PartitionBy, load_registry, registry, validator

FOLDER = Path(__file__).parents[2] / "schemas"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FOLDER, tmp_path / "schemas"))


def edit(copy: Path, topic: str, old: str, new: str) -> None:
    file = copy / "topics" / f"{topic}.yaml"
    text = file.read_text(encoding="utf-8")
    assert text.count(old) >= 1
    file.write_text(text.replace(old, new, 1), encoding="utf-8")


def problems_of(copy: Path) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        load_registry(copy)
    return caught.value.problems


def test_the_package_and_the_folder_are_the_same_registry() -> None:
    assert load_registry(FOLDER).topics.keys() == registry().topics.keys()


def test_registry_names_every_topic_of_the_pipeline() -> None:
    topics = registry().topics
    families = ("records.", "latest.")
    assert {topic for topic in topics if not topic.startswith(families)} == {
        "admissions",
        "frames",
        "crawls",
        "cursors",
        "epochs",
        "gaps",
        "events",
        "identities",
        "listings",
        "parked",
        "minutes",
        "overrides",
        "quarantine",
        "repos",
        "resyncs",
        "repairs",
        "chunks",
        "snapshots",
        "status",
        "trends",
    }
    assert "records.app.bsky.feed.like" in topics
    assert "records.other" in topics
    assert "records" not in topics
    assert len(topics) == 20 + 2 * (len(registry().admitted_collections) + 1)


def test_entry_is_typed() -> None:
    spec = registry().topics["records.app.bsky.feed.post"]
    assert spec is registry().specs["records"]
    assert spec.key.partition_by is PartitionBy.DID
    assert spec.partitions is None
    assert spec.configs["retention.ms"] == "604800000"
    assert [header.name for header in spec.headers] == [
        "did",
        "kind",
        "collection",
        "operation",
        "rev",
    ]
    assert registry().specs["cursors"].partitions == 1


@pytest.mark.parametrize(
    ("collection", "topic"),
    [
        ("app.bsky.feed.like", "records.app.bsky.feed.like"),
        ("chat.bsky.actor.declaration", "records.chat.bsky.actor.declaration"),
        ("app.bsky.feed.Like", "records.other"),
        ("app.bsky.feed.like.more", "records.other"),
        ("fm.teal.alpha.actor.status", "records.other"),
    ],
)
def test_only_exactly_listed_collections_have_a_topic(collection: str, topic: str) -> None:
    assert registry().topic_for_collection(collection) == topic
    assert topic in registry().topics


def test_physical_topics_carry_prefix_and_count() -> None:
    topics = registry().physical_topics(KafkaConfig(topic_prefix="blue"), 7)
    counts = {topic.name: topic.partitions for topic in topics}
    assert len(counts) == len(registry().topics)
    assert counts["blue.frames"] == 7
    assert counts["blue.records.app.bsky.graph.follow"] == 7
    assert counts["blue.cursors"] == 1
    assert list(counts) == sorted(counts)


def test_a_prefix_that_makes_names_too_long_is_refused() -> None:
    with pytest.raises(ConfigError, match="249: use a shorter --topic-prefix"):
        registry().physical_topics(KafkaConfig(topic_prefix="x" * 240), 4)


def test_validator_is_found_by_topic_and_by_family_and_compiled_once() -> None:
    assert validator("records.other", 1).schema == validator("records", 1).schema
    assert validator("events", 1) is validator("events", 1)


@pytest.mark.parametrize(
    ("topic", "version"),
    [("frames", 1), ("events", 2), ("events", 0), ("records.no.such.thing", 1), ("topics", 1)],
)
def test_an_unknown_schema_is_an_error(topic: str, version: int) -> None:
    with pytest.raises(LookupError, match=topic):
        validator(topic, version)


def test_all_problems_are_listed_at_once_with_their_files(copy: Path) -> None:
    edit(copy, "frames", "retention.ms: 259200000", "retention.ms: -1")
    edit(copy, "events", "partitions: shared", "partitions: some")
    edit(copy, "epochs", "v1.json", "v9.json")
    problems = problems_of(copy)
    assert len(problems) == 3
    assert problems[0].startswith("epochs.yaml: no file json/epochs/v9.json")
    assert problems[1].startswith("events.yaml: $.partitions: 'some'")
    assert problems[2].startswith("frames.yaml: $.configs['retention.ms']: -1")


@pytest.mark.parametrize(
    ("topic", "old", "new", "complaint"),
    [
        ("frames", "topic: frames", "topic: raw", "name the file raw.yaml"),
        ("frames", "topic: frames", "topic: raw_frames", "does not match"),
        ("frames", "producers: [bridge]", "writers: [bridge]", "'producers' is a required"),
        ("frames", "producers: [bridge]", "producers: []", "non-empty"),
        ("frames", "name: seq", "name: host", "repeat a name"),
        ("frames", "cleanup.policy: delete", "cleanup.policy: shred", "not one of"),
        ("frames", "max.message.bytes: 5505024", "", "'max.message.bytes' is a required"),
        ("frames", "format: frame", "format: json", "'versions' is a required"),
        ("frames", "format: frame", "format: [", "not YAML"),
        ("cursors", "version: 1", "version: 2", "versions [2] are not consecutive from 1"),
        ("cursors", "delete.retention.ms: 86400000", "", "'delete.retention.ms' is a required"),
        ("cursors", "examples/cursors/v1", "examples/cursors/v2", "no folder"),
        ("records", "- app.bsky.feed.like\n", "- feed.like\n", "does not match"),
        ("records", "- app.bsky.feed.like\n", "- app.bsky.feed.post\n", "non-unique"),
    ],
)
def test_a_defect_is_named(copy: Path, topic: str, old: str, new: str, complaint: str) -> None:
    edit(copy, topic, old, new)
    assert [
        problem
        for problem in problems_of(copy)
        if problem.startswith(f"{topic}.yaml: ") and complaint in problem
    ]


def test_an_empty_entry_is_named(copy: Path) -> None:
    (copy / "topics" / "empty.yaml").write_text("", encoding="utf-8")
    assert problems_of(copy) == ("empty.yaml: $: None is not of type 'object'",)


def test_a_family_that_follows_another_has_its_collections(copy: Path) -> None:
    edit(copy, "records", "  - chat.bsky.actor.declaration\n", "  - com.example.more\n")
    topics = load_registry(copy)
    assert "latest.com.example.more" in topics.topics
    assert topics.topic_for_collection("com.example.more", "latest") == "latest.com.example.more"
    assert topics.topic_for_collection("chat.bsky.actor.declaration", "latest") == "latest.other"


def test_a_family_that_follows_nobody_is_named(copy: Path) -> None:
    edit(copy, "latest", "collections_of: records", "collections_of: nobody")
    assert problems_of(copy) == ("latest.yaml: collections_of names nobody, which has no entry",)


def test_a_registry_without_records_is_refused(copy: Path) -> None:
    (copy / "topics" / "records.yaml").unlink()
    assert problems_of(copy) == ("records.yaml: missing",)
