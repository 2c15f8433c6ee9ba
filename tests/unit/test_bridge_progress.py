"""What the bridge says about itself, and how it names its upstream."""

import pytest

from pipelines.bridge.messages import StreamPosition
from pipelines.bridge.progress import (
    Published,
    Received,
    coverage_of,
    report_of,
    summary,
    upstream_summary,
)
from pipelines.errors import ConfigError
from pipelines.kafka.beat import Report, State
from pipelines.metrics.registry import METRICS, Group, Number
from pipelines.relay import host_of

NOW_US = 1_790_000_010_000_000  # 2026-09-21T14:13:30Z
A, B = "a.example", "b.example"


def report(received: dict[str, Received], published: Published | None = None) -> Report:
    return report_of(received, published or Published(), is_leading=True)


def test_before_the_first_message_there_is_nothing_to_tell() -> None:
    fields = upstream_summary(A, {A: Received()}, Published(), now_us=NOW_US)
    assert fields == {
        "connections": 0,
        "seq": None,
        "delay_s": None,
        "quiet_s": None,
        "coverage": None,
    }


def test_counts_and_times_are_those_of_readers_and_publisher() -> None:
    received = {
        A: Received(
            messages_count=10,
            first_count=8,
            later_count=1,
            duplicates_count=1,
            resent_count=2,
            skipped_count=1,
            connections_count=3,
            last_received_us=NOW_US - 2_500_000,
        ),
        B: Received(first_count=2, later_count=3, duplicates_count=3, resent_count=5),
    }
    published = Published(
        frames_count=5,
        frames_bytes=500,
        quarantined_count=1,
        gaps_count=6,
        transactions_count=4,
        transaction_ms=90,
        queued_count=1,
        queued_bytes=700,
        positions={A: StreamPosition(17, "2026-09-21T14:13:20.000Z", NOW_US - 3_000_000)},
    )
    assert summary(received, published) == {
        "frames": 5,
        "bytes": 500,
        "transactions": 4,
        "quarantined": 1,
        "gaps": 6,
        "dropped": 7,
        "duplicates": 4,
        "skipped": 1,
        "queued": 1,
    }
    assert upstream_summary(A, received, published, now_us=NOW_US) == {
        "connections": 3,
        "seq": 17,
        "delay_s": 7.0,
        "quiet_s": 2.5,
        "coverage": 0.9,
    }
    assert coverage_of(received) == {A: 0.9, B: 0.5}
    found = report(received, published)
    counters = found.counters
    assert (counters["transactions"], counters["transaction_ms"]) == (4, 90)
    assert (counters["queued"], counters["queued_bytes"]) == (1, 700)
    assert found.groups["missing"] == {A: 1, B: 5}


@pytest.mark.parametrize(
    ("time", "delay_s"),
    [
        ("2026-09-21T14:13:30Z", 0.0),
        ("2026-09-21T16:13:28.000000+02:00", 2.0),
        ("2026-09-21T14:13:28", None),  # in which zone nobody knows
        ("2026-09-21T14:13:31Z", -1.0),
        ("yesterday", None),
        ("", None),
        (None, None),
    ],
)
def test_the_delay_is_told_where_the_upstreams_time_can_be_read(
    time: str | None, delay_s: float | None
) -> None:
    published = Published(positions={A: StreamPosition(1, time, NOW_US)})
    fields = upstream_summary(A, {A: Received()}, published, now_us=NOW_US)
    assert fields["delay_s"] == delay_s


def test_the_state_follows_the_connections() -> None:
    received = {A: Received(), B: Received()}
    assert report(received).state is State.STARTING
    received[A].disconnected_by = "connection refused"
    assert report(received).state is State.STARTING
    received[B].disconnected_by = "no such host"
    found = report(received)
    assert found.state is State.WAITING
    assert found.detail == "a.example: connection refused; b.example: no such host"
    received[A].disconnected_by, received[A].connections_count = None, 1
    found = report(received)
    assert (found.state, found.detail) == (State.RUNNING, None)
    assert found.groups["connected"] == {A: 1, B: 0}


def test_who_does_not_lead_says_so() -> None:
    found = report_of({A: Received(connections_count=1)}, Published(), is_leading=False)
    assert (found.state, found.detail) == (State.RUNNING, None)
    assert (found.counters["leading"], found.groups) == (0, {})
    assert "queued" not in found.counters


def test_the_sign_of_life_has_the_numbers_that_are_known() -> None:
    unknown = report({A: Received()})
    assert unknown.counters["frames"] == 0
    assert "last_received_us" not in unknown.counters
    assert unknown.groups["seq"] == unknown.groups["delay_ms"] == {}
    received = {A: Received(messages_count=10, first_count=3, last_received_us=NOW_US)}
    published = Published(
        frames_count=7, positions={A: StreamPosition(17, "2026-09-21T14:13:20.000Z", NOW_US)}
    )
    known = report(received, published)
    assert (known.counters["received"], known.counters["frames"]) == (10, 7)
    assert known.counters["last_received_us"] == NOW_US
    assert (known.groups["seq"], known.groups["delay_ms"]) == ({A: 17}, {A: 10_000})
    assert (known.groups["first"], known.groups["coverage_ppm"]) == ({A: 3}, {A: 1_000_000})


def test_each_number_that_it_tells_has_a_metric() -> None:
    received = {A: Received(messages_count=1, last_received_us=NOW_US)}
    found = report(received)
    sources = [metric.source for metric in METRICS]
    assert found.counters.keys() <= {one.name for one in sources if isinstance(one, Number)}
    assert found.groups.keys() <= {one.name for one in sources if isinstance(one, Group)}


@pytest.mark.parametrize(
    ("relay", "host"),
    [
        ("wss://Relay.Example", "relay.example"),
        ("relay.example:443", "relay.example"),
        ("https://relay.example:2583/", "relay.example:2583"),
        ("ws://127.0.0.1:80", "127.0.0.1"),
        ("wss://127.0.0.1:80", "127.0.0.1:80"),
        ("ws://127.0.0.1:2583/xrpc/com.atproto.sync.subscribeRepos", "127.0.0.1:2583"),
        ("ws://[::1]:2583", "[::1]:2583"),
    ],
)
def test_an_upstream_is_known_by_host_and_unusual_port(relay: str, host: str) -> None:
    """spec: F-29"""
    assert host_of(relay) == host


def test_what_is_no_address_is_refused() -> None:
    with pytest.raises(ConfigError, match="not the address of a relay"):
        host_of("ftp://relay.example")
