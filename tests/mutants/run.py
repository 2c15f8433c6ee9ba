"""Breaks the protocol core in small ways and counts what its tests notice: `make mutants`.

Cosmic Ray makes the mutants: a comparison turned round, a number one off, an `and` for an `or`. Of
those at one place in the code that are of one kind, one is tried, chosen by the seed: the others
(`<` as `<=`, `==`, `is`, …) mostly fall with it. Annotations are left alone, as nothing runs them.
Each mutant meets the tests of its module alone, and not those that need a network or a broker.

It works on a copy of the project in .standpipe/mutants and keeps its results there: a run that was
stopped goes on, and what was noticed once is not tried again until its module changes. README.md
beside this file has the numbers, and why the rest survives.
"""

import argparse
import ast
import random
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path

import click
from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import MutationSpec, TestOutcome, WorkerOutcome, WorkItem, WorkResult

from pipelines.config import state_directory

_ROOT = Path(__file__).parents[2]
_COPIED = ("pipelines", "tests", "schemas", "deploy", "pyproject.toml")
_DEFAULT_SEED = 20260101
# A mutant that takes so many times the time of the tests hangs, and one that takes so much memory
# never ends: both are noticed.
_TIMEOUT_FACTOR = 4
_MEMORY_KB = 2 * 1024 * 1024

# The tests that have to notice, the fastest first: the first failure ends a mutant.
_RANGES = "property/test_every_edit.py::test_no_node_outside_the_range_of_its_place_is_passed"
_TESTS: dict[str, tuple[str, ...]] = {
    "car": ("unit/test_car.py", "property/test_car.py"),
    "cbor": ("unit/test_cbor.py", "unit/test_atjson.py", "property/test_cbor.py"),
    "cid": ("unit/test_cid.py", "property/test_cbor.py"),
    "commit": ("unit/test_commit.py", "unit/test_signing.py", "property/test_commit.py"),
    "keys": ("unit/test_keys.py", "property/test_keys.py"),
    "mst/building": ("unit/test_mst_building.py", "property/test_mst.py"),
    "mst/difference": ("unit/test_mst_difference.py", "property/test_difference.py", _RANGES),
    "mst/inversion": (
        "unit/test_mst.py",
        "property/test_mst.py",
        "property/test_every_edit.py",
    ),
    "mst/node": (
        "unit/test_mst.py",
        "unit/test_mst_building.py",
        "property/test_mst.py",
        _RANGES,
    ),
    "mst/traversal": ("unit/test_repo.py", "property/test_repo.py", _RANGES),
    "mst/tree": ("unit/test_tree.py", "property/test_tree.py"),
    "repo_reader": ("unit/test_repo.py", "property/test_repo.py", "unit/test_bounds.py"),
    "signing": ("unit/test_signing.py", "unit/test_keys.py"),
    "spill": ("unit/test_spill.py", "unit/test_repo.py", "property/test_repo.py"),
}


def left_out(items: Iterable[WorkItem], source: str, seed: int, count: int | None) -> list[str]:
    """Chooses the mutants that are not tried.

    Args:
        items: all mutants of a module.
        source: the module.
        seed: the same one chooses the same mutants.
        count: how many are tried at most; None for no limit.

    Returns:
        The ids of their jobs.
    """
    items = list(items)
    annotations = list(_annotations(source))
    places: dict[tuple[object, ...], list[tuple[str, str]]] = defaultdict(list)
    for item in items:
        (mutation,) = item.mutations
        if not any(start <= mutation.start_pos < end for start, end in annotations):
            # First the name of the operator: the ids of the jobs are others in every session.
            places[_place(mutation)].append((mutation.operator_name, item.job_id))
    rng = random.Random(seed)
    tried = [rng.choice(sorted(places[place])) for place in sorted(places)]
    if count is not None and count < len(tried):
        tried = rng.sample(tried, count)
    kept = {job_id for _, job_id in tried}
    return [item.job_id for item in items if item.job_id not in kept]


def _place(mutation: MutationSpec) -> tuple[object, ...]:
    """Returns where a mutant is, and of what kind: its operator without what it puts there."""
    kind = mutation.operator_name.partition("_")[0]
    return mutation.start_pos, mutation.end_pos, kind


def _annotations(source: str) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Yields where types are written: from and to, as (line, column)."""
    for node in ast.walk(ast.parse(source)):
        found: list[ast.expr | None] = []
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.append(node.returns)
        elif isinstance(node, ast.arg):
            found.append(node.annotation)
        elif isinstance(node, ast.AnnAssign):
            found.append(node.annotation)
            if ast.unparse(node.annotation) == "TypeAlias":
                found.append(node.value)
        for expression in found:
            if expression is not None and expression.end_lineno and expression.end_col_offset:
                start = expression.lineno, expression.col_offset
                yield start, (expression.end_lineno, expression.end_col_offset)


def try_mutants(module: str, seed: int, count: int | None, home: Path) -> Path:
    """Tries the mutants of a module that were not noticed yet.

    Returns:
        Where the results are.
    """
    source = Path("pipelines", "atproto", f"{module}.py")
    text = (_ROOT / source).read_text(encoding="utf-8")
    version = sha256(f"{seed} {count} {text}".encode()).hexdigest()[:12]
    session = home / f"{module.replace('/', '.')}-{version}.sqlite"
    settings = session.with_suffix(".toml")
    tests = [f"tests/{test}" for test in _TESTS[module]]
    pytest = f"{sys.executable} -m pytest -x -q -p no:randomly {' '.join(tests)}"
    command = f"ulimit -v {_MEMORY_KB} && exec {pytest}"
    copy = _copy_project(home)
    # They must pass as long as nothing is broken: else every mutant would count as noticed.
    start_s = time.monotonic()
    subprocess.run(["sh", "-c", command], cwd=copy, check=True, stdout=subprocess.DEVNULL)
    taken_s = time.monotonic() - start_s
    settings.write_text(
        "[cosmic-ray]\n"
        f'module-path = ["{source}"]\n'
        f"timeout = {1 + _TIMEOUT_FACTOR * taken_s:.1f}\n"
        "excluded-modules = []\n"
        f"test-command = \"sh -c '{command}'\"\n"
        '[cosmic-ray.distributor]\nname = "local"\n'
    )
    if session.exists():
        _forget_survivors(session)
    else:
        fresh = session.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        _cosmic_ray(copy, "init", settings, fresh)
        with use_db(str(fresh), WorkDB.Mode.open) as work:
            skipped = WorkResult(WorkerOutcome.SKIPPED)
            work.set_multiple_results(left_out(work.work_items, text, seed, count), skipped)
        fresh.rename(session)
    _cosmic_ray(copy, "exec", settings, session)
    return session


def _forget_survivors(session: Path) -> None:
    """Makes what survived be tried again: there may be tests now that notice it."""
    with use_db(str(session), WorkDB.Mode.open) as work:
        items, results = list(work.work_items), list(work.results)
        work.clear()
        work.add_work_items(items)
        for job_id, result in results:
            if result.test_outcome is not TestOutcome.SURVIVED:
                work.set_result(job_id, result)


def _copy_project(home: Path) -> Path:
    """Copies the project anew, since a run that was stopped leaves a mutant behind."""
    copy = home / "project"
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir(parents=True)
    for name in _COPIED:
        if (_ROOT / name).is_dir():
            # Compiled files would hide a change of the same second.
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(_ROOT / name, copy / name, symlinks=True, ignore=ignored)
        else:
            shutil.copy(_ROOT / name, copy / name)
    return copy


def _cosmic_ray(copy: Path, command: str, settings: Path, session: Path) -> None:
    program = Path(sys.executable).with_name("cosmic-ray")
    subprocess.run([program, command, settings, session], cwd=copy, check=True)


def report(module: str, session: Path) -> tuple[int, int]:
    """Prints what survived of a module.

    Returns:
        How many mutants were noticed, and how many were tried.
    """
    with use_db(str(session), WorkDB.Mode.open) as work:
        tried = [
            (item.mutations[0].start_pos, result)
            for item, result in work.completed_work_items
            if result.worker_outcome is not WorkerOutcome.SKIPPED
        ]
    survivors = [found for found in tried if not found[1].is_killed]
    noticed_count = len(tried) - len(survivors)
    share = noticed_count / len(tried) if tried else 1.0
    click.echo(f"{module:16} {noticed_count:5} of {len(tried):5}  {share:.1%}")
    for (line, _), result in sorted(survivors, key=lambda found: found[0]):
        click.echo(f"    line {line}")
        for text in (result.diff or "").splitlines():
            if text[:1] in {"-", "+"} and text[:3] not in {"---", "+++"}:
                click.echo(f"        {text}")
    return noticed_count, len(tried)


def main() -> None:
    """Reads the command line and tries the mutants, module by module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("modules", nargs="*", choices=[*_TESTS, []], help="all by default")
    parser.add_argument("--seed", type=int, default=_DEFAULT_SEED)
    parser.add_argument("--count", type=int, help="so many of each module, chosen by the seed")
    arguments = parser.parse_args()
    home = state_directory() / "mutants"
    noticed_count = tried_count = 0
    for module in arguments.modules or _TESTS:
        session = try_mutants(module, arguments.seed, arguments.count, home)
        noticed, tried = report(module, session)
        noticed_count, tried_count = noticed_count + noticed, tried_count + tried
    click.echo(
        f"{'all':16} {noticed_count:5} of {tried_count:5}  {noticed_count / tried_count:.1%}"
    )


if __name__ == "__main__":
    main()
