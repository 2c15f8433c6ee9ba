"""Every package that is installed with the pipeline is used by it."""

import ast
import re
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

_ROOT = Path(__file__).parents[2]


def imported_packages() -> set[str]:
    """Returns the distributions whose modules the package `pipelines` imports."""
    distributions = packages_distributions()
    found: set[str] = set()
    for file in (_ROOT / "pipelines").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            for name in names:
                found.update(distributions.get(name.partition(".")[0], ()))
    return {normalized(name) for name in found}


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_no_dependency_is_without_use() -> None:
    settings = tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = {
        normalized(re.split(r"[<>=~! ]", dependency, maxsplit=1)[0])
        for dependency in settings["project"]["dependencies"]
    }
    assert {
        "confluent-kafka",
        "faust-streaming",
        "cbor2",
        "multiformats",
        "cryptography",
    } <= wanted
    assert wanted <= imported_packages()
