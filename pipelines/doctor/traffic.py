"""Checks of what moves: transactions, groups, readers. Pure.

Each judges two looks at the same things. How long it takes until something that does not move is
taken for stuck is up to whoever looked (`is_settled` says when nothing is suspicious any more).
"""

from collections.abc import Iterator

from pipelines.doctor.findings import Judgement, Result, counted, fine
from pipelines.doctor.snapshot import Group, Look, Traffic
from pipelines.kafka.clients import TRANSACTION_TIMEOUT_MS
from pipelines.kafka.messages import Position
from pipelines.status.stages import RETENTION_WARNING_SHARE, RETENTION_WRONG_SHARE
from pipelines.status.text import count_text, duration_text, lag_text


def open_transactions(first: Look, last: Look) -> list[Position]:
    """Returns the partitions where a transaction was open at both looks and did not end."""
    return sorted(
        where
        for where, ends in last.ends.items()
        if where in first.ends
        and first.ends[where].stable < first.ends[where].high
        and ends.stable < ends.high
        and ends.stable == first.ends[where].stable
    )


def still_groups(first: Look, last: Look) -> set[str]:
    """Returns the groups whose positions are the same at both looks."""
    return {group for group, at in first.positions.items() if last.positions.get(group) == at}


def is_settled(first: Look, last: Look, busy_groups: set[str]) -> bool:
    """Returns whether everything that might be stuck has moved.

    Args:
        first: the look at the beginning.
        last: the look now.
        busy_groups: those that had something to do at the beginning.
    """
    return not open_transactions(first, last) and not busy_groups & still_groups(first, last)


def judge_transactions(traffic: Traffic) -> Judgement:
    """Judges whether a transaction has been open for longer than any of ours may be."""
    hanging = open_transactions(traffic.first, traffic.last)
    seconds = duration_text(traffic.watched_s)
    if not hanging:
        return fine(
            f"{counted(len(traffic.last.ends), 'partition')}, none with a transaction that stayed "
            f"open for {seconds}"
        )
    limit_s = TRANSACTION_TIMEOUT_MS / 1000
    details = []
    for where in hanging:
        ends = traffic.last.ends[where]
        details.append(
            f"{where[0]}:{where[1]}: readers of committed messages wait at offset {ends.stable}, "
            f"{count_text(ends.high - ends.stable)} offsets before its end"
        )
    topic, partition = hanging[0]
    stable = traffic.last.ends[hanging[0]].stable
    return Judgement(
        Result.WRONG,
        f"on {len(hanging)} of {counted(len(traffic.last.ends), 'partition')} a transaction "
        f"stayed open for {seconds}; ours end after {limit_s:.0f} s",
        tuple(details),
        "if a producer of somebody else runs there, end it; else abort the transaction with "
        "Kafka's tool: kafka-transactions.sh --bootstrap-server … abort --topic "
        f"{topic} --partition {partition} --start-offset {stable}",
    )


def judge_readers(traffic: Traffic) -> Judgement:
    """Judges whether a group has read what is not committed.

    Nothing tells how a group reads; but one that is beyond the first open transaction has read
    messages that may be aborted yet. That can be seen only while a transaction is open.
    """
    seen = [
        f"{group} is at {count_text(at)} in {where[0]}:{where[1]}, where committed messages end "
        f"at {count_text(look.ends[where].stable)}"
        for look in (traffic.first, traffic.last)
        for group, positions in look.positions.items()
        for where, at in positions.items()
        if where in look.ends and at > look.ends[where].stable
    ]
    if not seen:
        return fine(
            f"none of {counted(len(traffic.last.positions), 'group')} was ahead "
            "of what is committed"
        )
    return Judgement(
        Result.WRONG,
        "a group was ahead of what is committed",
        tuple(dict.fromkeys(seen)),
        "set isolation.level=read_committed in these consumers: they process messages of "
        "transactions that may be aborted, and will see them again",
    )


def judge_stuck(traffic: Traffic) -> Judgement:
    """Judges whether a stage has something to do and does not move."""
    still = still_groups(traffic.first, traffic.last)
    stuck = [
        (group, found)
        for group, found in traffic.groups.items()
        if group in still and found.lag.messages_count > 0 and _is_used(found, traffic, group)
    ]
    if not stuck:
        return fine(
            f"{counted(len(traffic.groups), 'group')}, each without work or moving "
            f"(watched for {duration_text(traffic.watched_s)})"
        )
    idle = [found.stage for _, found in stuck if not found.members_count]
    remedy = (
        f"nobody runs: start `standpipe {idle[0]}`"
        if idle
        else "`standpipe status` says what the stage waits for, and its log why"
    )
    return Judgement(
        Result.WRONG,
        f"{len(stuck)} of {counted(len(traffic.groups), 'group')} did not move for "
        f"{duration_text(traffic.watched_s)}, with work to do",
        tuple(
            f"{group}: {'' if found.lag.is_exact else 'about '}"
            f"{count_text(found.lag.messages_count)} messages behind, the oldest "
            f"{lag_text(found.lag)} old, {counted(found.members_count, 'member')}"
            for group, found in stuck
        ),
        remedy,
    )


def judge_retention(traffic: Traffic) -> Judgement:
    """Judges how close a stage is to losing messages that it has not processed."""
    lost = [line for group in traffic.groups for line in _lost(traffic, group)]
    if lost:
        return Judgement(
            Result.WRONG,
            "messages were deleted before they were processed, in "
            f"{counted(len(lost), 'partition')}",
            tuple(lost),
            "the stage stops there and says so; what was lost has to be fetched again from the "
            "repositories (deploy/RUNBOOK.md says how to go on)",
        )
    close = []
    worst_share = 0.0
    for group, found in traffic.groups.items():
        if found.retention_ms is None or not _is_used(found, traffic, group):
            continue
        share = found.lag.seconds * 1000 / found.retention_ms
        worst_share = max(worst_share, share)
        if share >= RETENTION_WARNING_SHARE:
            close.append(
                f"{group}: the oldest message not processed is {lag_text(found.lag)} old, and is "
                f"deleted after {duration_text(found.retention_ms / 1000)}"
            )
    if not close:
        return fine(f"used up at most {worst_share:.0%} of the time for which inputs are kept")
    return Judgement(
        Result.WRONG if worst_share >= RETENTION_WRONG_SHARE else Result.WARNING,
        f"used up {worst_share:.0%} of the time for which inputs are kept",
        tuple(close),
        "add processes to the stage, or raise retention.ms of its input until it has caught up",
    )


def _is_used(group: Group, traffic: Traffic, name: str) -> bool:
    """Whether a group was ever in use: not every deployment runs every stage."""
    return group.members_count > 0 or bool(traffic.last.positions.get(name))


def _lost(traffic: Traffic, group: str) -> Iterator[str]:
    starts = traffic.groups[group].starts
    for where, at in traffic.last.positions.get(group, {}).items():
        if at < starts.get(where, 0):
            yield (
                f"{group} is at {count_text(at)} in {where[0]}:{where[1]}, which begins at "
                f"{count_text(starts[where])}"
            )
