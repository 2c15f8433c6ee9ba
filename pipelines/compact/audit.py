"""A repository's records against its signed root: what readers of the topics see, proven again.

The paths and CIDs of a repository determine the root of its Merkle search tree. Computing it from
`latest.*` and comparing it with the commit that the account signed proves that nothing is missing,
nothing is left over, and nothing is of another revision.

The topics are read as anybody reads them, into a store that lives for one audit; the stores of
running compact processes are not touched. While events come in, `repos` and `latest.*` cannot be
read at one moment: a repository that does not match is looked at again, until it matches or has
not changed since it did not.
"""

import tempfile
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from pipelines.atproto import mst
from pipelines.atproto.cid import encode_cid
from pipelines.atproto.syntax import Did
from pipelines.compact.outputs import OutputTopics
from pipelines.compact.provenance import signed_problem
from pipelines.compact.restore import Restoration
from pipelines.compact.state import RepoState, Sync, parse_repo
from pipelines.compact.store import Store
from pipelines.config import KafkaConfig
from pipelines.kafka.messages import InputMessage
from pipelines.kafka.reading import log_ends

# A repository that changes every time it is looked at is not judged after so many looks.
MAX_LOOKS_COUNT = 10
_PAUSE_S = 0.5


class Finding(StrEnum):
    """What an audit says of a repository."""

    MATCHES = "matches"  # the records have exactly the signed root
    EMPTY = "empty"  # no head, and no records
    MISMATCH = "mismatch"
    CHANGING = "changing"  # it changed whenever it was looked at, or is being repaired


@dataclass(frozen=True, slots=True)
class Audit:
    """The audit of one repository.

    Attributes:
        did: the repository.
        finding: what it says.
        sync: the repository's sync state.
        rev: revision of the head, or None.
        records_count: records in `latest.*`.
        root: root computed from them, as text.
        expected: root in the signed commit, as text; None without a head.
        problem: what does not fit, or None.
    """

    did: Did
    finding: Finding
    sync: Sync
    rev: str | None
    records_count: int
    root: str
    expected: str | None
    problem: str | None = None


def audit_repo(state: RepoState, records: Iterable[tuple[str, bytes]]) -> Audit:
    """Compares records with the head of their repository.

    Args:
        state: of the repository.
        records: its path and raw CID, in the order of the paths' bytes.
    """
    steps = audit_steps(state, records)
    while True:
        try:
            next(steps)
        except StopIteration as done:
            audit: Audit = done.value
            return audit


def audit_steps(
    state: RepoState, records: Iterable[tuple[str, bytes]]
) -> Generator[None, None, Audit]:
    """Compares records as `audit_repo`, whose arguments it has, with pauses.

    Yields:
        After the first record was taken, and then after some more (`mst.root_steps`).

    Returns:
        The audit.
    """
    count = 0

    def counted() -> Iterator[tuple[str, bytes]]:
        nonlocal count
        for record in records:
            count += 1
            yield record

    root = encode_cid((yield from mst.root_steps(counted())))
    head = state.head
    if state.sync is Sync.APPLYING:
        # On the way from one root to another: neither can be expected.
        rev = None if head is None else head.signed.rev
        return Audit(state.did, Finding.CHANGING, state.sync, rev, count, root, None)
    if head is None:
        # The records of a deleted account may still be on their way out.
        is_empty = count == 0 or state.is_purging
        problem = None if is_empty else f"{count} records, although there is no commit"
        finding = Finding.EMPTY if is_empty else Finding.MISMATCH
        return Audit(state.did, finding, state.sync, None, count, root, None, problem)
    problem = signed_problem(state.did, head.signed, head.block)
    if problem is None and root != head.signed.data:
        problem = f"the records have the root {root}, the signed commit {head.signed.data}"
    return Audit(
        state.did,
        Finding.MATCHES if problem is None else Finding.MISMATCH,
        state.sync,
        head.signed.rev,
        count,
        root,
        head.signed.data,
        problem,
    )


@contextmanager
def read_partition(
    kafka: KafkaConfig,
    topics: OutputTopics,
    partition: int,
    did: Did | None = None,
    on_record: Callable[[InputMessage], None] | None = None,
) -> Iterator["PartitionReading"]:
    """Reads a partition of `repos` and `latest.*` into a store that lives as long as the block.

    Args:
        kafka: the cluster.
        topics: the topics' names.
        partition: which one.
        did: the only repository that is wanted; all by default.
        on_record: is shown every wanted message of `latest.*`, in order.

    Raises:
        BrokerUnavailableError: the broker does not answer.
    """
    with tempfile.TemporaryDirectory(prefix="standpipe-audit-") as folder:
        reading = PartitionReading(kafka, topics, partition, did, on_record, Path(folder))
        try:
            reading.catch_up()
            yield reading
        finally:
            reading.close()


class PartitionReading:
    """What `repos` and `latest.*` say in one partition, up to where they were read."""

    def __init__(
        self,
        kafka: KafkaConfig,
        topics: OutputTopics,
        partition: int,
        did: Did | None,
        on_record: Callable[[InputMessage], None] | None,
        folder: Path,
    ) -> None:
        """Starts with nothing read; the arguments are those of `read_partition`."""
        self._kafka = kafka
        self._partition = partition
        self._topics = (topics.repos, *topics.latest)
        # The store is fresh: neither the topics' ids nor the tombstones' life matter to it.
        self._restoration = Restoration(
            kafka, topics, {}, 0, lambda: 0, only=did, on_record=on_record
        )
        self._store: Store = self._restoration.create(folder)

    def close(self) -> None:
        """Closes the store."""
        self._store.close()

    def catch_up(self) -> None:
        """Reads on to where the topics end now."""
        wanted = [(topic, self._partition) for topic in self._topics]
        ends = log_ends(self._kafka, wanted, is_readable=True)
        by_topic = {topic: ends[topic, self._partition] for topic in self._topics}
        for _ in self._restoration.fill(self._store, self._partition, by_topic):
            pass

    def repo(self, did: Did) -> RepoState | None:
        """Returns a repository's state."""
        value = self._store.repo(did)
        return None if value is None else parse_repo(value)

    def dids(self) -> Iterator[Did]:
        """Yields every repository."""
        for value in self._store.repos():
            yield parse_repo(value).did

    def records(self, did: Did) -> Iterator[tuple[str, bytes]]:
        """Yields a repository's records as path and raw CID, in the order of the paths."""
        for path, record in self._store.records(did):
            yield path, record.cid

    def audit(self, dids: Iterable[Did]) -> Iterator[Audit]:
        """Audits repositories; the ones that do not match at once come last."""
        doubtful: dict[Did, Audit] = {}
        for did in dids:
            audit = self._audit(did)
            if audit.finding in (Finding.MISMATCH, Finding.CHANGING):
                doubtful[did] = audit
            else:
                yield audit
        for _ in range(MAX_LOOKS_COUNT):
            if not doubtful:
                return
            time.sleep(_PAUSE_S)
            self.catch_up()
            for did, before in list(doubtful.items()):
                audit = doubtful[did] = self._audit(did)
                is_settled = audit.finding is not Finding.MISMATCH or audit == before
                if is_settled and audit.finding is not Finding.CHANGING:
                    yield doubtful.pop(did)
        for audit in doubtful.values():
            yield replace(audit, finding=Finding.CHANGING)

    def _audit(self, did: Did) -> Audit:
        state = self.repo(did)
        assert state is not None
        return audit_repo(state, self.records(did))
