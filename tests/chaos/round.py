"""One round: a whole pipeline on a broker of its own, and what goes wrong around it.

The stages are real processes (`crew.py`). Here the faults are made, and what the log says where a
person has to act is done. Which faults, on what and after which pauses follows from the seed; a
kill then waits for its victim's next transaction.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random
from typing import NamedTuple

from chaos.crew import Crew, Member
from chaos.faults import Kind, Struck, counts
from chaos.relay import Relay, RelayedNetwork
from chaos.wire import Wire
from confluent_kafka import Producer
from conftest import free_port
from support.judge import still_parked
from support.kafka import is_caught_up, read_cursor, wait_until
from support.pipeline import running_pipeline
from support.transactions import TransactionWatch, read_notes
from support.up import is_alive

from pipelines.bridge.gaps import RENUMBERED_COUNT
from pipelines.config import KafkaConfig
from pipelines.kafka.broker import LocalBroker, Running
from pipelines.kafka.clients import SESSION_TIMEOUT_MS
from pipelines.sim.generated import GeneratedNetwork
from pipelines.sim.mix import Settings
from pipelines.sim.service import SimServer

PARTITIONS = 3
ACCOUNTS_COUNT = 100
# Frames a second of each relay: so few that two noisy cores keep up
# with a third of the stages dead.
RATE = 80
# A bridge that was away comes back for what was emitted meanwhile.
RETAINED_BYTES = 1 << 30
TOPIC_PREFIX = "chaos"

MAX_PAUSE_S = 1.0
MAX_DOWN_S = 2.0
# From a little to more than the transaction time-out.
MAX_BROKER_DOWN_S = 13.0
STOPPED_S = SESSION_TIMEOUT_MS / 1000 + 2
# A process that was started again ends what its predecessor left open.
SETTLING_S = 5.0
MAX_RESENT_COUNT = 200
MAX_LOST_COUNT = 4
# So many numbers left out are a gap, whatever the time: it has to be told once.
MIN_JUMP_COUNT = RENUMBERED_COUNT + 1
MAX_JUMP_COUNT = 2 * RENUMBERED_COUNT


class Upstream(NamedTuple):
    """A relay and the way to it.

    Attributes:
        relay: what it sends.
        wire: breaks.
    """

    relay: Relay
    wire: Wire

    @property
    def host(self) -> str:
        """The name under which the bridge knows it."""
        return f"127.0.0.1:{self.wire.port}"


class Round:
    """The pipeline while things go wrong.

    Attributes:
        struck: the faults that were made.
        crew: the processes.
        upstreams: all relays. The first one never loses alone, so that what another one lost is
            there all the same.
    """

    def __init__(
        self,
        config: KafkaConfig,
        broker: LocalBroker,
        network: RelayedNetwork,
        upstreams: Sequence[Upstream],
        crew: Crew,
        watch: TransactionWatch,
        random: Random,
        tell: Callable[[str], None],
    ) -> None:
        self.config = config
        self.struck: list[Struck] = []
        self.crew = crew
        self.upstreams = upstreams
        self._broker = broker
        self._hosts = network.hosts
        self._watch = watch
        self._random = random
        self._tell = tell
        self._turns = dict.fromkeys(Kind, 0)
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
        for upstream in self.upstreams:
            what = f"the first frames of {upstream.host} to be in Kafka"
            wait_until(lambda: self._cursor(upstream) is not None, what)  # noqa: B023
        self._watch.start()
        try:
            while kinds:
                self._strike_all(kinds)
                kinds = self._uncounted() if repeats_count else []
                repeats_count -= 1
            self.crew.wait_for(has_struck, "everything to have struck")
        finally:
            self._watch.stop()
        self._drain()
        self.crew.stop()

    def _strike_all(self, kinds: Sequence[Kind]) -> None:
        for number, kind in enumerate(kinds, start=1):
            self.crew.rest(self._random.uniform(0, MAX_PAUSE_S))
            self.struck.append(self._strike(kind))
            self._tell(f"{number}/{len(kinds)} {kind}: {self.struck[-1].target}")

    def _uncounted(self) -> list[Kind]:
        """Returns the kinds of faults of which none counts, once their ends are known."""
        self.crew.wait_until_all_work()
        self.crew.rest(SETTLING_S)
        notes = read_notes(self.config)
        counted = {fault.kind for fault in self.struck if counts(fault, notes)}
        return sorted({fault.kind for fault in self.struck} - counted)

    def _drain(self) -> None:
        self._hosts.freeze()
        for upstream in self.upstreams:
            wait_until(lambda: upstream.relay.is_drained, "a relay to send the rest")  # noqa: B023
        self.crew.wait_until_all_work()
        for upstream in self.upstreams:
            self._wait_until_read(upstream)
        self._wait_until_done("explode", "frames")
        # A signature by a new key waits for the next look at the directory.
        self.crew.wait_for(lambda: not still_parked(self.config), "nothing to be parked")
        self._wait_until_done("compact", "events")

    def _wait_until_read(self, upstream: Upstream) -> None:
        self.crew.wait_for(
            lambda: self._cursor(upstream) == upstream.relay.last_seq, "the bridge to have it all"
        )

    def _wait_until_done(self, stage: str, source: str) -> None:
        topic = self.config.topic(source)
        self.crew.wait_for(lambda: is_caught_up(self.config, stage, topic), f"{stage} to be done")

    def _strike(self, kind: Kind) -> Struck:
        """Makes a fault."""
        self._struck_at_ms = 0
        self._turns[kind] += 1
        crew = self.crew
        strikes: Mapping[Kind, Callable[[], str]] = {
            Kind.KILL_BRIDGE: lambda: self._kill(crew.leaders),
            Kind.TAKE_OVER: self._depose,
            Kind.KILL_STAND_BY: self._kill_stand_by,
            Kind.KILL_WORKER: lambda: self._kill(lambda: crew.workers),
            Kind.KILL_COMPACT: lambda: self._kill(lambda: crew.compacts),
            Kind.KILL_BROKER: self._kill_broker,
            Kind.PAUSE_BRIDGE: lambda: self._pause(crew.leaders),
            Kind.PAUSE: lambda: self._pause(lambda: [*crew.workers, *crew.compacts]),
            Kind.MEMBERS: self._change_members,
            Kind.SOCKET: lambda: self._break_socket(self._choose()),
            Kind.CUT_OFF: self._cut_off,
            Kind.RENUMBER: self._renumber,
            Kind.RESEND: self._resend,
            Kind.LOSE: self._lose,
        }
        target = strikes[kind]()
        return Struck(kind, target, self._struck_at_ms or _now_ms())

    # ---- faults of our own processes --------------------------------------------------------

    def _stop_in_transaction(self, find: Callable[[], Sequence[Member]]) -> Member:
        victim = self.crew.stop_in_transaction(find)
        self._struck_at_ms = _now_ms()
        return victim

    def _kill(self, find: Callable[[], Sequence[Member]]) -> str:
        victim = self._stop_in_transaction(find)
        victim.stage.kill()
        victim.start_at_s = time.monotonic() + self._random.uniform(0, MAX_DOWN_S)
        return victim.transactional_id

    def _depose(self) -> str:
        """The one that stood by leads before the one that was killed is back."""
        self.crew.await_stand_by()
        victim = self._stop_in_transaction(self.crew.leaders)
        victim.stage.kill()
        victim.start_at_s = float("inf")
        self.crew.await_leader()
        victim.start_at_s = time.monotonic()
        return victim.transactional_id

    def _kill_stand_by(self) -> str:
        victim = self.crew.await_stand_by()
        victim.stage.kill()
        victim.start_at_s = time.monotonic() + self._random.uniform(0, MAX_DOWN_S)
        return "the one that stood by"

    def _pause(self, find: Callable[[], Sequence[Member]]) -> str:
        victim = self._stop_in_transaction(find)
        victim.resume_at_s = time.monotonic() + STOPPED_S
        return victim.transactional_id

    def _kill_broker(self) -> str:
        status = self._broker.status()
        assert isinstance(status, Running)
        victim = self._stop_in_transaction(self.crew.writers)
        os.kill(status.pid, signal.SIGKILL)
        self._struck_at_ms = _now_ms()
        victim.stage.resume()
        with self.crew.without_broker():
            self.crew.rest(self._random.uniform(0, MAX_BROKER_DOWN_S))
            # Its port is free once it is gone, which takes a moment with all its memory.
            wait_until(lambda: not is_alive(status.pid), "the end of the broker")
            self._broker.start(timeout_s=120)
        return f"while {victim.transactional_id} wrote"

    def _change_members(self) -> str:
        members, create, slot = self._random.choice(
            (
                (self.crew.workers, self.crew.start_worker, "2"),
                (self.crew.compacts, self.crew.start_compact, "1"),
            )
        )
        if len(members) < int(slot) + 1:
            members.append(create(slot))
            return f"{members[-1].transactional_id} added"
        extra = members[-1]
        self.crew.wait_for(lambda: extra.is_at_work, "it to be at work")
        members.remove(extra)
        assert extra.stage.stop() == 0, extra.stage.log()
        return f"{extra.transactional_id} removed"

    # ---- faults of the upstreams ------------------------------------------------------------

    def _choose(self) -> Upstream:
        return self._random.choice(self.upstreams)

    def _break_socket(self, upstream: Upstream) -> str:
        broken_count = upstream.wire.broken_count
        upstream.wire.break_next()
        self.crew.wait_for(lambda: upstream.wire.broken_count > broken_count, "a socket to break")
        return f"that of {upstream.host}"

    def _cut_off(self) -> str:
        upstream = self._choose()
        upstream.relay.cut_off_next()
        return f"the next one of {upstream.host}"

    def _resend(self) -> str:
        upstream = self._choose()
        count = self._random.randint(1, MAX_RESENT_COUNT)
        upstream.relay.resend(count)
        return f"{count} events of {upstream.host}"

    def _lose(self) -> str:
        """As relays that die: with what they have not sent, their sockets are gone.

        By turns all of them lose the same events, which are then gone for good, and the last one
        loses events that the others have.
        """
        first = self._hosts.generated_count + RATE // 10
        numbers = range(first, first + self._random.randint(1, MAX_LOST_COUNT))
        losers = self.upstreams if self._turns[Kind.LOSE] % 2 else self.upstreams[-1:]
        for upstream in losers:
            upstream.relay.lose(numbers)
        self.crew.wait_for(
            lambda: self._hosts.generated_count >= numbers.stop, "what is lost to happen"
        )
        for upstream in losers:
            self._break_socket(upstream)
        return f"{len(numbers)} events, {len(losers)} of {len(self.upstreams)} relays"

    def _renumber(self) -> str:
        """Begins with 1, or jumps ahead, by turns; then an operator withdraws the cursor."""
        upstream = self._choose()
        relay = upstream.relay
        if self._turns[Kind.RENUMBER] % 2 == 0:
            count = self._random.randint(MIN_JUMP_COUNT, MAX_JUMP_COUNT)
            relay.jump(count)
            return f"{count} numbers left out by {upstream.host}"
        # What it has sent under the old numbers it will not have under the new ones.
        relay.hold()
        self._wait_until_read(upstream)
        relay.renumber()
        relay.release()
        self.crew.rest(self._random.uniform(0, MAX_PAUSE_S))
        with self.crew.without_bridges():
            producer = Producer({"bootstrap.servers": self.config.bootstrap_servers})
            producer.produce(self.config.topic("cursors"), None, upstream.host, partition=0)
            assert producer.flush(30) == 0
        return f"{upstream.host}, from 1 on"

    def _cursor(self, upstream: Upstream) -> int | None:
        return read_cursor(self.config, upstream.host)


@contextmanager
def running_round(
    folder: Path,
    capture: Path,
    seed: int,
    tell: Callable[[str], None],
    *,
    relays_count: int,
    bridges_count: int,
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
        with ExitStack() as stack:
            stack.callback(generated.close)
            sims = [
                stack.enter_context(SimServer(network, rate=RATE)) for _ in range(relays_count)
            ]
            upstreams = [
                Upstream(relay, stack.enter_context(Wire(_port_of(sim), seed + number)))
                for number, (sim, relay) in enumerate(zip(sims, network.relays, strict=True))
            ]
            pipeline = stack.enter_context(
                running_pipeline(config, sims[0].addresses, folder, PARTITIONS)
            )
            watch = TransactionWatch(config)
            relays = [f"ws://{upstream.host}" for upstream in upstreams]
            crew = Crew(config, pipeline, relays, bridges_count, watch, random)
            yield Round(config, broker, network, upstreams, crew, watch, random, tell), network
    finally:
        broker.stop()


def _port_of(sim: SimServer) -> int:
    return int(sim.addresses.relay.rpartition(":")[2])


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
