"""Each check of the doctor over deployments that are broken in one way."""

from dataclasses import replace
from typing import Any

import pytest
from support.doctor import (
    FRAMES,
    GROUP,
    changed,
    cluster_of,
    existing_topics,
    snapshot,
    traffic_of,
)

from pipelines.doctor.checks import examine
from pipelines.doctor.findings import Check, Judgement, Result, Unknown, worst
from pipelines.doctor.snapshot import (
    Access,
    Clock,
    Copies,
    Directory,
    Disk,
    Ends,
    Look,
    Replicas,
    Server,
)
from pipelines.doctor.traffic import is_settled
from pipelines.kafka.lag import Lag
from pipelines.status.overview import Overview

_GIB = 2**30


def _judge(check: Check, **parts: Any) -> Judgement:
    """Returns what a check says; the others must have nothing to say."""
    findings = {finding.check: finding.judgement for finding in examine(snapshot(**parts))}
    others = {name: found for name, found in findings.items() if name is not check}
    assert {found.result for found in others.values()} == {Result.OK}, others
    return findings[check]


def _assert_bad(found: Judgement, result: Result, *words: str) -> None:
    assert found.result is result
    assert found.remedy
    text = "\n".join((found.found, *found.details, found.remedy))
    for word in words:
        assert word in text


def test_a_sound_deployment_has_nothing_wrong_with_it() -> None:
    findings = examine(snapshot())
    assert [finding.check for finding in findings] == list(Check)
    assert {finding.judgement.result for finding in findings} == {Result.OK}
    assert all(finding.judgement.found for finding in findings)
    assert not any(finding.judgement.remedy for finding in findings)
    assert worst(findings) is Result.OK


def test_what_could_not_be_looked_at_is_skipped_and_not_judged() -> None:
    nobody = Unknown("no broker answers")
    parts = ("metadata_versions", "cluster", "copies", "traffic", "overview", "clocks")
    findings = examine(snapshot(**dict.fromkeys(parts, nobody)))
    results = {finding.check: finding.judgement.result for finding in findings}
    assert {check for check, result in results.items() if result is not Result.SKIPPED} == {
        Check.BROKER_REACHABLE,
        Check.DISKS_SPACE,
        Check.DIRECTORY_REACHABLE,
    }
    assert worst(findings) is Result.OK


def test_the_worst_finding_counts() -> None:
    tight = Disk("/stores", None, 5 * _GIB, 100 * _GIB)
    assert worst(examine(snapshot(disks=(tight,)))) is Result.WARNING
    away = Directory("https://plc.directory", "timed out", 5.0)
    assert worst(examine(snapshot(disks=(tight,), directory=away))) is Result.WRONG


def _server(address: str, problem: str | None = None, *, is_bootstrap: bool = True) -> Server:
    return Server(address, is_bootstrap, problem)


@pytest.mark.parametrize(
    ("access", "result", "words"),
    [
        (
            Access((_server("a:1", "refused"), _server("b:2", "no such host")), "all down"),
            Result.WRONG,
            ("none of 2", "a:1: refused", "b:2: no such host", "standpipe kafka start"),
        ),
        (
            Access((_server("a:1"), _server("b:2", "refused")), "SSL handshake failed"),
            Result.WRONG,
            ("SSL handshake failed", "b:2: refused", "security"),
        ),
        (
            Access((_server("a:1"), _server("inner:1", "no such host", is_bootstrap=False)), None),
            Result.WRONG,
            ("inner:1: no such host", "advertised.listeners"),
        ),
        (
            Access((_server("a:1"), _server("b:2", "refused")), None),
            Result.WARNING,
            ("1 of 2", "b:2: refused"),
        ),
    ],
    ids=["nobody", "no-kafka", "advertised", "one-of-two"],
)
def test_a_broker_that_cannot_be_reached(
    access: Access, result: Result, words: tuple[str, ...]
) -> None:
    _assert_bad(_judge(Check.BROKER_REACHABLE, access=access), result, *words)


@pytest.mark.parametrize(
    ("known", "result", "words"),
    [
        (30, Result.WARNING, ("4.3.0", "transaction markers")),
        (21, Result.WRONG, ("older than Kafka 4.0",)),
    ],
)
def test_a_version_that_loses_markers_or_is_old(
    known: int, result: Result, words: tuple[str, ...]
) -> None:
    found = _judge(Check.BROKER_VERSION, metadata_versions={"a:1": 29, "b:1": known})
    _assert_bad(found, result, "1 broker", "b:1", *words)


def test_newer_versions_than_4_3_are_no_risk() -> None:
    assert _judge(Check.BROKER_VERSION, metadata_versions={"a:1": 31}).result is Result.OK


@pytest.mark.parametrize(
    ("setting", "value", "result"),
    [
        ("transaction.max.timeout.ms", "9999", Result.WRONG),
        ("group.min.session.timeout.ms", "10001", Result.WRONG),
        ("group.max.session.timeout.ms", "9999", Result.WRONG),
        ("unclean.leader.election.enable", "true", Result.WARNING),
        ("auto.create.topics.enable", "true", Result.WARNING),
        ("offsets.retention.minutes", "10079", Result.WARNING),
    ],
)
def test_a_setting_of_a_broker_that_does_not_fit(setting: str, value: str, result: Result) -> None:
    found = _judge(
        Check.BROKER_SETTINGS, cluster=cluster_of(existing_topics(), settings={setting: value})
    )
    _assert_bad(found, result, f"{setting} is {value}", "1 setting")


def test_a_request_that_a_broker_would_refuse_for_its_size() -> None:
    cluster = cluster_of(existing_topics(), settings={"socket.request.max.bytes": "17825792"})
    _assert_bad(
        _judge(Check.MESSAGES_SIZE, cluster=cluster),
        Result.WRONG,
        "socket.request.max.bytes is 17,825,792",
    )


def test_copies_that_could_not_fetch_a_large_message() -> None:
    few = {"replica.fetch.max.bytes": "1048576"}
    assert _judge(
        Check.MESSAGES_SIZE, cluster=cluster_of(existing_topics(), settings=few)
    ).result is (Result.OK)  # there is nobody to fetch
    topics = {
        name: replace(topic, replication_factor=2) for name, topic in existing_topics().items()
    }
    found = _judge(Check.MESSAGES_SIZE, cluster=cluster_of(topics, 2, few))
    _assert_bad(found, Result.WRONG, "2 limits", "replica.fetch.max.bytes is 1,048,576")


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        ("1048588", ("takes 1,048,588 bytes", "5,505,024")),
        ("100000000", ("takes 100,000,000 bytes", "our readers at most 17,825,792")),
    ],
)
def test_a_topic_with_another_size_limit_is_named_by_both_checks(
    limit: str, words: tuple[str, ...]
) -> None:
    cluster = cluster_of(changed("frames", max_message_bytes=limit))
    findings = {f.check: f.judgement for f in examine(snapshot(cluster=cluster))}
    _assert_bad(findings[Check.MESSAGES_SIZE], Result.WRONG, "atproto.frames", *words)
    _assert_bad(findings[Check.TOPICS_SETTINGS], Result.WRONG, f"max.message.bytes is {limit}")


def test_a_topic_that_does_not_exist() -> None:
    topics = existing_topics()
    del topics["atproto.events"]
    found = _judge(Check.TOPICS_MISSING, cluster=cluster_of(topics))
    _assert_bad(found, Result.WRONG, "1 topic", "atproto.events", "standpipe topics apply")


def test_a_topic_with_another_number_of_partitions() -> None:
    found = _judge(
        Check.TOPICS_PARTITIONS, cluster=cluster_of(changed("latest.other", partitions=3))
    )
    _assert_bad(
        found, Result.WRONG, "atproto.latest.other has 3 partitions, wanted 4", "--topic-prefix"
    )


@pytest.mark.parametrize(
    ("topic", "setting", "value", "result"),
    [
        ("repos", "cleanup_policy", "delete", Result.WRONG),
        ("latest.other", "delete_retention_ms", "1000", Result.WRONG),
        ("frames", "retention_ms", "60000", Result.WRONG),
        ("frames", "min_insync_replicas", None, Result.WRONG),
        ("frames", "segment_ms", "604800000", Result.WARNING),
        ("frames", "compression_type", "gzip", Result.WARNING),
    ],
)
def test_a_setting_of_a_topic_that_differs(
    topic: str, setting: str, value: str | None, result: Result
) -> None:
    found = _judge(Check.TOPICS_SETTINGS, cluster=cluster_of(changed(topic, **{setting: value})))
    _assert_bad(
        found, result, f"atproto.{topic}: {setting.replace('_', '.')} is {value}", "topics apply"
    )


def test_a_topic_that_the_registry_does_not_know() -> None:
    topics = existing_topics()
    topics["atproto.records.com.example.note"] = topics["atproto.records.other"]
    topics["somebody.elses"] = topics["atproto.records.other"]
    found = _judge(Check.TOPICS_FOREIGN, cluster=cluster_of(topics))
    _assert_bad(found, Result.WARNING, "1 topic", "atproto.records.com.example.note")
    assert not any("somebody" in detail for detail in found.details)


@pytest.mark.parametrize(
    ("brokers_count", "bad", "result", "words"),
    [
        (1, Replicas("t", 1, False, 1, 0), Result.WRONG, ("without a leader", "t:1 has 0 of 1")),
        (3, Replicas("t", 1, True, 3, 2), Result.WARNING, ("up to date", "t:1 has 2 of 3")),
        (3, Replicas("t", 1, True, 1, 1), Result.WARNING, ("fewer than 3", "t:1 has 1 of 1")),
    ],
    ids=["no-leader", "behind", "few"],
)
def test_partitions_that_lack_copies(
    brokers_count: int, bad: Replicas, result: Result, words: tuple[str, ...]
) -> None:
    copies = Copies(brokers_count, (Replicas("t", 0, True, 3, 3), bad))
    _assert_bad(_judge(Check.TOPICS_REPLICAS, copies=copies), result, "1 ", *words)


def test_a_transaction_that_stays_open() -> None:
    found = _judge(Check.TRANSACTIONS_HANGING, traffic=traffic_of((5, 7, 10), (7, 7, 1019)))
    _assert_bad(
        found,
        Result.WRONG,
        "on 1 of 1 partition ",
        "25 s",
        "atproto.frames:0: readers of committed messages wait at offset 7, 1,012 offsets",
        "--topic atproto.frames --partition 0 --start-offset 7",
    )


@pytest.mark.parametrize(
    ("first", "last"),
    [
        ((5, 7, 10), (10, 12, 15)),  # that one ended, another is open
        ((5, 7, 10), (11, 11, 11)),  # it ended
        ((5, 7, 7), (7, 7, 10)),  # it began while we watched
    ],
)
def test_a_transaction_that_ends_or_begins_is_none_of_those(
    first: tuple[int, int, int], last: tuple[int, int, int]
) -> None:
    assert _judge(Check.TRANSACTIONS_HANGING, traffic=traffic_of(first, last)).result is Result.OK


def test_a_group_that_reads_what_is_not_committed() -> None:
    traffic = traffic_of((7, 7, 10), (12, 12, 12))
    ahead = Look({**traffic.first.positions, "dashboard": {FRAMES: 9}}, traffic.first.ends)
    found = _judge(Check.READERS_ISOLATION, traffic=replace(traffic, first=ahead))
    _assert_bad(
        found,
        Result.WRONG,
        "dashboard is at 9 in atproto.frames:0, where committed messages end at 7",
        "isolation.level=read_committed",
    )
    assert len(found.details) == 1


def test_a_group_that_has_work_and_does_not_move() -> None:
    still = (5, 20, 20)
    found = _judge(Check.GROUPS_STUCK, traffic=traffic_of(still, still))
    _assert_bad(found, Result.WRONG, f"{GROUP}: 10 messages behind", "1 member", "25 s")
    assert "standpipe status" in found.remedy
    nobody = _judge(Check.GROUPS_STUCK, traffic=traffic_of(still, still, members_count=0))
    _assert_bad(nobody, Result.WRONG, "0 members", "start `standpipe explode`")
    many = Lag(5_000, is_exact=False, seconds=1)
    found = _judge(Check.GROUPS_STUCK, traffic=traffic_of(still, still, lag=many))
    _assert_bad(found, Result.WRONG, "about 5,000 messages behind")


def test_a_group_that_moves_or_has_no_work_is_not_stuck() -> None:
    still = (5, 20, 20)
    no_lag = Lag(0, is_exact=True, seconds=0)
    assert _judge(Check.GROUPS_STUCK, traffic=traffic_of(still, still, lag=no_lag)).result is (
        Result.OK
    )
    assert _judge(Check.GROUPS_STUCK, traffic=traffic_of(still, (6, 20, 20))).result is Result.OK


def test_a_stage_that_was_never_in_use_is_not_missed() -> None:
    ends = {FRAMES: Ends(20, 20)}
    never = Look({GROUP: {}}, ends)
    unused = replace(traffic_of(members_count=0), first=never, last=never)
    assert _judge(Check.GROUPS_STUCK, traffic=unused).result is Result.OK
    # One that takes part and has not got anywhere is in use.
    joined = replace(traffic_of(members_count=1), first=never, last=never)
    assert _judge(Check.GROUPS_STUCK, traffic=joined).result is Result.WRONG


@pytest.mark.parametrize(
    ("share", "result"),
    [(0.49, Result.OK), (0.5, Result.WARNING), (0.8, Result.WRONG)],
)
def test_a_group_that_comes_close_to_the_edge_of_retention(share: float, result: Result) -> None:
    lag = Lag(10, is_exact=True, seconds=1000 * share)
    found = _judge(Check.GROUPS_RETENTION, traffic=traffic_of(lag=lag, retention_ms=1_000_000))
    assert found.result is result
    assert f"{share:.0%}" in found.found
    for_ever = _judge(Check.GROUPS_RETENTION, traffic=traffic_of(lag=lag, retention_ms=None))
    assert for_ever.result is Result.OK


def test_messages_that_were_deleted_before_they_were_processed() -> None:
    found = _judge(Check.GROUPS_RETENTION, traffic=traffic_of(starts={FRAMES: 11}))
    _assert_bad(
        found,
        Result.WRONG,
        "1 partition",
        f"{GROUP} is at 10 in atproto.frames:0",
        "begins at 11",
    )


def test_watching_ends_when_nothing_is_suspicious_any_more() -> None:
    still, moved, hangs = (
        traffic_of(last=last).last for last in ((0, 10, 10), (1, 10, 10), (1, 10, 12))
    )
    open_first = traffic_of((0, 10, 12)).first
    first = traffic_of((0, 10, 10)).first
    assert not is_settled(first, still, {GROUP})
    assert is_settled(first, still, set())
    assert is_settled(first, moved, {GROUP})
    assert is_settled(first, hangs, set())  # it began after the first look
    assert not is_settled(open_first, hangs, set())


def test_processes_with_problems() -> None:
    sound = snapshot().overview
    assert isinstance(sound, Overview)
    overview = replace(sound, problems=["explode.1 is silent: start it again"])
    found = _judge(Check.PROCESSES_ALIVE, overview=overview)
    _assert_bad(found, Result.WRONG, "1 problem", "explode.1 is silent")


@pytest.mark.parametrize(
    ("ahead_s", "result", "words"),
    [
        (1.9, Result.OK, ("1.90 s",)),
        (-1.9, Result.OK, ("1.90 s",)),
        (2.0, Result.WARNING, ("bridge.x is 2.0 s ahead",)),
        (-30.0, Result.WARNING, ("bridge.x is 30 s behind",)),
        (-150.0, Result.WRONG, ("bridge.x is 2 min behind", "NTP")),
        (7200.0, Result.WRONG, ("bridge.x is 2 h ahead",)),
    ],
)
def test_clocks_that_differ(ahead_s: float, result: Result, words: tuple[str, ...]) -> None:
    clocks = (Clock("explode.0", 0.1), Clock("bridge.x", ahead_s))
    found = _judge(Check.CLOCKS_SKEW, clocks=clocks)
    if result is Result.OK:
        assert found.result is Result.OK
        assert words[0] in found.found
    else:
        _assert_bad(found, result, "1 of 2 clocks", *words)


@pytest.mark.parametrize(
    ("disk", "result", "words"),
    [
        (Disk("/s", None, 11 * _GIB, 100 * _GIB), Result.OK, ()),
        (Disk("/s", None, 9 * _GIB, 100 * _GIB), Result.WARNING, ("9.0 GiB of 100.0 GiB",)),
        (Disk("/s", None, _GIB // 4, 2 * _GIB), Result.WRONG, ("0.2 GiB", "--state-dir")),
        (Disk("/s", "/ cannot be written to", 0, 0), Result.WRONG, ("cannot be written to",)),
    ],
    ids=["room", "tight", "full", "read-only"],
)
def test_room_for_local_stores(disk: Disk, result: Result, words: tuple[str, ...]) -> None:
    found = _judge(Check.DISKS_SPACE, disks=(Disk("/t", None, 50 * _GIB, 100 * _GIB), disk))
    if result is Result.OK:
        assert found.result is Result.OK
        assert "/s" in found.found
    else:
        _assert_bad(found, result, "1 of 2", *words)


def test_a_directory_that_is_away() -> None:
    away = Directory("https://plc.directory", "timed out", 5.0)
    found = _judge(Check.DIRECTORY_REACHABLE, directory=away)
    _assert_bad(found, Result.WRONG, "https://plc.directory", "timed out", "--plc-url")
