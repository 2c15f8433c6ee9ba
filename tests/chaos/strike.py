"""How a broken copy of the pipeline strikes itself, at the moment at which its breakage shows.

A fault from outside may miss that moment on a busy machine. The copies have this module beside
them; the first of their processes that comes to such a moment is struck, once.
"""

import os
import signal
import subprocess
from collections.abc import Iterable
from pathlib import Path

from pipelines.kafka.clients import SESSION_TIMEOUT_MS
from pipelines.kafka.messages import OutputMessage

# In the folder in which the copy runs.
BEGUN = Path("strike-begun")
DONE = Path("strike-done")

# Long enough for the group to give the partitions to another member, and for that one to finish
# what this one had begun: also where everything is slow.
STOPPED_S = SESSION_TIMEOUT_MS / 1000 + 25


def is_proof(outputs: Iterable[OutputMessage]) -> bool:
    """Tells whether a worker that proves frames writes this, and nothing else.

    A successor that reads what its predecessor learned of identities, or has parked, waits until
    that one's transaction has ended, and so for its strike.
    """
    names = {output.topic.rpartition(".")[2] for output in outputs}
    return "events" in names and not names & {"identities", "parked"}


def die() -> None:
    """Ends the process as SIGKILL does: nothing is cleaned up."""
    if _is_first():
        DONE.touch()
        os._exit(1)


def stand_still() -> None:
    """Stops the process beyond its session time-out, and lets it go on."""
    if _is_first():
        waking = f"sleep {STOPPED_S}; kill -{signal.SIGCONT.value} {os.getpid()}"
        subprocess.Popen(["sh", "-c", waking], start_new_session=True)
        os.kill(os.getpid(), signal.SIGSTOP)
        DONE.touch()


def _is_first() -> bool:
    try:
        BEGUN.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True
