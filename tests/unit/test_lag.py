"""How lags of partitions add up, and how a sample stands for what was not read."""

from pipelines.kafka.lag import Lag, Sample, lag_of

NOW_MS = 1_790_000_000_000


def test_nothing_to_do_is_no_lag() -> None:
    assert lag_of([], NOW_MS) == Lag(0, is_exact=True, seconds=0)
    assert lag_of([Sample([], None, None), Sample([], None, None)], NOW_MS) == Lag(
        0, is_exact=True, seconds=0
    )


def test_messages_add_up_and_the_oldest_one_counts() -> None:
    samples = [
        Sample([5, 6, 9], NOW_MS - 1_500, None),
        Sample([], None, None),
        Sample([0], NOW_MS - 4_000, None),
    ]
    assert lag_of(samples, NOW_MS) == Lag(4, is_exact=True, seconds=4.0)


def test_beyond_the_sample_messages_are_as_dense_as_in_it() -> None:
    # Every fifth offset is a marker.
    offsets = [offset for offset in range(100, 200) if offset % 5 != 4]
    lag = lag_of([Sample(offsets, NOW_MS, end=1_199)], NOW_MS)
    assert not lag.is_exact
    assert abs(lag.messages_count - (80 + 800)) <= 10


def test_a_sample_that_happens_to_reach_the_end_is_exact() -> None:
    assert lag_of([Sample([7, 8], NOW_MS, end=9)], NOW_MS) == Lag(2, is_exact=True, seconds=0)


def test_one_estimate_makes_the_sum_an_estimate() -> None:
    samples = [Sample([7, 8], NOW_MS, end=20), Sample([1], NOW_MS, None)]
    assert lag_of(samples, NOW_MS) == Lag(14, is_exact=False, seconds=0)


def test_a_message_from_the_future_is_no_negative_lag() -> None:
    assert lag_of([Sample([1], NOW_MS + 5_000, None)], NOW_MS).seconds == 0
