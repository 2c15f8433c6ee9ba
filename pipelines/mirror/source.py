"""What the import reads from: a directory or a dump, both in chunks of lines. Pure."""

import threading
from collections.abc import Generator
from typing import NamedTuple, Protocol

from pipelines.mirror.export import Line


class Chunk(NamedTuple):
    """Some lines, one after the other.

    Attributes:
        lines: in the export's order; may be none.
        position: where to go on after them.
        share: how much of everything lies before that position, from 0 to 1; None if that is not
            known.
        is_last: whether there are no more lines at the moment.
        written_us: when they were taken from the directory, microseconds since the epoch; None
            for just now.
    """

    lines: list[Line]
    position: str
    share: float | None
    is_last: bool
    written_us: int | None = None


class Source(Protocol):
    """Where lines come from."""

    def chunks(self, position: str, stop: threading.Event) -> Generator[Chunk]:
        """Yields the lines after a position until there are no more, or until a stop."""
