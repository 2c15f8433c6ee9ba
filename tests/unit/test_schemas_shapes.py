"""The shape of a schema: every field has a description, a source and a unit, or it is refused."""

from typing import Any

import pytest

from pipelines.contracts.topics import load_schema
from pipelines.kafka.topics import registry
from pipelines.schemas.shapes import (
    Field,
    Kind,
    ListOf,
    ObjectOf,
    OneOf,
    Scalar,
    Shape,
    ShapeError,
    Source,
    fields_of,
    objects_of,
    shape_of,
)

SCHEMAS = {
    f"{spec.name} v{version.number}": load_schema(version)
    for spec in registry().specs.values()
    for version in spec.versions
}


def schema(**fields: Any) -> dict[str, Any]:
    return {
        "title": "thing",
        "description": "A thing.",
        "type": "object",
        "additionalProperties": False,
        "required": list(fields),
        "properties": {
            name: {"description": "Told.", "x-source": "stage", **field}
            for name, field in fields.items()
        },
        "$defs": {},
    }


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_field_has_description_source_and_unit(name: str) -> None:
    fields = [field for part in objects_of(shape_of(SCHEMAS[name])) for field in part.fields]
    assert fields
    for field in fields:
        assert len(field.description) > 5, field.name


@pytest.mark.parametrize("missing", ["description", "x-source", "x-unit"])
def test_a_field_without_one_of_them_is_refused(missing: str) -> None:
    field = {"description": "So many.", "x-source": "stage", "x-unit": "bytes", "type": "integer"}
    whole = schema(size=field)
    assert isinstance(shape_of(whole), ObjectOf)
    del whole["properties"]["size"][missing]
    with pytest.raises(ShapeError, match="size"):
        shape_of(whole)
    # What a definition says of all its fields need not be said again.
    whole["properties"]["size"]["$ref"] = "#/$defs/size"
    whole["$defs"]["size"] = field
    assert isinstance(shape_of(whole), ObjectOf)


@pytest.mark.parametrize(
    ("field", "kind"),
    [
        ({"type": "string"}, Scalar(Kind.TEXT)),
        ({"type": ["string", "null"]}, Scalar(Kind.TEXT, is_nullable=True)),
        ({"enum": ["a", "b"]}, Scalar(Kind.TEXT, ("a", "b"))),
        ({"enum": ["a", None]}, Scalar(Kind.TEXT, ("a",), is_nullable=True)),
        ({"const": "a"}, Scalar(Kind.TEXT, ("a",))),
        ({"type": "boolean"}, Scalar(Kind.FLAG)),
        ({"type": "integer", "x-unit": "bytes"}, Scalar(Kind.INTEGER)),
        (
            {"type": "array", "items": {"type": "integer"}, "x-unit": "bytes"},
            ListOf(Scalar(Kind.INTEGER)),
        ),
    ],
)
def test_the_shape_of_a_field(field: dict[str, Any], kind: Shape) -> None:
    found = shape_of(schema(one=field))
    assert isinstance(found, ObjectOf)
    unit = field.get("x-unit")
    assert found.fields == (Field("one", "Told.", Source.STAGE, unit, None, kind),)


@pytest.mark.parametrize(
    "field",
    [
        {"type": ["string", "integer"]},
        {"enum": ["a", 1]},
        {"type": "integer"},
        {"type": "string", "x-unit": "bytes"},
        {"type": "string", "x-source": "somebody"},
        {"oneOf": [{"type": "string"}, {"type": "integer"}]},
        {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]},
    ],
)
def test_what_is_not_understood_is_an_error(field: dict[str, Any]) -> None:
    with pytest.raises(ShapeError, match=r"one|thing"):
        shape_of(schema(one=field))


def test_events_are_told_apart_by_their_kind() -> None:
    shape = shape_of(SCHEMAS["events v1"])
    assert isinstance(shape, OneOf)
    assert shape.by == "kind"
    assert set(shape.variants) == {
        "commit",
        "sync",
        "identity",
        "account",
        "refused",
        "unresolved",
    }
    names = [field.name for field in fields_of(shape)]
    assert len(names) == len(set(names))
    assert {"kind", "ops", "handle", "active", "reason"} <= set(names)
