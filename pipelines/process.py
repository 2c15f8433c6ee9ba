"""The life of a process: stopping when asked to, and children that die with their parent."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import IO

_PR_SET_PDEATHSIG = 1


@contextlib.contextmanager
def stop_event() -> Iterator[threading.Event]:
    """Yields an event that SIGINT (Ctrl-C) and SIGTERM set.

    The first signal asks for a clean stop. After it the signals have their old meaning again, so
    that a second one ends a process that hangs.
    """
    event = threading.Event()
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    def stop(_number: int, _frame: FrameType | None) -> None:
        event.set()
        restore()

    for number in previous:
        signal.signal(number, stop)
    try:
        yield event
    finally:
        restore()


def start_child(
    arguments: Sequence[str],
    *,
    stdout: int | IO[bytes] | None = None,
    stderr: int | IO[bytes] | None = None,
) -> subprocess.Popen[bytes]:
    """Starts `standpipe` with arguments as a child that gets SIGKILL when its parent dies.

    The parent is the calling thread: use one that lives as long as the process. A stage left over
    by a killed parent would fence the stages of the next run. The child is a fresh process
    (`exec`): Kafka clients do not survive a bare fork. It has its own session, so that Ctrl-C
    reaches the parent alone, which then stops its children in order.

    Args:
        arguments: of the command line, without the program's name.
        stdout: as for `subprocess.Popen`.
        stderr: as for `subprocess.Popen`.
    """
    return subprocess.Popen(  # noqa: S603 - our own program with arguments of our own
        [sys.executable, "-c", _CHILD, str(os.getpid()), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        start_new_session=True,
    )


# prctl before anything else runs: the parent may die while the child is still importing.
_CHILD = """
import sys
from pipelines.process import die_with_parent
die_with_parent(int(sys.argv[1]))
from pipelines.cli import main
main(sys.argv[2:])
"""


def die_with_parent(parent_pid: int) -> None:
    """Asks the kernel (Linux) to kill this process when its parent dies.

    Args:
        parent_pid: the parent; if it is gone already, this process ends at once.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent_pid:
        os.kill(os.getpid(), signal.SIGKILL)  # it died before the kernel was asked
