"""What a stage did: counted when it was committed, and told as a report."""

from pipelines.kafka.beat import State
from pipelines.kafka.counts import WAITS_FOR_PARTITIONS, LoopCounts, Tally


def test_only_what_was_committed_counts() -> None:
    tally = Tally()
    tally.add("refused", "frame.op")
    tally.add("proven", "commit", 3)
    assert tally.groups == {}
    tally.commit()
    tally.add("proven", "commit")
    tally.add("proven", "sync")
    tally.discard()
    tally.add("proven", "commit", 2)
    tally.commit()
    assert tally.groups == {"refused": {"frame.op": 1}, "proven": {"commit": 5}}


def test_what_was_read_does_not_change_under_its_reader() -> None:
    tally = Tally()
    tally.add("proven", "commit")
    tally.commit()
    read = tally.groups
    tally.add("proven", "commit")
    tally.add("refused", "frame.op")
    tally.commit()
    assert read == {"proven": {"commit": 1}}


def test_a_loop_says_what_it_is_doing() -> None:
    counts = LoopCounts()
    assert counts.report().state is State.STARTING
    counts.state = State.RUNNING
    report = counts.report()
    assert (report.state, report.detail) == (State.WAITING, WAITS_FOR_PARTITIONS)
    counts.partitions_count = 2
    report = counts.report({"refused": {"frame.op": 1}})
    assert (report.state, report.detail) == (State.RUNNING, None)
    assert report.groups == {"refused": {"frame.op": 1}}
    counts.waits_for = "the directory is away"
    report = counts.report()
    assert (report.state, report.detail) == (State.WAITING, "the directory is away")
    counts.waits_for, counts.state = None, State.RESTORING
    assert counts.report().state is State.RESTORING


def test_a_report_has_the_numbers_of_the_loop() -> None:
    counts = LoopCounts(State.RUNNING, None, 2, 10, 20, 3_000, 4, 80, 5)
    assert counts.report().counters == {
        "inputs": 10,
        "outputs": 20,
        "output_bytes": 3_000,
        "transactions": 4,
        "transaction_ms": 80,
        "waits": 5,
        "partitions": 2,
    }
