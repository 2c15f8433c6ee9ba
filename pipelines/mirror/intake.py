"""From the lines of an export to what changed: each operation judged after those before it. Pure.

What is not valid is passed over and counted, as every other reader of the log would do: the rest
of the account's history does not depend on it. An operation that was judged before, because a page
or a whole dump is read again, is told by its hash, or by its time: operations of one DID come in
the order of their times.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Self

from pipelines.atproto.errors import PlcError, Reason
from pipelines.atproto.syntax import Did, is_plc_did
from pipelines.identity.operation import Operation
from pipelines.identity.plc import Chain, LogEntry, follow, parse_entry, prune
from pipelines.mirror.export import Line, seq_of

_SEQUENCED: Final = "sequenced_op"


class Change(NamedTuple):
    """The newest operation of a DID.

    Attributes:
        operation: it stands, whatever it made void.
        created_us: when the directory received it, microseconds since the epoch.
        seq: its sequence number, or None.
    """

    operation: Operation
    created_us: int
    seq: int | None


class Refusal(NamedTuple):
    """A line that is not a valid operation.

    Attributes:
        did: whose it claims to be, as far as that is a DID.
        error: why.
    """

    did: Did | None
    error: PlcError


@dataclass(slots=True)
class Tally:
    """What became of the lines.

    Attributes:
        read_count: all of them.
        accepted_count: valid operations.
        voided_count: operations made void by those.
        repeated_count: judged before.
        skipped_count: not operations: of a type that we do not know.
        refused: not valid, by reason.
    """

    read_count: int = 0
    accepted_count: int = 0
    voided_count: int = 0
    repeated_count: int = 0
    skipped_count: int = 0
    refused: Counter[Reason] = field(default_factory=Counter)

    def __iadd__(self, other: "Tally") -> Self:
        """Adds what became of further lines."""
        self.read_count += other.read_count
        self.accepted_count += other.accepted_count
        self.voided_count += other.voided_count
        self.repeated_count += other.repeated_count
        self.skipped_count += other.skipped_count
        self.refused = self.refused + other.refused
        return self


class Batch(NamedTuple):
    """What some lines changed.

    Attributes:
        chains: what stands, by DID, pruned.
        changes: the newest operation, by DID.
        tally: what became of the lines.
    """

    chains: Mapping[Did, Chain]
    changes: Mapping[Did, Change]
    tally: Tally


class Intake:
    """Lines on their way in, until what they changed is taken out.

    Attributes:
        tally: of the lines that are in.
    """

    def __init__(self, chain_of: Callable[[Did], Chain]) -> None:
        """Starts with nothing.

        Args:
            chain_of: what stands of a DID by everything that was taken out before.
        """
        self.tally = Tally()
        self._chain_of = chain_of
        self._chains: dict[Did, Chain] = {}
        self._changes: dict[Did, Change] = {}

    def add(self, lines: Iterable[Line]) -> list[Refusal]:
        """Judges lines in their order.

        Returns:
            Those refused.
        """
        refusals = []
        for line in lines:
            self.tally.read_count += 1
            if line.get("type", _SEQUENCED) != _SEQUENCED:
                self.tally.skipped_count += 1
                continue
            did: Did | None = None
            try:
                did = _did(line)
                self._judge(did, parse_entry(did, line), seq_of(line))
            except PlcError as error:
                self.tally.refused[error.reason] += 1
                refusals.append(Refusal(did, error))
        return refusals

    def take(self) -> Batch:
        """Takes out what the lines changed since the last time."""
        batch = Batch(self._chains, self._changes, self.tally)
        self._chains, self._changes, self.tally = {}, {}, Tally()
        return batch

    def _judge(self, did: Did, entry: LogEntry, seq: int | None) -> None:
        chain = self._chains.get(did)
        if chain is None:
            chain = self._chain_of(did)
        operation = entry.operation
        if any(link.cid == operation.cid for link in chain):
            self.tally.repeated_count += 1
            return
        try:
            after, _ = follow(did, chain, operation, entry.created_us)
        except PlcError:
            if not chain or entry.created_us > chain[-1].created_us:
                raise
            self.tally.repeated_count += 1
            return
        self.tally.accepted_count += 1
        self.tally.voided_count += len(chain) + 1 - len(after)
        self._chains[did] = prune(after)
        self._changes[did] = Change(operation, entry.created_us, seq)


def _did(line: Line) -> Did:
    did = line.get("did")
    if not is_plc_did(did):
        raise PlcError(Reason.PLC_ENTRY, "it names no did:plc")
    return did
