"""What is known of one repository, and its form in the topic `repos`.

The head is the newest commit whose records we hold: `latest.*` has exactly the records under its
root. `seen` is the newest commit that the account is known to have signed. The two are the same
unless something is missing. While a snapshot is applied, the records are on their way from the
head to it.
"""

from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any, NamedTuple

import orjson

from pipelines.atproto.syntax import Did, Tid
from pipelines.compact.events import Signed, Source, parse_source
from pipelines.compact.overrides import Override, OverrideStatus
from pipelines.repair.manifests import Snapshot
from pipelines.repair.requests import Cause


class Sync(StrEnum):
    """How what we hold of a repository relates to what its account signed."""

    UNKNOWN = "unknown"  # no commit seen, or none since the account was deleted
    SYNCHRONIZED = "synchronized"
    DESYNCHRONIZED = "desynchronized"
    APPLYING = "applying"  # a snapshot's records are being taken over


class Desync(StrEnum):
    """Why a repository became desynchronized; besides these, the reason of a refused commit."""

    HISTORY_UNKNOWN = "history.unknown"
    CHAIN_SINCE = "chain.since"
    CHAIN_PREV_DATA = "chain.prev_data"
    CHAIN_RESTARTED = "chain.restarted"
    SYNC_DATA = "sync.data"
    ACCOUNT_INACTIVE = "account.inactive"


class Head(NamedTuple):
    """The commit whose records we hold.

    Attributes:
        signed: the commit.
        block: the signed commit block in base64.
    """

    signed: Signed
    block: str


class AccountMark(NamedTuple):
    """Who said the account's status, and when: no chain orders what is said of it.

    Attributes:
        host: the upstream of an `#account`, or the host that was asked.
        seq: the upstream's sequence number; None for a host that was asked.
        time: the upstream's clock, or ours when the host was asked, RFC 3339.
        received_us: by our clock: when the `#account` was received, or the host was asked;
            microseconds since the epoch.
    """

    host: str
    seq: int | None
    time: str
    received_us: int


class Waiting(NamedTuple):
    """A message of `events` that came while something was missing.

    Attributes:
        rev: revision of the signed commit; None where nobody could prove one.
        events_offset: where it is in `events`, in the repository's partition.
    """

    rev: Tid | None
    events_offset: int


# How many messages wait for a repair at most, so that a repository that stays broken stays small.
# The oldest gives way: what follows it then shows that something is missing.
MAX_WAITING_COUNT = 256


@dataclass(frozen=True, slots=True)
class Applying:
    """A snapshot that is being applied, and how far that is.

    Attributes:
        snapshot: which one.
        snapshot_offset: where its manifest is in `snapshots`, in the repository's partition.
        next_chunk_offset: from which offset on chunks have still to be applied.
        next_chunk_index: which chunk of the snapshot comes there.
        after_path: path up to which everything is applied; None if nothing is yet.
        is_partial: whether records were changed, for this snapshot or one that was lost: they are
            neither the head's nor the snapshot's.
        is_merged: whether all records are applied, so that only what waits is left.
        is_lost: whether chunks were lost half-way. The records then stay as they are, and no
            commit can continue them, until another snapshot comes.
    """

    snapshot: Snapshot
    snapshot_offset: int
    next_chunk_offset: int
    next_chunk_index: int = 0
    after_path: str | None = None
    is_partial: bool = False
    is_merged: bool = False
    is_lost: bool = False


@dataclass(frozen=True, slots=True)
class RepoState:
    """The state of one repository.

    Attributes:
        did: the repository.
        source: the last event or answer that changed this state.
        upstream_active: whether the account may be shown, by what was last said of it.
        upstream_status: why not, as that says it, or None.
        account: who said these two, or None if nobody did.
        override: what the operator says instead, or None.
        sync: how what we hold relates to what was signed.
        reason: why it is desynchronized, or was when a snapshot came (a `Desync`, or the reason
            of a refused commit), or None.
        desynchronized_us: since when, by the receive time of that event, or None.
        requested_us: when its repair was last requested, by the receive time of what made it
            necessary; None if it was not.
        head: the commit whose records we hold, or None if we hold none.
        seen: the newest commit known to be signed, or None.
        waiting: what came while something was missing, to be judged behind the next snapshot.
        applying: the snapshot that is being applied; None unless one is.
        deletion_us: since when the records of a deleted account wait for a confirmation, by the
            receive time of that event; None unless they do.
        deleted_rev: the last revision that went with a deletion of the account, or None. Records
            up to it are gone or going, and commits up to it are ignored.
        is_purging: whether some of those records still wait for their tombstones.
    """

    did: Did
    source: Source
    upstream_active: bool = True
    upstream_status: str | None = None
    account: AccountMark | None = None
    override: Override | None = None
    sync: Sync = Sync.UNKNOWN
    reason: str | None = None
    desynchronized_us: int | None = None
    requested_us: int | None = None
    head: Head | None = None
    seen: Signed | None = None
    waiting: tuple[Waiting, ...] = ()
    applying: Applying | None = None
    deletion_us: int | None = None
    deleted_rev: Tid | None = None
    is_purging: bool = False

    @property
    def active(self) -> bool:
        """Whether the account may be shown: the operator's word, or else upstream's."""
        if self.override is not None:
            return self.override.status is OverrideStatus.ACTIVE
        return self.upstream_active

    @property
    def status(self) -> str | None:
        """Why it may not be shown, or None, by whoever's word counts."""
        if self.override is not None:
            return None if self.active else self.override.status
        return self.upstream_status

    @property
    def pending_snapshot(self) -> int | None:
        """Offset of the snapshot that there is work to do for, or None."""
        applying = self.applying
        if applying is None or applying.is_lost or self.deletion_us is not None:
            return None
        return applying.snapshot_offset


_NOTHING_SIGNED = (None, None, None)
_NO_ACCOUNT = (None, None, None, None)


def finish_purge(state: RepoState) -> RepoState:
    """Returns the state after the last tombstone of a deleted account."""
    return replace(state, is_purging=False)


def encode_repo(state: RepoState) -> bytes:
    """Returns the value of a repository in `repos`: JSON, version 1."""
    head = _NOTHING_SIGNED if state.head is None else state.head.signed
    seen = state.seen or _NOTHING_SIGNED
    account = state.account or _NO_ACCOUNT
    override = state.override
    return orjson.dumps(
        {
            "did": state.did,
            "active": state.active,
            "status": state.status,
            "account_host": account[0],
            "account_seq": account[1],
            "account_time": account[2],
            "account_received_us": account[3],
            "upstream_active": state.upstream_active,
            "upstream_status": state.upstream_status,
            "override_status": None if override is None else override.status,
            "override_reason": None if override is None else override.reason,
            "override_us": None if override is None else override.decided_us,
            "sync": state.sync,
            "reason": state.reason,
            "desynchronized_us": state.desynchronized_us,
            "requested_us": state.requested_us,
            "rev": head[0],
            "commit": head[1],
            "data": head[2],
            "commit_block": None if state.head is None else state.head.block,
            "seen_rev": seen[0],
            "seen_commit": seen[1],
            "seen_data": seen[2],
            "waiting": [waiting._asdict() for waiting in state.waiting],
            "applying": None if state.applying is None else _applying_fields(state.applying),
            "deletion_us": state.deletion_us,
            "deleted_rev": state.deleted_rev,
            "purging": state.is_purging,
            **state.source._asdict(),
        }
    )


def parse_repo(value: bytes) -> RepoState:
    """Takes a value of `repos` apart.

    Args:
        value: JSON, version 1, as `encode_repo` writes it.

    Raises:
        ValueError: it is of another shape, which a newer compact may have written.
    """
    try:
        found = orjson.loads(value)
        head = None
        if found["rev"] is not None:
            signed = Signed(found["rev"], found["commit"], found["data"])
            head = Head(signed, found["commit_block"])
        seen = None
        if found["seen_rev"] is not None:
            seen = Signed(found["seen_rev"], found["seen_commit"], found["seen_data"])
        account = None
        if found["account_host"] is not None:
            account = AccountMark(
                found["account_host"],
                found["account_seq"],
                found["account_time"],
                found["account_received_us"],
            )
        override = None
        if found.get("override_status") is not None:  # the first states had none
            override = Override(
                OverrideStatus(found["override_status"]),
                found["override_reason"],
                found["override_us"],
            )
        return RepoState(
            did=found["did"],
            source=parse_source(found),
            upstream_active=found.get("upstream_active", found["active"]),
            upstream_status=found.get("upstream_status", found["status"]),
            account=account,
            override=override,
            sync=Sync(found["sync"]),
            reason=found["reason"],
            desynchronized_us=found["desynchronized_us"],
            requested_us=found["requested_us"],
            head=head,
            seen=seen,
            waiting=tuple([Waiting(**waiting) for waiting in found["waiting"]]),
            applying=None if found["applying"] is None else _applying(found),
            deletion_us=found.get("deletion_us"),  # the first states had none
            deleted_rev=found["deleted_rev"],
            is_purging=found["purging"],
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a repository of version 1: {error!r}") from error


def _applying_fields(applying: Applying) -> dict[str, Any]:
    snapshot = asdict(applying.snapshot)
    del snapshot["did"]  # the repository's
    return snapshot | {
        "snapshot_offset": applying.snapshot_offset,
        "next_chunk_offset": applying.next_chunk_offset,
        "next_chunk_index": applying.next_chunk_index,
        "after_path": applying.after_path,
        "partial": applying.is_partial,
        "merged": applying.is_merged,
        "lost": applying.is_lost,
    }


def _applying(repo: dict[str, Any]) -> Applying:
    fields = repo["applying"]
    progress = {
        "snapshot_offset": fields.pop("snapshot_offset"),
        "next_chunk_offset": fields.pop("next_chunk_offset"),
        "next_chunk_index": fields.pop("next_chunk_index"),
        "after_path": fields.pop("after_path"),
        "is_partial": fields.pop("partial"),
        "is_merged": fields.pop("merged"),
        "is_lost": fields.pop("lost"),
    }
    cause = Cause(fields.pop("cause"))
    return Applying(Snapshot(did=repo["did"], cause=cause, **fields), **progress)
