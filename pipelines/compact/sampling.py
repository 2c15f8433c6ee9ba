"""Audits the repositories of running stores, one after the other and for ever, beside the work.

Recomputes each repository's root from the records in the store and compares it with the signed
head, so that a store that is wrong is noticed without anybody asking. One repository begins every
`INTERVAL_S`, and is looked at in slices of `SLICE_STEPS_COUNT` steps, with other work in between.
The records are those of the moment at which it began: RocksDB's iterators see nothing newer.

Not checked: whether the topics hold what the store does (`standpipe audit`).
"""

from collections.abc import Generator, Mapping
from typing import Final

from pipelines import logs
from pipelines.atproto.syntax import Did
from pipelines.compact.audit import Audit, Finding, audit_steps
from pipelines.compact.held import HeldPartition

# A store of a million repositories has been looked at once in two months. That costs a hundredth
# of a processor at a thousand records each.
INTERVAL_S: Final = 5.0
# 2,000 records in some 10 ms, between two batches.
SLICE_STEPS_COUNT: Final = 2

_log = logs.get_logger("compact")


class Sampler:
    """Audits what the partitions of a process hold. For the thread that writes the stores.

    Attributes:
        counts: audited repositories by finding; replaced, never changed.
    """

    def __init__(self) -> None:
        """Starts with the first repository of a partition."""
        # With zeros: an increase from nothing is none to Prometheus.
        self.counts: Mapping[str, int] = dict.fromkeys(Finding, 0)
        self._steps: Generator[None, None, Audit] | None = None
        self._partition: int | None = None
        self._did: Did | None = None
        self._next_s = 0.0

    def step(self, held: Mapping[int, HeldPartition], now_s: float) -> None:
        """Does the next slice of work, if it is time for any.

        Args:
            held: the partitions whose stores are current.
            now_s: the time, seconds of a clock that only goes forward.
        """
        if self._steps is None:
            if now_s < self._next_s or not held:
                return
            self._next_s = now_s + INTERVAL_S
            self._begin(held)
        for _ in range(SLICE_STEPS_COUNT):
            if self._steps is not None:
                self._advance(self._steps)

    def forget(self) -> None:
        """Lets go of the stores, which are about to be closed; what was begun is not counted."""
        if self._steps is not None:
            self._steps.close()
            self._steps = None

    def _begin(self, held: Mapping[int, HeldPartition]) -> None:
        """Begins with the next repository: of this partition, or the first one of a next one."""
        partitions = sorted(held)
        if self._partition not in held:
            self._partition, self._did = None, None
        start = 0 if self._partition is None else partitions.index(self._partition)
        for partition in (*partitions[start:], *partitions[: start + 1]):
            if partition != self._partition:
                self._partition, self._did = partition, None
            state = held[partition].repo_after(self._did)
            if state is None:
                self._did = None
                continue
            self._did = state.did
            records = held[partition].records(state.did)
            self._steps = audit_steps(state, ((path, record.cid) for path, record in records))
            # Now, so that the records are those of this state.
            self._advance(self._steps)
            return

    def _advance(self, steps: Generator[None, None, Audit]) -> None:
        try:
            next(steps)
        except StopIteration as done:
            self._steps = None
            self._note(done.value)

    def _note(self, audit: Audit) -> None:
        self.counts = {**self.counts, audit.finding: self.counts[audit.finding] + 1}
        if audit.finding is Finding.MISMATCH:
            _log.error(
                "audit_mismatch",
                did=audit.did,
                rev=audit.rev,
                partition=self._partition,
                detail=audit.problem,
            )
