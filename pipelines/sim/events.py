"""What happens in a generated network: events, and the account as each one leaves it.

An event's frame and the truth about it are two things. Whatever damages, repeats or drops frames
between the generator and the stream leaves the truth as it is.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from pipelines.atproto.commit import SignedCommit
from pipelines.atproto.frames import Kind, Op
from pipelines.atproto.mst.tree import Tree
from pipelines.atproto.syntax import Did, Handle
from pipelines.sim.identities import AccountIdentity


class Status(StrEnum):
    """Why an account is not active. Lexicon com.atproto.sync.subscribeRepos#account."""

    DEACTIVATED = "deactivated"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class Head:
    """The latest state of a repository.

    Attributes:
        commit: the signed commit object.
        commit_cid: its raw CID.
        tree: what it signs.
    """

    commit: SignedCommit
    commit_cid: bytes
    tree: Tree


@dataclass(frozen=True, slots=True)
class AccountState:
    """An account after an event.

    Attributes:
        did: the account.
        handle: its name.
        identity: what the directory knows, or the account's own host.
        is_announced: whether an `#account` has told of it; before, its host does not know it.
        status: None while it is active.
        head: None before the first commit and after a deletion.
    """

    did: Did
    handle: Handle
    identity: AccountIdentity
    is_announced: bool = False
    status: Status | None = None
    head: Head | None = None


class WrittenOp(NamedTuple):
    """An operation and what it wrote.

    Attributes:
        op: the operation.
        record: the record block; None for a delete.
    """

    op: Op
    record: bytes | None


@dataclass(frozen=True, slots=True)
class Event:
    """One frame, and the truth about it.

    Attributes:
        seq: position in the stream.
        kind: what it is.
        time_us: when it happened, microseconds since the epoch.
        frame: the websocket message.
        state: the account afterwards.
        ops: what a commit did.
    """

    seq: int
    kind: Kind
    time_us: int
    frame: bytes
    state: AccountState
    ops: tuple[WrittenOp, ...] = ()
