"""The Makefile: it describes itself, names what is missing, and does nothing twice."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
_DEVELOPING = [
    "help",
    "setup",
    "demo",
    "fmt",
    "test",
    "bench",
    "chaos",
    "chaos-index",
    "soak",
    "fuzz",
    "mutants",
]
_CHECKING = ["check", "fmt-check", "lint", "type", "imports", "schemas", "generated", "freeze"]
_RELEASING = ["build", "constraints", "clean"]
_ACCEPTED_PYTHON = '[ "$1" = -c ] || { echo "python $*"; exit 1; }'


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with what the Makefile looks at."""
    folder = tmp_path / "project"
    (folder / "deploy" / "kafka").mkdir(parents=True)
    for name in ("Makefile", "pyproject.toml", "constraints.txt", "deploy/kafka/pom.xml"):
        shutil.copy(_ROOT / name, folder / name)
    return folder


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder that is all of PATH: make, a shell and a grep, nothing else."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("make", "sh", "grep", "touch", "awk"):
        found = shutil.which(name)
        assert found is not None
        (folder / name).symlink_to(found)
    return folder


def _put(program: Path, script: str) -> None:
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def _make(project: Path, *arguments: str, programs: Path | None = None) -> tuple[int, str, str]:
    environment = {name: os.environ[name] for name in ("HOME", "LANG") if name in os.environ}
    environment["PATH"] = str(programs) if programs else os.environ["PATH"]
    run = subprocess.run(
        ["make", *arguments],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return run.returncode, run.stdout, run.stderr


def _missing(stderr: str) -> list[str]:
    return [line for line in stderr.splitlines() if "apt-get install" in line]


def test_make_alone_lists_every_target(project: Path) -> None:
    status, out, _ = _make(project)
    assert status == 0
    listed = re.findall(r"^  (\S+) +\S", out, flags=re.MULTILINE)
    assert sorted(listed) == sorted(_DEVELOPING + _CHECKING + _RELEASING)


@pytest.mark.parametrize("target", ["setup", "demo", "test"])
def test_everything_missing_is_named_at_once_before_anything_is_made(
    project: Path, programs: Path, target: str
) -> None:
    before = sorted(project.rglob("*"))
    status, _, err = _make(project, target, programs=programs)
    assert status == 2
    python, java, maven = _missing(err)
    assert "Python 3.11 or newer is missing" in python
    assert "apt-get install openjdk-17-jre-headless" in java
    assert "apt-get install maven" in maven
    assert sorted(project.rglob("*")) == before


def test_python_without_venv_is_named_with_its_package(project: Path, programs: Path) -> None:
    _put(
        programs / "python3",
        f'case "$2" in *ensurepip*) exit 1;; *) exec {sys.executable} "$@";; esac',
    )
    status, _, err = _make(project, "lint", programs=programs)
    assert status == 2
    (line,) = _missing(err)
    assert f"apt-get install python3.{sys.version_info[1]}-venv" in line


def test_old_python_is_named(project: Path, programs: Path) -> None:
    _put(programs / "python3", "exit 1")
    status, _, err = _make(project, "lint", programs=programs)
    assert status == 2
    (line,) = _missing(err)
    assert "python3 is older than Python 3.11" in line


def test_old_java_is_named(project: Path, programs: Path) -> None:
    _put(programs / "python3", _ACCEPTED_PYTHON)
    _put(programs / "mvn", "exit 0")
    _put(programs / "java", """echo 'openjdk version "11.0.2"' >&2""")
    status, _, err = _make(project, "setup", programs=programs)
    assert status == 2
    (line,) = _missing(err)
    assert "java is older than Java 17" in line


def test_with_a_cluster_of_ones_own_neither_java_nor_maven_is_needed(
    project: Path, programs: Path
) -> None:
    _put(programs / "python3", _ACCEPTED_PYTHON)
    status, out, err = _make(project, "test", "BOOTSTRAP=127.0.0.1:1", programs=programs)
    assert status == 2  # the stand-in for Python ends it here
    assert _missing(err) == []
    assert out.splitlines()[-1] == "python -m venv .venv"


def test_checks_need_neither_java_nor_maven(project: Path, programs: Path) -> None:
    _put(programs / "python3", _ACCEPTED_PYTHON)
    _, out, err = _make(project, "check", programs=programs)
    assert _missing(err) == []
    assert out.splitlines()[-1] == "python -m venv .venv"


def test_second_setup_does_nothing_until_its_inputs_change(project: Path) -> None:
    stamps = [project / ".venv/.installed", project / ".standpipe/kafka/libs/.fetched"]
    for stamp in stamps:
        stamp.parent.mkdir(parents=True)
        stamp.touch()

    def would_run(changed: str | None = None) -> str:
        what_if = [f"--what-if={changed}"] if changed else []
        return _make(project, "--dry-run", *what_if, "setup")[1]

    assert would_run().splitlines() == ['echo "Ready: .venv/bin/standpipe"']
    for name in ("pyproject.toml", "constraints.txt"):
        assert "pip install" in would_run(name)
    assert "kafka fetch" in would_run("deploy/kafka/pom.xml")
    assert "pip install" not in would_run("deploy/kafka/pom.xml")


def test_clean_leaves_environment_and_broker_alone(project: Path) -> None:
    kept = [".venv/bin/python", ".standpipe/kafka/data/topics/x", "pipelines/a.py", "tests/b.py"]
    built = ["build/x", "dist/x.whl", ".mypy_cache/x", "pipelines/__pycache__/a.pyc"]
    for name in kept + built:
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).touch()
    status, _, _ = _make(project, "clean")
    assert status == 0
    assert [name for name in kept + built if (project / name).exists()] == kept
