"""What goes wrong in a generated network: changes that nobody is told of, or told wrongly.

    trouble          what a reader is told                          what a verifier sees
    drop_commit      nothing                                        the next: `chain.since`
    skip_commit      the commit after a dropped one, as its own     `chain.prev_data`
                     successor
    wrong_since      a commit after a revision that never was       `chain.since`
    wrong_prev_data  a commit after a root that never was           a refused commit
    storm_sync       many #sync of one account, some to new         nothing, or the head moves
                     commits
    flap_account     an account goes and comes, and may write       `sync.data` if it wrote
                     while it is away, or stay away
    import_repo      nothing, or #sync: half of the records are     the next: `chain.since`, or
                     gone, and others there                         `sync.data`
    migrate_account  the document names another PDS and key; the    nothing, or the next:
                     old PDS deactivates, the new one activates     `chain.since`
    return_account   a deleted account comes back, empty or with    a first commit, or
                     records that were imported                     `history.unknown`

The repositories themselves are always whole, and the truth is what they contain. The order of the
frames of a migration is one in which the old PDS speaks before the new one: relays drop what a
host says after the document has named another. spec: G-16, G-19, G-32, H-10, H-11, H-13, J-10
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from random import Random
from typing import Final

from pipelines.atproto.cid import cid_of
from pipelines.atproto.mst import EMPTY_NODE, EMPTY_ROOT_CID
from pipelines.atproto.mst.tree import Change, Tree
from pipelines.sim.authors import Author, Batch, Composer
from pipelines.sim.clock import Clock
from pipelines.sim.events import Event, Left, Status
from pipelines.sim.mix import Trouble
from pipelines.sim.telling import Teller

# The most of what comes several times.
_MAX_STORM_COUNT: Final = 32
_MAX_FLAPS_COUNT: Final = 4
_MAX_IMPORTED_COUNT: Final = 40
# Deleted accounts that may come back; the one that went first is forgotten first.
_MAX_GONE_COUNT: Final = 1_000

_PASSING: Final = (Status.DEACTIVATED, Status.SUSPENDED, Status.TAKENDOWN)

_Happening = Callable[[Author], Iterator[Event]]


class Troublemaker:
    """Makes trouble with accounts."""

    def __init__(
        self,
        trouble: Trouble,
        hosts: Sequence[str],
        *,
        composer: Composer,
        teller: Teller,
        clock: Clock,
        random: Random,
        move: Callable[[Author, str], None],
    ) -> None:
        """Takes what it works with.

        Args:
            trouble: how often what.
            hosts: names of the PDSes.
            composer: decides what accounts write.
            teller: tells of it.
            clock: the network's time.
            random: decides what happens.
            move: changes an account's document so that it names another PDS, by its name.
        """
        self._trouble = trouble
        self._hosts = hosts
        self._composer = composer
        self._teller = teller
        self._clock = clock
        self._random = random
        self._move = move
        self._gone: list[Author] = []
        self._happenings: tuple[tuple[float, _Happening], ...] = (
            (trouble.drop_commit, self._drop_commit),
            (trouble.skip_commit, self._skip_commit),
            (trouble.wrong_since, self._claim_wrong_since),
            (trouble.wrong_prev_data, self._claim_wrong_prev_data),
            (trouble.storm_sync, self._storm_sync),
            (trouble.flap_account, self._flap_account),
            (trouble.import_repo, self._import_repo),
            (trouble.migrate_account, self._migrate_account),
        )

    def choose(self) -> _Happening | None:
        """Returns what goes wrong next, if anything.

        It leaves the account active or inactive; whether it did is in the account's state.
        """
        chance = self._random.random()
        for share, happening in self._happenings:
            if chance < share:
                return happening
            chance -= share
        return None

    def remember(self, author: Author) -> None:
        """Lets a deleted account come back."""
        if self._trouble.return_account:
            self._gone.append(author)
            del self._gone[:-_MAX_GONE_COUNT]

    def take_returning(self) -> Author | None:
        """Returns a deleted account that comes back in the place of a new one, if any does."""
        if self._gone and self._random.random() < self._trouble.return_account:
            return self._gone.pop(self._below(len(self._gone)))
        return None

    def come_back(self, author: Author) -> Iterator[Event]:
        """Makes a deleted account active again, with a repository that begins anew."""
        author.deletable.clear()
        author.editable.clear()
        author.state = replace(author.state, status=None, left=())
        yield self._teller.account(author)
        yield self._teller.identity(author, author.state.handle)
        if self._is_even():
            change = Change(Tree(), {EMPTY_ROOT_CID: EMPTY_NODE})
            author.commit(change.tree, self._clock.tid())
            yield self._teller.commit(author, None, change, Batch())
        else:
            batch = self._composer.compose_creates(author, 1 + self._below(_MAX_IMPORTED_COUNT))
            author.commit(batch.tree(), self._clock.tid())
            self._teller.conceal(author, batch)
        yield self._teller.sync(author)

    def _drop_commit(self, author: Author) -> Iterator[Event]:
        _, batch = self._write(author)
        self._teller.conceal(author, batch)
        return iter(())

    def _skip_commit(self, author: Author) -> Iterator[Event]:
        told = author.head
        _, batch = self._write(author)
        self._teller.conceal(author, batch)
        before = author.head
        change, batch = self._write(author)
        yield self._teller.commit(author, before, change, batch, since=told.commit.rev)

    def _claim_wrong_since(self, author: Author) -> Iterator[Event]:
        before, never = author.head, self._clock.tid()
        change, batch = self._write(author)
        yield self._teller.commit(author, before, change, batch, since=never)

    def _claim_wrong_prev_data(self, author: Author) -> Iterator[Event]:
        before = author.head
        change, batch = self._write(author)
        never = cid_of(self._random.randbytes(32))
        yield self._teller.commit(author, before, change, batch, prev_data=never)

    def _storm_sync(self, author: Author) -> Iterator[Event]:
        for _ in range(2 + self._below(_MAX_STORM_COUNT - 1)):
            if self._is_even():
                author.commit(author.head.tree, self._clock.tid())
            yield self._teller.sync(author)

    def _flap_account(self, author: Author) -> Iterator[Event]:
        status = self._random.choice(_PASSING)
        for _ in range(1 + self._below(_MAX_FLAPS_COUNT)):
            author.state = replace(author.state, status=status)
            yield self._teller.account(author)
            if self._is_even():
                before = author.head
                change, batch = self._write(author)
                yield self._teller.commit(author, before, change, batch)
                # Readers ignored it: the account is away.
                self._teller.unaware[author.number] = author
            author.state = replace(author.state, status=None)
            yield self._teller.account(author)
        if self._is_even():
            yield self._teller.sync(author)
        else:
            author.state = replace(author.state, status=status)
            yield self._teller.account(author)

    def _import_repo(self, author: Author) -> Iterator[Event]:
        batch = Batch()
        gone = set()
        for entry in author.head.tree.entries():
            path = entry.key.decode()
            if self._is_even() and not author.is_profile(path):
                batch.delete(path, entry.record_cid)
                gone.add(path)
        author.forget(gone)
        imported = self._composer.compose_more(author, 1 + self._below(_MAX_IMPORTED_COUNT))
        batch.extend(imported)
        author.commit(author.head.tree.apply(batch.writes).tree, self._clock.tid())
        self._teller.conceal(author, batch)
        if self._is_even():
            yield self._teller.sync(author)

    def _migrate_account(self, author: Author) -> Iterator[Event]:
        old = author.state.host
        left = (*author.state.left, Left(old, author.head))
        speaks_first = self._is_even()
        author.state = replace(author.state, status=Status.DEACTIVATED)
        if speaks_first:
            yield self._teller.account(author)
        self._move(author, self._random.choice([host for host in self._hosts if host != old]))
        author.state = replace(author.state, left=left)
        yield self._teller.identity(author, None)
        if not speaks_first:
            yield self._teller.account(author)
        # The new server signs what it imported.
        author.commit(author.head.tree, self._clock.tid())
        author.state = replace(author.state, status=None)
        is_told = self._is_even()
        if not is_told:
            self._teller.conceal(author, Batch())
        yield self._teller.account(author)
        if is_told:
            yield self._teller.sync(author)
        else:
            before = author.head
            change, batch = self._write(author)
            yield self._teller.commit(author, before, change, batch)

    def _write(self, author: Author) -> tuple[Change, Batch]:
        batch = self._composer.compose(author)
        change = author.head.tree.apply(batch.writes)
        author.commit(change.tree, self._clock.tid())
        return change, batch

    def _is_even(self) -> bool:
        return self._random.random() < 0.5

    def _below(self, limit: int) -> int:
        return int(limit * self._random.random())
