"""One replay: messages in order, cut into blocks, each written with how far it goes."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from pipelines.kafka.messages import InputMessage
from pipelines.replay.ahead import StoppedError
from pipelines.replay.outputs import Output
from pipelines.replay.progress import Progress
from pipelines.replay.sources import Source
from pipelines.replay.window import Range, message_count

# A block also ends after so many messages were read for it, wanted or not.
_PASSED_COUNT: Final = 1_000_000
# Between two moments of progress.
_TOLD_COUNT: Final = 1_000


@dataclass(slots=True)
class Tally:
    """What a run has done.

    Attributes:
        read_count: offsets behind it, of messages and of the marks between transactions.
        total_count: offsets that it reads in all.
        taken_count: messages that were wanted.
        taken_bytes: sizes of their values.
    """

    total_count: int
    read_count: int = 0
    taken_count: int = 0
    taken_bytes: int = 0


class Job:
    """Takes messages from a source into an output."""

    def __init__(self, source: Source, output: Output, progress: Progress) -> None:
        """Prepares it.

        Args:
            source: begins where `progress` stands.
            output: knows of `progress`.
            progress: how far it is, and where it ends.
        """
        self.tally = Tally(message_count(progress.ranges))
        self._source = source
        self._output = output
        self._progress = progress
        self._block: list[InputMessage] = []
        self._block_bytes = 0
        self._cut_count = 0
        self._told_count = 0

    def run(self, should_stop: Callable[[], bool], on_moment: Callable[[Tally], None]) -> bool:
        """Writes everything, and then gives it its name.

        Args:
            should_stop: asked for each message.
            on_moment: called now and then.

        Returns:
            Whether it came to the end; if not, what is written can be gone on with.

        Raises:
            OutputError: it cannot be written.
            EpochsError: the frames' order cannot be told.
            BrokerUnavailableError: the broker does not answer.
            OffsetLostError: messages were deleted before they could be read.
        """
        try:
            for message in self._source:
                if message is not None:
                    self._block.append(message)
                    self._block_bytes += len(message.value or b"")
                if should_stop():
                    raise StoppedError
                if self._is_due(is_pause=message is None):
                    self._cut()
                if self._source.read_count - self._told_count >= _TOLD_COUNT:
                    self._tell(on_moment)
        except StoppedError:
            # What nobody waits for is read again, so that the blocks are the same.
            if self._output.is_prompt and self._source.is_whole:
                self._cut()
            return False
        self._cut()
        self._tell(on_moment)
        self._output.finish()
        return True

    def _is_due(self, *, is_pause: bool) -> bool:
        if not self._source.is_whole:
            return False
        if self._block_bytes >= self._output.block_bytes:
            return True
        if is_pause and self._output.is_prompt and self._block:
            return True
        return self._source.read_count - self._cut_count >= _PASSED_COUNT

    def _cut(self) -> None:
        ranges = {
            where: Range(self._source.next_offsets[where], end)
            for where, (_, end) in self._progress.ranges.items()
        }
        progress = replace(
            self._progress, ranges=ranges, blocks_count=self._progress.blocks_count + 1
        )
        self._output.write(self._block, progress)
        self._progress = progress
        self.tally.taken_count += len(self._block)
        self.tally.taken_bytes += self._block_bytes
        self._block = []
        self._block_bytes = 0
        self._cut_count = self._source.read_count

    def _tell(self, on_moment: Callable[[Tally], None]) -> None:
        self._told_count = self._source.read_count
        left_count = message_count(
            {
                where: Range(min(self._source.next_offsets[where], end), end)
                for where, (_, end) in self._progress.ranges.items()
            }
        )
        self.tally.read_count = self.tally.total_count - left_count
        on_moment(self.tally)
