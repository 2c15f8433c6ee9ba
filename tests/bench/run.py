"""Measures what the pipeline costs: `make bench`, or `python tests/bench/run.py [SECTION …]`.

Every section prints a table of its own; by default all of them do. Times are of this machine in
this minute: compare the lines of one run with each other, not with another run.
"""

import argparse
import platform
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path

import click

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench import (
    analytics,
    audit,
    broker,
    cold_start,
    crawl,
    flood,
    hot_path,
    identities,
    index,
    large_repo,
    mirror,
    pipeline,
    processors,
    repairs,
    replay,
    repo,
    resync,
    sim,
)

_PACKAGES = ("libipld", "cbrrr", "coincurve", "cryptography", "orjson", "atproto")
_CPU_INFO = Path("/proc/cpuinfo")

# In the order in which they are run; each takes the number of rounds.
_SECTIONS: Mapping[str, Callable[[int], None]] = {
    "hot-path": hot_path.run,
    "repo": repo.run,
    "audit": audit.run,
    "identities": identities.run,
    "sim": sim.run,
    "transactions": broker.run,
    "pipeline": pipeline.run,
    "flood": flood.run,
    "crawl": crawl.run,
    "resync": resync.run,
    "repairs": repairs.run,
    "replay": replay.run,
    "large-repo": large_repo.run,
    "index": index.run,
    "analytics": analytics.run,
    "mirror": mirror.run,
    "cold-start": cold_start.run,
}


def machine() -> str:
    """Returns what the figures belong to."""
    models = [
        line.partition(":")[2].strip()
        for line in (_CPU_INFO.read_text() if _CPU_INFO.exists() else "").splitlines()
        if line.startswith("model name")
    ]
    cpu = models[0] if models else platform.processor() or platform.machine()
    packages = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    return f"{cpu}, Python {platform.python_version()}, {processors.load()}\n{packages}"


def main() -> None:
    """Reads the command line and runs the sections."""
    parser = argparse.ArgumentParser(description="Measure what the pipeline costs.")
    parser.add_argument(
        "sections", nargs="*", metavar="SECTION", help=f"one of {', '.join(_SECTIONS)}"
    )
    parser.add_argument("--rounds", type=int, default=40, help="rounds of each measurement")
    arguments = parser.parse_args()
    if arguments.rounds < 1:
        parser.error("--rounds is at least 1")
    if unknown := [name for name in arguments.sections if name not in _SECTIONS]:
        parser.error(f"no section {unknown[0]!r}: there are {', '.join(_SECTIONS)}")
    click.echo(machine())
    for name in arguments.sections or _SECTIONS:
        click.echo()
        _SECTIONS[name](arguments.rounds)


if __name__ == "__main__":
    main()
