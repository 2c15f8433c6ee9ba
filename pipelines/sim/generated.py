"""A generated network as the simulator serves it.

    network = GeneratedNetwork(Settings(accounts_count=200, seed=7), events_count=50_000)
    with SimServer(network, rate=2_000) as sim:
        ...
        network.known.accounts()          # what really happened, up to the last emitted frame

Directory and host answer from what was emitted, while frames are made ahead of it. A commit's tree
is a value, so an export may take its time while the repository goes on.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from pipelines.atproto.car import write_car, write_car_chunks
from pipelines.atproto.cid import cid_of, encode_cid
from pipelines.atproto.mst.tree import Entry
from pipelines.sim.events import AccountState, Status
from pipelines.sim.generator import Generator, host_names
from pipelines.sim.mix import Settings
from pipelines.sim.ports import ERROR_BY_STATUS, Account, Emission, Identity
from pipelines.sim.stream import PREPARED_BYTES, RETAINED_BYTES, Stream
from pipelines.sim.truth import AccountTruth, Truth, TruthLog

_NOT_FOUND: Final = {"error": "RepoNotFound"}
_UNKNOWN: Final = Account(_NOT_FOUND, _NOT_FOUND)


class GeneratedNetwork:
    """A network that is made while it is served. It may be served once.

    Attributes:
        known: what really happened, up to the last emitted frame.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        events_count: int | None = None,
        truth_path: Path | None = None,
        prepared_bytes: int = PREPARED_BYTES,
        retained_bytes: int = RETAINED_BYTES,
    ) -> None:
        """Makes what exists before the first event.

        Args:
            settings: what the network follows from.
            events_count: how many events happen; None for no end.
            truth_path: a file that gets a JSON line for each event.
            prepared_bytes: how many bytes of frames are made ahead.
            retained_bytes: how many bytes of emitted frames are kept for cursors.
        """
        generator = Generator(settings)
        self.known = Truth(generator.established)
        self._hosts = host_names(settings.hosts_count)
        self._events = generator.events()
        self._events_count = events_count
        self._prepared_bytes = prepared_bytes
        self._retained_bytes = retained_bytes
        self._log = None if truth_path is None else TruthLog(truth_path)

    def open_history(self, emission: Emission) -> Stream:
        """Returns the frames."""
        return Stream(
            self._events,
            self.known,
            emission,
            wall_clock_us=lambda: time.time_ns() // 1_000,
            events_count=self._events_count,
            prepared_bytes=self._prepared_bytes,
            retained_bytes=self._retained_bytes,
            log=self._log,
        )

    def find_identity(self, did: str) -> Identity | None:
        """Returns what the directory knows about a DID."""
        state = self.known.state(did)
        if state is None:
            return None
        return Identity(state.identity.document(), state.identity.audit_log())

    def list_logs(self) -> Iterator[list[dict[str, Any]]]:
        """Yields the audit log of every did:plc, the oldest first."""
        logs = (state.identity.audit_log() for state in self.known.states())
        return (log for log in logs if log is not None)

    def list_hosts(self) -> Sequence[str]:
        """Returns the names of all PDSes."""
        return self._hosts

    def host_of(self, did: str) -> str | None:
        """Returns the PDS on which an account lives."""
        state = self.known.state(did)
        return None if state is None else state.host

    def find_account(
        self, did: str, host: str | None = None, *, is_stale: bool = False
    ) -> Account | None:
        """Returns what a host answers about a repository."""
        state = self.known.state(did)
        return None if state is None else self._account(state, host, is_stale=is_stale)

    def list_accounts(self, host: str | None = None) -> Iterator[tuple[str, Account]]:
        """Yields DIDs and accounts, the oldest first; also of those that are gone."""
        for state in self.known.states():
            account = self._account(state, host)
            if account is not None:
                yield state.did, account

    def has_collection(self, did: str, collection: str) -> bool:
        """Tells whether an account has a record of a collection."""
        return self.known.has_collection(did, collection)

    def truth(self, did: str | None = None) -> dict[str, Any] | None:
        """Returns what really happened, of one account or all, as JSON."""
        return self.known.summary() if did is None else self.known.details(did)

    def close(self) -> None:
        """Closes the file of events."""
        if self._log is not None:
            self._log.close()

    def _account(
        self, state: AccountState, host: str | None, *, is_stale: bool = False
    ) -> Account | None:
        if host is not None and host != state.host:
            # The latest: it may have been there more than once.
            left = next((left for left in reversed(state.left) if left.host == host), None)
            if left is None:
                return None
            if state.status is Status.DELETED:
                return _UNKNOWN
            return _answers(replace(state, status=Status.DEACTIVATED, head=left.head), None)
        if is_stale and (stale := self.known.stale_account(state.did)) is not None:
            return _answers(stale.state, lambda: stale)
        return _answers(state, lambda: self.known.account(state.did))


def _answers(state: AccountState, truth: Callable[[], AccountTruth] | None) -> Account:
    if not state.is_announced or state.status is Status.DELETED:
        return _UNKNOWN
    status: dict[str, Any] = {"active": state.status is None}
    if state.status is not None:
        status["status"] = state.status
    repo_status = {"did": state.did, **status}
    head = state.head
    if head is None:
        return Account(_NOT_FOUND, repo_status)
    rev, cid = head.commit.rev, encode_cid(head.commit_cid)
    listing = {"did": state.did, "head": cid, "rev": rev, **status}
    if state.status is not None:
        return Account({"error": ERROR_BY_STATUS[state.status]}, repo_status, listing)
    assert truth is not None
    return Account(
        {"cid": cid, "rev": rev},
        repo_status | {"rev": rev},
        listing,
        lambda: export(truth()),
        lambda path: prove(truth(), path),
    )


def export(account: AccountTruth) -> Iterator[bytes]:
    """Returns the pieces of a CAR with a repository: its commit, then the tree in pre-order.

    Args:
        account: one that has a head.
    """
    head = account.state.head
    assert head is not None

    def blocks() -> Iterator[tuple[bytes, bytes]]:
        yield head.commit_cid, head.commit.block
        for item in head.tree.walk():
            if isinstance(item, Entry):
                yield item.record_cid, account.records[item.key.decode()]
            else:
                yield item.cid, item.block

    return write_car_chunks(head.commit_cid, blocks())


def prove(account: AccountTruth, path: str) -> bytes:
    """Returns a CAR that proves a record, or that there is none (spec: I-12).

    Args:
        account: one that has a head.
        path: of the record.
    """
    head = account.state.head
    assert head is not None
    blocks = {head.commit_cid: head.commit.block, **head.tree.covering([path.encode()])}
    record = account.records.get(path)
    if record is not None:
        blocks[cid_of(record)] = record
    return write_car(head.commit_cid, blocks.items())
