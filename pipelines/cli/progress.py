"""A bar for work that takes a while."""

import contextlib
import sys
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


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
