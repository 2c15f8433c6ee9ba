"""Explode as a stage of the loop: frames in, verdicts, events and records out."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import assert_never

from pipelines import logs
from pipelines.atproto.commit import VerifiedCommit
from pipelines.atproto.frames import IdentityMessage
from pipelines.atproto.syntax import Did
from pipelines.explode.identities import HeldIdentities
from pipelines.explode.outputs import OutputTopics, Source, outputs_of
from pipelines.identity.keyring import KeyRing
from pipelines.kafka.counts import Tally
from pipelines.kafka.loop import Background
from pipelines.kafka.messages import InputMessage, OutputMessage, Position
from pipelines.verdict import Proven, Refused, Skipped, Unsigned, Verdict, judge_frame

STAGE = "explode"

# Kinds of frames, as the bridge notes them in a header, that are judged without a key.
_UNSIGNED_KINDS = frozenset({b"identity", b"account"})

_log = logs.get_logger(STAGE)


class ExplodeStage:
    """One frame at a time; holds no state of any repository, but what it knows of identities.

    Attributes:
        tally: frames by verdict, and messages written by topic.
    """

    def __init__(self, keys: KeyRing, identities: HeldIdentities, topics: OutputTopics) -> None:
        """Wires the stage, which closes what it was given.

        Args:
            keys: where signing keys come from.
            identities: the shelf of the ring.
            topics: where outputs go.
        """
        self._keys = keys
        self._identities = identities
        self._topics = topics
        self._kinds = {
            topics.events: "events",
            topics.quarantine: "quarantine",
            topics.identities: "identities",
        }
        self.tally = Tally()

    @property
    def groups(self) -> dict[str, Mapping[str, int]]:
        """What was counted, and what is known of identities."""
        return {**self.tally.groups, **self._keys.groups}

    def close(self) -> None:
        """Cuts off look-ups and closes the stores."""
        self._keys.close()
        self._identities.close()

    def prepare(self, batch: Sequence[InputMessage]) -> None:
        """Looks up the signing keys of a batch, all at once."""
        self._keys.prefetch(_did(message) for message in batch if _needs_key(message))

    def process(self, message: InputMessage) -> Sequence[OutputMessage]:
        """Proves one frame and returns what it causes.

        Raises:
            IdentityUnavailableError: the signing key cannot be looked up now.
        """
        source = source_of(message)
        verdict = judge_frame(message.value or b"", self._keys, source.received_us)
        if isinstance(verdict, Unsigned):
            # The document or the hosting may have changed: ask again before the next commit.
            self._keys.forget(verdict.message.did, source.received_us)
        elif isinstance(verdict, Refused):
            _log.warning(
                "refused",
                reason=verdict.error.reason,
                did=_did(message),
                partition=message.partition,
                offset=message.offset,
                detail=verdict.error.detail,
            )
        self.tally.add(*_category(verdict))
        outputs = outputs_of(verdict, source, self._topics)
        outputs += self._identities.take(_did(message), message.partition)
        for output in outputs:
            self.tally.add("written", self._kinds.get(output.topic, "records"))
        return outputs

    def restore(self, partitions: Sequence[int]) -> Iterator[None]:
        """Reads what the topic says of the identities of newly assigned partitions."""
        yield from self._identities.restore(partitions)

    def background(self, partitions: Collection[int]) -> Background | None:  # noqa: ARG002 - none
        """Takes in what others learned of identities; has nothing to write by itself."""
        for entry in self._identities.follow():
            self._keys.hear(entry)
        return None

    def committed(self, next_offsets: Mapping[Position, int]) -> None:  # noqa: ARG002 - Stage's
        """Counts what was processed."""
        self.tally.commit()
        self._identities.committed()

    def discard(self) -> None:
        """Does not count what will be processed again."""
        self.tally.discard()
        self._identities.discard()


def source_of(message: InputMessage) -> Source:
    """Returns where a frame came from, by the headers that the bridge wrote."""
    headers = dict(message.headers)
    return Source(
        host=headers["host"].decode(),
        received_us=int(headers["received_us"]),
        message=message,
    )


def _category(verdict: Verdict) -> tuple[str, str]:
    """Returns the group in which a verdict is counted, and its member."""
    match verdict:
        case Proven(verified):
            return "proven", "commit" if isinstance(verified, VerifiedCommit) else "sync"
        case Unsigned(message):
            return "unsigned", "identity" if isinstance(message, IdentityMessage) else "account"
        case Refused(error):
            return "refused", error.reason
        case Skipped(envelope):
            return "skipped", envelope.kind
        case _:
            assert_never(verdict)


def _needs_key(message: InputMessage) -> bool:
    return not any(name == "kind" and value in _UNSIGNED_KINDS for name, value in message.headers)


def _did(message: InputMessage) -> Did:
    # The bridge keys each frame by the DID that it read in it.
    return Did((message.key or b"").decode())
