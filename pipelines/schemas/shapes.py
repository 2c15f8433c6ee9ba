"""The shape of a topic's values: what a reader relies on, taken from the JSON Schema.

A schema says more than a reader has to look at: bounds, patterns, which fields go with which. The
shape is the rest: the fields, whether they may be null, and what is in them. Values are checked
against it when they are read, and types, tables and the reference are made from it, so that none
of them can say something else than the schema.

Pure. Only the constructs that `schemas/json/` uses are understood; anything else is an error, so
that nothing is left out in silence.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, TypeAlias

Schema: TypeAlias = Mapping[str, Any]


class Source(StrEnum):
    """Who a field is to be believed from; `schemas/README.md` has what each means."""

    SIGNED = "signed"
    UPSTREAM = "upstream"
    SERVER = "server"
    CLOCK = "clock"
    KAFKA = "kafka"
    STAGE = "stage"
    OPERATOR = "operator"


class Kind(StrEnum):
    """What a value without parts is."""

    TEXT = "string"
    INTEGER = "integer"
    FLAG = "boolean"
    NOTHING = "null"


class ShapeError(Exception):
    """A schema uses a construct that no reader, type or table is made of."""


@dataclass(frozen=True, slots=True)
class Scalar:
    """A value without parts.

    Attributes:
        kind: what it is.
        choices: the texts it is one of; empty if it may be any.
        is_nullable: whether it may be null.
    """

    kind: Kind
    choices: tuple[str, ...] = ()
    is_nullable: bool = False


@dataclass(frozen=True, slots=True)
class ListOf:
    """An array.

    Attributes:
        item: what is in it.
        is_nullable: whether it may be null.
    """

    item: "Shape"
    is_nullable: bool = False


@dataclass(frozen=True, slots=True)
class MapOf:
    """An object whose names are data.

    Attributes:
        value: what is under each name; None if it may be any JSON.
        is_nullable: whether it may be null.
    """

    value: "Shape | None"
    is_nullable: bool = False


@dataclass(frozen=True, slots=True)
class Field:
    """One field of an object.

    Attributes:
        name: as it is written.
        description: what it means.
        source: who it is to be believed from.
        unit: of a number, or of the numbers in it; None for what is none.
        form: name of the definition it follows (`did`, `tid`, …); None if it has none.
        shape: what is in it.
        is_optional: whether it may be missing: it came with a later version.
    """

    name: str
    description: str
    source: Source
    unit: str | None
    form: str | None
    shape: "Shape"
    is_optional: bool = False


@dataclass(frozen=True, slots=True)
class ObjectOf:
    """An object with known fields.

    Attributes:
        name: in words: the schema's title, or the field that it is the value of.
        description: what it is.
        fields: in their order.
        is_nullable: whether it may be null.
    """

    name: str
    description: str
    fields: tuple[Field, ...]
    is_nullable: bool = False


@dataclass(frozen=True, slots=True)
class OneOf:
    """One of several objects, which a field tells apart.

    Attributes:
        by: the field.
        variants: object by the value of that field.
        is_nullable: whether it may be null.
    """

    by: str
    variants: Mapping[str, ObjectOf]
    is_nullable: bool = False


Shape: TypeAlias = Scalar | ListOf | MapOf | ObjectOf | OneOf


def shape_of(schema: Schema) -> ObjectOf | OneOf:
    """Returns the shape of a topic's values.

    Args:
        schema: as in `schemas/json/`.

    Raises:
        ShapeError: it has a construct that is not understood, or a field without description,
            source or, for a number, unit.
    """
    definitions: Schema = schema.get("$defs", {})
    name = schema["title"]
    if "oneOf" in schema:
        return _variants(schema["oneOf"], name, definitions)
    if "properties" in schema and "additionalProperties" not in schema:
        # `kind` chooses the definition that has all fields.
        chosen = [condition["then"]["$ref"] for condition in schema["allOf"]]
        parts = [definitions[reference.removeprefix("#/$defs/")] for reference in chosen]
        return _variants(parts, name, definitions)
    return _object(schema, name, definitions)


def fields_of(shape: ObjectOf | OneOf) -> tuple[Field, ...]:
    """Returns the fields of a shape; of variants those of the first, then what the others add."""
    if isinstance(shape, ObjectOf):
        return shape.fields
    found: dict[str, Field] = {}
    for variant in shape.variants.values():
        for field in variant.fields:
            found.setdefault(field.name, field)
    return tuple(found.values())


def objects_of(shape: Shape) -> Iterator[ObjectOf]:
    """Yields all objects with known fields in a shape, inner ones before outer ones."""
    match shape:
        case ListOf(item=inner):
            yield from objects_of(inner)
        case MapOf(value=inner) if inner is not None:
            yield from objects_of(inner)
        case OneOf(variants=variants):
            for variant in variants.values():
                yield from objects_of(variant)
        case ObjectOf(fields=fields):
            for field in fields:
                yield from objects_of(field.shape)
            yield shape


def _variants(parts: list[Schema], title: str, definitions: Schema) -> OneOf:
    """Returns several objects, each named after what its first field always says."""
    variants: dict[str, ObjectOf] = {}
    names = {next(iter(part["properties"])) for part in parts}
    for part in parts:
        first = next(iter(part["properties"].values()))
        if len(names) > 1 or first.get("const") is None or first["const"] in variants:
            raise ShapeError(f"{title}: no first field tells which variant it is")
        choice = first["const"]
        variants[choice] = _object(part, f"{choice} {title.rsplit(maxsplit=1)[-1]}", definitions)
    return OneOf(names.pop(), variants)


def _object(schema: Schema, name: str, definitions: Schema) -> ObjectOf:
    if schema.get("additionalProperties") is not False:
        raise ShapeError(f"{name}: not a closed object")
    properties: Schema = schema["properties"]
    required = schema["required"]
    if required != [field for field in properties if field in required]:
        raise ShapeError(f"{name}: `required` is not in the order of the fields")
    fields = tuple(
        replace(_field(field, part, definitions), is_optional=field not in required)
        for field, part in properties.items()
    )
    return ObjectOf(name, schema.get("description", ""), fields)


def _field(name: str, schema: Schema, definitions: Schema) -> Field:
    form = _form(schema)
    followed: Schema = definitions[form] if form is not None else {}
    annotations = {**followed, **schema}
    shape = _shape(schema, name, definitions)
    unit = annotations.get("x-unit")
    if (unit is None) == _has_numbers(shape):
        raise ShapeError(f"{name}: a number has an x-unit, and what is none has not")
    try:
        return Field(
            name, annotations["description"], Source(annotations["x-source"]), unit, form, shape
        )
    except (KeyError, ValueError) as error:
        raise ShapeError(f"{name}: no {error}") from error


def _form(schema: Schema) -> str | None:
    """Returns the name of the definition that a field follows, also where it may be null."""
    for part in (schema, *schema.get("oneOf", [])):
        if "$ref" in part:
            return str(part["$ref"]).removeprefix("#/$defs/")
    return None


def _has_numbers(shape: Shape) -> bool:
    match shape:
        case Scalar(kind=kind):
            return kind is Kind.INTEGER
        case ListOf(item=inner):
            return _has_numbers(inner)
        case MapOf(value=inner):
            return inner is not None and _has_numbers(inner)
        case ObjectOf() | OneOf():
            return False  # its fields have units of their own


def _shape(schema: Schema, name: str, definitions: Schema) -> Shape:
    if "$ref" in schema:
        form = schema["$ref"].removeprefix("#/$defs/")
        return _shape(definitions[form], form, definitions)
    if "oneOf" in schema and "properties" not in schema:
        return _nullable(schema["oneOf"], name, definitions)
    choices = [schema["const"]] if "const" in schema else schema.get("enum")
    if choices is not None:
        texts = tuple(choice for choice in choices if isinstance(choice, str))
        if len(texts) < len(choices) - choices.count(None):
            raise ShapeError(f"{name}: a choice is no text")
        return Scalar(Kind.TEXT, texts, is_nullable=None in choices)
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    proper = [kind for kind in kinds if kind != Kind.NOTHING] or [Kind.NOTHING]
    if len(proper) > 1:
        raise ShapeError(f"{name}: {proper} is more than one type")
    return _typed(schema, proper[0], name, definitions, is_nullable=Kind.NOTHING in kinds)


def _nullable(options: list[Schema], name: str, definitions: Schema) -> Shape:
    proper = [option for option in options if option != {"type": "null"}]
    if len(proper) != 1 or len(options) != 2:
        raise ShapeError(f"{name}: oneOf is understood for one schema or null")
    return replace(_shape(proper[0], name, definitions), is_nullable=True)


def _typed(
    schema: Schema, kind: str, name: str, definitions: Schema, *, is_nullable: bool
) -> Shape:
    if kind == "array":
        item = _shape(schema["items"], name.removesuffix("s"), definitions)
        return ListOf(item, is_nullable)
    if kind != "object":
        return Scalar(Kind(kind), is_nullable=is_nullable)
    if "properties" in schema:
        return replace(_object(schema, name, definitions), is_nullable=is_nullable)
    values = schema.get("additionalProperties")
    inner = None if values is None else _shape(values, name, definitions)
    return MapOf(inner, is_nullable)
