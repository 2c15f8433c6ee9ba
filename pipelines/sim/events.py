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
    SUSPENDED = "suspended"
    TAKENDOWN = "takendown"
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


class Left(NamedTuple):
    """A PDS that an account has moved away from.

    Attributes:
        host: its name.
        head: the repository as it still is there.
    """

    host: str
    head: Head


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
        left: where it was before, once for each move.
    """

    did: Did
    handle: Handle
    identity: AccountIdentity
    is_announced: bool = False
    status: Status | None = None
    head: Head | None = None
    left: tuple[Left, ...] = ()

    @property
    def host(self) -> str:
        """Name of the PDS on which it lives."""
        return self.identity.pds.removeprefix("https://")


class WrittenOp(NamedTuple):
    """An operation and what it wrote.

    Attributes:
        op: the operation.
        record: the record block; None for a delete.
    """

    op: Op
    record: bytes | None


class Untold(NamedTuple):
    """A change of a repository that nobody was told of.

    Attributes:
        time_us: when it happened, microseconds since the epoch.
        state: the account afterwards.
        ops: what was done; each path once.
    """

    time_us: int
    state: AccountState
    ops: tuple[WrittenOp, ...]


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
        untold: what happened without a frame of its own since the event before; it is true from
            the moment of this one on, and may be of other accounts.
    """

    seq: int
    kind: Kind
    time_us: int
    frame: bytes
    state: AccountState
    ops: tuple[WrittenOp, ...] = ()
    untold: tuple[Untold, ...] = ()
