"""The evolution rule: it holds for schemas/, and whatever breaks a reader is refused."""

import copy
import dataclasses
import json
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from pipelines.atproto.errors import MessageError
from pipelines.contracts.evolution import topic_problems, version_problems
from pipelines.contracts.frozen import RELEASED, freeze
from pipelines.contracts.python import render_types
from pipelines.contracts.reference import render_reference
from pipelines.contracts.topics import load_schema
from pipelines.kafka.topics import (
    Format,
    Header,
    Registry,
    TopicSpec,
    Version,
    load_registry,
    registry,
)
from pipelines.schemas.reading import check_value
from pipelines.schemas.shapes import shape_of

PROJECT = Path(__file__).parents[2]
FROZEN = load_registry(PROJECT / RELEASED)
RELEASED_VERSIONS = [
    (spec, version) for spec in FROZEN.specs.values() for version in spec.versions
]
REMEDY = (
    "Put what is added into a further version, as fields that may be missing; make another topic "
    "of what is not additive. If the released form has reached nobody yet, or this is a release: "
    "`make freeze` takes schemas/ for released."
)

Schema = dict[str, Any]
BYTES = {"x-unit": "bytes"}


def part_id(part: object) -> str:
    return part.name if isinstance(part, TopicSpec) else str(getattr(part, "number", part))


def schema() -> Schema:
    return {
        "title": "thing",
        "type": "object",
        "additionalProperties": False,
        "required": ["kind", "size", "part", "note"],
        "properties": {
            "kind": {"description": "Which.", "enum": ["a", "b"]},
            "size": {"$ref": "#/$defs/size", "x-unit": "bytes"},
            "part": {
                "type": "object",
                "additionalProperties": False,
                "required": ["name"],
                "properties": {"name": {"type": "string", "maxLength": 10}},
            },
            "note": {"oneOf": [{"type": "string"}, {"type": "null"}]},
        },
        "allOf": [
            {
                "if": {"properties": {"kind": {"const": "a"}}},
                "then": {"properties": {"note": {"type": "null"}}},
            }
        ],
        "$defs": {"size": {"description": "How big.", "type": "integer", "minimum": 0}},
    }


def changed(change: Callable[[Schema], object]) -> Schema:
    found = copy.deepcopy(schema())
    change(found)
    return found


def remove_field(found: Schema) -> None:
    del found["properties"]["kind"]
    found["required"].remove("kind")


def add_required(found: Schema) -> None:
    found["properties"]["more"] = {"type": "string"}
    found["required"].append("more")


def remove_inner_field(found: Schema) -> None:
    del found["properties"]["part"]["properties"]["name"]
    found["properties"]["part"]["required"] = []


def add_required_inner(found: Schema) -> None:
    found["properties"]["part"]["properties"]["more"] = {"type": "string"}
    found["properties"]["part"]["required"].append("more")


def restrict_further(found: Schema) -> None:
    found["allOf"][0]["then"]["properties"]["size"] = {"const": 0}


BREAKING: Mapping[str, tuple[Callable[[Schema], object], str]] = {
    "removed field": (remove_field, "kind: is gone"),
    "removed inner field": (remove_inner_field, "part.name: is gone"),
    "new required field": (add_required, "more: is new and required"),
    "new required inner field": (add_required_inner, "part.more: is new and required"),
    "changed type": (
        lambda found: found["$defs"]["size"].update(type="string"),
        "size.type: was integer and is string",
    ),
    "null allowed": (
        lambda found: found["$defs"]["size"].update(type=["integer", "null"]),
        r"size.type: was integer and is \['integer', 'null'\]",
    ),
    "null forbidden": (
        lambda found: found["properties"]["note"]["oneOf"].pop(),
        "note.oneOf: has 1 instead of 2 parts",
    ),
    "narrowed enum": (
        lambda found: found["properties"]["kind"]["enum"].remove("b"),
        r"kind.enum: was \['a', 'b'\] and is \['a'\]",
    ),
    "widened enum": (
        lambda found: found["properties"]["kind"]["enum"].append("c"),
        r"kind.enum: was \['a', 'b'\] and is \['a', 'b', 'c'\]",
    ),
    "narrowed bound": (
        lambda found: found["$defs"]["size"].update(minimum=1),
        "size.minimum: was 0 and is 1",
    ),
    "new bound": (
        lambda found: found["$defs"]["size"].update(maximum=0),
        "size.maximum: was absent and is 0",
    ),
    "lifted bound": (
        lambda found: found["properties"]["part"]["properties"]["name"].pop("maxLength"),
        "part.name.maxLength: was 10 and is absent",
    ),
    "another unit": (
        lambda found: found["properties"]["size"].update({"x-unit": "KiB"}),
        "size.x-unit: was bytes and is KiB",
    ),
    "field no longer required": (
        lambda found: found["required"].remove("size"),
        "size: may be missing now",
    ),
    "opened object": (
        lambda found: found.pop("additionalProperties"),
        "additionalProperties: was False and is absent",
    ),
    "condition on what was free": (
        restrict_further,
        r"allOf\[0\].then.size: is restricted further",
    ),
    "another condition": (
        lambda found: found["allOf"].append({"properties": {"size": {"const": 0}}}),
        "allOf: has 2 instead of 1 parts",
    ),
}


@pytest.mark.parametrize("name", BREAKING)
def test_what_breaks_a_reader_is_refused(name: str) -> None:
    change, complaint = BREAKING[name]
    assert list(version_problems(schema(), schema())) == []
    problems = list(version_problems(schema(), changed(change)))
    assert any(re.match(complaint, problem) for problem in problems), problems


@pytest.mark.parametrize(
    "change",
    [
        lambda found: found["properties"].update(more={"type": ["string", "null"]}),
        lambda found: found["properties"]["part"]["properties"].update(more={"type": "string"}),
        lambda found: found["allOf"][0]["then"]["properties"].update(more={"type": "null"}),
        lambda found: found["properties"]["kind"].update(description="Which of the two."),
        lambda found: found.update(title="something"),
        lambda found: found["properties"].update(size=found["$defs"].pop("size") | BYTES),
    ],
    ids=["field", "inner field", "condition on it", "words", "name", "definition moved"],
)
def test_what_breaks_nobody_is_allowed(change: Callable[[Schema], object]) -> None:
    assert list(version_problems(schema(), changed(change))) == []


# --- entries


def altered(topic: str, **fields: Any) -> Registry:
    spec = dataclasses.replace(FROZEN.specs[topic], **fields)
    return Registry({**FROZEN.specs, topic: spec})


def headers(*added: Header) -> tuple[Header, ...]:
    return (*FROZEN.specs["frames"].headers, *added)


@pytest.mark.parametrize(
    ("current", "complaint"),
    [
        (
            Registry({name: FROZEN.specs[name] for name in FROZEN.specs if name != "events"}),
            "events: the topic is gone",
        ),
        (altered("events", versions=()), "events: version 1 is gone"),
        (altered("events", format=Format.FRAME), "events: its format was json"),
        (altered("events", partitions=1), "events: its number of partitions was None and is 1"),
        (
            altered("events", key=FROZEN.specs["gaps"].key),
            "events: its key was",
        ),
        (
            altered("repos", configs=FROZEN.specs["frames"].configs),
            "repos: its cleanup.policy was compact and is delete",
        ),
        (altered("frames", headers=headers()[1:]), "frames: the header .+ is gone"),
        (
            altered("frames", headers=headers(Header("more", "", "utf-8", is_optional=False))),
            "frames: the header more is new and not optional",
        ),
        (
            altered("frames", headers=headers(Header("seq", "", "utf-8", is_optional=False))),
            "frames: the header seq was decimal and is utf-8",
        ),
        (
            altered("frames", headers=headers(Header("seq", "", "decimal", is_optional=True))),
            "frames: the header seq changed in whether it may be missing",
        ),
    ],
    ids=lambda part: part if isinstance(part, str) else "",
)
def test_a_topic_that_changes_is_refused(current: Registry, complaint: str) -> None:
    problems = list(topic_problems(FROZEN, current))
    assert any(re.match(complaint, problem) for problem in problems), problems


def test_a_topic_and_an_optional_header_may_be_added() -> None:
    more = Header("more", "", "utf-8", is_optional=True)
    current = altered("frames", headers=headers(more))
    assert list(topic_problems(FROZEN, current)) == []
    fewer = Registry({name: FROZEN.specs[name] for name in FROZEN.specs if name != "events"})
    assert list(topic_problems(fewer, FROZEN)) == []


def edit(project: Path, path: str, change: Callable[[Schema], object]) -> None:
    file = project / "schemas" / path
    content = json.loads(file.read_text(encoding="utf-8"))
    change(content)
    file.write_text(json.dumps(content), encoding="utf-8")


def add_field(found: Schema) -> None:
    found["properties"]["later"] = {"type": "string", "description": "Added.", "x-source": "stage"}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with schemas/ of its own, frozen as they are."""
    for part in ("topics", "json", "examples"):
        shutil.copytree(PROJECT / "schemas" / part, tmp_path / "schemas" / part)
    shutil.copy(PROJECT / "schemas/topic.schema.json", tmp_path / "schemas")
    freeze(tmp_path)
    return tmp_path


def problems_in(project: Path) -> list[str]:
    released = load_registry(project / RELEASED)
    return list(topic_problems(released, load_registry(project / "schemas")))


def test_a_released_version_is_not_edited(project: Path) -> None:
    assert problems_in(project) == []
    edit(project, "json/gaps/v1.json", add_field)
    assert problems_in(project) == ["gaps: v1 is released and was edited: fields are added"]
    freeze(project)
    assert problems_in(project) == []
    edit(project, "json/gaps/v1.json", lambda found: found["properties"].pop("later"))
    assert problems_in(project) == ["gaps: v1 is released and was edited: later: is gone; keep it"]


def test_a_field_comes_with_a_further_version(project: Path) -> None:
    schemas = project / "schemas"
    shutil.copy(schemas / "json/gaps/v1.json", schemas / "json/gaps/v2.json")
    shutil.copytree(schemas / "examples/gaps/v1", schemas / "examples/gaps/v2")
    entry = schemas / "topics/gaps.yaml"
    told = yaml.safe_load(entry.read_text(encoding="utf-8"))
    told["versions"].append(
        {"version": 2, "schema": "json/gaps/v2.json", "examples": "examples/gaps/v2"}
    )
    entry.write_text(yaml.safe_dump(told), encoding="utf-8")
    edit(project, "json/gaps/v2.json", add_field)
    assert problems_in(project) == []
    # Readers of both versions read messages of both.
    versions = load_registry(schemas).specs["gaps"].versions
    for name in ("v1", "v2"):
        for file in sorted((schemas / "examples/gaps" / name).iterdir()):
            value = json.loads(file.read_text(encoding="utf-8"))
            for version in versions:
                check_value(value, shape_of(load_schema(version)), "gaps")
                check_value({**value, "later": "x"}, shape_of(load_schema(version)), "gaps")
    assert "    later: NotRequired[str]\n" in render_types(load_registry(schemas))
    assert "| `later` | string, optional | stage |" in render_reference(load_registry(schemas))
    with pytest.raises(MessageError, match=r"gaps\.later is 1, not string"):
        check_value({**value, "later": 1}, shape_of(load_schema(versions[1])), "gaps")
    edit(project, "json/gaps/v2.json", lambda found: found["required"].append("later"))
    (problem,) = problems_in(project)
    assert problem.startswith("gaps v2: later: is new and required")


# --- schemas/ itself


def test_readers_of_the_released_topics_are_left_nothing_to_do() -> None:
    problems = list(topic_problems(FROZEN, registry()))
    assert not problems, "\n".join([*problems, REMEDY])


@pytest.mark.parametrize(("spec", "version"), RELEASED_VERSIONS, ids=part_id)
def test_a_released_example_is_valid_in_the_newest_version(
    spec: TopicSpec, version: Version
) -> None:
    newest = load_schema(registry().specs[spec.name].versions[-1])
    validator = jsonschema.Draft202012Validator(newest)
    files = list(version.examples.iterdir())
    assert files
    for file in files:
        validator.validate(json.loads(file.read_text(encoding="utf-8")))
