"""Proving frames again while they are replayed, with the keys of their time.

The verdict is that of `pipelines.verdict` on the day of arrival: hashes, signature, tree rules and
inversion, and what is from the future by the header `received_us`. Not checked: how a frame
follows the one before in its repository, and whether its host speaks for its account.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from typing import Final, NamedTuple, assert_never

from pipelines.errors import IdentityUnavailableError
from pipelines.kafka.messages import InputMessage
from pipelines.replay.outputs import Output
from pipelines.replay.progress import Progress
from pipelines.replay.selection import did_of, header_of, seq_of
from pipelines.verdict import (
    Arrival,
    KeyLookup,
    Proven,
    Refused,
    Skipped,
    Unsigned,
    Verdict,
    judge_frames,
)

# Judged in one go; decoded, they take several times their size.
_GROUP_COUNT: Final = 32


class Finding(StrEnum):
    """The verdict on a frame, in a word."""

    PROVEN = "proven"
    UNSIGNED = "unsigned"  # identity and account events: nothing in them is signed
    SKIPPED = "skipped"  # of a type that we do not know
    REFUSED = "refused"
    UNDECIDED = "undecided"  # nobody can tell the key now


class Unproven(NamedTuple):
    """A frame that ought to have a proof and has none.

    Attributes:
        topic: physical name.
        partition: where it is in the topic.
        offset: where it is in the partition.
        host: the upstream, as its header says.
        seq: its number there, or None.
        did: the account, by its key.
        finding: refused or undecided.
        reason: a stable word; None if it is undecided.
        detail: a sentence for a person.
    """

    topic: str
    partition: int
    offset: int
    host: str | None
    seq: int | None
    did: str | None
    finding: Finding
    reason: str | None
    detail: str


class Reverified:
    """An output that proves each frame before it passes it on. Of `Output`.

    Attributes:
        counts: frames by finding, of this run.
        reasons: refused ones by their reason.
    """

    def __init__(
        self, output: Output, keys: KeyLookup, on_unproven: Callable[[Unproven], None]
    ) -> None:
        """Wraps an output.

        Args:
            output: gets all frames, whatever is found.
            keys: where to look up signing keys.
            on_unproven: called with each frame that is refused or undecided.
        """
        self.block_bytes = output.block_bytes
        self.is_prompt = output.is_prompt
        self.counts: Counter[Finding] = Counter()
        self.reasons: Counter[str] = Counter()
        self._output = output
        self._keys = keys
        self._on_unproven = on_unproven

    @property
    def is_good(self) -> bool:
        """Whether every frame that ought to have a proof has one."""
        return not (self.counts[Finding.REFUSED] or self.counts[Finding.UNDECIDED])

    def load(self) -> Progress | None:
        """As of `Output`."""
        return self._output.load()

    def begin(self, progress: Progress) -> None:
        """As of `Output`."""
        self._output.begin(progress)

    def write(self, messages: Sequence[InputMessage], progress: Progress) -> None:
        """As of `Output`."""
        for index in range(0, len(messages), _GROUP_COUNT):
            for unproven in self._judge(messages[index : index + _GROUP_COUNT]):
                self._on_unproven(unproven)
        self._output.write(messages, progress)

    def finish(self) -> None:
        """As of `Output`."""
        self._output.finish()

    def close(self) -> None:
        """As of `Output`."""
        self._output.close()

    def _judge(self, messages: Sequence[InputMessage]) -> Iterator[Unproven]:
        arrivals = [Arrival(message.value or b"", _received_us(message)) for message in messages]
        verdicts = judge_frames(arrivals, self._keys)
        for message, verdict in zip(messages, verdicts, strict=True):
            finding = finding_of(verdict)
            self.counts[finding] += 1
            if isinstance(verdict, Refused):
                self.reasons[verdict.error.reason] += 1
                yield _unproven(message, finding, verdict.error.reason, str(verdict.error))
            elif isinstance(verdict, IdentityUnavailableError):
                yield _unproven(message, finding, None, str(verdict))


class Nowhere:
    """An output for whoever wants to know and not to have. Of `Output`."""

    block_bytes = 1024 * 1024
    is_prompt = False

    def load(self) -> None:
        """As of `Output`: nothing is kept."""

    def begin(self, progress: Progress) -> None:
        """As of `Output`."""

    def write(self, messages: Sequence[InputMessage], progress: Progress) -> None:
        """As of `Output`."""

    def finish(self) -> None:
        """As of `Output`."""

    def close(self) -> None:
        """As of `Output`."""


def finding_of(verdict: Verdict | IdentityUnavailableError) -> Finding:
    """Returns a verdict in a word."""
    match verdict:
        case Proven():
            return Finding.PROVEN
        case Unsigned():
            return Finding.UNSIGNED
        case Skipped():
            return Finding.SKIPPED
        case Refused():
            return Finding.REFUSED
        case IdentityUnavailableError():
            return Finding.UNDECIDED
        case _:
            assert_never(verdict)


def _received_us(message: InputMessage) -> int:
    received_us = header_of(message, "received_us")
    return message.timestamp_ms * 1000 if received_us is None else int(received_us)


def _unproven(
    message: InputMessage, finding: Finding, reason: str | None, detail: str
) -> Unproven:
    host, did = header_of(message, "host"), did_of(message)
    return Unproven(
        message.topic,
        message.partition,
        message.offset,
        None if host is None else host.decode(),
        seq_of(message),
        None if did is None else did.decode(),
        finding,
        reason,
        detail,
    )
