"""Shows a pipeline to a person: a screen that goes on on a terminal, lines elsewhere."""

import time
from collections import deque
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from pipelines.config import KafkaConfig
from pipelines.status.overview import Overview
from pipelines.status.plain import summary
from pipelines.status.screen import screen

SCREEN_INTERVAL_S = 1.0
LINE_INTERVAL_S = 10.0
# Sentences below the screen.
RECENT_COUNT = 6


class Display:
    """What is shown while the `with` block runs; sentences may be said before and after, too.

    Attributes:
        is_screen: whether it is a terminal.
    """

    def __init__(self, console: Console) -> None:
        """Prepares the display.

        Args:
            console: where to show it.
        """
        self._console = console
        self._live: Live | None = None
        self._recent: deque[str] = deque(maxlen=RECENT_COUNT)
        self._shown_s = float("-inf")
        self.is_screen = console.is_terminal

    @property
    def is_due(self) -> bool:
        """Whether it is time for `show`."""
        interval_s = SCREEN_INTERVAL_S if self.is_screen else LINE_INTERVAL_S
        return time.monotonic() - self._shown_s >= interval_s

    def say(self, sentence: str) -> None:
        """Shows a sentence: as a line, or below the screen."""
        if self._live is None:
            self._console.out(sentence, highlight=False)
        else:
            self._recent.append(f"{time.strftime('%H:%M:%S')}  {sentence}")
            self._shown_s = float("-inf")

    def show(self, overview: Overview, kafka: KafkaConfig) -> None:
        """Shows how a pipeline is.

        Args:
            overview: what there is to see.
            kafka: which pipeline it is.
        """
        self._shown_s = time.monotonic()
        if self._live is None:
            self._console.out(summary(overview), highlight=False)
            return
        sentences = [Text(sentence, style="dim") for sentence in self._recent]
        drawn = screen(overview, title_of(kafka), self._console.width)
        self._live.update(Group(drawn, Text(), *sentences), refresh=True)

    def __enter__(self) -> Self:
        if self.is_screen:
            self._live = Live(console=self._console, auto_refresh=False)
            self._live.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None


def title_of(kafka: KafkaConfig) -> str:
    """Returns the name of a pipeline for a heading."""
    return f"Standpipe  {kafka.topic_prefix}.* at {kafka.bootstrap_servers}"
