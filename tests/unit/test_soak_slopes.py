"""When a long run says that the memory of a process grows."""

import pytest
from soak.slopes import FLAT_BYTES, FLAT_SHARE, Sample, slope_of

MIB = 1024 * 1024


def samples(*mebibytes: float) -> list[Sample]:
    """Looks at a process after each further 100,000 messages."""
    return [Sample(100_000 * n, round(size * MIB)) for n, size in enumerate(mebibytes, start=1)]


def test_what_grew_before_the_middle_and_stays_is_flat() -> None:
    slope = slope_of(samples(10, 200, 400, 500, 500, 500, 500, 500))
    assert slope is not None
    assert slope.is_flat
    assert (slope.mean_bytes, slope.bytes_per_million) == (500 * MIB, 0)


def test_what_goes_on_growing_is_not_flat() -> None:
    slope = slope_of(samples(10, 20, 30, 40, 50, 60, 70, 80))
    assert slope is not None
    assert not slope.is_flat
    assert slope.bytes_per_million == pytest.approx(100 * MIB)
    assert slope.growth_bytes == pytest.approx(40 * MIB)


def test_a_small_part_and_a_few_bytes_are_noise() -> None:
    large = 1_000.0
    half = slope_of(samples(*(large for _ in range(4)), large, large * (1 + FLAT_SHARE / 2)))
    assert half is not None
    assert half.is_flat
    few = slope_of(samples(1, 1, 1, 1 + FLAT_BYTES / MIB / 2))
    assert few is not None
    assert few.is_flat


def test_looks_after_the_end_of_the_work_do_not_count() -> None:
    looks = samples(100, 100, 100, 100, 100, 100)
    waiting = [Sample(looks[-1].work_count, 900 * MIB)] * 50
    assert slope_of([*looks, *waiting]) == slope_of(looks)


def test_through_two_looks_no_line_is_drawn() -> None:
    assert slope_of([]) is None
    assert slope_of(samples(1, 2, 3)) is None
    assert slope_of([Sample(5, 1)] * 10) is None
