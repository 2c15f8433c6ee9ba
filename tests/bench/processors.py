"""Who used how much of the processors, by the kernel's own account (`/proc`; Linux)."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

_PROC = Path("/proc")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
# Of the fields of `/proc/PID/stat`, counted from behind the name, which may hold spaces.
_USER, _SYSTEM = 11, 12
# Of those of the first line of `/proc/stat`.
_IDLE, _WAITING = 3, 4
# Time of virtual machines is in the first two fields already.
_COUNTED = 8


class Used(NamedTuple):
    """Seconds of processor used so far, in user and kernel mode.

    Attributes:
        by_pid: by process, all threads together.
        machine: by everything that runs.
    """

    by_pid: dict[int, float]
    machine: float


def used(pids: Iterable[int]) -> Used:
    """Returns what processes, which must be running, and the whole machine have used."""
    return Used({pid: _of_process(pid) for pid in pids}, _of_machine())


def load() -> str:
    """Returns what else goes on, as the kernel says it: processes that want to run."""
    return f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs"


def _of_process(pid: int) -> float:
    fields = (_PROC / str(pid) / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    return (int(fields[_USER]) + int(fields[_SYSTEM])) / _TICKS_PER_S


def _of_machine() -> float:
    first_line = (_PROC / "stat").read_text("ascii").partition("\n")[0]
    ticks = [int(field) for field in first_line.split()[1 : 1 + _COUNTED]]
    return (sum(ticks) - ticks[_IDLE] - ticks[_WAITING]) / _TICKS_PER_S
