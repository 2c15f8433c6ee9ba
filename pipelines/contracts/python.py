"""The types of `pipelines.schemas`, written from the contracts. Pure.

Values stay the dicts that JSON gives: a TypedDict costs nothing, shows every field with its type
to whoever reads, and lets pass what a later version adds.
"""

import ast
import textwrap
from collections.abc import Iterable, Iterator
from typing import Final, assert_never

from pipelines.contracts.topics import Contract, contracts
from pipelines.kafka.topics import Header, Registry
from pipelines.schemas.shapes import (
    Field,
    Kind,
    ListOf,
    MapOf,
    ObjectOf,
    OneOf,
    Scalar,
    Shape,
    objects_of,
)

LINE_LENGTH: Final = 99

_HEAD = '''"""The values and headers of all topics. Made by `make generated`: do not edit.

A value that is null (a tombstone) has no type: ask for `message.value is None` first.
"""

from collections.abc import Iterable
from typing import Any, Literal, NotRequired, TypeAlias, TypedDict, cast

from pipelines.schemas.reading import parse_headers, parse_value
'''
_SCALARS: Final = {Kind.TEXT: "str", Kind.INTEGER: "int", Kind.FLAG: "bool", Kind.NOTHING: "None"}


def render_types(known: Registry) -> str:
    """Returns the module with the types of all topics."""
    return _HEAD + "".join(_topic(contract) for contract in contracts(known))


_PACKAGE_HEAD = '''"""What is in the topics, as types. Made by `make generated`: do not edit.

    record = parse_record(message.value())
    if record["operation"] == "create":
        print(record["uri"], record["record"])

For each topic there is a type of its values, one of its headers, and a function for each that
checks and returns them, or raises `MessageError`. What a later version adds is let pass.
`schemas/REFERENCE.md` has every field with its meaning, unit and source.
"""

from pipelines.atproto.errors import MessageError
'''


def render_package(known: Registry) -> str:
    """Returns the package's own module, which exports what `render_types` defines."""
    names = sorted(["MessageError", *_exported(render_types(known))])
    imported = "".join(f"    {name},\n" for name in names if name != "MessageError")
    listed = "".join(f'    "{name}",\n' for name in names)
    return (
        f"{_PACKAGE_HEAD}from pipelines.schemas.values import (\n{imported})\n\n"
        f"__all__ = [\n{listed}]\n"
    )


def _exported(module: str) -> Iterator[str]:
    for statement in ast.parse(module).body:
        match statement:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
                yield name
            case ast.Assign(targets=[ast.Name(id=name)]):
                yield name
            case ast.AnnAssign(target=ast.Name(id=name)):
                yield name


def type_name(words: str) -> str:
    """Returns a name in words as a type is called: `latest record` as `LatestRecord`."""
    return "".join(word.capitalize() for word in words.replace("_", " ").split())


def _topic(contract: Contract) -> str:
    title = contract.title
    blocks = [] if contract.shape is None else list(_value(contract, contract.shape))
    if contract.spec.headers:
        blocks.append(_headers(contract))
    if contract.shape is not None:
        blocks.append(_parser(contract, "value", "value: bytes", type_name(title)))
    if contract.spec.headers:
        argument = "headers: Iterable[tuple[str, bytes]]"
        blocks.append(_parser(contract, "headers", argument, f"{type_name(title)}Headers"))
    return "".join(f"\n\n{block}" for block in blocks)


def _value(contract: Contract, shape: ObjectOf | OneOf) -> Iterator[str]:
    title = contract.title
    tops = list(shape.variants.values()) if isinstance(shape, OneOf) else [shape]
    # A definition may be used several times.
    for part in dict.fromkeys(objects_of(shape)):
        is_top = any(part is top for top in tops)
        name = type_name(part.name if is_top else f"{title} {part.name}")
        summary = f"A value of `{contract.spec.name}`"
        if not is_top:
            summary = f"Part of a value of `{contract.spec.name}`"
        elif isinstance(shape, OneOf):
            summary += f": {part.name}"
        told = _attributes((field.name, _told(field)) for field in part.fields)
        about = [] if not is_top else ["", *_wrapped(part.description or contract.description, 4)]
        lines = [f"class {name}(TypedDict):", f'    """{summary}.', *about, "", *told, '    """']
        lines += ["", *(_declaration(field, title) for field in part.fields)]
        yield "\n".join(lines) + "\n"
    if isinstance(shape, OneOf):
        union = " | ".join(type_name(variant.name) for variant in shape.variants.values())
        line = f"{type_name(title)}: TypeAlias = {union}\n"
        if len(line) > LINE_LENGTH:
            line = f"{type_name(title)}: TypeAlias = (\n    {union}\n)\n"
        yield line


def _declaration(field: Field, title: str) -> str:
    shown = _type(field.shape, title)
    line = f"    {field.name}: {f'NotRequired[{shown}]' if field.is_optional else shown}"
    if len(line) <= LINE_LENGTH or not isinstance(field.shape, Scalar):
        return line
    # As ruff has it.
    is_inside = field.shape.is_nullable or field.is_optional
    indent = " " * (8 if is_inside else 4)
    choices = "".join(f'{indent}    "{choice}",\n' for choice in field.shape.choices)
    literal = f"Literal[\n{choices}{indent}]"
    if not is_inside:
        return f"    {field.name}: {literal}"
    if field.shape.is_nullable:
        literal += f"\n{indent}| None"
    opening, closing = ("NotRequired[", "]") if field.is_optional else ("(", ")")
    return f"    {field.name}: {opening}\n{indent}{literal}\n    {closing}"


def _headers(contract: Contract) -> str:
    name = f"{type_name(contract.title)}Headers"
    headers = contract.spec.headers
    typed = [(header.name, _header_type(header)) for header in headers]
    told = _attributes((header.name, header.description) for header in headers)
    summary = f"The headers of `{contract.spec.name}`."
    if all(header.name.isidentifier() for header in headers):
        lines = [f"class {name}(TypedDict):", f'    """{summary}', "", *told, '    """', ""]
        lines += [f"    {header}: {shown}" for header, shown in typed]
        return "\n".join(lines) + "\n"
    # A functional definition has no docstring.
    lines = [f"# {summary[:-1]}:", *(f"#{line[3:]}" for line in told[1:])]
    lines += [f"{name} = TypedDict(", f'    "{name}",', "    {"]
    lines += [f'        "{header}": {shown},' for header, shown in typed]
    return "\n".join([*lines, "    },", ")"]) + "\n"


def _parser(contract: Contract, what: str, argument: str, result: str) -> str:
    suffix = "_headers" if what == "headers" else ""
    name = f"parse_{contract.title.replace(' ', '_')}{suffix}"
    topic = contract.spec.name
    told = {"value": "JSON; not null", "headers": "of a message"}[what]
    return f'''def {name}({argument}) -> {result}:
    """Returns the {what} of a message of `{topic}`.

    Args:
        {what}: {told}.

    Raises:
        MessageError: something else stands there.
    """
    return cast({result}, parse_{what}("{topic}", {what}))
'''


def _told(field: Field) -> str:
    told = field.description
    if field.unit is not None and field.unit.split()[0] not in told:
        told += f" Unit: {field.unit}."
    return f"{told} Source: {field.source}."


def _attributes(items: Iterable[tuple[str, str]]) -> list[str]:
    lines = ["    Attributes:"]
    for name, told in items:
        lines += textwrap.wrap(
            f"{name}: {told}",
            LINE_LENGTH,
            initial_indent=" " * 8,
            subsequent_indent=" " * 12,
            break_long_words=False,
            break_on_hyphens=False,
        )
    return lines


def _wrapped(text: str, indent: int) -> list[str]:
    return textwrap.wrap(
        text, LINE_LENGTH, initial_indent=" " * indent, subsequent_indent=" " * indent
    )


def _type(shape: Shape, title: str) -> str:
    match shape:
        case Scalar(kind=Kind.NOTHING):
            return "None"
        case Scalar(choices=choices) if choices:
            quoted = ", ".join(f'"{choice}"' for choice in choices)
            shown = f"Literal[{quoted}]"
        case Scalar(kind=kind):
            shown = _SCALARS[kind]
        case ListOf(item=item):
            shown = f"list[{_type(item, title)}]"
        case MapOf(value=inner):
            shown = f"dict[str, {'Any' if inner is None else _type(inner, title)}]"
        case ObjectOf(name=name):
            shown = type_name(f"{title} {name}")
        case OneOf(variants=variants):
            shown = " | ".join(type_name(variant.name) for variant in variants.values())
        case _:
            assert_never(shape)
    return f"{shown} | None" if shape.is_nullable else shown


def _header_type(header: Header) -> str:
    shown = "int" if header.encoding == "decimal" else "str"
    return f"NotRequired[{shown}]" if header.is_optional else shown
