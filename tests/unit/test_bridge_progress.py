"""What the bridge says about itself, and how it names its upstream."""

import pytest

from pipelines.bridge.messages import StreamPosition
from pipelines.bridge.progress import Published, Received, report_of, summary
from pipelines.bridge.service import host_of
from pipelines.errors import ConfigError
from pipelines.kafka.beat import State

NOW_US = 1_790_000_010_000_000  # 2026-09-21T14:13:30Z


def test_before_the_first_message_there_is_nothing_to_tell() -> None:
    fields = summary(Received(), Published(), queued_count=0, now_us=NOW_US)
    assert (fields["seq"], fields["delay_s"], fields["quiet_s"]) == (None, None, None)
    assert fields["frames"] == fields["bytes"] == fields["dropped"] == 0


def test_counts_and_times_are_those_of_reader_and_publisher() -> None:
    received = Received(
        messages_count=10,
        resent_count=2,
        skipped_count=1,
        connections_count=3,
        last_received_us=NOW_US - 2_500_000,
    )
    published = Published(
        frames_count=5,
        frames_bytes=500,
        quarantined_count=1,
        transactions_count=4,
        position=StreamPosition(17, "2026-09-21T14:13:20.000Z", NOW_US - 3_000_000),
    )
    assert summary(received, published, queued_count=1, now_us=NOW_US) == {
        "frames": 5,
        "bytes": 500,
        "transactions": 4,
        "quarantined": 1,
        "dropped": 2,
        "skipped": 1,
        "queued": 1,
        "connections": 3,
        "seq": 17,
        "delay_s": 7.0,
        "quiet_s": 2.5,
    }


@pytest.mark.parametrize(
    ("time", "delay_s"),
    [
        ("2026-09-21T14:13:30Z", 0.0),
        ("2026-09-21T16:13:28.000000+02:00", 2.0),
        ("2026-09-21T14:13:28", 2.0),
        ("2026-09-21T14:13:31Z", -1.0),
        ("yesterday", None),
        ("", None),
        (None, None),
    ],
)
def test_the_delay_is_told_where_the_upstreams_time_can_be_read(
    time: str | None, delay_s: float | None
) -> None:
    published = Published(position=StreamPosition(1, time, NOW_US))
    fields = summary(Received(), published, queued_count=0, now_us=NOW_US)
    assert fields["delay_s"] == delay_s


def test_the_state_follows_the_connection() -> None:
    received, published = Received(), Published()
    assert report_of(received, published).state is State.STARTING
    received.disconnected_by = "connection refused"
    report = report_of(received, published)
    assert (report.state, report.detail) == (State.WAITING, "connection refused")
    received.disconnected_by, received.connections_count = None, 1
    report = report_of(received, published)
    assert (report.state, report.detail) == (State.RUNNING, None)


def test_the_sign_of_life_has_the_numbers_that_are_known() -> None:
    unknown = report_of(Received(), Published()).counters
    assert unknown["frames"] == 0
    assert not unknown.keys() & {"seq", "delay_ms", "last_received_us"}
    received = Received(messages_count=10, last_received_us=NOW_US)
    published = Published(
        frames_count=7, position=StreamPosition(17, "2026-09-21T14:13:20.000Z", NOW_US)
    )
    known = report_of(received, published).counters
    assert (known["received"], known["frames"], known["seq"]) == (10, 7, 17)
    assert (known["delay_ms"], known["last_received_us"]) == (10_000, NOW_US)


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
