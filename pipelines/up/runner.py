"""Carries out what the supervisor decides: processes, their logs, and nothing else.

Each child writes its stdout and stderr to `<folder>/<stage>.<slot>.log`, over all its lives in a
run. To be used by the main thread alone: the kernel takes the end of the thread that started a
child for the death of its parent.
"""

import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self, assert_never

from pipelines.kafka.jars import Announce
from pipelines.process import start_child
from pipelines.up.supervisor import Child, Kill, Start, Supervisor, Terminate, exit_text

TICK_S = 0.1
# Of the log of a child that ended the run.
LAST_LINES_COUNT = 12
_KILL_TIMEOUT_S = 10.0


class Runner:
    """The children of one run; whatever still runs at the end of the `with` block is killed.

    Attributes:
        supervisor: decides.
        folder: where the logs are.
    """

    def __init__(self, folder: Path, announce: Announce) -> None:
        """Prepares a run without children.

        Args:
            folder: for the logs; made if missing.
            announce: told in a sentence what happens to the children.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.supervisor = Supervisor()
        self.folder = folder
        self._announce = announce
        self._processes: dict[str, tuple[Child, subprocess.Popen[bytes]]] = {}

    def add(self, children: Iterable[Child]) -> None:
        """Starts further children; their logs begin anew."""
        added = list(children)
        for child in added:
            self.log_of(child).write_bytes(b"")
        self.supervisor.add(added)
        self.tick()

    def tick(self) -> None:
        """Notes who has ended and does what is due; to be called every `TICK_S`."""
        for name, (child, process) in list(self._processes.items()):
            exit_code = process.poll()
            if exit_code is not None:
                del self._processes[name]
                if exit_code != 0 or not self.supervisor.is_stopping:
                    self._announce(f"{name} has ended: {exit_text(exit_code)}")
                self.supervisor.exited(child, exit_code, time.monotonic())
        for action in self.supervisor.step(time.monotonic()):
            match action:
                case Start(child):
                    self._start(child)
                case Terminate(child):
                    self._announce(f"{child.name} is stopped")
                    self._processes[child.name][1].terminate()
                case Kill(child):
                    self._announce(f"{child.name} is killed")
                    self._processes[child.name][1].kill()
                case _:
                    assert_never(action)

    def log_of(self, child: Child) -> Path:
        """Returns the log file of a child."""
        return self.folder / f"{child.name}.log"

    def last_lines(self, child: Child) -> list[str]:
        """Returns the end of the log of a child."""
        text = self.log_of(child).read_text(encoding="utf-8", errors="replace")
        return text.splitlines()[-LAST_LINES_COUNT:]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for _, process in self._processes.values():
            process.kill()
        for _, process in self._processes.values():
            process.wait(_KILL_TIMEOUT_S)

    def _start(self, child: Child) -> None:
        with self.log_of(child).open("ab") as log:
            process = start_child(child.arguments, stdout=log, stderr=log)
        self._processes[child.name] = (child, process)
        self.supervisor.started(child, process.pid)
        self._announce(f"{child.name} is started, pid {process.pid}")
