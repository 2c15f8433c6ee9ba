"""Which quarantined messages a command is about, and reading them."""

from collections.abc import Iterator, Mapping, Sequence

import click

from pipelines import logs
from pipelines.atproto.errors import Reason
from pipelines.atproto.syntax import Did
from pipelines.cli.progress import progress
from pipelines.config import KafkaConfig
from pipelines.kafka.admin import check_partitions
from pipelines.kafka.messages import InputMessage, Position
from pipelines.kafka.partition import partition_for
from pipelines.kafka.quarantine import Quarantined, parse_quarantined
from pipelines.kafka.reading import log_ends, log_starts, read_between

_AREAS = frozenset(reason.partition(".")[0] for reason in Reason)

_log = logs.get_logger("quarantine")


class _ReasonType(click.ParamType):
    """A reason, or an area of reasons."""

    name = "reason"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        text = str(value)
        if text not in _AREAS and text not in set(Reason):
            area = text.partition(".")[0]
            known = [reason for reason in Reason if reason.partition(".")[0] == area] or _AREAS
            self.fail(
                f"there is no reason {text!r}; there are {', '.join(sorted(known))}", param, ctx
            )
        return text


REASON = _ReasonType()


def partitions(kafka: KafkaConfig, did: Did | None, partition: int | None) -> list[int]:
    """Returns the partitions that can hold what is asked for."""
    count = check_partitions(kafka, ["quarantine"])["quarantine"]
    if partition is not None and partition >= count:
        raise click.BadParameter(
            f"{kafka.topic('quarantine')} has {count} partitions, counted from 0",
            param_hint="--partition",
        )
    numbers = set(range(count)) if partition is None else {partition}
    if did is not None:
        numbers &= {partition_for(did, count)}
    return sorted(numbers)


def bounds(
    kafka: KafkaConfig, numbers: Sequence[int], since_ms: int | None
) -> tuple[dict[Position, int], dict[Position, int]]:
    """Returns where to start reading partitions, and where what is readable ends."""
    wanted = [(kafka.topic("quarantine"), number) for number in numbers]
    ends = log_ends(kafka, wanted, is_readable=True)
    starts = {
        where: ends[where] if start is None else start
        for where, start in log_starts(kafka, wanted, since_ms).items()
    }
    return starts, ends


def quarantined(
    kafka: KafkaConfig, starts: Mapping[Position, int], ends: Mapping[Position, int]
) -> Iterator[tuple[InputMessage, Quarantined]]:
    """Yields the messages between offsets, with what they say of themselves."""
    for message in _with_progress(kafka, starts, ends):
        try:
            found = parse_quarantined(message)
        except ValueError as error:
            _log.warning(
                "not_a_quarantined_message",
                partition=message.partition,
                offset=message.offset,
                detail=str(error),
            )
        else:
            yield message, found


def _with_progress(
    kafka: KafkaConfig, starts: Mapping[Position, int], ends: Mapping[Position, int]
) -> Iterator[InputMessage]:
    next_offsets = dict(starts)
    total = sum(max(0, ends[where] - start) for where, start in starts.items())
    with progress("reading", total) as advance:
        for message in read_between(kafka, starts, ends):
            yield message
            where = (message.topic, message.partition)
            advance(message.offset + 1 - next_offsets[where])
            next_offsets[where] = message.offset + 1
