"""Which repository is fetched next: when it is due, whether there is room, whether its host rests.

    waiting    its time has not come
    ready      its time has come, and there is no room for it
    running    it is being looked up, or fetched
    landed     it has been fetched, and waits to be written

A job runs twice: first its account is looked up, then its repository is fetched from the host that
the look-up named. So a host is known before it is asked, and one that is slow or away takes none
but its own places: whatever waits for it waits apart.

Pure: time comes in as microseconds since the epoch.

What is full, and what happens then:

    jobs of a partition           MAX_JOBS_COUNT              `is_full`: no more requests are read
    look-ups at once              `Places.look_ups_count`     they wait their turn
    downloads at once             `Places.total_count`        as above
    downloads at once of a host   `Places.host_count`         as above; other hosts go on
    downloads of one repository   FREE_RUNS_COUNT in          the next one waits, as after a
                                  QUIET_US                    failure
"""

from collections import Counter, OrderedDict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from heapq import heapify, heappop, heappush
from typing import Final, NamedTuple

from pipelines.atproto.syntax import Did
from pipelines.identity.memory import Recent
from pipelines.resync.jobs import Job, back_off_us

# About 1.2 kB each. What is asked for beyond that waits in the topic.
MAX_JOBS_COUNT: Final = 20_000
# Whoever breaks a repository again and again has it fetched so often without a wait; who does not
# for so long begins anew. spec: M-09
FREE_RUNS_COUNT: Final = 3
QUIET_US: Final = 3_600_000_000
# Repositories of which it is remembered how often they were fetched lately, some 150 bytes each.
MAX_REMEMBERED_COUNT: Final = 100_000

# Hosts of which it is remembered that they rest; the first one is asked again to make room.
MAX_RESTING_COUNT: Final = 2_000


@dataclass(frozen=True, slots=True)
class Places:
    """How much may be under way at once.

    Attributes:
        total_count: downloads.
        host_count: of these, from one host.
        look_ups_count: look-ups of accounts.
    """

    total_count: int
    host_count: int
    look_ups_count: int


class Start(NamedTuple):
    """What is to be started now.

    Attributes:
        job: what is asked for.
        partition: of the repository.
        host: the host to fetch from; None if that is to be looked up.
    """

    job: Job
    partition: int
    host: str | None


class _Phase(Enum):
    WAITING = auto()
    READY = auto()
    RUNNING = auto()
    LANDED = auto()


@dataclass(slots=True)
class _Entry:
    job: Job
    partition: int
    due_us: int
    host: str | None = None
    phase: _Phase = _Phase.WAITING


class _Runs(NamedTuple):
    """How often a repository was fetched lately, and when last."""

    runs_count: int
    last_us: int


class Schedule:
    """The jobs of a worker."""

    def __init__(self, places: Places) -> None:
        """Starts empty.

        Args:
            places: how much may be under way at once.
        """
        self._places = places
        self._entries: dict[Did, _Entry] = {}
        self._jobs_count: Counter[int] = Counter()  # by partition
        self._waiting: list[tuple[int, Did]] = []  # a heap; entries may be out of date
        self._ready: OrderedDict[str | None, deque[Did]] = OrderedDict()
        self._running: Counter[str | None] = Counter()  # by host, None for look-ups
        self._rests_until_us: dict[str, int] = {}
        self._runs: Recent[_Runs] = Recent(MAX_REMEMBERED_COUNT)

    @property
    def counts(self) -> dict[str, int]:
        """How many jobs are in which state, for whoever watches."""
        running = self._running.copy()
        looking = running.pop(None, 0)
        fetching = running.total()
        return {
            "waiting": len(self._entries) - looking - fetching,
            "looking": looking,
            "fetching": fetching,
        }

    def is_full(self, partition: int) -> bool:
        """Tells whether no more jobs of a partition may be added."""
        return self._jobs_count[partition] >= MAX_JOBS_COUNT

    def find(self, did: Did) -> Job | None:
        """Returns what is asked for of a repository."""
        entry = self._entries.get(did)
        return None if entry is None else entry.job

    def first_due_us(self, did: Did, now_us: int) -> int:
        """Returns when a repository of which nothing is asked for may be fetched.

        Args:
            did: the repository.
            now_us: the time.
        """
        runs = self._runs.get(did)
        if runs is None or now_us - runs.last_us >= QUIET_US or runs.runs_count < FREE_RUNS_COUNT:
            return now_us
        return max(now_us, runs.last_us + back_off_us(did, 1 + runs.runs_count - FREE_RUNS_COUNT))

    def put(self, job: Job, partition: int) -> None:
        """Adds a job, or changes what is asked for of a repository.

        Args:
            job: what is asked for. One that runs goes on; when to try again counts if it does not.
            partition: of the repository.
        """
        entry = self._entries.get(job.did)
        if entry is None:
            entry = self._entries[job.did] = _Entry(job, partition, job.not_before_us)
            self._jobs_count[partition] += 1
            heappush(self._waiting, (entry.due_us, job.did))
        else:
            entry.job = job

    def restore(self, jobs: Iterable[tuple[Job, int]]) -> None:
        """Forgets everything and takes over what was pending before, with its partitions."""
        self._entries.clear()
        self._jobs_count.clear()
        self._ready.clear()
        self._running.clear()
        for job, partition in jobs:
            self._entries[job.did] = _Entry(job, partition, job.not_before_us)
            self._jobs_count[partition] += 1
        self._waiting = [(entry.due_us, did) for did, entry in self._entries.items()]
        heapify(self._waiting)

    def start(self, now_us: int) -> Iterator[Start]:
        """Yields what is to be started now, as far as there is room.

        Hosts come in turn; of one host, what is due for longest comes first.
        """
        while self._waiting and self._waiting[0][0] <= now_us:
            due_us, did = heappop(self._waiting)
            entry = self._entries.get(did)
            if entry is not None and entry.phase is _Phase.WAITING and entry.due_us == due_us:
                entry.phase = _Phase.READY
                self._ready.setdefault(entry.host, deque()).append(did)
        for host in list(self._ready):
            yield from self._start_of(host, now_us)

    def _start_of(self, host: str | None, now_us: int) -> Iterator[Start]:
        line = self._ready[host]
        while line and self._has_room(host, now_us):
            did = line.popleft()
            entry = self._entries.get(did)
            if entry is None or entry.phase is not _Phase.READY or entry.host != host:
                continue
            entry.phase = _Phase.RUNNING
            self._running[host] += 1
            # The next time it comes after the others.
            self._ready.move_to_end(host)
            yield Start(entry.job, entry.partition, host)
        if not line:
            del self._ready[host]

    def located(self, did: Did, host: str, now_us: int) -> None:
        """Notes that a look-up has ended: the repository is at this host."""
        self._wait(did, host, now_us)

    def postpone(self, did: Did, due_us: int) -> None:
        """Notes that a job is to be run again at a time, from the look-up on."""
        self._wait(did, None, due_us)

    def rest(self, host: str, until_us: int) -> None:
        """Leaves a host alone until a time."""
        self._rests_until_us[host] = max(until_us, self._rests_until_us.get(host, 0))
        if len(self._rests_until_us) > MAX_RESTING_COUNT:
            del self._rests_until_us[next(iter(self._rests_until_us))]

    def landed(self, did: Did) -> None:
        """Notes that a run has ended, and that its outcome is about to be written."""
        entry = self._entries[did]
        self._leave(entry)
        entry.phase = _Phase.LANDED

    def finish(self, did: Did, now_us: int) -> None:
        """Notes that a job is done.

        Args:
            did: the repository, whose outcome has landed.
            now_us: the time.
        """
        entry = self._entries.pop(did)
        assert entry.phase is _Phase.LANDED
        self._jobs_count[entry.partition] -= 1
        runs = self._runs.get(did)
        if runs is None or now_us - runs.last_us >= QUIET_US:
            runs = _Runs(0, now_us)
        self._runs.put(did, _Runs(runs.runs_count + 1, now_us))

    def _wait(self, did: Did, host: str | None, due_us: int) -> None:
        entry = self._entries[did]
        self._leave(entry)
        entry.phase, entry.host, entry.due_us = _Phase.WAITING, host, due_us
        heappush(self._waiting, (due_us, did))

    def _leave(self, entry: _Entry) -> None:
        if entry.phase is _Phase.RUNNING:
            self._running[entry.host] -= 1
            if not self._running[entry.host]:
                del self._running[entry.host]

    def _has_room(self, host: str | None, now_us: int) -> bool:
        if host is None:
            return self._running[None] < self._places.look_ups_count
        rests_until_us = self._rests_until_us.get(host)
        if rests_until_us is not None:
            if rests_until_us > now_us:
                return False
            del self._rests_until_us[host]
        fetching_count = self._running.total() - self._running[None]
        is_free = self._running[host] < self._places.host_count
        return is_free and fetching_count < self._places.total_count
