"""A long run at full speed: `make soak`, or `python tests/soak/run.py --help`.

A generated network of small records goes through everything that `standpipe up` runs, and the
memory of every process is looked at all along. In the end the topics are compared with what really
happened. Exit code 0: everything is there once, nothing is left to do, nothing died, and the
memory of no process grew over the second half of its work; 1 otherwise.
"""

import argparse
import contextlib
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from conftest import free_port
from soak.slopes import Sample, slope_of
from support.memory import own_bytes, peak_bytes

from pipelines import logs
from pipelines.config import KafkaConfig
from pipelines.demo.checks import check_all, is_through
from pipelines.demo.outcome import read_outcome
from pipelines.demo.truth import Truth, load_truth
from pipelines.kafka import admin
from pipelines.kafka.admin import DEFAULT_PARTITIONS_COUNT
from pipelines.kafka.broker import LocalBroker, Running
from pipelines.kafka.jars import KafkaJars
from pipelines.rocks import BLOCK_CACHE_BYTES, MEMTABLE_BYTES
from pipelines.status.overview import Overview
from pipelines.status.watch import Watch
from pipelines.up.children import Size, addresses_in, network_of, stages_of, supervised
from pipelines.up.runner import Runner
from pipelines.up.session import run
from pipelines.up.supervisor import Alive

SAMPLE_COLLECTION = "app.bsky.feed.post"
LOOK_INTERVAL_S = 2.0
TELL_INTERVAL_S = 60.0
_MIB = 1024 * 1024
# Not a part of the pipeline: it keeps every record of the network, so that it can tell the truth.
# Deletions do not wait to be confirmed: the run is compared as soon as every event is through.
_AT_ONCE = ("--purge-after", "0")
_GROWS_BY_RIGHT = frozenset({"sim.0"})
# A stage that has not filled its store's memory in one half goes on filling it, up to its limits.
_STORE_BYTES = {"compact.0": DEFAULT_PARTITIONS_COUNT * (MEMTABLE_BYTES + BLOCK_CACHE_BYTES)}
_BROKER = "kafka"


class Watcher:
    """Looks at the processes of a run.

    Attributes:
        samples: the looks at each process, by its name.
        peaks: the most that each had in RAM.
        lives: the process ids of each, in order: more than one says that it died.
    """

    def __init__(self, broker_pid: int | None) -> None:
        self._broker_pid = broker_pid
        self._next_look_s = 0.0
        self._next_tell_s = 0.0
        self.samples: dict[str, list[Sample]] = defaultdict(list)
        self.peaks: dict[str, int] = {}
        self.lives: dict[str, list[int]] = defaultdict(list)

    @property
    def is_due(self) -> bool:
        """Whether it is time for the next look."""
        return time.monotonic() >= self._next_look_s

    def look(self, runner: Runner, overview: Overview) -> None:
        """Notes the memory of every process."""
        now_s = time.monotonic()
        self._next_look_s = now_s + LOOK_INTERVAL_S
        taken = {stage.name: stage.taken_count for stage in overview.stages}
        # Broker and network work until the last stage has done its part.
        taken[_BROKER] = taken["sim"] = sum(taken.values())
        for name, pid in self._pids(runner).items():
            if not self.lives[name] or self.lives[name][-1] != pid:
                self.lives[name].append(pid)
            count = taken.get(name.partition(".")[0], 0)
            with contextlib.suppress(OSError):  # it ended just now
                self.samples[name].append(Sample(count, own_bytes(pid)))
                self.peaks[name] = peak_bytes(pid)
        if now_s >= self._next_tell_s:
            self._next_tell_s = now_s + TELL_INTERVAL_S
            stages = (
                f"{stage.name} {stage.taken_count:,} ({stage.taken_per_s:,.0f}/s)"
                for stage in overview.stages
            )
            _tell(", ".join(stages))

    def _pids(self, runner: Runner) -> Mapping[str, int]:
        states = runner.supervisor.states()
        pids = {name: state.pid for name, state in states.items() if isinstance(state, Alive)}
        return pids if self._broker_pid is None else pids | {_BROKER: self._broker_pid}


def main() -> int:
    options = _parse()
    logs.configure(level=logging.WARNING)
    folder = Path(tempfile.mkdtemp(prefix="standpipe-soak-", dir=options.folder))
    _tell(f"{options.events:,} events of {options.accounts:,} accounts; everything is in {folder}")
    jars = KafkaJars.default()
    os.environ["STANDPIPE_HOME"] = str(folder)  # where the stages keep their stores
    with _running_broker(folder, jars) as (servers, broker_pid):
        kafka = KafkaConfig(servers, f"soak-{int(time.time())}")
        admin.apply(admin.plan(kafka))
        watcher = Watcher(broker_pid)
        begun_s = time.monotonic()
        truth = _run(kafka, folder, options, watcher)
        seconds = time.monotonic() - begun_s
        _tell(f"through after {seconds:,.0f} s, {options.events / seconds:,.0f} events/s; reading")
        wrong = _compare(kafka, truth, options.events)
        disk = _disk(folder)
    wrong += _show(watcher)
    sizes = ", ".join(f"{name} {size / _MIB:,.0f} MiB" for name, size in disk.items())
    print(f"\ndisk: {sizes}")  # noqa: T201 - a program's output
    if wrong:
        print(f"\nWRONG; {folder} stays:", *wrong, sep="\n  ")  # noqa: T201 - see above
        return 1
    shutil.rmtree(folder)
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Runs many small events through everything and watches every process."
    )
    parser.add_argument("--events", type=int, default=2_000_000, metavar="N", help="how many")
    parser.add_argument("--accounts", type=int, default=2_000, metavar="N", help="of how many")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="of explode")
    parser.add_argument("--seed", type=int, default=1, help="what the network follows from")
    parser.add_argument(
        "--folder", type=Path, metavar="DIR", help="for everything (default: the system's)"
    )
    return parser.parse_args()


@contextlib.contextmanager
def _running_broker(folder: Path, jars: KafkaJars) -> Iterator[tuple[str, int | None]]:
    """Yields the servers that BOOTSTRAP names, or those of a broker of our own and its pid."""
    if bootstrap := os.environ.get("BOOTSTRAP"):
        yield bootstrap, None
        return
    local = LocalBroker(folder / _BROKER, free_port(), free_port(), jars)
    try:
        local.start()
        status = local.status()
        assert isinstance(status, Running)
        yield local.bootstrap_servers, status.pid
    finally:
        local.stop()


def _run(kafka: KafkaConfig, folder: Path, options: argparse.Namespace, watcher: Watcher) -> Truth:
    """Runs the pipeline until nothing is left to do; returns what really happened."""
    given = {"--accounts": options.accounts, "--events": options.events, "--seed": options.seed}
    network = network_of(tuple(str(part) for option in given.items() for part in option))
    truths: list[Truth] = []
    with Runner(folder / "logs", _tell) as runner, Watch(kafka) as watch:

        def should_stop() -> bool:
            if truths or not watcher.is_due:
                return bool(truths)
            overview = watch.look(supervised(runner.supervisor.states()))
            watcher.look(runner, overview)
            if is_through(overview, options.events):
                addresses = addresses_in(runner.log_of(network).read_text(encoding="utf-8"))
                assert addresses is not None
                truths.append(load_truth(addresses.plc))
            return bool(truths)

        failure = run(
            runner,
            network,
            lambda upstream: stages_of(
                kafka, upstream, Size(options.workers, 1), compact=_AT_ONCE
            ),
            should_stop,
            lambda: None,
        )
    if failure is not None:
        sys.exit(f"{failure.child.name} {failure.reason}; the logs are in {folder / 'logs'}")
    return truths[0]


def _compare(kafka: KafkaConfig, truth: Truth, events_count: int) -> list[str]:
    """Compares the topics with the truth; returns what is wrong."""
    wrong = []
    for check in check_all(read_outcome(kafka, SAMPLE_COLLECTION), truth, events_count):
        print("FAILED" if check.problems else "OK    ", check.claim)  # noqa: T201 - see above
        wrong += [f"{check.claim}: {problem}" for problem in check.problems]
    return wrong


def _show(watcher: Watcher) -> list[str]:
    """Prints what was seen of every process; returns what is wrong."""
    wrong = []
    heading = f"{'MiB':<14}{'middle':>8}{'end':>8}{'peak RSS':>10}{'a million':>11}{'half':>8}"
    print(f"\n{heading}")  # noqa: T201 - see above
    for name, samples in watcher.samples.items():
        end_count = samples[-1].work_count
        middle = next(s.own_bytes for s in samples if 2 * s.work_count >= end_count)
        line = f"{name:<14}{middle / _MIB:8,.0f}{samples[-1].own_bytes / _MIB:8,.0f}"
        line += f"{watcher.peaks[name] / _MIB:10,.0f}"
        slope = slope_of(samples)
        if slope is None:
            wrong.append(f"{name}: too short a run to tell whether it grows")
        else:
            line += f"{slope.bytes_per_million / _MIB:+11,.1f}{slope.growth_bytes / _MIB:+8,.1f}"
            filled_bytes = samples[-1].own_bytes - samples[0].own_bytes
            is_filling = filled_bytes <= _STORE_BYTES.get(name, 0)
            if not slope.is_flat and not is_filling and name not in _GROWS_BY_RIGHT:
                wrong.append(f"{name} grew by {slope.growth_bytes / _MIB:,.0f} MiB")
        print(line)  # noqa: T201 - see above
        if len(watcher.lives[name]) > 1:
            wrong.append(f"{name} died {len(watcher.lives[name]) - 1} times")
    return wrong


def _disk(folder: Path) -> dict[str, int]:
    """Returns what each folder of the run takes, in bytes."""
    return {
        path.name: 1024 * int(subprocess.check_output(["du", "-sk", path]).split()[0])
        for path in sorted(folder.iterdir())
        if path.is_dir()
    }


def _tell(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)  # noqa: T201 - progress


if __name__ == "__main__":
    sys.exit(main())
