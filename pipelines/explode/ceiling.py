"""When refusals look like our own fault: across many accounts and many servers at once.

A defect of ours, a broken directory or a relay that is read as a PDS would have a worker
refuse what is good, and go past it. One account that misbehaves, or one server with thousands of
them, must not be able to stop it. So the worker looks at the frames it judged last and gives up,
without committing, once all of this holds:

    accounts refused        at least `Limits.accounts_count`
    of all accounts seen    more than half were refused
    their servers           at least `Limits.servers_count`; or nobody knows them, and of a
                            whole window nothing at all was accepted

The server of an account is the one that its identity names, so a relay that brings everybody's
frames does not count as one. Pure: frames are named by account and server, and there is no clock.
"""

from collections import Counter, deque
from typing import Final, NamedTuple

from pipelines.errors import RefusalCeilingError

# Frames that are looked at: a second and a half of the live network.
WINDOW_COUNT: Final = 500


class Limits(NamedTuple):
    """What is too much.

    Attributes:
        accounts_count: accounts with a refused frame in the window. One in ten of its frames: so
            many go to quarantine, at the least, before it is noticed.
        servers_count: servers of these accounts. A hostile operator has one, or a few.
        window_count: frames in the window.
    """

    accounts_count: int = 50
    servers_count: int = 5
    window_count: int = WINDOW_COUNT


DEFAULT_LIMITS: Final = Limits()


class _Frame(NamedTuple):
    account: str
    server: str | None
    is_refused: bool


class RefusalWindow:
    """The last frames that a worker judged."""

    def __init__(self, limits: Limits = DEFAULT_LIMITS, *, is_binding: bool = True) -> None:
        """Starts empty.

        Args:
            limits: what is too much.
            is_binding: False to count and never to give up.
        """
        self._limits = limits
        self._is_binding = is_binding
        self._frames: deque[_Frame] = deque()
        self._accounts: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._servers: Counter[str] = Counter()
        self._unknown_count = 0
        self._refused_count = 0

    @property
    def counts(self) -> dict[str, int]:
        """What was refused in the window: how many frames, of how many accounts and servers."""
        return {
            "frames": self._refused_count,
            "accounts": len(self._refused),
            "servers": len(self._servers),
        }

    def accept(self, account: str) -> None:
        """Takes in a frame that was not refused."""
        self._add(_Frame(account, None, is_refused=False))

    def refuse(self, account: str, server: str | None) -> None:
        """Takes in a frame that was refused.

        Args:
            account: what it is keyed by.
            server: of the account, as its identity names it; None if nobody knows.

        Raises:
            RefusalCeilingError: with this one it is too much.
        """
        self._add(_Frame(account, server, is_refused=True))
        if self._is_binding and self._is_too_much():
            raise RefusalCeilingError(
                f"of the last {len(self._frames)} frames {self._refused_count} were refused, of "
                f"{len(self._refused)} accounts on {len(self._servers)} known servers: that many "
                "at once are likely our own fault, so nothing of this batch is committed. See "
                "`standpipe quarantine list` for the reasons and the runbook for what to look at; "
                "start with --no-refusal-ceiling to go on, if they are right"
            )

    def _is_too_much(self) -> bool:
        limits = self._limits
        if len(self._refused) < limits.accounts_count:
            return False
        if 2 * len(self._refused) <= len(self._accounts):
            return False
        if len(self._servers) >= limits.servers_count:
            return True
        nothing_else = self._refused_count == len(self._frames) == limits.window_count
        return nothing_else and self._unknown_count >= limits.accounts_count

    def _add(self, frame: _Frame) -> None:
        self._frames.append(frame)
        self._note(frame, 1)
        if len(self._frames) > self._limits.window_count:
            self._note(self._frames.popleft(), -1)

    def _note(self, frame: _Frame, step: int) -> None:
        _step(self._accounts, frame.account, step)
        if not frame.is_refused:
            return
        self._refused_count += step
        _step(self._refused, frame.account, step)
        if frame.server is None:
            self._unknown_count += step
        else:
            _step(self._servers, frame.server, step)


def _step(counter: Counter[str], name: str, step: int) -> None:
    counter[name] += step
    if not counter[name]:
        del counter[name]
