"""The bounds of a worker that fetches repositories."""

import math

import pytest

from pipelines.identity.pace import TokenBucket
from pipelines.resync.service import BUDGET_S, DEFAULT_HOST_BUDGET, Limits, Servers


@pytest.mark.parametrize("budget", [2, 3, 29, 31, 300, DEFAULT_HOST_BUDGET])
def test_no_stretch_of_five_minutes_passes_the_budget_of_a_host(budget: int) -> None:
    """Spec: I-07."""
    pace = Limits(host_budget=budget).pace
    bucket = TokenBucket(pace.per_s, pace.burst_count)
    sent_s: list[float] = []
    while len(sent_s) < 3 * budget:
        wait_s = bucket.reserve(0.0, math.inf)
        assert wait_s is not None
        sent_s.append(wait_s)
    for first, last in zip(sent_s, sent_s[budget:], strict=False):
        assert last - first > BUDGET_S - 1e-6
    # And it is nearly used: a burst is what may be missing.
    in_time = sum(at < BUDGET_S for at in sent_s)
    assert budget - pace.burst_count <= in_time <= budget


def test_only_the_base_that_the_operator_named_is_trusted() -> None:
    """Spec: M-20."""
    assert Servers().guard.trusted == frozenset()
    guard = Servers(base="http://127.0.0.1:2583/pds").guard
    assert guard.trusted == {"127.0.0.1:2583"}
    assert not guard.allow_loopback
