"""From what processes say, and what is seen of them, to numbers with labels. Pure."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple, assert_never

from pipelines.kafka.beat import Report
from pipelines.kafka.beat import State as Doing
from pipelines.kafka.distribution import BOUNDS, SUM, cumulated
from pipelines.metrics.registry import (
    BY_NAME,
    METRICS,
    Buckets,
    Deployment,
    Group,
    Metric,
    Number,
    State,
)
from pipelines.status.overview import Condition, Overview


class Sample(NamedTuple):
    """One number.

    Attributes:
        metric: what it is of.
        labels: the values of its labels, in the metric's order.
        value: the number; of a histogram the sum of all values.
        counts: of a histogram how many values are not above each of its bounds, and at last how
            many there are; empty of all others.
    """

    metric: Metric
    labels: tuple[str, ...]
    value: float
    counts: tuple[int, ...] = ()


def process_samples(stage: str, slot: str, report: Report) -> Iterator[Sample]:
    """Yields the numbers of a process.

    What is in the report and not in the registry is left out.

    Args:
        stage: the stage.
        slot: the process's name among those of its stage.
        report: what it says of itself.
    """
    for metric in METRICS:
        match metric.source:
            case Number(name, divisor):
                if name in report.counters:
                    yield Sample(metric, (stage, slot), report.counters[name] / divisor)
            case Group(name, divisor):
                for member, number in report.groups.get(name, {}).items():
                    value = number if divisor == 1 else number / divisor
                    yield Sample(metric, (stage, slot, str(member)), value)
            case Buckets(name, divisor):
                if members := report.groups.get(name):
                    counts = tuple(cumulated(members, BOUNDS[name]))
                    yield Sample(metric, (stage, slot), members[SUM] / divisor, counts)
            case State():
                for state in Doing:
                    yield Sample(metric, (stage, slot, state), float(state is report.state))
            case Deployment():
                pass
            case _:
                assert_never(metric.source)


def deployment_samples(overview: Overview, retention_ms: Mapping[str, int]) -> Iterator[Sample]:
    """Yields what is seen of a deployment from outside.

    Args:
        overview: one look at it.
        retention_ms: how long the inputs of a stage are kept, for those that are not kept for
            ever, by stage.
    """
    for stage in overview.stages:
        conditions = Counter(process.condition for process in stage.processes)
        for condition in Condition:
            labels = (stage.name, condition.value)
            yield Sample(BY_NAME["processes"], labels, conditions[condition])
        if stage.lag is None:
            continue
        yield Sample(BY_NAME["lag_messages"], (stage.name,), stage.lag.messages_count)
        yield Sample(BY_NAME["lag_seconds"], (stage.name,), stage.lag.seconds)
        if stage.name in retention_ms:
            kept_s = retention_ms[stage.name] / 1000
            left_s = kept_s - stage.lag.seconds
            yield Sample(BY_NAME["retention_left_seconds"], (stage.name,), left_s)
            used = stage.lag.seconds / kept_s
            yield Sample(BY_NAME["retention_used_ratio"], (stage.name,), used)


def by_metric(samples: Iterable[Sample]) -> dict[Metric, list[Sample]]:
    """Returns samples by their metric, in the order of the registry."""
    found: dict[Metric, list[Sample]] = {}
    for sample in samples:
        found.setdefault(sample.metric, []).append(sample)
    return {metric: found[metric] for metric in METRICS if metric in found}
