"""A change of a repository on its way out: into what is held, and into messages."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from pipelines import logs
from pipelines.atproto.syntax import Tid
from pipelines.compact.accounts import Policy, without_repository
from pipelines.compact.events import CommitEvent, Event, EventOp, Source
from pipelines.compact.held import HeldPartition
from pipelines.compact.outputs import OutputTopics, record_messages, repo_message
from pipelines.compact.repair import request_for
from pipelines.compact.state import RepoState, Sync
from pipelines.kafka.counts import Tally
from pipelines.kafka.messages import OutputMessage
from pipelines.repair.requests import Cause, request_message

_log = logs.get_logger("compact")


class Change(NamedTuple):
    """Operations on the records of a repository.

    Attributes:
        rev: revision of the commit or snapshot that they belong to.
        ops: what to do.
        source: the event or the snapshot.
    """

    rev: Tid
    ops: tuple[EventOp, ...]
    source: Source


class Writer:
    """Takes changes over; a repository that is broken by one is asked for with it."""

    def __init__(self, topics: OutputTopics, tally: Tally, policy: Policy) -> None:
        """Wires the writer.

        Args:
            topics: where outputs go.
            tally: counts what is written.
            policy: what the operator decides.
        """
        self._topics = topics
        self._tally = tally
        self._policy = policy
        self._names = {topics.repos: "repos", topics.resyncs: "resyncs"}

    def write(
        self,
        held: HeldPartition,
        partition: int,
        state: RepoState,
        change: Change | None = None,
    ) -> list[OutputMessage]:
        """Takes over a new state and what goes with it; returns the messages that say so.

        Args:
            held: the repository's partition.
            partition: its number.
            state: the new state.
            change: what happens to the records; None for nothing.
        """
        known = held.repo(state.did)
        if self._policy.purges_at_once(state):
            state = without_repository(state)
        request = None
        if self._policy.is_repairing:
            request = request_for(known, state, state.source.received_us)
        # Whether an account is gone says nothing of what is missing.
        if (
            request is not None
            and request.cause is not Cause.DELETION
            and state.reason is not None
        ):
            state = replace(state, requested_us=request.requested_us)
        _tell(known, state, partition)
        held.put(state, change and change.rev, change.ops if change else ())
        outputs = [repo_message(state, partition, self._topics)]
        if request is not None:
            outputs.append(request_message(request, partition, self._topics.resyncs))
        if change is not None:
            outputs += record_messages(state.did, *change, partition, self._topics)
        self.count(outputs)
        return outputs

    def count(self, outputs: Sequence[OutputMessage]) -> None:
        """Counts messages by the topic, or family of topics, that they go to."""
        for output in outputs:
            self._tally.add("written", self._names.get(output.topic, "latest"))


def change_of(event: Event | None, ops: tuple[EventOp, ...]) -> Change | None:
    """Returns what an event does to the records; only commits do anything.

    Args:
        event: what was judged; None if it is gone.
        ops: its operations, as far as they are to be carried out.
    """
    if not isinstance(event, CommitEvent):
        return None
    return Change(event.signed.rev, ops, event.source)


def _tell(known: RepoState | None, state: RepoState, partition: int) -> None:
    before = Sync.UNKNOWN if known is None else known.sync
    if state.sync is before:
        return
    where = {
        "partition": partition,
        "frame_offset": state.source.frame_offset,
        "snapshot_offset": state.source.snapshot_offset,
    }
    if state.sync is Sync.DESYNCHRONIZED:
        _log.warning("desynchronized", did=state.did, reason=state.reason, **where)
    elif before is Sync.APPLYING and state.sync is Sync.SYNCHRONIZED:
        _log.info("repaired", did=state.did, **where)
