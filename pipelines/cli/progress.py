"""Bars and lines for work that takes a while."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Final, Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from pipelines import logs

LOG_INTERVAL_S: Final = 10.0


class Moment(Protocol):
    """How far something has come; its text is what a person sees."""

    @property
    def done_count(self) -> int:
        """How much is done."""

    def fields(self) -> Mapping[str, float | None]:
        """Returns the same for a log line."""


@contextlib.contextmanager
def moments(stage: str, event: str) -> Iterator[Callable[[Moment], None]]:
    """Shows on stderr how far something has come whose end is not known, while the block runs.

    On a terminal it is one line that changes, else a log line every `LOG_INTERVAL_S` at most, and
    only if more is done.

    Args:
        stage: whose logger says it.
        event: what the log line is called.

    Yields:
        To be called with each moment.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines(stage, event).show
        return
    columns = (SpinnerColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, transient=True) as bar:
        line = bar.add_task("connecting")
        yield lambda moment: bar.update(line, description=str(moment))


class _Lines:
    """Log lines, not more often than every `LOG_INTERVAL_S`."""

    def __init__(self, stage: str, event: str) -> None:
        self._log = logs.get_logger(stage)
        self._event = event
        self._shown_s = time.monotonic()
        self._shown_count = 0

    def show(self, moment: Moment) -> None:
        now_s = time.monotonic()
        is_due = now_s - self._shown_s >= LOG_INTERVAL_S
        if is_due and moment.done_count != self._shown_count:
            self._shown_s, self._shown_count = now_s, moment.done_count
            self._log.info(self._event, **moment.fields())


@contextlib.contextmanager
def progress(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """Shows on stderr how much of something is done, while the block runs.

    Only where stderr is a terminal, and where the results do not fill the same terminal.

    Args:
        title: what is being done.
        total: how much there is to do, in any unit.

    Yields:
        To be called with how much more is done.
    """
    console = Console(stderr=True)
    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    is_shown = console.is_terminal and not sys.stdout.isatty()
    with Progress(*columns, console=console, disable=not is_shown, transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda more: bar.advance(task, more)
