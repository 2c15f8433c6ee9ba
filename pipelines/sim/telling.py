"""What is told of accounts: events with their frames, numbered in order.

What nobody is told of goes with the next event, so that the truth has it from that moment on.
spec: G-12, G-21, F-20
"""

from random import Random
from typing import Final

from pipelines.atproto.car import write_car
from pipelines.atproto.frames import Kind
from pipelines.atproto.mst.tree import Change
from pipelines.atproto.syntax import Handle, Tid
from pipelines.sim import messages
from pipelines.sim.authors import Author, Batch
from pipelines.sim.clock import Clock
from pipelines.sim.events import Event, Head, Status, Untold, WrittenOp

_MAX_GAP: Final = 5


class Teller:
    """Makes the events of a network.

    Attributes:
        events_count: events made so far.
        unaware: the accounts with changes that nobody can know of yet, in their order.
    """

    def __init__(self, clock: Clock, random: Random, gap: float) -> None:
        """Begins with number 1.

        Args:
            clock: the network's time.
            random: decides where numbers are left out.
            gap: probability of that before an event.
        """
        self.events_count = 0
        self.unaware: dict[int, Author] = {}
        self._clock = clock
        self._random = random
        self._gap = gap
        self._seq = 0
        self._untold: list[Untold] = []

    def commit(
        self,
        author: Author,
        before: Head | None,
        change: Change,
        batch: Batch,
        *,
        since: Tid | None = None,
        prev_data: bytes | None = None,
    ) -> Event:
        """Tells of a commit: the account has its head already.

        Args:
            author: who committed.
            before: its head before; None for its first commit.
            change: what became of the tree.
            batch: what was done.
            since: what the message claims instead of the revision before.
            prev_data: what the message claims instead of the root before; a raw CID.
        """
        head = author.head
        records = [
            (op.cid, record)
            for op, record in batch.ops
            if op.cid is not None and record is not None
        ]
        if before is not None:
            since = since or before.commit.rev
            prev_data = prev_data or before.tree.root_cid
        blocks = [(head.commit_cid, head.commit.block), *change.covering.items(), *records]
        seq = self._next_seq()
        frame = messages.commit_frame(
            seq,
            head.commit,
            head.commit_cid,
            time=self._clock.text(),
            since=since,
            prev_data=prev_data,
            ops=[op for op, _ in batch.ops],
            blocks=write_car(head.commit_cid, blocks),
        )
        self._is_known(author)
        return self._event(seq, Kind.COMMIT, author, frame, tuple(batch.ops))

    def sync(self, author: Author) -> Event:
        """Tells of an account's head."""
        head, seq = author.head, self._next_seq()
        blocks = write_car(head.commit_cid, [(head.commit_cid, head.commit.block)])
        frame = messages.sync_frame(
            seq, author.state.did, head.commit.rev, time=self._clock.text(), blocks=blocks
        )
        self._is_known(author)
        return self._event(seq, Kind.SYNC, author, frame)

    def identity(self, author: Author, handle: Handle | None) -> Event:
        """Tells that an account's document changed; with its handle if that did."""
        seq = self._next_seq()
        frame = messages.identity_frame(seq, author.state.did, handle, time=self._clock.text())
        return self._event(seq, Kind.IDENTITY, author, frame)

    def account(self, author: Author) -> Event:
        """Tells of an account's status."""
        seq, status = self._next_seq(), author.state.status
        frame = messages.account_frame(seq, author.state.did, status, time=self._clock.text())
        if status is Status.DELETED:
            self._is_known(author)
        return self._event(seq, Kind.ACCOUNT, author, frame)

    def conceal(self, author: Author, batch: Batch) -> None:
        """Tells nobody of a commit: the account has its head already."""
        self._untold.append(Untold(self._clock.now_us, author.state, tuple(batch.ops)))
        self.unaware[author.number] = author

    def _is_known(self, author: Author) -> None:
        if self.unaware:
            self.unaware.pop(author.number, None)

    def _next_seq(self) -> int:
        self._seq += 1
        if self._random.random() < self._gap:
            self._seq += 1 + int(_MAX_GAP * self._random.random())
        return self._seq

    def _event(
        self,
        seq: int,
        kind: Kind,
        author: Author,
        frame: bytes,
        ops: tuple[WrittenOp, ...] = (),
    ) -> Event:
        self.events_count += 1
        untold = tuple(self._untold)
        self._untold.clear()
        return Event(seq, kind, self._clock.now_us, frame, author.state, ops, untold)
