"""A stage to run the loop with."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from pipelines.kafka.loop import Background
from pipelines.kafka.messages import InputMessage, OutputMessage, Position


class Copy:
    """A stage that copies each message; `hook` sees it first and may raise."""

    def __init__(self, out: str, hook: Callable[[InputMessage], None] | None = None) -> None:
        self.out = out
        self.hook = hook
        self.prepared: list[int] = []

    def prepare(self, batch: Sequence[InputMessage]) -> None:
        self.prepared.append(len(batch))

    def process(self, message: InputMessage) -> Sequence[OutputMessage]:
        if self.hook is not None:
            self.hook(message)
        if message.value == b"silent":
            return []
        copy = OutputMessage(
            self.out, message.partition, message.key, message.value, [], message.timestamp_ms
        )
        return [copy]

    def restore(self, partitions: Sequence[int]) -> Iterator[None]:  # noqa: ARG002 - has none
        return iter(())

    def background(self, partitions: Collection[int]) -> Background | None:  # noqa: ARG002 - has none
        return None

    def committed(self, next_offsets: Mapping[Position, int]) -> None:
        """Keeps nothing that depends on it."""

    def discard(self) -> None:
        """Keeps nothing that depends on it."""
