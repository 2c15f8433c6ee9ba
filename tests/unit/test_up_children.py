"""Which processes a pipeline has, how the network is found, and the command line."""

import json
from pathlib import Path

import pytest

from pipelines.cli import _run
from pipelines.cli.up import _network_options
from pipelines.config import KafkaConfig
from pipelines.sim.service import Addresses
from pipelines.status.overview import Condition, Supervised
from pipelines.up.children import (
    Size,
    Upstream,
    addresses_in,
    network_of,
    stages_of,
    supervised,
    upstream_of,
)
from pipelines.up.supervisor import Alive, ChildState, Ended, Resting, Waiting

KAFKA = KafkaConfig("broker.example:9092", "blue")
CLUSTER = ("--bootstrap-servers", "broker.example:9092", "--topic-prefix", "blue")
ADDRESSES = Addresses(
    relay="ws://127.0.0.1:1",
    plc="http://127.0.0.1:1",
    did_web="http://127.0.0.1:1/web",
    pds="http://127.0.0.1:1/pds",
)


def test_the_stages_of_a_relay() -> None:
    upstream = Upstream(("wss://relay.example", "ws://127.0.0.1:2583"), "live")
    children = stages_of(KAFKA, upstream, Size(2, 1), ("--verbose",))
    assert {child.name: child.arguments for child in children} == {
        "bridge.0": (
            *("--verbose", "bridge", "--slot", "0", "--relay", "wss://relay.example"),
            *("--relay", "ws://127.0.0.1:2583", "--cursor", "live", *CLUSTER),
        ),
        "explode.0": ("--verbose", "explode", "--slot", "0", *CLUSTER),
        "explode.1": ("--verbose", "explode", "--slot", "1", *CLUSTER),
        "crawl.sweep": (
            *("--verbose", "sweep", "--follow", "--relay", "wss://relay.example"),
            *("--relay", "ws://127.0.0.1:2583", *CLUSTER),
        ),
        "compact.0": ("--verbose", "compact", "--slot", "0", *CLUSTER),
        "resync.0": ("--verbose", "resync", "--slot", "0", *CLUSTER),
        "analytics.0": ("--verbose", "analytics", "--slot", "0", *CLUSTER),
    }
    assert all(child.is_replaceable for child in children)


def test_who_writes_is_stopped_before_who_reads() -> None:
    network = network_of(())
    stages = stages_of(KAFKA, Upstream(("relay.example",), "live"), Size(1, 1))
    by_order = sorted([network, *stages], key=lambda child: child.stop_order)
    names = [child.stage for child in by_order]
    assert names == ["bridge", "explode", "crawl", "compact", "resync", "analytics", "sim"]


def test_a_network_of_our_own_is_read_from_its_beginning_with_its_own_identities() -> None:
    children = stages_of(KAFKA, upstream_of(ADDRESSES), Size(1, 1))
    bridge, worker, resync = (children[n].arguments for n in (0, 1, 3))
    assert bridge[3:7] == ("--relay", ADDRESSES.relay, "--cursor", "oldest")
    identities = ("--plc-url", ADDRESSES.plc, "--did-web-url", ADDRESSES.did_web)
    assert worker[3:7] == identities
    assert resync[3:9] == (*identities, "--pds-url", ADDRESSES.pds)


def test_the_network_says_where_it_is() -> None:
    log = '{"time": "now", "event": "started"}\n'
    line = json.dumps({"relay": "a", "plc": "b", "did_web": "c", "pds": "d"})
    assert addresses_in("") is None
    assert addresses_in(log) is None
    assert addresses_in(log + line) is None  # not written to its end yet
    assert addresses_in(log + line + "\n" + log) == Addresses("a", "b", "c", "d")


def test_the_status_learns_what_is_known_of_each_stage() -> None:
    states: dict[str, ChildState] = {
        "sim.0": Alive(1),
        "bridge.0": Alive(2),
        "explode.0": Waiting(),
        "explode.1": Resting(-9, 5.0),
        "explode.2": Ended(1),
        "compact.0": Ended(0),
    }
    assert supervised(states) == {
        "bridge.0": Supervised(Condition.RUNNING, pid=2),
        "explode.0": Supervised(Condition.STARTING),
        "explode.1": Supervised(Condition.RESTARTING, "ended with signal 9"),
        "explode.2": Supervised(Condition.FAILED, "ended with exit code 1"),
        "compact.0": Supervised(Condition.STOPPED),
    }


@pytest.mark.parametrize(
    ("given", "options"),
    [
        ({}, ("--accounts", "200", "--rate", "100")),
        (
            {"--accounts": 5, "--rate": 0, "--seed": 7},
            ("--accounts", "5", "--rate", "0", "--seed", "7"),
        ),
        ({"--rate": 3, "--capture": Path("x")}, ("--rate", "3", "--capture", "x")),
        ({"--capture": Path("x")}, ("--capture", "x")),
    ],
)
def test_the_network_has_the_size_that_was_asked_for(
    given: dict[str, object], options: tuple[str, ...]
) -> None:
    assert _network_options(given) == options


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--relay", "relay.example", "--sim"],
        ["--rate", "5"],
        ["--relay", "relay.example", "--capture", "x"],
        ["--sim", "--capture", "x", "--seed", "1"],
    ],
)
def test_without_a_source_of_events_both_choices_are_shown(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(["up", *arguments]) == 2
    text = capsys.readouterr().err
    assert "standpipe up --relay" in text
    assert "standpipe up --sim" in text
