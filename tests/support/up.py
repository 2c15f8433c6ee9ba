"""`standpipe up` as a test runs it: a process with its output in a file, and its children."""

import os
import re
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from support.kafka import wait_until

from pipelines.config import KafkaConfig

STANDPIPE = Path(sys.executable).with_name("standpipe")
END_TIMEOUT_S = 180


class UpProcess:
    """A running `standpipe up`."""

    def __init__(self, kafka: KafkaConfig, folder: Path, *options: str) -> None:
        self._out = folder / f"up-{uuid.uuid4().hex}.out"
        cluster = ["--bootstrap-servers", kafka.bootstrap_servers]
        prefix = ["--topic-prefix", kafka.topic_prefix]
        with self._out.open("wb") as out:
            self.process = subprocess.Popen(
                [STANDPIPE, "up", *options, *cluster, *prefix],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, "STANDPIPE_HOME": str(folder)},
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        return self._out.read_text(encoding="utf-8")

    def pids(self, name: str) -> list[int]:
        """The processes that a child had, in order."""
        found = re.findall(rf"^{name} is started, pid (\d+)$", self.output, re.MULTILINE)
        return [int(pid) for pid in found]

    def wait_for_start(self, name: str, count: int = 1) -> int:
        """Waits until a child was started so many times; returns its last pid."""
        self.wait_for(lambda: len(self.pids(name)) >= count, f"start {count} of {name}")
        return self.pids(name)[-1]

    def wait_for(self, condition: Callable[[], bool], what: str) -> None:
        """Waits for a condition, as long as the process has not ended."""
        try:
            wait_until(lambda: condition() or self.process.poll() is not None, what, END_TIMEOUT_S)
        except AssertionError as failure:
            raise AssertionError(f"{failure}:\n{self.output}") from None
        assert condition(), f"{what}; it ended with {self.process.poll()}:\n{self.output}"

    def interrupt(self) -> None:
        """Ctrl-C, which reaches this process alone."""
        self.process.send_signal(signal.SIGINT)

    def wait(self) -> int:
        """Waits for its end; returns the exit code."""
        try:
            return self.process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it does not end:\n{self.output}") from None


@contextmanager
def running_up(kafka: KafkaConfig, folder: Path, *options: str) -> Iterator[UpProcess]:
    """Runs `standpipe up`; kills it in the end if it still runs."""
    up = UpProcess(kafka, folder, *options)
    try:
        yield up
    finally:
        if up.process.poll() is None:
            up.process.kill()
            up.process.wait(120)


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits to be reaped does not."""
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except OSError:
        return False


def processes_of(kafka: KafkaConfig) -> list[str]:
    """The command lines of all processes that work for a topic prefix."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                arguments = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            except OSError:
                continue  # it ended while we looked
            if kafka.topic_prefix in arguments:
                found.append(" ".join(arguments))
    return found
