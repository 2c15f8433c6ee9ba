"""Whole repositories: from the bytes of a CAR file to proven records, in one process.

Made-up repositories of likes, in streamable order and with their blocks in any order. Every line
is measured in a process of its own, so that its peak of memory is its own; the second line of each
size is the part of the first that splitting the CAR and hashing takes.
"""

import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click
import orjson

# Also run as a program: the child that measures.
sys.path.insert(0, str(Path(__file__).parent.parent))

from support.exports import Export, export
from support.repo import SIGNER
from support.wire import rev

from pipelines.atproto.car import CarReader
from pipelines.atproto.repo import verify_repo

_SIZES = (1_000, 10_000, 100_000)
_PIECE_BYTES = 256 * 1024
# Building and proving a large repository takes seconds: fewer rounds do for it.
_MAX_ROUNDS_COUNT = 5


def run(rounds: int) -> None:
    """Measures and prints."""
    rounds = min(rounds, _MAX_ROUNDS_COUNT)
    click.echo(
        "Whole repositories, a CAR file with every check: by processor time, the fastest of "
        f"{rounds} rounds"
    )
    click.echo(f"{'':44}  {'CAR MB':>6}  {'records/s':>9}  µs a record  peak MB")
    with tempfile.TemporaryDirectory() as folder:
        for count in _SIZES:
            made = make_repository(count)
            in_order = made.ordered()
            mixed = list(in_order)
            random.Random(count).shuffle(mixed)
            for order, blocks in (("streamable order", in_order), ("any order", mixed)):
                path = Path(folder) / f"{count}-{order}.car"
                path.write_bytes(made.car(blocks))
                _print_line(f"{count:,} records, {order}", "verify", path, count, rounds)
            _print_line("  of which split and hashed", "split", path, count, rounds)


def make_repository(count: int) -> Export:
    """Makes a repository of likes."""
    subject = {
        "cid": "b" + "a" * 58,
        "uri": "at://did:plc:z72i7hdynmk6r22z27h6tvur/app.bsky.feed.",
    }
    like = {"$type": "app.bsky.feed.like", "createdAt": "2026-01-01T00:00:00.000Z"}
    return export(
        {
            f"app.bsky.feed.like/{rev(n)}": like
            | {"subject": subject | {"uri": f"{subject['uri']}post/{rev(n)}"}}
            for n in range(count)
        }
    )


def _print_line(name: str, what: str, path: Path, count: int, rounds: int) -> None:
    command = [sys.executable, __file__, what, str(path), str(rounds)]
    result = orjson.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    seconds = result["seconds"]
    click.echo(
        f"{name:44}  {path.stat().st_size / 1e6:6.1f}  {count / seconds:9,.0f}"
        f"  {seconds / count * 1e6:11.2f}  {result['peak_bytes'] / 1e6:7.0f}"
    )


def _verify(path: Path) -> None:
    with path.open("rb") as file:
        verify_repo(file, SIGNER.key)


def _split(path: Path) -> None:
    reader = CarReader()
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            reader.feed(piece)
    reader.close()


def _measure(call: Callable[[], None], rounds: int) -> dict[str, float]:
    best_s = float("inf")
    for _ in range(rounds):
        # Of the processor, the system's work for the files included: others may be busy, too.
        start_s = time.process_time()
        call()
        best_s = min(best_s, time.process_time() - start_s)
    # Not the figure of `resource`, which begins with the parent's.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    peak_kb = next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]
    return {"seconds": best_s, "peak_bytes": int(peak_kb) * 1024}


if __name__ == "__main__":
    _what, _path, _rounds = sys.argv[1:]
    _call = {"verify": _verify, "split": _split}[_what]
    click.echo(orjson.dumps(_measure(lambda: _call(Path(_path)), int(_rounds))))
