"""Where a replay writes: what every such place has in common."""

from collections.abc import Sequence
from typing import Protocol

from pipelines.kafka.messages import InputMessage
from pipelines.replay.progress import Progress


class OutputError(Exception):
    """What was read cannot be written; the text says what helps."""


class Output(Protocol):
    """A place to write to, a block at a time.

    Attributes:
        block_bytes: sizes of the values that make a block. The blocks are the same each time, so
            that one which was written only in part can be written again.
        is_prompt: whether somebody waits for what is written, so that a block also ends when
            nothing more comes.
    """

    block_bytes: int
    is_prompt: bool

    def load(self) -> Progress | None:
        """Returns how far an earlier run has come; None if there was none.

        Raises:
            ConfigError: it cannot be gone on with.
            OutputError: nobody can tell.
        """

    def begin(self, progress: Progress) -> None:
        """Notes what is going to be written, and where it ends.

        Raises:
            ConfigError: it cannot be written there.
            OutputError: likewise, for a reason outside.
        """

    def write(self, messages: Sequence[InputMessage], progress: Progress) -> None:
        """Writes a block, and with it how far it goes: both or nothing.

        Args:
            messages: in order; there may be none.
            progress: with the block.

        Raises:
            OutputError: it cannot be written; the blocks before it are there.
        """

    def finish(self) -> None:
        """Gives what was written its name, as it is whole now.

        Raises:
            OutputError: it cannot be named.
        """

    def close(self) -> None:
        """Ends writing, whole or not."""
