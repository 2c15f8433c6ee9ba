"""A network that never was: accounts that come, write, change and go, event by event.

Everything follows from the settings: keys, DIDs, revisions, records and frames, byte for byte.
What an event looks like, and which ones come together, is as in the reference PDS. Without trouble
(`pipelines.sim.troubles`) nothing is broken: every frame can be proven, and every chain holds.

Accounts run ahead of what is told about them: an event carries the account as it is after it, so
that whoever passes events on can answer for any moment. spec: G-12, G-16, G-21, H-13, J-03
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from random import Random
from typing import Final

from pipelines.atproto.keys import VerifyingKey
from pipelines.atproto.mst import EMPTY_NODE, EMPTY_ROOT_CID
from pipelines.atproto.mst.tree import Change, Tree
from pipelines.atproto.signing import SigningKey
from pipelines.atproto.syntax import MAX_TID_CLOCK_ID, Did, Handle, parse_handle
from pipelines.sim.authors import Author, Batch, Composer
from pipelines.sim.clock import Clock
from pipelines.sim.content import Content
from pipelines.sim.events import AccountState, Event, Status
from pipelines.sim.identities import AccountIdentity, PlcIdentity, WebIdentity, create_identity
from pipelines.sim.mix import Settings
from pipelines.sim.telling import Teller
from pipelines.sim.troubles import Troublemaker

_HANDLE_DOMAIN: Final = "sim.example"

_MAX_GAP: Final = 5


def host_names(count: int) -> tuple[str, ...]:
    """Returns the names of PDSes as documents have them.

    Nothing listens there: DIDs are hashes of operations with these names, and would be others with
    every free port of this machine.
    """
    return tuple(f"pds{number or ''}.{_HANDLE_DOMAIN}" for number in range(count))


_Happening = Callable[[Author], Iterator[Event]]


class Generator:
    """Makes the events of one network, one after the other.

    Attributes:
        established: the accounts that exist before the first event, with their records by path.
        clock: the network's time: that of the last event.
    """

    def __init__(self, settings: Settings) -> None:
        """Makes what exists before the first event."""
        self._mix = mix = settings.mix
        self._settings = settings
        self._hosts = host_names(settings.hosts_count)
        self._random = Random(settings.seed)  # noqa: S311 - nothing here is secret
        self._rotation_key = self._key("rotation", is_p256=False)
        self.clock = Clock(self._random.randint(0, MAX_TID_CLOCK_ID))
        self._content = Content(self._random)
        self._composer = Composer(mix, self._content, self.clock, self._random)
        self._teller = Teller(self.clock, self._random, mix.gap)
        self._troubles = Troublemaker(
            settings.trouble,
            self._hosts,
            composer=self._composer,
            teller=self._teller,
            clock=self.clock,
            random=self._random,
            move=self._move,
        )
        self._is_calm = not settings.trouble.is_any
        self._authors_count = 0
        self._active: list[Author] = []
        self._resting: list[Author] = []
        self._happenings: tuple[tuple[float, _Happening], ...] = (
            (mix.delete_account, self._delete_account),
            (mix.deactivate_account, self._deactivate_account),
            (mix.change_handle, self._change_handle),
            (mix.rotate_key, self._rotate_key),
            (mix.sign_again, self._sign_again),
        )
        sizes = [settings.records_count] * settings.accounts_count
        self.established = [
            self._establish(records_count)
            for records_count in (*sizes, settings.large_count)
            if records_count
        ]

    def events(self) -> Iterator[Event]:
        """Yields events without end. To be called once."""
        mix = self._mix
        accounts_count = self._settings.accounts_count + bool(self._settings.large_count)
        while True:
            self.clock.pass_time(self._random)
            if not self._is_calm:
                yield from self._make_trouble()
            missing = accounts_count - len(self._active) - len(self._resting)
            if missing and (not self._active or self._random.random() < mix.create_account):
                yield from self._fill_place()
            elif not self._active or (
                self._resting and self._random.random() < mix.deactivate_account
            ):
                index = int(len(self._resting) * self._random.random())
                yield from self._reactivate_account(self._resting[index])
            else:
                yield from self._next_happening()

    def _next_happening(self) -> Iterator[Event]:
        author = self._some_author()
        chance = self._random.random()
        for share, happening in self._happenings:
            if chance < share:
                return happening(author)
            chance -= share
        return self._write(author)

    def _some_author(self) -> Author:
        # Squared: a few accounts write most of what is written.
        return self._active[int(len(self._active) * self._random.random() ** 2)]

    def _make_trouble(self) -> Iterator[Event]:
        calm_after = self._settings.calm_after
        if calm_after is not None and self._teller.events_count >= calm_after:
            self._is_calm = True
            for author in list(self._teller.unaware.values()):
                is_resting = author.state.status is not None
                yield from self._reactivate_account(author) if is_resting else self._write(author)
        elif self._active and (happening := self._troubles.choose()) is not None:
            # Any: what goes wrong has nothing to do with who writes most.
            author = self._active[int(len(self._active) * self._random.random())]
            yield from happening(author)
            if author.state.status is not None:
                self._active.remove(author)
                self._resting.append(author)
            self.clock.pass_time(self._random)

    # What happens to accounts.

    def _fill_place(self) -> Iterator[Event]:
        author = None if self._is_calm else self._troubles.take_returning()
        if author is None:
            author = self._new_author()
            yield from self._create_account(author)
        else:
            yield from self._troubles.come_back(author)
        self._active.append(author)

    def _create_account(self, author: Author) -> Iterator[Event]:
        yield self._teller.identity(author, author.state.handle)
        author.state = replace(author.state, is_announced=True)
        yield self._teller.account(author)
        # There is nothing to prove, but servers send the root.
        change = Change(Tree(), {EMPTY_ROOT_CID: EMPTY_NODE})
        author.commit(change.tree, self.clock.tid())
        yield self._teller.commit(author, None, change, Batch())
        yield self._teller.sync(author)

    def _delete_account(self, author: Author) -> Iterator[Event]:
        self._active.remove(author)
        self._troubles.remember(author)
        author.state = replace(author.state, status=Status.DELETED, head=None)
        yield self._teller.account(author)

    def _deactivate_account(self, author: Author) -> Iterator[Event]:
        self._active.remove(author)
        self._resting.append(author)
        author.state = replace(author.state, status=Status.DEACTIVATED)
        yield self._teller.account(author)

    def _reactivate_account(self, author: Author) -> Iterator[Event]:
        self._resting.remove(author)
        self._active.append(author)
        author.state = replace(author.state, status=None)
        yield self._teller.account(author)
        yield self._teller.identity(author, author.state.handle)
        yield self._teller.sync(author)

    def _change_handle(self, author: Author) -> Iterator[Event]:
        author.handles_count += 1
        handle = _handle(author)
        identity: AccountIdentity
        match author.state.identity:
            case PlcIdentity() as before:
                identity = before.with_handle(handle, self._rotation_key, self.clock.text())
            case WebIdentity() as before:
                identity = before.with_handle(handle)
        author.state = replace(author.state, handle=handle, identity=identity)
        yield self._teller.identity(author, handle)

    def _rotate_key(self, author: Author) -> Iterator[Event]:
        before = author.state.identity
        if isinstance(before, WebIdentity) and self._random.random() >= self._mix.rotate_web_key:
            yield from self._write(author)
            return
        key = self._give_key(author)
        identity: AccountIdentity
        match before:
            case PlcIdentity():
                identity = before.with_signing_key(key, self._rotation_key, self.clock.text())
            case WebIdentity():
                identity = before.with_signing_key(key)
        author.state = replace(author.state, identity=identity)
        yield self._teller.identity(author, None)
        yield from self._sign_again(author)

    def _move(self, author: Author, host: str) -> None:
        pds = f"https://{host}"
        identity: AccountIdentity
        match author.state.identity:
            case PlcIdentity() as before:
                key = self._give_key(author)
                identity = before.moved(pds, key, self._rotation_key, self.clock.text())
            case WebIdentity() as before:
                # With the key that it has: nobody has a history of its keys.
                identity = before.moved(pds)
        author.state = replace(author.state, identity=identity)

    def _give_key(self, author: Author) -> VerifyingKey:
        author.keys_count += 1
        author.signing_key = self._account_key(author.number, author.keys_count)
        return author.signing_key.verifying_key

    def _sign_again(self, author: Author) -> Iterator[Event]:
        author.commit(author.head.tree, self.clock.tid())
        yield self._teller.sync(author)

    def _write(self, author: Author) -> Iterator[Event]:
        batch = self._composer.compose(author)
        before = author.head
        change = before.tree.apply(batch.writes)
        author.commit(change.tree, self.clock.tid())
        yield self._teller.commit(author, before, change, batch)

    # The parts of it.

    def _establish(self, records_count: int) -> tuple[AccountState, dict[str, bytes]]:
        """Makes an account with records that nobody was told about."""
        self.clock.pass_time(self._random)
        author = self._new_author()
        batch = self._composer.compose_creates(author, records_count)
        author.state = replace(author.state, is_announced=True)
        author.commit(batch.tree(), self.clock.tid())
        self._active.append(author)
        return author.state, {op.path: record for op, record in batch.ops if record is not None}

    def _new_author(self) -> Author:
        number = self._authors_count
        self._authors_count += 1
        signing_key = self._account_key(number, 1)
        handle = Handle(f"user{number}.{_HANDLE_DOMAIN}")
        pds = f"https://{self._hosts[number % len(self._hosts)]}"
        identity: AccountIdentity
        if self._random.random() < self._mix.did_web:
            # With the seed: networks have no account in common.
            did = Did(f"did:web:user{number}.web{self._settings.seed}.{_HANDLE_DOMAIN}")
            identity = WebIdentity(did, signing_key.verifying_key, handle, pds)
        else:
            identity = create_identity(
                signing_key.verifying_key,
                self._rotation_key,
                handle=handle,
                pds=pds,
                created_at=self.clock.text(),
            )
        self._content.remember_person(identity.did)
        return Author(number, signing_key, AccountState(identity.did, handle, identity))

    def _account_key(self, number: int, generation: int) -> SigningKey:
        is_p256 = self._random.random() < self._mix.p256
        return self._key(f"account {number} {generation}", is_p256=is_p256)

    def _key(self, purpose: str, *, is_p256: bool) -> SigningKey:
        name = f"standpipe sim {self._settings.seed} {purpose}"
        return SigningKey("p256" if is_p256 else "k256", hashlib.sha256(name.encode()).digest())


def _handle(author: Author) -> Handle:
    return parse_handle(f"user{author.number}-{author.handles_count}.{_HANDLE_DOMAIN}")
