"""One replay from beginning to end: what it reads, in which order, and where it goes on."""

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass

from pipelines.config import KafkaConfig
from pipelines.errors import ConfigError
from pipelines.kafka.messages import Position
from pipelines.replay.ahead import Ahead
from pipelines.replay.job import Job, Tally
from pipelines.replay.outputs import Output
from pipelines.replay.pace import Pace
from pipelines.replay.planning import Plan
from pipelines.replay.progress import Progress, Spec, difference
from pipelines.replay.sources import HostOrder, Source, TimeOrder
from pipelines.replay.window import Range


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a replay.

    Attributes:
        tally: of this run.
        is_whole: whether it came to the end.
    """

    tally: Tally
    is_whole: bool


def source_of(
    plan: Plan, ahead: Ahead, ranges: Mapping[Position, Range], pace: Pace | None = None
) -> Source:
    """Returns the messages of a plan in their order.

    Args:
        plan: what is read.
        ahead: reads the partitions of `ranges` from their beginnings.
        ranges: those of the plan, or what is left of them.
        pace: when each message is due; None for at once.
    """
    if plan.epochs is None or plan.host is None:
        return TimeOrder(ahead, ranges, plan.selection, pace)
    return HostOrder(ahead, plan.epochs, ranges, plan.selection, plan.host, pace)


def resumed(stored: Progress | None, plan: Plan, spec: Spec) -> Progress:
    """Returns where a replay begins.

    Args:
        stored: how far an earlier run to the same place has come, or None.
        plan: what would be read if there was none.
        spec: what is asked for.

    Raises:
        ConfigError: the earlier run was for something else.
    """
    if stored is None:
        return Progress(spec, plan.ranges)
    if stored.spec != spec:
        raise ConfigError(
            "an unfinished replay to the same place was asked for something else: "
            f"{difference(stored.spec, spec)}; finish it with the same options, or remove what "
            "is there"
        )
    return stored


def replay(
    kafka: KafkaConfig,
    plan: Plan,
    output: Output,
    spec: Spec,
    should_stop: Callable[[], bool],
    on_moment: Callable[[Tally], None],
    pace: Pace | None = None,
) -> Outcome:
    """Runs a replay, or goes on with one that was interrupted.

    Args:
        kafka: the cluster.
        plan: what is read.
        output: where to; the caller closes it.
        spec: what is asked for, to be found again.
        should_stop: asked for each message.
        on_moment: called now and then.
        pace: when each message is due; None for at once.

    Raises:
        ConfigError: an earlier run to the same place was for something else.
        OutputError: it cannot be written.
        EpochsError: the frames' order cannot be told.
        BrokerUnavailableError: the broker does not answer.
        OffsetLostError: messages were deleted before they could be read.
    """
    stored = output.load()
    progress = resumed(stored, plan, spec)
    if stored is None:
        output.begin(progress)
    starts = {where: start for where, (start, _) in progress.ranges.items()}
    with closing(Ahead(kafka, starts, should_stop)) as ahead:
        job = Job(source_of(plan, ahead, progress.ranges, pace), output, progress)
        is_whole = job.run(should_stop, on_moment)
    return Outcome(job.tally, is_whole)
