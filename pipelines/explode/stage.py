"""Explode as a stage of the loop: frames in, verdicts, events and records out."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import assert_never

from pipelines import logs
from pipelines.atproto.commit import VerifiedCommit
from pipelines.atproto.errors import IdentityError, Reason
from pipelines.atproto.frames import IdentityMessage
from pipelines.atproto.syntax import Did
from pipelines.errors import IdentityUnavailableError
from pipelines.explode.ceiling import RefusalWindow
from pipelines.explode.identities import HeldIdentities
from pipelines.explode.judging import GroupJudge
from pipelines.explode.outputs import OutputTopics, given_up_outputs, outputs_of
from pipelines.explode.pointers import Pointer
from pipelines.explode.sources import Source, did_of, needs_document, source_of
from pipelines.explode.waiting import WaitingFrames
from pipelines.identity.entries import IdentityEntry
from pipelines.identity.keyring import KeyRing
from pipelines.identity.lifetimes import NEW_DID_LIFETIME_US, SECOND_US
from pipelines.kafka.counts import Tally
from pipelines.kafka.loop import Background
from pipelines.kafka.messages import InputMessage, OutputMessage, Position
from pipelines.verdict import Proven, Refused, Skipped, Unsigned, Verdict, judge_frame

STAGE = "explode"

_log = logs.get_logger(STAGE)


class ExplodeStage:
    """One frame at a time; holds no state of any repository, but what it knows of identities.

    Attributes:
        tally: frames by verdict, and messages written by topic.
    """

    def __init__(
        self,
        keys: KeyRing,
        identities: HeldIdentities,
        waiting: WaitingFrames,
        topics: OutputTopics,
        refusals: RefusalWindow,
        confirm_table: Callable[[], None],
    ) -> None:
        """Wires the stage, which closes what it was given.

        Args:
            keys: where signing keys come from.
            identities: the shelf of the ring.
            waiting: frames that cannot be judged now.
            topics: where outputs go.
            refusals: the frames judged last; says when too much is refused.
            confirm_table: called by who is a member of the group; raises `ConfigError` if
                `topics` does not have the deployment's table of admitted collections any more.
        """
        self._keys = keys
        self._judge = GroupJudge(keys, waiting.holds)
        self._identities = identities
        self._waiting = waiting
        self._topics = topics
        self._refusals = refusals
        self._confirm_table = confirm_table
        self._kinds = {
            topics.events: "events",
            topics.quarantine: "quarantine",
            topics.identities: "identities",
            topics.parked: "parked",
        }
        self.tally = Tally()

    @property
    def groups(self) -> dict[str, Mapping[str, int]]:
        """What was counted, and what is known of identities."""
        return {
            **self.tally.groups,
            **self._keys.groups,
            "parked": self._waiting.counts,
            "refused_lately": self._refusals.counts,
        }

    def close(self) -> None:
        """Cuts off look-ups and closes the stores."""
        self._keys.close()
        self._identities.close()
        self._waiting.close()

    def prepare(self, batch: Sequence[InputMessage]) -> None:
        """Looks up the signing keys of a batch, all at once.

        Raises:
            IdentityUnavailableError: what was learned before is still to be read back.
        """
        self._identities.check_room()
        self._keys.prefetch(
            did
            for message in batch
            if needs_document(message)
            and not self._waiting.holds(did := did_of(message), message.partition)
        )
        self._judge.begin(batch)

    def process(self, message: InputMessage) -> Sequence[OutputMessage]:
        """Proves one frame and returns what it causes, or parks it.

        Raises:
            IdentityUnavailableError: as many frames wait as may.
            RefusalCeilingError: too much is refused; nothing of the batch may be committed.
        """
        did = did_of(message)
        if self._waiting.holds(did, message.partition):
            outputs = [self._waiting.park(message, did, None)]
        else:
            try:
                outputs = self._outputs(*self._judge.judge(message))
            except IdentityUnavailableError as error:
                outputs = [self._waiting.park(message, did, error)]
        self._count(outputs)
        return outputs

    def restore(self, partitions: Sequence[int]) -> Iterator[None]:
        """Reads what the topics say of newly assigned partitions."""
        self._confirm_table()
        for heard in self._identities.restore(partitions):
            self._hear(heard)
            yield
        yield from self._waiting.restore(partitions)

    def background(self, partitions: Collection[int]) -> Background | None:
        """Takes in what others learned of identities, and tries frames again that had to wait."""
        self._hear(self._identities.follow())
        self._keys.prefetch((), 0.0)  # what is not known now is not waited for
        work = self._waiting.revisit(partitions, self._judge_again, self._give_up)
        if work is not None:
            self._count(work.outputs)
        return work

    def committed(self, next_offsets: Mapping[Position, int]) -> None:  # noqa: ARG002 - Stage's
        """Counts what was processed."""
        self.tally.commit()
        self._identities.committed()

    def discard(self) -> None:
        """Does not count what will be processed again."""
        self.tally.discard()
        self._identities.discard()

    def _hear(self, heard: Sequence[IdentityEntry]) -> None:
        for entry in heard:
            self._keys.hear(entry)

    def _judge_again(self, message: InputMessage) -> list[OutputMessage]:
        source = source_of(message)
        verdict = judge_frame(message.value or b"", self._keys, source.received_us)
        return self._outputs(source, verdict)

    def _outputs(self, source: Source, verdict: Verdict) -> list[OutputMessage]:
        """Returns what a frame causes.

        Raises:
            IdentityUnavailableError: its account may be one that was made just now, or nobody can
                tell its server.
            RefusalCeilingError: with this one too much is refused.
        """
        message = source.message
        did = did_of(message)
        verdict = self._check_server(did, source) or verdict
        if isinstance(verdict, Unsigned):
            # The document or the hosting may have changed: ask again before the next commit.
            self._keys.forget(verdict.message.did, source.received_us)
        elif isinstance(verdict, Refused):
            if verdict.error.reason is Reason.IDENTITY_NOT_FOUND and self._keys.may_appear(
                did, source.received_us
            ):
                raise IdentityUnavailableError(
                    f"{did} does not exist yet", retry_after_s=NEW_DID_LIFETIME_US / SECOND_US
                )
            _log.warning(
                "refused",
                reason=verdict.error.reason,
                did=did,
                partition=message.partition,
                offset=message.offset,
                detail=verdict.error.detail,
            )
            known = self._identities.get(did)
            self._refusals.refuse(did, None if known is None else known.pds)
        if not isinstance(verdict, Refused):
            self._refusals.accept(did)
        self.tally.add(*_category(verdict))
        return outputs_of(verdict, source, self._topics) + self._identities.take(
            did, message.partition
        )

    def _check_server(self, did: Did, source: Source) -> Refused | None:
        """Refuses what a server says of an account that is not its own; relays may say it.

        Its identity events are let through: all that they do is to have the document asked for.

        Raises:
            IdentityUnavailableError: nobody can tell the account's server now.

        spec: J-10
        """
        if not (source.is_pds and needs_document(source.message)):
            return None
        if self._keys.is_served_by(did, source.host, source.received_us):
            return None
        detail = f"{source.host} was read as a server of accounts, and {did} is not on it"
        error = IdentityError(Reason.IDENTITY_OTHER_SERVER, detail, did=did)
        return Refused(error, None, None)

    def _give_up(
        self, pointer: Pointer, frame: InputMessage | None, detail: str
    ) -> list[OutputMessage]:
        _log.warning(
            "given_up",
            did=pointer.did,
            partition=pointer.frame_partition,
            offset=pointer.frame_offset,
            is_kept=frame is not None,
            detail=detail,
        )
        self.tally.add("refused", Reason.IDENTITY_UNAVAILABLE)
        return given_up_outputs(pointer, frame, detail, self._topics) + self._identities.take(
            pointer.did, pointer.frame_partition
        )

    def _count(self, outputs: Sequence[OutputMessage]) -> None:
        for output in outputs:
            self.tally.add("written", self._kinds.get(output.topic, "records"))


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
