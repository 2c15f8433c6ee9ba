"""Measures what the pipeline costs: `make bench`, or `python tests/bench/run.py --help`.

Every section prints a table of its own. Times are of this machine in this minute: compare the
lines of one run with each other, not with another run.
"""

import argparse
import os
import platform
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import click

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench import broker, cold_start, compact, crawl, hot_path, identities, mirror, repo, sim

_PACKAGES = ("libipld", "cbrrr", "coincurve", "cryptography", "orjson", "atproto")
_CPU_INFO = Path("/proc/cpuinfo")

# In the order in which they are run; each takes the number of rounds.
_SECTIONS: tuple[Callable[[int], None], ...] = (
    hot_path.run,
    repo.run,
    identities.run,
    sim.run,
    broker.run,
    compact.run,
    crawl.run,
    mirror.run,
    cold_start.run,
)


def machine() -> str:
    """Returns what the figures belong to."""
    models = [
        line.partition(":")[2].strip()
        for line in (_CPU_INFO.read_text() if _CPU_INFO.exists() else "").splitlines()
        if line.startswith("model name")
    ]
    cpu = models[0] if models else platform.processor() or platform.machine()
    packages = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    return f"{cpu}, {os.cpu_count()} CPUs, Python {platform.python_version()}\n{packages}"


def main() -> None:
    """Reads the command line and runs every section."""
    parser = argparse.ArgumentParser(description="Measure what the pipeline costs.")
    parser.add_argument("--rounds", type=int, default=40, help="rounds of each measurement")
    arguments = parser.parse_args()
    if arguments.rounds < 1:
        parser.error("--rounds is at least 1")
    click.echo(machine())
    for run in _SECTIONS:
        click.echo()
        run(arguments.rounds)


if __name__ == "__main__":
    main()
