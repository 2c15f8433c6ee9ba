"""What the handlers need of a network, captured or generated."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias

# How many messages a subscriber is given at a time: enough that asking costs nothing, and few
# enough that others get their turn.
READ_COUNT = 32


class CursorHabit(StrEnum):
    """Whether the frame that a cursor names is sent again. spec: F-23."""

    EXCLUSIVE = "exclusive"  # seq > cursor: deployed relays and hosts
    INCLUSIVE = "inclusive"  # seq >= cursor: the specification


class FutureCursorError(Exception):
    """A cursor is ahead of everything the relay has."""


class SubscriberTooSlowError(Exception):
    """A subscriber is so far behind that its next frame is no longer kept."""


@dataclass(frozen=True, slots=True)
class Start:
    """Where a subscriber starts.

    Attributes:
        index: of the first frame to send; frames are counted from the first of all on.
        is_outdated: whether frames that the cursor asks for are no longer kept.
    """

    index: int
    is_outdated: bool = False


@dataclass(frozen=True, slots=True)
class Emission:
    """How a network's frames come into being, and how long they are kept.

    Attributes:
        rate: frames per second from the first subscription on; 0 for as fast as they are read.
        cursor_habit: whether a cursor includes the frame it names.
        retained_count: how many emitted frames are kept for cursors; None for no limit in number.
    """

    rate: float = 0
    cursor_habit: CursorHabit = CursorHabit.EXCLUSIVE
    retained_count: int | None = None


class History(Protocol):
    """The frames of a network as they come into being. Times are seconds of a monotonic clock."""

    @property
    def total_count(self) -> int | None:
        """How many frames there will ever be; None for a stream without end."""

    @property
    def prepared_count(self) -> int:
        """How many frames were made so far, emitted or not."""

    def emitted_count(self, now_s: float) -> int:
        """Returns how many frames exist."""

    def wait_s(self, index: int, now_s: float) -> float | None:
        """Returns the seconds until a frame may exist: 0 if it does, None if it never will."""

    def subscribe(self, cursor: int | None, now_s: float) -> Start | None:
        """Returns where a new subscriber starts; the history begins if it has not.

        Args:
            cursor: last sequence number the subscriber has; 0 for everything that is kept; None
                for what is emitted from now on.
            now_s: the clock.

        Returns:
            Where to start, or None if that takes more work: ask again, others first.

        Raises:
            FutureCursorError: the cursor is over the last sequence number of all.
        """

    def read(self, index: int, now_s: float) -> Sequence[bytes | str]:
        """Returns existing messages from an index on, at most `READ_COUNT`, perhaps none.

        Raises:
            SubscriberTooSlowError: that one is no longer kept.
        """

    def work(self, now_s: float) -> float | None:
        """Does a small piece of what has to be done although nobody asks for it.

        Returns:
            Seconds until the next piece; None if there is never any.
        """


@dataclass(frozen=True, slots=True)
class Identity:
    """What the directory knows about a DID.

    Attributes:
        document: the DID document; None for a DID that was given up (a PLC tombstone), of which
            only the log is left.
        audit_log: the PLC audit log, or None (did:web has none).
    """

    document: Mapping[str, Any] | None
    audit_log: Sequence[Any] | None = None


# Why a repository is not served, by the status of its account. Lexicon com.atproto.sync.getRepo.
ERROR_BY_STATUS: Final[Mapping[str, str]] = {
    "takendown": "RepoTakendown",
    "suspended": "RepoSuspended",
    "deactivated": "RepoDeactivated",
}

# A repository as a CAR: a file, or what gives its pieces, taken at the moment of the call.
CarSource: TypeAlias = Path | Callable[[], Iterator[bytes]]


@dataclass(frozen=True, slots=True)
class Account:
    """What the host of a repository answers about it.

    Attributes:
        latest_commit: body of getLatestCommit, or of its error (`error`, perhaps `message`).
        repo_status: body of getRepoStatus, or of its error.
        listing: its entry in listRepos; None for an account that is not listed.
        car: what getRepo answers with, or None.
        prove: makes what getRecord answers with, a CAR, of a path; None without a repository.
    """

    latest_commit: Mapping[str, Any]
    repo_status: Mapping[str, Any]
    listing: Mapping[str, Any] | None = None
    car: CarSource | None = None
    prove: Callable[[str], bytes] | None = None


class Network(Protocol):
    """Everything the simulator serves, at the moment it is asked."""

    def find_identity(self, did: str) -> Identity | None:
        """Returns what the directory knows about a DID, if anything."""

    def list_logs(self) -> Iterable[Sequence[Any]]:
        """Yields the audit log of every did:plc."""

    def list_hosts(self) -> Sequence[str]:
        """Returns the names of all PDSes, as in the addresses that documents name."""

    def host_of(self, did: str) -> str | None:
        """Returns the PDS that an account's document names, if there is one."""

    def find_account(
        self, did: str, host: str | None = None, *, is_stale: bool = False
    ) -> Account | None:
        """Returns what a host answers about a repository, if it knows it.

        Args:
            did: the account.
            host: a PDS; None for the relay, which knows what is so.
            is_stale: before its latest commit, if anybody remembers.
        """

    def list_accounts(self, host: str | None = None) -> Iterable[tuple[str, Account]]:
        """Yields DIDs and accounts in the order in which a host, or the relay, lists them."""

    def has_collection(self, did: str, collection: str) -> bool | None:
        """Tells whether an account has a record of a collection; None if nobody knows."""

    def truth(self, did: str | None = None) -> Mapping[str, Any] | None:
        """Returns what really happened, of one account or all, as JSON; None if nobody knows."""

    def open_history(self, emission: Emission) -> History:
        """Returns the frames."""

    def close(self) -> None:
        """Lets go of files."""
