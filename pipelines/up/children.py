"""Which processes a pipeline consists of, and what is known of them. Pure.

A further stage of every pipeline is a line in `stages_of`.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import assert_never

from pipelines.config import KafkaConfig
from pipelines.sim.service import Addresses
from pipelines.status.overview import Condition, Supervised
from pipelines.up.supervisor import (
    Alive,
    Child,
    ChildState,
    Ended,
    Resting,
    Waiting,
    exit_text,
)

NETWORK_STAGE = "sim"


@dataclass(frozen=True, slots=True)
class Upstream:
    """Where events and identities come from.

    Attributes:
        relays: addresses of relays, all for one bridge.
        cursor: where the bridge starts the first time, as its option takes it.
        plc_url: the PLC directory; None for the default of the stages.
        did_web_url: where did:web documents are, as explode's option takes it; None for their
            hosts.
        pds_url: where servers are, as resync's option takes it; None for themselves.
    """

    relays: tuple[str, ...]
    cursor: str
    plc_url: str | None = None
    did_web_url: str | None = None
    pds_url: str | None = None


def upstream_of(addresses: Addresses) -> Upstream:
    """Returns a simulated network as an upstream, from its first event on."""
    return Upstream((addresses.relay,), "oldest", addresses.plc, addresses.did_web, addresses.pds)


@dataclass(frozen=True, slots=True)
class Size:
    """How many processes share a stage's work.

    Attributes:
        workers_count: of explode.
        compactors_count: of compact.
    """

    workers_count: int
    compactors_count: int


def network_of(options: tuple[str, ...]) -> Child:
    """Returns the simulated network; its state is in its memory, so nobody can replace it.

    Args:
        options: of `standpipe sim`.
    """
    arguments = ("sim", "--json", *options)
    return Child(NETWORK_STAGE, "0", arguments, stop_order=9, is_replaceable=False)


def stages_of(
    kafka: KafkaConfig,
    upstream: Upstream,
    size: Size,
    shared: tuple[str, ...] = (),
    compact: tuple[str, ...] = (),
    tracking: tuple[str, ...] = (),
) -> list[Child]:
    """Returns the stages of a pipeline.

    Args:
        kafka: the cluster and the prefix of the topics.
        upstream: where events come from.
        size: how many processes.
        shared: options before the command, for all of them.
        compact: options of compact.
        tracking: options that say which repositories are tracked.
    """
    servers, prefix = kafka.bootstrap_servers, kafka.topic_prefix
    admitted = [option for nsid in kafka.admitted or () for option in ("--admit", nsid)]
    cluster = ("--bootstrap-servers", servers, "--topic-prefix", prefix, *admitted)

    def stage(name: str, slot: str, stop_order: int, *options: str) -> Child:
        return Child(name, slot, (*shared, name, *options, *cluster), stop_order)

    def numbered(name: str, count: int, stop_order: int, *options: str) -> Iterator[Child]:
        for slot in map(str, range(count)):
            yield stage(name, slot, stop_order, "--slot", slot, *options)

    identities: tuple[str, ...] = ()
    if upstream.plc_url is not None:
        identities += ("--plc-url", upstream.plc_url)
    if upstream.did_web_url is not None:
        identities += ("--did-web-url", upstream.did_web_url)
    servers_option = () if upstream.pds_url is None else ("--pds-url", upstream.pds_url)
    relays = [option for relay in upstream.relays for option in ("--relay", relay)]
    sweep = ("sweep", "--follow", *relays, *tracking)
    return [
        *numbered("bridge", 1, 0, *relays, "--cursor", upstream.cursor),
        *numbered("explode", size.workers_count, 1, *identities),
        *numbered("compact", size.compactors_count, 2, *compact, *tracking),
        *numbered("resync", 1, 2, *identities, *servers_option),
        *numbered("analytics", 1, 2),
        Child("crawl", "sweep", (*shared, *sweep, *cluster), stop_order=1),
    ]


def addresses_in(log: str) -> Addresses | None:
    """Returns the addresses that a simulated network has printed, once it has."""
    for line in log.splitlines(keepends=True):
        if line.endswith("\n") and line.startswith('{"relay"'):
            return Addresses(**json.loads(line))
    return None


def supervised(states: Mapping[str, ChildState]) -> dict[str, Supervised]:
    """Returns what the status may believe of the stages, by `<stage>.<slot>`."""
    return {
        name: _supervised(state)
        for name, state in states.items()
        if not name.startswith(f"{NETWORK_STAGE}.")
    }


def _supervised(state: ChildState) -> Supervised:
    match state:
        case Waiting():
            return Supervised(Condition.STARTING)
        case Alive(pid):
            return Supervised(Condition.RUNNING, pid=pid)
        case Resting(exit_code):
            return Supervised(Condition.RESTARTING, f"ended with {exit_text(exit_code)}")
        case Ended(0):
            return Supervised(Condition.STOPPED)
        case Ended(exit_code):
            return Supervised(Condition.FAILED, f"ended with {exit_text(exit_code)}")
        case _:
            assert_never(state)
