"""The pipeline as a test runs it: the real commands as processes, over a simulated network."""

import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from support.kafka import wait_until

from pipelines.config import KafkaConfig
from pipelines.kafka.admin import apply, plan
from pipelines.process import start_child
from pipelines.sim.service import Addresses

_SHOWN_LENGTH = 6_000
# Those whose logs explain a failure; `forget_ended` before each test keeps them few.
_started: list["Stage"] = []


class Stage:
    """One stage as a process that can be killed and started again."""

    def __init__(self, arguments: list[str], log: Path) -> None:
        self.name = arguments[0]
        self._arguments = arguments
        self._log = log
        self.start()
        _started.append(self)

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._start_bytes = log.tell()
            self.process: subprocess.Popen[bytes] = start_child(
                self._arguments, stdout=log, stderr=log
            )

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None

    def log(self) -> str:
        return self._log.read_text()

    def has_said(self, text: str) -> bool:
        """Whether its log has a text since it was started last."""
        return text.encode() in self._log.read_bytes()[self._start_bytes :]

    def lines(self) -> list[str]:
        """Returns what it has logged since it was started last, line by line."""
        return self._log.read_bytes()[self._start_bytes :].decode(errors="replace").splitlines()

    def pause(self) -> None:
        """SIGSTOP: it stands still, and learns nothing of what the others do meanwhile."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT: it goes on as if no time had passed."""
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL: no chance to clean up."""
        self.process.kill()
        self.process.wait(120)

    def stop(self) -> int:
        """SIGTERM, as an operator stops it; returns the exit code."""
        self.process.terminate()
        try:
            return self.process.wait(120)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.name} did not stop:\n{self.log()}") from None


def forget_ended() -> None:
    """Forgets the stages that no longer run: their logs say nothing of what comes now."""
    _started[:] = [stage for stage in _started if stage.is_running]


def last_words() -> list[tuple[str, str]]:
    """Returns a title and the end of the log of each stage that ran since `forget_ended`."""
    return [(f"Log of {stage.name}", stage.log()[-_SHOWN_LENGTH:]) for stage in _started]


class Pipeline:
    """Starts stages against one cluster and one simulated network."""

    def __init__(self, kafka: KafkaConfig, addresses: Addresses, folder: Path) -> None:
        self.kafka = kafka
        self.relay = addresses.relay
        self._addresses = addresses
        self._folder = folder
        self.stages: list[Stage] = []

    def start_bridge(self, slot: str = "0", relays: Sequence[str] = ()) -> Stage:
        """Starts a bridge; without addresses it reads the relay of the simulated network."""
        options = [f"--relay={relay}" for relay in relays or [self.relay]]
        return self._start("bridge", *options, "--cursor", "oldest", "--slot", slot)

    def start_worker(self, slot: str) -> Stage:
        urls = ["--plc-url", self._addresses.plc, "--did-web-url", self._addresses.did_web]
        folder = str(self._folder / f"identities-{slot}")
        return self._start("explode", "--slot", slot, "--state-dir", folder, *urls)

    def start_compact(self, slot: str = "0", purge_after_s: float = 0, *others: str) -> Stage:
        """Starts compact, which by default asks nobody whether an account is really deleted."""
        folder = str(self.store_folder(slot))
        options = ["--slot", slot, "--state-dir", folder, "--purge-after", str(purge_after_s)]
        return self._start("compact", *options, *others)

    def start_resync(self, slot: str = "0") -> Stage:
        urls = ["--plc-url", self._addresses.plc, "--did-web-url", self._addresses.did_web]
        servers = ["--pds-url", self._addresses.pds]
        folder = str(self._folder / f"spool-{slot}")
        return self._start("resync", "--slot", slot, "--state-dir", folder, *urls, *servers)

    def store_folder(self, slot: str) -> Path:
        """Returns where a compact process keeps its stores."""
        return self._folder / f"stores-{slot}"

    def _start(self, *arguments: str) -> Stage:
        cluster = ["--bootstrap-servers", self.kafka.bootstrap_servers]
        prefix = ["--topic-prefix", self.kafka.topic_prefix]
        log = self._folder / f"{len(self.stages)}-{arguments[0]}.log"
        stage = Stage([*arguments, *cluster, *prefix], log)
        self.stages.append(stage)
        return stage


def full_network(addresses: Addresses) -> list[str]:
    """Returns the command that asks for every repository of a simulated network."""
    relay, servers = addresses.relay, addresses.pds
    return ["backfill", "--full-network", "--relay", relay, "--pds-url", servers, "--json"]


def run_command(config: KafkaConfig, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs a command against a cluster to its end."""
    cluster = ["--bootstrap-servers", config.bootstrap_servers]
    return subprocess.run(
        [
            *(sys.executable, "-c", "from pipelines.cli import main; main()"),
            *arguments,
            *cluster,
            *("--topic-prefix", config.topic_prefix),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@contextmanager
def running_pipeline(
    kafka: KafkaConfig, addresses: Addresses, folder: Path, partitions: int
) -> Iterator[Pipeline]:
    """Creates the topics; kills whatever still runs in the end, and shows logs after an error."""

    def create_topics() -> bool:
        apply(plan(kafka, partitions))
        return True

    # So many at once take a busy machine longer than one request may.
    wait_until(create_topics, "the topics to be there")
    pipeline = Pipeline(kafka, addresses, folder)
    try:
        yield pipeline
    except BaseException:
        for stage in pipeline.stages:
            print(f"--- {stage.name}\n{stage.log()[-_SHOWN_LENGTH:]}")  # noqa: T201 - of a failed test
        raise
    finally:
        for stage in pipeline.stages:
            if stage.is_running:
                stage.kill()
