"""One round: a whole pipeline on a broker of its own, and what goes wrong around it.

The stages are real processes. This one is their operator: it starts again what has died, restarts
the broker, and does what the log says where a person has to act. Which faults are made, on what
and after which pauses follows from the seed; a kill then waits for the victim's next transaction.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

from chaos.faults import Kind, Struck, counts
from chaos.relay import RelayedNetwork
from chaos.wire import Wire
from confluent_kafka import Producer
from conftest import free_port
from support.judge import still_parked
from support.kafka import is_caught_up, read_cursor, wait_until
from support.pipeline import Pipeline, Stage, running_pipeline
from support.transactions import TransactionWatch, read_notes

from pipelines.config import KafkaConfig
from pipelines.errors import BrokerUnavailableError
from pipelines.kafka.broker import LocalBroker, Running
from pipelines.kafka.clients import SESSION_TIMEOUT_MS
from pipelines.sim.generated import GeneratedNetwork
from pipelines.sim.mix import Settings
from pipelines.sim.service import SimServer

PARTITIONS = 3
ACCOUNTS_COUNT = 100
# Frames a second: so few that two noisy cores keep up with a third of the stages dead.
RATE = 120
# A bridge that was away comes back for what was emitted meanwhile.
RETAINED_BYTES = 1 << 30
TOPIC_PREFIX = "chaos"

MAX_PAUSE_S = 2.5
MAX_DOWN_S = 2.0
# From a little to more than the transaction time-out.
MAX_BROKER_DOWN_S = 13.0
STOPPED_S = SESSION_TIMEOUT_MS / 1000 + 2
# How long a victim may take to begin a transaction; after a kill its group stands still for ten
# seconds.
OPEN_TIMEOUT_S = 40.0
DRAIN_TIMEOUT_S = 180.0
# A process that was started again ends what its predecessor left open.
SETTLING_S = 5.0
MAX_RESENT_COUNT = 200
MAX_LOST_COUNT = 4
MAX_JUMP_COUNT = 2_000_000


@dataclass(slots=True)
class Member:
    """A stage process that is to be there.

    Attributes:
        stage: the process.
        transactional_id: under which it writes.
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


class Round:
    """The pipeline while things go wrong.

    Attributes:
        struck: the faults that were made.
        restarts_count: how often a stage ended by itself and was started again.
    """

    def __init__(
        self,
        config: KafkaConfig,
        broker: LocalBroker,
        network: RelayedNetwork,
        pipeline: Pipeline,
        wire: Wire,
        watch: TransactionWatch,
        random: Random,
        tell: Callable[[str], None],
    ) -> None:
        self.config = config
        self.struck: list[Struck] = []
        self.restarts_count = 0
        self._broker = broker
        self._relay = network.relay
        self._pipeline = pipeline
        self._wire = wire
        self._watch = watch
        self._random = random
        self._tell = tell
        self.host = pipeline.relay.removeprefix("ws://")
        self._bridge = Member(pipeline.start_bridge(), self._id("bridge", ""))
        self._workers = [self._worker("0"), self._worker("1")]
        self._compacts = [self._compact("0")]
        self._renumbered_count = 0
        self._struck_at_ms = 0

    # ---- the round --------------------------------------------------------------------------

    def run(
        self, kinds: Sequence[Kind], repeats_count: int, has_struck: Callable[[], bool]
    ) -> None:
        """Makes the faults, then lets everything come to rest and stops it.

        Args:
            kinds: the faults in their order.
            repeats_count: how often kinds of which none counts are made once more.
            has_struck: whether what else has to happen before that rest has happened.
        """
        wait_until(lambda: self._cursor() is not None, "the first frames to be in Kafka", 60)
        self._watch.start()
        try:
            self._wait_for(self._knows_bridge, "the bridge to write")
            while kinds:
                self._strike_all(kinds)
                kinds = self._uncounted() if repeats_count else []
                repeats_count -= 1
            self._wait_for(has_struck, "everything to have struck")
        finally:
            self._watch.stop()
        self._drain()
        exits = [member.stage.stop() for member in self._members()]
        assert exits == [0] * len(exits), self._last_words()

    def _knows_bridge(self) -> bool:
        """Whether it has shown its name, of which it chooses the rest itself."""
        name = self._watch.name_that_begins(self._id("bridge", ""))
        self._bridge.transactional_id = name or self._bridge.transactional_id
        return name is not None

    def _strike_all(self, kinds: Sequence[Kind]) -> None:
        for number, kind in enumerate(kinds, start=1):
            self._rest(self._random.uniform(0, MAX_PAUSE_S))
            self.struck.append(self._strike(kind))
            self._tell(f"{number}/{len(kinds)} {kind}: {self.struck[-1].target}")

    def _uncounted(self) -> list[Kind]:
        """Returns the kinds of faults of which none counts, once their ends are known."""
        self._wait_until_all_work()
        self._rest(SETTLING_S)
        notes = read_notes(self.config)
        counted = {fault.kind for fault in self.struck if counts(fault, notes)}
        return sorted({fault.kind for fault in self.struck} - counted)

    def _wait_until_all_work(self) -> None:
        self._wait_for(lambda: all(m.is_at_work for m in self._members()), "all to be at work")

    def _drain(self) -> None:
        self._relay.freeze()
        wait_until(lambda: self._relay.is_drained, "the relay to send the rest")
        self._wait_until_all_work()
        self._wait_for(lambda: self._cursor() == self._relay.last_seq, "the bridge to have it all")
        self._wait_until_done("explode", "frames")
        # A signature by a new key waits for the next look at the directory.
        self._wait_for(lambda: not still_parked(self.config), "nothing to be parked")
        self._wait_until_done("compact", "events")

    def _wait_until_done(self, stage: str, source: str) -> None:
        topic = self.config.topic(source)
        self._wait_for(lambda: is_caught_up(self.config, stage, topic), f"{stage} to be done")

    def _strike(self, kind: Kind) -> Struck:
        """Makes a fault."""
        self._struck_at_ms = 0
        strikes: Mapping[Kind, Callable[[], str]] = {
            Kind.KILL_BRIDGE: lambda: self._kill([self._bridge]),
            Kind.KILL_WORKER: lambda: self._kill(self._workers),
            Kind.KILL_COMPACT: lambda: self._kill(self._compacts),
            Kind.KILL_BROKER: self._kill_broker,
            Kind.PAUSE: self._pause,
            Kind.MEMBERS: self._change_members,
            Kind.SOCKET: self._break_socket,
            Kind.CUT_OFF: self._cut_off,
            Kind.RENUMBER: self._renumber,
            Kind.RESEND: self._resend,
            Kind.LOSE: self._lose,
        }
        target = strikes[kind]()
        return Struck(kind, target, self._struck_at_ms or _now_ms())

    # ---- faults -----------------------------------------------------------------------------

    def _kill(self, members: Sequence[Member]) -> str:
        victim = self._choose_in_transaction(members)
        victim.stage.kill()
        victim.start_at_s = time.monotonic() + self._random.uniform(0, MAX_DOWN_S)
        return victim.transactional_id

    def _pause(self) -> str:
        victim = self._choose_in_transaction(self._members())
        victim.stage.pause()
        victim.resume_at_s = time.monotonic() + STOPPED_S
        return victim.transactional_id

    def _kill_broker(self) -> str:
        status = self._broker.status()
        assert isinstance(status, Running)
        victim = self._choose_in_transaction(self._members())
        os.kill(status.pid, signal.SIGKILL)
        self._struck_at_ms = _now_ms()
        self._rest(self._random.uniform(0, MAX_BROKER_DOWN_S), is_broker_there=False)
        self._broker.start(timeout_s=120)
        return f"while {victim.transactional_id} wrote"

    def _change_members(self) -> str:
        members, create, slot = self._random.choice(
            ((self._workers, self._worker, "2"), (self._compacts, self._compact, "1"))
        )
        if len(members) < int(slot) + 1:
            members.append(create(slot))
            return f"{members[-1].transactional_id} added"
        extra = members[-1]
        self._wait_for(lambda: extra.is_at_work, "it to be at work")
        members.remove(extra)
        assert extra.stage.stop() == 0, extra.stage.log()
        return f"{extra.transactional_id} removed"

    def _break_socket(self) -> str:
        broken_count = self._wire.broken_count
        self._wire.break_next()
        self._wait_for(lambda: self._wire.broken_count > broken_count, "a socket to break")
        return "its socket"

    def _cut_off(self) -> str:
        self._relay.cut_off_next()
        return "the next message"

    def _resend(self) -> str:
        count = self._random.randint(1, MAX_RESENT_COUNT)
        self._relay.resend(count)
        return f"{count} events"

    def _lose(self) -> str:
        """As a relay that dies: with what it has not sent, its sockets are gone."""
        count = self._random.randint(1, MAX_LOST_COUNT)
        self._relay.lose(count)
        return f"{count} events, and {self._break_socket()}"

    def _renumber(self) -> str:
        """Jumps ahead, or begins with 1, by turns; then an operator withdraws the cursor."""
        self._renumbered_count += 1
        if self._renumbered_count % 2 == 0:
            count = self._random.randint(1, MAX_JUMP_COUNT)
            self._relay.jump(count)
            return f"{count} numbers left out"
        # What it has sent under the old numbers it will not have under the new ones.
        self._relay.hold()
        self._wait_for(lambda: self._cursor() == self._relay.last_seq, "the bridge to have it all")
        self._relay.renumber()
        self._relay.release()
        self._rest(self._random.uniform(0, MAX_PAUSE_S))
        self._wait_for(lambda: self._bridge.is_at_work, "the bridge to be at work")
        assert self._bridge.stage.stop() == 0, self._bridge.stage.log()
        producer = Producer({"bootstrap.servers": self.config.bootstrap_servers})
        producer.produce(self.config.topic("cursors"), None, self.host, partition=0)
        assert producer.flush(30) == 0
        self._bridge.stage.start()
        return "from 1 on"

    def _choose_in_transaction(self, members: Sequence[Member]) -> Member:
        """Returns one that has just begun a transaction, if there is one in time."""
        self._wait_for(lambda: any(member.is_at_work for member in members), "one to be at work")
        victim = self._random.choice([member for member in members if member.is_at_work])
        deadline_s = time.monotonic() + OPEN_TIMEOUT_S
        while not self._watch.wait_until_open(victim.transactional_id, 0.2):
            self._tend()
            if time.monotonic() > deadline_s:
                break
        time.sleep(self._random.uniform(0, 0.01))
        return victim

    # ---- the operator -----------------------------------------------------------------------

    def _members(self) -> list[Member]:
        return [self._bridge, *self._workers, *self._compacts]

    def _worker(self, slot: str) -> Member:
        return Member(self._pipeline.start_worker(slot), self._id("explode", slot))

    def _compact(self, slot: str) -> Member:
        return Member(self._pipeline.start_compact(slot), self._id("compact", slot))

    def _id(self, stage: str, slot: str) -> str:
        return self.config.transactional_id(stage, slot)

    def _cursor(self) -> int | None:
        return read_cursor(self.config, self.host)

    def _rest(self, duration_s: float, *, is_broker_there: bool = True) -> None:
        deadline_s = time.monotonic() + duration_s
        while time.monotonic() < deadline_s:
            self._tend(is_broker_there=is_broker_there)
            time.sleep(0.05)

    def _wait_for(self, condition: Callable[[], bool], what: str) -> None:
        deadline_s = time.monotonic() + DRAIN_TIMEOUT_S
        while not _is_met(condition):
            assert time.monotonic() < deadline_s, f"in vain: {what}\n{self._last_words()}"
            self._rest(0.3)

    def _tend(self, *, is_broker_there: bool = True) -> None:
        """Does what is due: starts what was killed, lets go on what stands still."""
        now_s = time.monotonic()
        for member in self._members():
            if member.resume_at_s is not None and now_s >= member.resume_at_s:
                member.stage.resume()
                member.resume_at_s = None
            if member.start_at_s is not None:
                if now_s >= member.start_at_s and is_broker_there:
                    member.stage.start()
                    member.start_at_s = None
            elif not member.stage.is_running:
                # Without a broker at its start, or fenced twice within a minute: it said why.
                assert member.stage.process.returncode == 1, self._last_words()
                assert "Traceback" not in member.stage.log(), self._last_words()
                self.restarts_count += 1
                member.start_at_s = now_s + 1

    def _last_words(self) -> str:
        return "\n".join(
            f"--- {member.transactional_id}\n{member.stage.log()[-2_000:]}"
            for member in self._members()
        )


@contextmanager
def running_round(
    folder: Path, capture: Path, seed: int, tell: Callable[[str], None]
) -> Iterator[tuple[Round, RelayedNetwork]]:
    """Starts broker, network and stages; ends all of them."""
    broker = LocalBroker(folder / "kafka", port=free_port(), controller_port=free_port())
    random = Random(seed)
    generated = GeneratedNetwork(
        Settings(ACCOUNTS_COUNT, seed=seed),
        truth_path=folder / "truth.jsonl",
        retained_bytes=RETAINED_BYTES,
    )
    network = RelayedNetwork(generated, capture, seed)
    try:
        broker.start()
        config = KafkaConfig(broker.bootstrap_servers, TOPIC_PREFIX)
        with (
            SimServer(network, rate=RATE) as sim,
            Wire(int(sim.addresses.relay.rpartition(":")[2]), seed) as wire,
        ):
            relay = f"ws://127.0.0.1:{wire.port}"
            addresses = replace(sim.addresses, relay=relay)
            with running_pipeline(config, addresses, folder, PARTITIONS) as pipeline:
                watch = TransactionWatch(config)
                yield (
                    Round(config, broker, network, pipeline, wire, watch, random, tell),
                    network,
                )
    finally:
        broker.stop()


def _is_met(condition: Callable[[], bool]) -> bool:
    try:
        return condition()
    except BrokerUnavailableError:
        return False  # one that has just started has no leaders yet


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
