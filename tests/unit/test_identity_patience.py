"""How long batches wait for look-ups."""

from pipelines.identity.patience import IMPATIENT_WAIT_S, Patience


def test_before_the_first_batch_nobody_is_hurried() -> None:
    assert Patience(3).left_s(1e9) == float("inf")


def test_a_batch_waits_for_all_its_look_ups_together() -> None:
    patience = Patience(3)
    patience.begin(100, 60)
    assert [patience.left_s(now_s) for now_s in (100, 102, 103, 104)] == [3, 1, 0, 0]
    patience.begin(104, 1)
    assert patience.left_s(104) == 1


def test_after_a_wait_in_vain_the_next_ones_are_short_until_somebody_answers_in_time() -> None:
    patience = Patience(3)
    patience.begin(0, 60)
    patience.was_in_vain()
    assert patience.left_s(0) == 3  # the batch under way keeps its time
    for _ in range(2):
        patience.begin(0, 60)
        assert patience.left_s(0) == IMPATIENT_WAIT_S
        patience.was_answered(3.1)
    patience.was_answered(2.9)
    patience.begin(0, 60)
    assert patience.left_s(0) == 3


def test_a_batch_that_may_not_wait_does_not() -> None:
    patience = Patience(3)
    patience.begin(0, 0)
    assert patience.left_s(0) == 0


def test_a_wait_that_was_cut_short_says_nothing_of_the_next_ones() -> None:
    patience = Patience(3)
    patience.begin(0, 1)
    patience.was_in_vain()
    patience.begin(1, 60)
    assert patience.left_s(1) == 3
