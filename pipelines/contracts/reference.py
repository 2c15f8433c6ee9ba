"""`schemas/REFERENCE.md`: every topic, header and field on one page, from the contracts. Pure."""

from collections.abc import Iterable, Iterator
from typing import assert_never

from pipelines.contracts.topics import Contract, contracts, load_schema
from pipelines.kafka.topics import Format, PartitionBy, Registry, TopicSpec
from pipelines.schemas.shapes import Field, Kind, ListOf, MapOf, ObjectOf, OneOf, Scalar, Shape

_HEAD = """# Reference of topics

Made by `make generated` from `topics/` and `json/`: do not edit. [README.md](README.md) says how
to read the topics, and what the sources are.

"""
_FORMATS = {
    Format.JSON: "JSON",
    Format.FRAME: "a websocket message of `com.atproto.sync.subscribeRepos`, byte for byte",
    Format.ORIGINAL: "whatever value the message had where it came from",
}
_PARTITIONS = {
    PartitionBy.DID: "by DID",
    PartitionBy.KEY: "by key",
    PartitionBy.SOURCE: "that of what it was made from",
}
_MS_PER_HOUR = 3_600_000


def render_reference(known: Registry) -> str:
    """Returns the page."""
    listed = list(contracts(known))
    lines = [
        f"- [{contract.spec.name}](#{contract.spec.name}): {contract.title}" for contract in listed
    ]
    lines.append("- [forms](#forms): what identifiers and encodings look like")
    body = "".join(f"\n{line}" for contract in listed for line in _topic(contract))
    contents = "\n".join(lines)
    return f"{_HEAD}{contents}\n{body}\n{_forms(known)}"


def _topic(contract: Contract) -> Iterator[str]:
    spec = contract.spec
    yield f"## {spec.name}"
    yield ""
    yield spec.description
    yield ""
    yield from _table(("", ""), _facts(spec))
    if spec.headers:
        yield ""
        yield from _table(
            ("header", "encoding", "meaning"),
            (
                (
                    f"`{header.name}`",
                    header.encoding + (", optional" if header.is_optional else ""),
                    header.description,
                )
                for header in spec.headers
            ),
        )
    match contract.shape:
        case None:
            pass
        case ObjectOf(fields=fields):
            yield from _value(contract.description, fields)
        case OneOf(by=by, variants=variants):
            yield ""
            yield contract.description
            for choice, variant in variants.items():
                yield ""
                yield f"### {spec.name}, {by} `{choice}`"
                yield from _value(variant.description, variant.fields)
    yield ""


def _facts(spec: TopicSpec) -> Iterator[tuple[str, str]]:
    if spec.is_family:
        yield "topics", f"`{spec.name}.<collection>` and `{spec.name}.other`"
    yield "key", f"{spec.key.content}, {spec.key.encoding}"
    yield "partition", _PARTITIONS[spec.key.partition_by]
    yield "value", _FORMATS[spec.format]
    if spec.versions:
        newest = spec.versions[-1].number
        path = f"{spec.name}/v{newest}"
        yield "schema", f"[version {newest}](json/{path}.json), [examples](examples/{path}/)"
    yield "written by", ", ".join(spec.producers)
    yield "read by", ", ".join(spec.consumers)
    yield "kept", _kept(spec)


def _kept(spec: TopicSpec) -> str:
    policy = spec.configs["cleanup.policy"]
    retention_ms = int(spec.configs["retention.ms"])
    kept = [] if "compact" not in policy else ["the last message of each key"]
    if retention_ms > 0:
        kept.append(f"{retention_ms / _MS_PER_HOUR:g} hours")
    return "; ".join(kept)


def _value(description: str, fields: Iterable[Field]) -> Iterator[str]:
    if description:
        yield ""
        yield description
    yield ""
    yield from _table(("field", "type", "source", "meaning"), _rows(fields, ""))


def _rows(fields: Iterable[Field], path: str) -> Iterator[tuple[str, ...]]:
    for field in fields:
        name = f"{path}{field.name}"
        meaning = field.description
        if field.unit is not None:
            meaning += f" Unit: {field.unit}."
        yield f"`{name}`", _type(field), field.source, meaning
        yield from _rows(*_parts(field.shape, name))


def _parts(shape: Shape, name: str) -> tuple[tuple[Field, ...], str]:
    """Returns the fields of what is in a field, and the path they stand under."""
    match shape:
        case ListOf(item=item):
            return _parts(item, f"{name}[]")
        case ObjectOf(fields=fields):
            return fields, f"{name}."
        case OneOf() | Scalar() | MapOf():
            return (), ""
        case _:
            assert_never(shape)


def _type(field: Field) -> str:
    shown = _shape(field.shape)
    if field.form is not None and not isinstance(field.shape, ListOf | ObjectOf):
        shown = f"[{field.form}](#{field.form})"
    if field.shape.is_nullable:
        shown += " or null"
    return f"{shown}, optional" if field.is_optional else shown


def _shape(shape: Shape) -> str:
    match shape:
        case Scalar(kind=Kind.NOTHING):
            return "null"
        case Scalar(choices=choices) if choices:
            return ", ".join(f"`{choice}`" for choice in choices)
        case Scalar(kind=kind):
            return str(kind)
        case ListOf(item=item):
            return f"array of {_shape(item)}"
        case MapOf(value=None) | ObjectOf() | OneOf():
            return "object"
        case MapOf(value=inner):
            assert inner is not None
            return f"object of {_shape(inner)}"
        case _:
            assert_never(shape)


def _forms(known: Registry) -> str:
    forms: dict[str, dict[str, str]] = {}
    for contract in contracts(known):
        for version in contract.spec.versions[-1:]:
            definitions = load_schema(version)["$defs"]
            forms |= {name: part for name, part in definitions.items() if "properties" not in part}
    lines = ["## forms", ""]
    for name, form in sorted(forms.items()):
        lines += [f"### {name}", "", form["description"]]
        lines += ["", f"    {form['pattern']}"] if "pattern" in form else []
        lines.append("")
    return "\n".join(lines)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"| {' | '.join('---' for _ in head)} |"
    for row in rows:
        cells = " | ".join(cell.replace("|", "\\|") for cell in row)
        yield f"| {cells} |"
