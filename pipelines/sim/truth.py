"""What really happened in a generated network, up to the last frame that was emitted.

The endpoints answer from it, and tests compare with it. It is made from the events, operation by
operation, and knows nothing of what was encoded into a frame.
"""

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from pipelines.atproto.cid import cid_of, encode_cid
from pipelines.atproto.syntax import Did
from pipelines.errors import ConfigError
from pipelines.sim.events import AccountState, Event, Status, WrittenOp


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
        did = event.state.did
        records = self._records.setdefault(did, {})
        self._states[did] = event.state
        self._seq = event.seq
        for op, record in event.ops:
            if record is None:
                del records[op.path]
            else:
                records[op.path] = record
        if event.state.status is Status.DELETED:
            records.clear()


class TruthLog:
    """A file with a JSON line for each event, in the order of emission.

    Accounts that exist before the first event have no line of their own.
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
        """Adds a line for each event; they are in the file when this returns."""
        self._file.writelines(map(event_line, events))
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def event_line(event: Event) -> bytes:
    """Returns an event as a JSON line, records without their bodies."""
    state = event.state
    fields: dict[str, Any] = {
        "seq": event.seq,
        "kind": event.kind,
        "did": state.did,
        "time_us": event.time_us,
        **_state_fields(state),
        "ops": [_op_fields(written) for written in event.ops],
    }
    return orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE)


def _fields(state: AccountState, records_count: int) -> dict[str, Any]:
    return _state_fields(state) | {"records_count": records_count}


def _state_fields(state: AccountState) -> dict[str, Any]:
    head = state.head
    return {
        "handle": state.handle,
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
