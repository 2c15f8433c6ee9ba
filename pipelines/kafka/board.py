"""Where a process can be asked what it says of itself.

A stage's report goes to the topic `status` (`pipelines.kafka.heartbeat`). Whoever else in the
process wants to know asks here, so that nothing has to be handed through the stage.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple

from pipelines.kafka.beat import Report


class Name(NamedTuple):
    """A stage and the slot of this process in it."""

    stage: str
    slot: str


# One process runs one stage; in tests it may be several.
_reports: Final[dict[Name, Callable[[], Report]]] = {}


@contextlib.contextmanager
def shown(stage: str, slot: str, report: Callable[[], Report]) -> Iterator[None]:
    """Has a stage's report at hand while the block runs.

    Args:
        stage: name of the stage.
        slot: stable name of this process among those of its stage.
        report: what the stage has to say now; called from other threads.
    """
    name = Name(stage, slot)
    _reports[name] = report
    try:
        yield
    finally:
        del _reports[name]


def reports() -> Mapping[Name, Report]:
    """Returns what the stages of this process have to say now."""
    return {name: report() for name, report in list(_reports.items())}
