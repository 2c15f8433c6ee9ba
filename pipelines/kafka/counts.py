"""What a stage did and is doing, counted for logs and for its sign of life.

Pure. One thread counts, others may read at any time: what they read are single numbers, which may
be a moment apart, or mappings that are replaced and never changed.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from pipelines.kafka.beat import Report, State
from pipelines.kafka.distribution import Distribution, groups_of

WAITS_FOR_PARTITIONS: Final = "partitions to work on: the others have them all, or are not ready"

_NO_GROUPS: Final[Mapping[str, Mapping[str, int]]] = MappingProxyType({})


@dataclass(slots=True)
class LoopCounts:
    """What a loop did since its process started, and what it is doing.

    Attributes:
        state: starting, restoring or running.
        waits_for: what it waits for in the middle of a batch; None if it does not.
        partitions_count: partitions of each input that are assigned to it.
        inputs_count: messages that are done.
        outputs_count: messages that were committed.
        output_bytes: their sizes.
        transactions_count: transactions that were committed.
        transaction_ms: how long they took, with their repetitions.
        waits_count: how often something it needed was away.
        transaction_times: how long each transaction took, milliseconds, with its repetitions.
        batch_times: how long each batch took, milliseconds, without its transaction.
        batch_sizes: how many messages of it were done.
    """

    state: State = State.STARTING
    waits_for: str | None = None
    partitions_count: int = 0
    inputs_count: int = 0
    outputs_count: int = 0
    output_bytes: int = 0
    transactions_count: int = 0
    transaction_ms: int = 0
    waits_count: int = 0
    transaction_times: Distribution = field(
        default_factory=lambda: Distribution("transaction_times")
    )
    batch_times: Distribution = field(default_factory=lambda: Distribution("batch_times"))
    batch_sizes: Distribution = field(default_factory=lambda: Distribution("batch_sizes"))

    def report(self, groups: Mapping[str, Mapping[str, int]] = _NO_GROUPS) -> Report:
        """Returns what the loop has to say now.

        Args:
            groups: what its stage counted.
        """
        state, detail = self.state, self.waits_for
        if detail is None and state is State.RUNNING and self.partitions_count == 0:
            detail = WAITS_FOR_PARTITIONS
        return Report(
            state=state if detail is None else State.WAITING,
            detail=detail,
            counters={
                "inputs": self.inputs_count,
                "outputs": self.outputs_count,
                "output_bytes": self.output_bytes,
                "transactions": self.transactions_count,
                "transaction_ms": self.transaction_ms,
                "waits": self.waits_count,
                "partitions": self.partitions_count,
            },
            groups={
                **groups,
                **groups_of(self.transaction_times, self.batch_times, self.batch_sizes),
            },
        )


class Tally:
    """Grouped counts, such as `refused` by reason, that count only once they were committed.

    Attributes:
        groups: what was committed, by group and member.
    """

    def __init__(self) -> None:
        self.groups = _NO_GROUPS
        self._pending: Counter[tuple[str, str]] = Counter()

    def add(self, group: str, member: str, count: int = 1) -> None:
        """Counts something that is not committed yet."""
        self._pending[group, member] += count

    def commit(self) -> None:
        """Takes over what was counted since the last `commit` or `discard`."""
        if not self._pending:
            return
        groups = {group: dict(members) for group, members in self.groups.items()}
        for (group, member), count in self._pending.items():
            members = groups.setdefault(group, {})
            members[member] = members.get(member, 0) + count
        self.groups = groups
        self._pending.clear()

    def discard(self) -> None:
        """Forgets what was counted since the last `commit`."""
        self._pending.clear()
