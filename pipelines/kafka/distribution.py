"""How often something was how large: what a histogram of Prometheus is made of.

Pure. One thread counts, others may read at any time; a number more or less of the moment is
nothing to them. What was counted since the process started is a group of its report
(`pipelines.kafka.beat.Report`): for each bound how many values lie above the bound before it and
not above this one, `more` those above all, and `sum` of all.
"""

from bisect import bisect_left
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

MORE: Final = "more"
SUM: Final = "sum"

# A transaction takes some ten milliseconds, and is aborted by the broker after ten seconds.
_TIMES_MS: Final = (5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 30_000)

# By the name of the group: the bounds, in the unit that is counted in.
BOUNDS: Final[Mapping[str, tuple[int, ...]]] = MappingProxyType(
    {
        "transaction_times": _TIMES_MS,
        "batch_times": _TIMES_MS,
        # `BATCH_MESSAGES` at most.
        "batch_sizes": (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000),
        # Half of the network's frames have less than 5 kB; the largest that is taken has 5 MB.
        "frame_sizes": (500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 200_000, 1_000_000),
        # Of a relay a second or so; an hour and more where we catch up.
        "event_delays": (*_TIMES_MS[4:], 60_000, 300_000, 3_600_000),
    }
)


class Distribution:
    """Counts values. For one thread that counts.

    Attributes:
        group: which of `BOUNDS` it has.
    """

    def __init__(self, group: str) -> None:
        """Begins with no value.

        Args:
            group: which of `BOUNDS`.
        """
        self.group = group
        self._bounds = BOUNDS[group]
        self._counts = [0] * (len(self._bounds) + 1)
        self._sum = 0

    def add(self, value: int) -> None:
        """Counts a value; below 0, as where clocks disagree, it counts as 0."""
        value = max(0, value)
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def members(self) -> dict[str, int]:
        """Returns the members of the group; none before the first value."""
        counts = list(self._counts)
        if not any(counts):
            return {}
        names = (*map(str, self._bounds), MORE)
        return {**dict(zip(names, counts, strict=True)), SUM: self._sum}


def groups_of(*distributions: Distribution) -> dict[str, dict[str, int]]:
    """Returns the groups of those that have a value."""
    return {each.group: members for each in distributions if (members := each.members())}


def cumulated(members: Mapping[str, int], bounds: tuple[int, ...]) -> list[int]:
    """Returns how many values are not above each bound, and at last how many there are.

    Args:
        members: as `Distribution.members` returns them.
        bounds: of that group.
    """
    counts = []
    total = 0
    for name in (*map(str, bounds), MORE):
        total += members.get(name, 0)
        counts.append(total)
    return counts
