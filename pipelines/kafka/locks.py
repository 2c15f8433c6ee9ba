"""A lock between processes: a file that one of them holds.

The kernel releases it when its holder ends, however it ends, so there is no stale lock.
"""

import contextlib
import fcntl
import time
from collections.abc import Iterator
from pathlib import Path

from pipelines.errors import BrokerUnavailableError

_POLL_S = 0.1


@contextlib.contextmanager
def exclusive(path: Path, *, purpose: str, timeout_s: float) -> Iterator[None]:
    """Holds a lock file for the duration of a `with` block.

    Args:
        path: the lock file; created if missing, and left behind.
        purpose: what its holder does, for the error: "another process {purpose}".
        timeout_s: how long to wait for another holder.

    Raises:
        BrokerUnavailableError: another process held the lock all that time.
    """
    deadline = time.monotonic() + timeout_s
    with path.open("a") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise BrokerUnavailableError(
                        f"another process {purpose} and has not finished within {timeout_s:g} s: "
                        f"try again (it holds {path})"
                    ) from None
                time.sleep(_POLL_S)
        yield
