"""What to start, restart, stop and kill, and when.

Pure: events and the time go in, actions come out; who carries them out is `pipelines.up.runner`.

    add ─► Waiting ─start─► Alive ─exit─► Resting ─pause over─► start …
                              │              └─ too often, or for good ─► the run ends
                              └─ stop asked ─► terminate ─► Ended
                                               (kill after STOP_TIMEOUT_S)

A child that dies is started again after a pause that doubles with each death within a minute. One
that dies DEATHS_LIMIT times within a minute, that says it was started wrongly (exit code 2), or
that cannot be replaced, ends the run: everything else is stopped. Stopping goes by `stop_order`:
a child is asked to end when all of a lower order have ended, so that nobody writes any more to
what it reads. A second wish to stop kills what is left.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from signal import SIGTERM
from typing import TypeAlias, assert_never

# Together with the pauses, a child that dies at once is given up after some ten seconds.
DEATHS_LIMIT = 5
DEATHS_WINDOW_S = 60.0
FIRST_PAUSE_S = 0.5
MAX_PAUSE_S = 10.0
# A stage may need its broker calls to run out: at most about half a minute.
STOP_TIMEOUT_S = 40.0
WRONG_USAGE_EXIT_CODE = 2


@dataclass(frozen=True, slots=True)
class Child:
    """A process to run.

    Attributes:
        stage: what it is.
        slot: its name among those of its stage.
        arguments: of the command line, without the program's name.
        stop_order: lower ones are stopped first.
        is_replaceable: whether a new process can take over; else its end ends the run.
    """

    stage: str
    slot: str
    arguments: tuple[str, ...]
    stop_order: int
    is_replaceable: bool = True

    @property
    def name(self) -> str:
        """`<stage>.<slot>`, as in the topic `status`."""
        return f"{self.stage}.{self.slot}"


@dataclass(frozen=True, slots=True)
class Waiting:
    """It is to be started now."""


@dataclass(frozen=True, slots=True)
class Alive:
    """It runs.

    Attributes:
        pid: its process.
        kill_at_s: when it is killed if it has not ended; None if it was not asked to end.
        is_killed: whether it was killed already.
    """

    pid: int
    kill_at_s: float | None = None
    is_killed: bool = False


@dataclass(frozen=True, slots=True)
class Resting:
    """It died and is started again later.

    Attributes:
        exit_code: of its last life; negative is a signal.
        until_s: when it is started.
    """

    exit_code: int
    until_s: float


@dataclass(frozen=True, slots=True)
class Ended:
    """It runs no more.

    Attributes:
        exit_code: of its last life; negative is a signal.
    """

    exit_code: int


ChildState: TypeAlias = Waiting | Alive | Resting | Ended


@dataclass(frozen=True, slots=True)
class Start:
    """Start a child, then tell `started`."""

    child: Child


@dataclass(frozen=True, slots=True)
class Terminate:
    """Ask a child to end."""

    child: Child


@dataclass(frozen=True, slots=True)
class Kill:
    """End a child by force."""

    child: Child


Action: TypeAlias = Start | Terminate | Kill


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a run did not go as it should.

    Attributes:
        child: which process.
        reason: what it did, for a person.
    """

    child: Child
    reason: str


class _Phase(Enum):
    RUNNING = auto()
    STOPPING = auto()
    KILLING = auto()


@dataclass(slots=True)
class _Entry:
    child: Child
    state: ChildState = field(default_factory=Waiting)
    deaths_s: list[float] = field(default_factory=list)


class Supervisor:
    """The state of one run.

    Attributes:
        failure: what ended the run, or was not clean about its end; the first such thing.
    """

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}
        self._phase = _Phase.RUNNING
        self.failure: Failure | None = None

    @property
    def is_stopping(self) -> bool:
        """Whether the run is coming to its end."""
        return self._phase is not _Phase.RUNNING

    @property
    def is_over(self) -> bool:
        """Whether the run was to end and every child has."""
        states = [entry.state for entry in self._entries.values()]
        return self.is_stopping and all(isinstance(state, Ended) for state in states)

    def states(self) -> Mapping[str, ChildState]:
        """Returns what each child is doing, by its name."""
        return {name: entry.state for name, entry in self._entries.items()}

    def add(self, children: Iterable[Child]) -> None:
        """Takes in further children; they are started with the next step."""
        for child in children:
            assert child.name not in self._entries
            self._entries[child.name] = _Entry(child)

    def stop(self) -> None:
        """Ends the run, one order after the other; called again, at once and by force."""
        self._phase = _Phase.STOPPING if self._phase is _Phase.RUNNING else _Phase.KILLING
        for entry in self._entries.values():
            match entry.state:
                case Waiting():
                    entry.state = Ended(0)
                case Resting(exit_code):
                    entry.state = Ended(exit_code)
                case Alive() | Ended():
                    pass
                case _:
                    assert_never(entry.state)

    def started(self, child: Child, pid: int) -> None:
        """Notes that a child runs."""
        self._entries[child.name].state = Alive(pid)

    def exited(self, child: Child, exit_code: int, now_s: float) -> None:
        """Notes that a child has ended, for whatever reason.

        Args:
            child: which.
            exit_code: negative is a signal.
            now_s: a clock that only moves forward.
        """
        entry = self._entries[child.name]
        if self.is_stopping:
            entry.state = Ended(exit_code)
            # What was not up yet when it was asked to end had no chance to do so by itself.
            if exit_code not in {0, -SIGTERM}:
                self._fail(child, f"did not end cleanly: {exit_text(exit_code)}")
            return
        entry.deaths_s = [at for at in entry.deaths_s if now_s - at < DEATHS_WINDOW_S]
        entry.deaths_s.append(now_s)
        count = len(entry.deaths_s)
        reason: str | None = None
        if not child.is_replaceable:
            reason = f"has ended: {exit_text(exit_code)}"
        elif exit_code == WRONG_USAGE_EXIT_CODE:
            reason = "cannot run with these settings"
        elif count >= DEATHS_LIMIT:
            reason = f"died {count} times within a minute, the last time: {exit_text(exit_code)}"
        if reason is None:
            pause_s = min(FIRST_PAUSE_S * 2 ** (count - 1), MAX_PAUSE_S)
            entry.state = Resting(exit_code, now_s + pause_s)
        else:
            entry.state = Ended(exit_code)
            self._fail(child, reason)
            self.stop()

    def step(self, now_s: float) -> list[Action]:
        """Returns what is to be done now.

        Args:
            now_s: the same clock as in `exited`.
        """
        match self._phase:
            case _Phase.RUNNING:
                return list(self._starts(now_s))
            case _Phase.STOPPING:
                return list(self._stops(now_s))
            case _Phase.KILLING:
                return list(self._kills(lambda _: True))
            case _:
                assert_never(self._phase)

    def _starts(self, now_s: float) -> Iterator[Action]:
        for entry in self._entries.values():
            state = entry.state
            if isinstance(state, Waiting) or (
                isinstance(state, Resting) and now_s >= state.until_s
            ):
                yield Start(entry.child)

    def _stops(self, now_s: float) -> Iterator[Action]:
        alive = [e for e in self._entries.values() if isinstance(e.state, Alive)]
        order = min((entry.child.stop_order for entry in alive), default=0)
        for entry in alive:
            state = entry.state
            assert isinstance(state, Alive)
            if entry.child.stop_order == order and state.kill_at_s is None:
                entry.state = Alive(state.pid, now_s + STOP_TIMEOUT_S)
                yield Terminate(entry.child)
        yield from self._kills(
            lambda state: state.kill_at_s is not None and now_s >= state.kill_at_s
        )

    def _kills(self, is_due: Callable[[Alive], bool]) -> Iterator[Action]:
        for entry in self._entries.values():
            state = entry.state
            if isinstance(state, Alive) and not state.is_killed and is_due(state):
                entry.state = Alive(state.pid, state.kill_at_s, is_killed=True)
                yield Kill(entry.child)

    def _fail(self, child: Child, reason: str) -> None:
        self.failure = self.failure or Failure(child, reason)


def exit_text(exit_code: int) -> str:
    """Returns an exit code as a person reads it."""
    return f"signal {-exit_code}" if exit_code < 0 else f"exit code {exit_code}"
