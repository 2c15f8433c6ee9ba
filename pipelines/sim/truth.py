"""What really happened in a generated network, up to the last frame that was emitted.

The endpoints answer from it, and tests compare with it. It is made from the events, operation by
operation, and knows nothing of what was encoded into a frame.
"""

import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from pipelines.atproto.cid import cid_of, encode_cid
from pipelines.atproto.frames import Kind
from pipelines.atproto.syntax import Did
from pipelines.errors import ConfigError
from pipelines.sim.events import AccountState, Event, Head, Status, WrittenOp


@dataclass(frozen=True, slots=True)
class AccountTruth:
    """An account at one moment.

    Attributes:
        state: what can be said about it.
        records: path → record block; none after a deletion.
    """

    state: AccountState
    records: Mapping[str, bytes]

    def cids(self) -> dict[str, bytes]:
        """Returns path → raw record CID."""
        return {path: cid_of(record) for path, record in self.records.items()}


class Truth:
    """All accounts as the events emitted so far have left them. May be read from any thread."""

    def __init__(self, established: Iterable[tuple[AccountState, dict[str, bytes]]]) -> None:
        """Starts with the accounts that exist before the first event."""
        self._lock = threading.Lock()
        self._states: dict[str, AccountState] = {}
        self._records: dict[str, dict[str, bytes]] = {}
        self._undo: dict[str, _Undo] = {}
        for state, records in established:
            self._states[state.did] = state
            self._records[state.did] = records
        self._seq = 0

    def apply(self, events: Iterable[Event]) -> None:
        """Moves on over events."""
        with self._lock:
            for event in events:
                self._apply(event)

    def state(self, did: str) -> AccountState | None:
        """Returns an account without its records."""
        return self._states.get(did)

    def states(self) -> list[AccountState]:
        """Returns all accounts without their records, the oldest first."""
        with self._lock:
            return list(self._states.values())

    def account(self, did: str) -> AccountTruth:
        """Returns a copy of an account.

        Raises:
            KeyError: nothing has happened to it so far.
        """
        with self._lock:
            return AccountTruth(self._states[did], dict(self._records[did]))

    def stale_account(self, did: str) -> AccountTruth | None:
        """Returns an account with the repository it had before the latest change, if it had one.

        Everything else is as it is now.
        """
        with self._lock:
            undo = self._undo.get(did)
            if undo is None:
                return None
            records = dict(self._records[did])
            for path, record in undo.records.items():
                if record is None:
                    del records[path]
                else:
                    records[path] = record
            return AccountTruth(replace(self._states[did], head=undo.head), records)

    def has_collection(self, did: str, collection: str) -> bool:
        """Tells whether an account has a record of a collection."""
        prefix = f"{collection}/"
        with self._lock:
            return any(path.startswith(prefix) for path in self._records.get(did, ()))

    def accounts(self) -> dict[Did, AccountTruth]:
        """Returns a copy of all accounts, of one moment."""
        with self._lock:
            return {
                state.did: AccountTruth(state, dict(self._records[did]))
                for did, state in self._states.items()
            }

    def summary(self) -> dict[str, Any]:
        """Returns all accounts for `/sim/truth`: JSON, without paths and bodies."""
        with self._lock:
            accounts = {
                did: _fields(state, len(self._records[did])) for did, state in self._states.items()
            }
            return {"seq": self._seq, "accounts": accounts}

    def details(self, did: str) -> dict[str, Any] | None:
        """Returns an account for `/sim/truth/{did}`: JSON, with path → record CID."""
        if did not in self._states:
            return None
        account = self.account(did)
        records = {path: encode_cid(cid) for path, cid in sorted(account.cids().items())}
        return _fields(account.state, len(records)) | {"records": records}

    def _apply(self, event: Event) -> None:
        for untold in event.untold:
            self._change(untold.state, untold.ops)
        self._change(event.state, event.ops)
        self._seq = event.seq

    def _change(self, state: AccountState, ops: tuple[WrittenOp, ...]) -> None:
        did = state.did
        records = self._records.setdefault(did, {})
        before = self._states.get(did)
        self._states[did] = state
        if before is not None and before.head is not None and before.head is not state.head:
            self._undo[did] = _Undo(before.head, {op.path: records.get(op.path) for op, _ in ops})
        for op, record in ops:
            if record is None:
                del records[op.path]
            else:
                records[op.path] = record
        if state.status is Status.DELETED:
            records.clear()
            self._undo.pop(did, None)


class _Undo(NamedTuple):
    """What gives a repository before its latest change.

    Attributes:
        head: of it.
        records: path → record block of what was changed; None for what was not there.
    """

    head: Head
    records: dict[str, bytes | None]


class TruthLog:
    """A file with a JSON line for each event, in the order of emission.

    Accounts that exist before the first event have no line of their own. What nobody was told of
    has a line before that of the next event, without `seq` and `kind`.
    """

    def __init__(self, path: Path) -> None:
        """Makes the file, or empties it.

        Raises:
            ConfigError: that cannot be done.
        """
        try:
            self._file = path.open("wb")
        except OSError as error:
            raise ConfigError(
                f"cannot write the truth to {path}: {error.strerror}; choose another file"
            ) from None

    def write(self, events: Iterable[Event]) -> None:
        """Adds the lines of each event; they are in the file when this returns."""
        for event in events:
            self._file.writelines(event_lines(event))
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def event_lines(event: Event) -> Iterator[bytes]:
    """Yields an event, and what happened untold before it, as JSON lines without record bodies."""
    for untold in event.untold:
        yield _line(None, None, untold.time_us, untold.state, untold.ops)
    yield _line(event.seq, event.kind, event.time_us, event.state, event.ops)


def _line(
    seq: int | None,
    kind: Kind | None,
    time_us: int,
    state: AccountState,
    ops: tuple[WrittenOp, ...],
) -> bytes:
    fields: dict[str, Any] = {
        "seq": seq,
        "kind": kind,
        "did": state.did,
        "time_us": time_us,
        **_state_fields(state),
        "ops": [_op_fields(written) for written in ops],
    }
    return orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE)


def _fields(state: AccountState, records_count: int) -> dict[str, Any]:
    return _state_fields(state) | {"records_count": records_count}


def _state_fields(state: AccountState) -> dict[str, Any]:
    head = state.head
    return {
        "handle": state.handle,
        "host": state.host,
        "signing_key": state.identity.signing_key.did_key(),
        "is_active": state.is_announced and state.status is None,
        "status": state.status,
        "rev": None if head is None else head.commit.rev,
        "commit_cid": None if head is None else encode_cid(head.commit_cid),
        "data_cid": None if head is None else encode_cid(head.commit.data_cid),
    }


def _op_fields(written: WrittenOp) -> dict[str, Any]:
    op = written.op
    return {
        "action": op.action,
        "path": op.path,
        "cid": None if op.cid is None else encode_cid(op.cid),
        "prev": None if op.prev is None else encode_cid(op.prev),
    }
