"""The processes of a round, and their operator: it starts again what has died.

A victim is struck while it stands still (SIGSTOP) with its transaction open, as the broker's own
notes say: no kill has to hit the moment.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random

from chaos.leading import only_leader
from support.pipeline import Pipeline, Stage
from support.transactions import TransactionWatch

from pipelines.config import KafkaConfig
from pipelines.errors import BrokerUnavailableError

# How long anything may take before the round has failed.
DRAIN_TIMEOUT_S = 180.0
# What a victim had sent before it stood still is noted by then; whether the kill counts is told by
# the notes that follow.
_STILL_S = 0.25
_OPEN_TIMEOUT_S = 0.2


@dataclass(slots=True)
class Member:
    """A stage process that is to be there.

    Attributes:
        stage: the process.
        transactional_id: under which it writes; bridges share theirs.
        start_at_s: when it is started again; None while it runs.
        resume_at_s: when it goes on; None unless it stands still.
    """

    stage: Stage
    transactional_id: str
    start_at_s: float | None = None
    resume_at_s: float | None = None

    @property
    def is_at_work(self) -> bool:
        return self.start_at_s is None and self.resume_at_s is None


class Crew:
    """All stages of a pipeline.

    Attributes:
        bridges: of which one leads.
        workers: those of explode.
        compacts: those of compact.
        restarts_count: how often a stage ended by itself and was started again.
        is_broker_there: whether it makes sense to start anything.
    """

    def __init__(
        self,
        config: KafkaConfig,
        pipeline: Pipeline,
        relays: Sequence[str],
        bridges_count: int,
        watch: TransactionWatch,
        random: Random,
    ) -> None:
        """Starts the stages.

        Args:
            config: the cluster.
            pipeline: starts processes.
            relays: addresses of all upstreams.
            bridges_count: 1, or 2 with one that stands by.
            watch: sees transactions.
            random: chooses the victims.
        """
        self.restarts_count = 0
        self.is_broker_there = True
        self._config = config
        self._pipeline = pipeline
        self._watch = watch
        self._random = random
        self.bridges = [
            Member(pipeline.start_bridge(str(slot), relays), self._id("bridge", "leader"))
            for slot in range(bridges_count)
        ]
        self.workers = [self.start_worker("0"), self.start_worker("1")]
        self.compacts = [self.start_compact("0")]

    @property
    def members(self) -> list[Member]:
        return [*self.bridges, *self.workers, *self.compacts]

    def start_worker(self, slot: str) -> Member:
        return Member(self._pipeline.start_worker(slot), self._id("explode", slot))

    def start_compact(self, slot: str) -> Member:
        return Member(self._pipeline.start_compact(slot), self._id("compact", slot))

    # ---- who leads --------------------------------------------------------------------------

    def leader(self) -> Member | None:
        """Returns the bridge that leads, if that is beyond doubt."""
        logs = {str(n): m.stage.lines() for n, m in enumerate(self.bridges) if m.is_at_work}
        name = only_leader(logs)
        return None if name is None else self.bridges[int(name)]

    def await_leader(self) -> Member:
        """Waits until there is one."""
        self.wait_for(lambda: self.leader() is not None, "a bridge to lead")
        leader = self.leader()
        assert leader is not None
        return leader

    def await_stand_by(self) -> Member:
        """Waits until there is a leader, and another bridge that stands by."""
        leader = self.await_leader()
        (stand_by,) = [bridge for bridge in self.bridges if bridge is not leader]
        self.wait_for(
            lambda: (
                stand_by.is_at_work and any("standing_by" in s for s in stand_by.stage.lines())
            ),
            "a bridge to stand by",
        )
        return stand_by

    # ---- victims ----------------------------------------------------------------------------

    def stop_in_transaction(self, find: Callable[[], Sequence[Member]]) -> Member:
        """Returns a process that stands still and has a transaction open.

        Args:
            find: returns whom to choose from, or nobody for now.
        """
        deadline_s = time.monotonic() + DRAIN_TIMEOUT_S
        while time.monotonic() < deadline_s:
            self.tend()
            candidates = [member for member in find() if member.is_at_work]
            if not candidates:
                time.sleep(0.05)
                continue
            victim = self._random.choice(candidates)
            if self._watch.wait_until_open(victim.transactional_id, _OPEN_TIMEOUT_S):
                victim.stage.pause()
                if self._watch.stays_open(victim.transactional_id, _STILL_S):
                    return victim
                victim.stage.resume()
        raise AssertionError(f"nobody has a transaction open\n{self.last_words()}")

    def leaders(self) -> Sequence[Member]:
        """Returns the bridge that leads, or nobody while that is in doubt."""
        leader = self.leader()
        return [] if leader is None else [leader]

    def writers(self) -> Sequence[Member]:
        """Returns everybody who may have a transaction."""
        return [*self.leaders(), *self.workers, *self.compacts]

    # ---- the operator -----------------------------------------------------------------------

    def rest(self, duration_s: float) -> None:
        """Lets time pass, and does what becomes due."""
        deadline_s = time.monotonic() + duration_s
        while time.monotonic() < deadline_s:
            self.tend()
            time.sleep(0.05)

    def wait_for(self, condition: Callable[[], bool], what: str) -> None:
        """Waits for what must come true."""
        deadline_s = time.monotonic() + DRAIN_TIMEOUT_S
        while not _is_met(condition):
            assert time.monotonic() < deadline_s, f"in vain: {what}\n{self.last_words()}"
            self.rest(0.2)

    def wait_until_all_work(self) -> None:
        """Waits until everybody is there again."""
        self.wait_for(lambda: all(m.is_at_work for m in self.members), "all to be at work")

    @contextmanager
    def without_broker(self) -> Iterator[None]:
        """Starts nothing while the broker is away."""
        self.is_broker_there = False
        yield
        self.is_broker_there = True

    @contextmanager
    def without_bridges(self) -> Iterator[None]:
        """Stops all bridges as an operator does, and starts them again."""
        self.wait_for(lambda: all(b.is_at_work for b in self.bridges), "the bridges to be at work")
        for bridge in self.bridges:
            assert bridge.stage.stop() == 0, bridge.stage.log()
        yield
        for bridge in self.bridges:
            bridge.stage.start()

    def tend(self) -> None:
        """Does what is due: starts what was killed, lets go on what stands still."""
        now_s = time.monotonic()
        for member in self.members:
            if member.resume_at_s is not None and now_s >= member.resume_at_s:
                member.stage.resume()
                member.resume_at_s = None
            if member.start_at_s is not None:
                if now_s >= member.start_at_s and self.is_broker_there:
                    member.stage.start()
                    member.start_at_s = None
            elif not member.stage.is_running:
                # Without a broker at its start, or fenced twice within a minute: it said why.
                assert member.stage.process.returncode == 1, self.last_words()
                assert "Traceback" not in member.stage.log(), self.last_words()
                self.restarts_count += 1
                member.start_at_s = now_s + 1

    def stop(self) -> None:
        """Stops everybody; each has to end as it should."""
        exits = [member.stage.stop() for member in self.members]
        assert exits == [0] * len(exits), self.last_words()

    def last_words(self) -> str:
        """Returns the ends of all logs."""
        return "\n".join(
            f"--- {member.transactional_id}\n{member.stage.log()[-2_000:]}"
            for member in self.members
        )

    def _id(self, stage: str, slot: str) -> str:
        return self._config.transactional_id(stage, slot)


def _is_met(condition: Callable[[], bool]) -> bool:
    try:
        return condition()
    except BrokerUnavailableError:
        return False  # one that has just started has no leaders yet
