"""Histograms: whatever values there are, each is in its bucket and in the sum."""

from hypothesis import given
from hypothesis import strategies as st

from pipelines.kafka.distribution import BOUNDS, SUM, Distribution, cumulated


@given(group=st.sampled_from(sorted(BOUNDS)), values=st.lists(st.integers(-10, 10_000_000)))
def test_each_value_is_counted_where_it_belongs(group: str, values: list[int]) -> None:
    distribution = Distribution(group)
    for value in values:
        distribution.add(value)
    members = distribution.members()
    if not values:
        assert members == {}
        return
    bounds = BOUNDS[group]
    expected = [sum(value <= bound for value in values) for bound in bounds]
    assert cumulated(members, bounds) == [*expected, len(values)]
    assert members[SUM] == sum(max(0, value) for value in values)
    assert len(members) == len(bounds) + 2
