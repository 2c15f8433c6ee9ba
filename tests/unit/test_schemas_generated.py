"""What is made from schemas/ says what they say, and nothing is left out of it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines import schemas
from pipelines.contracts.generated import generated_files
from pipelines.contracts.python import _declaration
from pipelines.contracts.topics import contracts
from pipelines.kafka.topics import registry
from pipelines.schemas.shapes import Field, Kind, Scalar, Source, objects_of

PROJECT = Path(__file__).parents[2]
FILES = generated_files(registry())


@pytest.mark.parametrize("path", FILES, ids=str)
def test_generated_file_is_up_to_date(path: Path) -> None:
    kept = (PROJECT / path).read_text(encoding="utf-8")
    assert kept == FILES[path], f"{path} is not what schemas/ say: run `make generated`"


def test_the_reference_has_every_topic_header_and_field() -> None:
    reference = FILES[Path("schemas/REFERENCE.md")]
    for contract in contracts(registry()):
        _, _, rest = reference.partition(f"\n## {contract.spec.name}\n")
        section, _, _ = rest.partition("\n## ")
        assert contract.spec.description in section
        for header in contract.spec.headers:
            assert f"| `{header.name}` | {header.encoding}" in section
        if contract.shape is not None:
            for part in objects_of(contract.shape):
                for field in part.fields:
                    row = rf"^\| `(?:\S+[.])?{field.name}` \| .+ \| {field.source} \| "
                    assert re.search(row, section, re.MULTILINE), field.name


def test_links_of_the_reference_lead_somewhere() -> None:
    reference = FILES[Path("schemas/REFERENCE.md")]
    headings = set(re.findall(r"^##+ ([\w-]+)$", reference, re.MULTILINE))
    # Lines that are indented are patterns.
    links = re.findall(r"^(?! ).*\]\(([^)]+)\)", reference, re.MULTILINE)
    assert len(links) > 50
    for link in links:
        if link.startswith("#"):
            assert link[1:] in headings, link
        else:
            assert (PROJECT / "schemas" / link).exists(), link


def test_every_topic_has_its_types() -> None:
    parsers = [name for name in schemas.__all__ if name.startswith("parse_")]
    headers = [name for name in parsers if name.endswith("_headers")]
    specs = registry().specs.values()
    assert len(headers) == sum(1 for spec in specs if spec.headers)
    assert len(parsers) - len(headers) == sum(1 for spec in specs if spec.versions)


@pytest.mark.parametrize("is_optional", [False, True])
@pytest.mark.parametrize("is_nullable", [False, True])
@pytest.mark.parametrize("choices_count", [2, 20])
def test_declarations_are_as_ruff_has_them(
    choices_count: int, *, is_nullable: bool, is_optional: bool
) -> None:
    choices = tuple(f"choice_{number}" for number in range(choices_count))
    field = Field(
        "one",
        "Told.",
        Source.STAGE,
        None,
        None,
        Scalar(Kind.TEXT, choices, is_nullable=is_nullable),
        is_optional=is_optional,
    )
    module = f"class Thing(TypedDict):\n{_declaration(field, 'thing')}\n"
    command = [sys.executable, "-m", "ruff", "format", "--config", "line-length=99", "-"]
    formatted = subprocess.run(command, input=module, capture_output=True, text=True, check=True)
    assert formatted.stdout == module
    assert ("NotRequired[" in module) == is_optional
    assert all(f'"{choice}"' in module for choice in choices)
