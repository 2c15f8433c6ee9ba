"""What a change of the contracts may be: nothing is taken from a reader who is there. Pure.

The frozen form of the contracts, `schemas/released/`, is what readers may rely on. Held against
it, a topic keeps its key, format, headers and versions, and a version stays what it was, but for
words. A further version adds fields and nothing else, and none that has to be there:

- a reader of the version before reads its messages: all that it knows is there, as it was;
- its reader reads the messages of the version before, which lack what was added and stay in the
  topics for as long as those keep them.

So an enumeration neither loses nor gains a choice, and a bound is neither narrowed nor widened.
Whatever cannot be said that way is another topic.
"""

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any, Final

from pipelines.contracts.topics import load_schema
from pipelines.kafka.topics import Registry, TopicSpec

# What is said to people alone: it may be put better at any time.
_WORDS: Final = frozenset({"$comment", "$defs", "$id", "$ref", "$schema", "description", "title"})
_CLOSED: Final = "additionalProperties"

_Schema = Mapping[str, Any]


def topic_problems(released: Registry, current: Registry) -> Iterator[str]:
    """Yields what would break readers of the released topics.

    Args:
        released: the frozen form.
        current: what is to be released next.

    Returns:
        One sentence each, with topic and place, and what to do instead.
    """
    for name, old in released.specs.items():
        new = current.specs.get(name)
        if new is None:
            yield f"{name}: the topic is gone; keep its entry"
        else:
            yield from (f"{name}: {problem}" for problem in _entry_problems(old, new))
    for name, spec in current.specs.items():
        for older, newer in pairwise(spec.versions):
            for problem in version_problems(load_schema(older), load_schema(newer)):
                yield f"{name} v{newer.number}: {problem}"


def version_problems(older: _Schema, newer: _Schema) -> Iterator[str]:
    """Yields what a version changes other than by adding fields that may be missing.

    Args:
        older: JSON Schema of the version before.
        newer: of the version.
    """
    return _differences(expanded(older), expanded(newer), "", frozenset())


def expanded(schema: _Schema) -> _Schema:
    """Returns a schema with its definitions put where they are named, and without words."""
    expansion = _expanded(schema, schema.get("$defs", {}))
    assert isinstance(expansion, dict)
    return expansion


def _entry_problems(old: TopicSpec, new: TopicSpec) -> Iterator[str]:
    for what, before, after in (
        ("key", old.key, new.key),
        ("format", old.format, new.format),
        ("number of partitions", old.partitions, new.partitions),
        ("cleanup.policy", old.configs["cleanup.policy"], new.configs["cleanup.policy"]),
        ("being a family", old.is_family, new.is_family),
    ):
        if before != after:
            yield f"its {what} was {before} and is {after}; keep it, or make another topic"
    yield from _header_problems(old, new)
    for version in old.versions:
        if version.number > len(new.versions):
            yield f"version {version.number} is gone; keep it"
            continue
        kept, edited = load_schema(version), load_schema(new.versions[version.number - 1])
        changes = list(version_problems(kept, edited))
        if not changes and expanded(kept) != expanded(edited):
            changes = ["fields are added"]
        for change in changes:
            yield f"v{version.number} is released and was edited: {change}"


def _header_problems(old: TopicSpec, new: TopicSpec) -> Iterator[str]:
    before = {header.name: header for header in old.headers}
    after = {header.name: header for header in new.headers}
    for name, header in before.items():
        if name not in after:
            yield f"the header {name} is gone; keep it"
        elif header.encoding != after[name].encoding:
            yield f"the header {name} was {header.encoding} and is {after[name].encoding}"
        elif after[name].is_optional != header.is_optional:
            yield f"the header {name} changed in whether it may be missing"
    for name in after.keys() - before.keys():
        if not after[name].is_optional:
            yield f"the header {name} is new and not optional: older messages do not have it"


def _expanded(part: object, definitions: _Schema) -> object:
    if isinstance(part, list):
        return [_expanded(inner, definitions) for inner in part]
    if not isinstance(part, dict):
        return part
    if "$ref" in part:
        # What stands beside a reference refines it.
        part = {**definitions[part["$ref"].removeprefix("#/$defs/")], **part}
        return _expanded({key: part[key] for key in part if key != "$ref"}, definitions)
    found = {key: _expanded(part[key], definitions) for key in part if key not in _WORDS}
    if "properties" in part:
        # A field may be called like one of the words.
        found["properties"] = {
            name: _expanded(field, definitions) for name, field in part["properties"].items()
        }
    return found


def _differences(old: object, new: object, path: str, known: frozenset[str]) -> Iterator[str]:
    """Yields the differences that are not added fields.

    Args:
        old: part of the older schema, expanded.
        new: what stands in its place in the newer one.
        path: where that is.
        known: the fields of the object around it, which conditions speak of.
    """
    if isinstance(old, dict) and isinstance(new, dict):
        yield from _object_differences(old, new, path, known)
    elif isinstance(old, list) and isinstance(new, list) and _hold_schemas(old, new):
        if len(old) != len(new):
            yield f"{path[1:]}: has {len(new)} instead of {len(old)} parts; keep them"
        for index, (before, after) in enumerate(zip(old, new, strict=False)):
            yield from _differences(before, after, f"{path}[{index}]", known)
    elif old != new:
        yield f"{path[1:]}: was {old} and is {new}; keep it"


def _object_differences(
    old: dict[str, Any], new: dict[str, Any], path: str, known: frozenset[str]
) -> Iterator[str]:
    if "properties" in old and old.get(_CLOSED) is False:
        known = frozenset(old["properties"])
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key), new.get(key)
        if key == "properties":
            yield from _field_differences(before or {}, after or {}, path, known)
        elif key == "required":
            yield from _required_differences(before or [], after or [], path)
        elif key not in new or key not in old:
            was, now = old.get(key, "absent"), new.get(key, "absent")
            yield f"{_at(path, key)}: was {was} and is {now}; keep it"
        else:
            yield from _differences(before, after, f"{path}.{key}", known)


def _field_differences(
    old: _Schema, new: _Schema, path: str, known: frozenset[str]
) -> Iterator[str]:
    for name, field in old.items():
        if name in new:
            yield from _differences(field, new[name], f"{path}.{name}", known)
        else:
            yield f"{_at(path, name)}: is gone; keep it"
    for name in new:
        if name not in old and name in known:
            yield f"{_at(path, name)}: is restricted further; take that back"


def _required_differences(old: list[str], new: list[str], path: str) -> Iterator[str]:
    for name in old:
        if name not in new:
            yield f"{_at(path, name)}: may be missing now; keep it required"
    for name in new:
        if name not in old:
            yield (
                f"{_at(path, name)}: is new and required: older messages do not "
                "have it, so leave it out of `required`"
            )


def _at(path: str, name: str) -> str:
    return f"{path}.{name}"[1:]


def _hold_schemas(old: list[Any], new: list[Any]) -> bool:
    return all(isinstance(part, dict) for part in (*old, *new))
