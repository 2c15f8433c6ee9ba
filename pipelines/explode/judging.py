"""Verdicts on the frames of a batch, some ahead of their turn: a group is judged much faster.

The outcome is that of judging one after the other. A group ends before anything but a commit or a
sync, since an `#identity` or `#account` changes which key counts for what comes after it; and
whoever asks can still park what was judged already.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from pipelines.atproto.syntax import Did
from pipelines.errors import IdentityUnavailableError
from pipelines.explode.sources import Source, did_of, is_signed, source_of
from pipelines.kafka.messages import InputMessage
from pipelines.verdict import Arrival, KeyLookup, Verdict, judge_frames

# Four frames have more than half of the gain, and more than these hardly any.
GROUP_COUNT: Final = 32
# Decoded frames take several times their size, and some are a thousand times as large as most.
GROUP_BYTES: Final = 1024 * 1024


class GroupJudge:
    """Judges the frames of one batch after another.

    Bounds of memory: a group has `GROUP_COUNT` frames and `GROUP_BYTES`, which one frame may pass.
    """

    def __init__(self, keys: KeyLookup, is_held: Callable[[Did, int], bool]) -> None:
        """Has no batch before `begin`.

        Args:
            keys: where to look up signing keys.
            is_held: tells of an account and its partition that its frames have to wait, so that
                there is no use in judging them.
        """
        self._keys = keys
        self._is_held = is_held
        self._batch: Sequence[InputMessage] = ()
        self._next_index = 0
        self._judged: dict[int, tuple[Source, Verdict | IdentityUnavailableError]] = {}

    def begin(self, batch: Sequence[InputMessage]) -> None:
        """Takes over the next batch, and forgets the one before."""
        self._batch = batch
        self._next_index = 0
        self._judged.clear()

    def judge(self, message: InputMessage) -> tuple[Source, Verdict]:
        """Returns where a frame came from, and the verdict on it.

        Args:
            message: of the batch; some may be left out, but the order is the batch's.

        Raises:
            IdentityUnavailableError: nobody can tell the signing key now.
        """
        while self._batch[self._next_index] is not message:
            self._judged.pop(self._next_index, None)
            self._next_index += 1
        if self._next_index not in self._judged:
            self._judge_group()
        source, outcome = self._judged.pop(self._next_index)
        self._next_index += 1
        if isinstance(outcome, IdentityUnavailableError):
            raise outcome
        return source, outcome

    def _judge_group(self) -> None:
        """Judges the next frame, and what follows as far as a group goes."""
        indices = list(self._group())
        sources = [source_of(self._batch[index]) for index in indices]
        arrivals = [Arrival(source.message.value or b"", source.received_us) for source in sources]
        outcomes = judge_frames(arrivals, self._keys)
        self._judged.update(zip(indices, zip(sources, outcomes, strict=True), strict=True))

    def _group(self) -> Iterator[int]:
        first = self._next_index
        message = self._batch[first]
        yield first
        size_bytes = len(message.value or b"")
        for index in range(first + 1, min(first + GROUP_COUNT, len(self._batch))):
            if size_bytes >= GROUP_BYTES or not is_signed(message):
                return
            message = self._batch[index]
            size_bytes += len(message.value or b"")
            if is_signed(message) and not self._is_held(did_of(message), message.partition):
                yield index
