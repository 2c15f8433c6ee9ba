"""What a replay reads of a partition, and which messages of that it wants."""

from collections.abc import Mapping
from typing import Any

import pytest

from pipelines.errors import ConfigError
from pipelines.kafka.messages import InputMessage
from pipelines.kafka.topics import registry
from pipelines.replay.planning import Request, check_request, topic_names
from pipelines.replay.selection import Selection
from pipelines.replay.window import NO_END, LogBounds, Range, Window, message_count, range_of

ALICE = b"did:plc:ewvi7nxzyoun6zhxrhs64oiz"


@pytest.mark.parametrize(
    ("window", "log", "found"),
    [
        (Window(), LogBounds(10, 50), Range(10, 50)),
        (Window(since_ms=5), LogBounds(10, 50, since=30), Range(30, 50)),
        (Window(since_ms=5), LogBounds(10, 50, since=None), Range(50, 50)),
        (Window(until_ms=5), LogBounds(10, 50, until=20), Range(10, 20)),
        (Window(until_ms=5), LogBounds(10, 50, until=None), Range(10, 50)),
        (Window(until_ms=5), LogBounds(10, 50, until=70), Range(10, 50)),
        (Window(since_ms=5, until_ms=9), LogBounds(10, 50, 30, 20), Range(20, 20)),
        (Window(offsets={3: Range(0, NO_END)}), LogBounds(10, 50), Range(10, 50)),
        (Window(offsets={3: Range(20, 30)}), LogBounds(10, 50), Range(20, 30)),
        (Window(offsets={3: Range(60, 70)}), LogBounds(10, 50), Range(50, 50)),
        (Window(offsets={4: Range(20, 30)}), LogBounds(10, 50), None),
        (Window(since_ms=5, offsets={3: Range(20, 40)}), LogBounds(10, 50, 25), Range(25, 40)),
    ],
)
def test_a_window_is_a_range_of_each_partition(
    window: Window, log: LogBounds, found: Range | None
) -> None:
    assert range_of(window, 3, log) == found


def test_what_has_no_end_counts_for_nothing() -> None:
    assert message_count({("a", 0): Range(3, 7), ("a", 1): Range(5, NO_END)}) == 4


def _message(key: bytes | None = ALICE, time_ms: int = 100, **headers: str) -> InputMessage:
    pairs = [(name, value.encode()) for name, value in headers.items()]
    return InputMessage("t", 0, 0, time_ms, key, b"{", pairs)


@pytest.mark.parametrize(
    ("members", "message", "is_taken"),
    [
        ({}, _message(None), True),
        ({"since_ms": 100}, _message(), True),
        ({"since_ms": 101}, _message(), False),
        ({"until_ms": 101}, _message(), True),
        ({"until_ms": 100}, _message(), False),
        ({"dids": {ALICE}}, _message(), True),
        ({"dids": {ALICE}}, _message(b"at://%b/app.bsky.feed.post/3k" % ALICE), True),
        ({"dids": {ALICE}}, _message(b"%b/17" % ALICE), True),
        ({"dids": {ALICE}}, _message(ALICE + b"z"), False),
        ({"dids": {ALICE}}, _message(None), False),
        ({"dids": {ALICE}}, _message(b"relay.example"), False),
        ({"collections": {b"a.b.c"}}, _message(collection="a.b.c"), True),
        ({"collections": {b"a.b.c"}}, _message(collection="a.b.C"), False),
        ({"collections": {b"a.b.c"}}, _message(), False),
        ({"host": b"relay.example"}, _message(host="relay.example"), True),
        ({"host": b"relay.example"}, _message(host="other.example"), False),
        ({"first_seq": 7, "last_seq": 9}, _message(seq="7"), True),
        ({"first_seq": 7, "last_seq": 9}, _message(seq="9"), True),
        ({"first_seq": 7, "last_seq": 9}, _message(seq="10"), False),
        ({"first_seq": 7}, _message(seq="6"), False),
        ({"first_seq": 7}, _message(), False),
    ],
)
def test_a_selection_goes_by_key_headers_and_time(
    members: Mapping[str, Any], message: InputMessage, is_taken: bool
) -> None:
    assert Selection(**members).takes(message) is is_taken


def test_a_family_stands_for_its_topics() -> None:
    known = registry()
    whole = topic_names(Request(("records.*", "events", "records.other")), known)
    assert whole == [*known.specs["records"].topics, "events"]
    likes = Request(("records.*",), collections=("app.bsky.feed.like", "com.example.note"))
    assert topic_names(likes, known) == ["records.app.bsky.feed.like", "records.other"]


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (Request(("nothing", "frames.*")), "there is no topic nothing: .*no topic frames"),
        (
            Request(("events",), collections=("a.b.c",)),
            "events: a message there may be of several",
        ),
    ],
)
def test_what_is_no_topic_is_refused(request_: Request, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        topic_names(request_, registry())


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (Request(("events",), Window(since_ms=9, until_ms=9)), "--until is not after --since"),
        (Request(("frames",), host="h", first_seq=9, last_seq=8), "--seq 9..8 ends before"),
        (Request(("frames",), Window(offsets={1: Range(9, 8)})), "--offsets 1:9..7 ends before"),
        (Request(("frames",), first_seq=9), "say which with --host"),
        (Request(("events",), host="h"), "for the topic frames alone"),
        (Request(("frames",), Window(offsets={1: Range(1, 2)}), host="h"), "exclude each other"),
        (Request(("frames",), Window(until_ms=9), is_following=True), "--follow has no end"),
    ],
)
def test_what_contradicts_itself_is_refused(request_: Request, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        check_request(request_)
