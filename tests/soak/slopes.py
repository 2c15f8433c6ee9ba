"""Whether the memory of a process grows with its work. Pure."""

import statistics
from collections.abc import Sequence
from typing import NamedTuple

# What a process may grow by in the second half of its work and still count as flat: the noise of
# an allocator, of which a million events leave little.
FLAT_SHARE = 0.05
FLAT_BYTES = 8 * 1024 * 1024


class Sample(NamedTuple):
    """A look at a process.

    Attributes:
        work_count: messages that its stage had taken in by then.
        own_bytes: its memory that no file stands behind.
    """

    work_count: int
    own_bytes: int


class Slope(NamedTuple):
    """How the memory of a process went over the second half of its work.

    Attributes:
        mean_bytes: its mean.
        bytes_per_million: growth of the straight line through the looks, a million messages.
        growth_bytes: growth of that line over the half.
    """

    mean_bytes: float
    bytes_per_million: float
    growth_bytes: float

    @property
    def is_flat(self) -> bool:
        """Whether it stays as it is."""
        return self.growth_bytes <= max(FLAT_BYTES, FLAT_SHARE * self.mean_bytes)


def slope_of(samples: Sequence[Sample]) -> Slope | None:
    """Returns how memory went over the second half of the work.

    Looks before its middle do not count, nor those after its end, when a process only waits.

    Args:
        samples: in the order of time.

    Returns:
        The slope; None for fewer than three looks at different counts, which no line goes through.
    """
    end_count = max((sample.work_count for sample in samples), default=0)
    looks: dict[int, int] = {}
    for work_count, own_bytes in samples:
        if 2 * work_count >= end_count:
            looks.setdefault(work_count, own_bytes)
    if len(looks) < 3:
        return None
    slope, _ = statistics.linear_regression(list(looks), list(looks.values()))
    return Slope(statistics.fmean(looks.values()), slope * 1e6, slope * (end_count - min(looks)))
