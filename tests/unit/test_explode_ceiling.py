"""Refusals that stop a worker, and those that must not."""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import ConfigError, RefusalCeilingError
from pipelines.explode.ceiling import DEFAULT_LIMITS, Limits, RefusalWindow

LIMITS = Limits(accounts_count=4, servers_count=3, window_count=20)


def refuse(window: RefusalWindow, accounts: Iterable[int], servers_count: int | None) -> None:
    """Refuses a frame of each account, spread over servers; None if nobody knows those."""
    for account in accounts:
        server = None if servers_count is None else f"https://{account % servers_count}.example"
        window.refuse(f"did:plc:{account}", server)


def test_many_accounts_on_many_servers_stop_it_with_what_to_do() -> None:
    window = RefusalWindow(LIMITS)
    refuse(window, range(3), 3)
    with pytest.raises(RefusalCeilingError, match="4 accounts on 3 known servers") as caught:
        refuse(window, [3], 3)
    assert "--no-refusal-ceiling" in str(caught.value)
    assert isinstance(caught.value, ConfigError)  # exit code 2: nobody starts it again


def test_one_hostile_account_does_not() -> None:
    window = RefusalWindow(LIMITS)
    for server in range(5 * LIMITS.window_count):
        window.refuse("did:plc:evil", f"https://{server}.example")
    assert window.counts == {"frames": 20, "accounts": 1, "servers": 20}


def test_one_hostile_server_with_any_number_of_accounts_does_not() -> None:
    window = RefusalWindow(LIMITS)
    refuse(window, range(5 * LIMITS.window_count), 1)
    assert window.counts == {"frames": 20, "accounts": 20, "servers": 1}


def test_a_minority_does_not_however_many_they_are() -> None:
    window = RefusalWindow(LIMITS)
    for account in range(1_000):
        window.accept(f"did:plc:good-{account}")
        refuse(window, [account], 10)


def test_accounts_count_and_not_their_frames() -> None:
    """Who sends most frames is not the majority; nor do many good frames of one hide the rest."""
    window = RefusalWindow(LIMITS)
    for _ in range(10):
        window.accept("did:plc:busy")
    refuse(window, range(3), 3)
    with pytest.raises(RefusalCeilingError):
        refuse(window, [3], 3)


def test_where_nobody_knows_the_servers_a_whole_window_without_anything_good_does() -> None:
    window = RefusalWindow(LIMITS)
    refuse(window, range(LIMITS.window_count - 1), None)
    with pytest.raises(RefusalCeilingError):
        refuse(window, [LIMITS.window_count], None)


def test_where_nobody_knows_the_servers_one_good_frame_keeps_it_going() -> None:
    window = RefusalWindow(LIMITS)
    for account in range(1_000):
        if account % (LIMITS.window_count - 1) == 0:
            window.accept("did:plc:good")
        refuse(window, [account], None)


def test_what_is_long_ago_counts_no_more() -> None:
    window = RefusalWindow(LIMITS)
    refuse(window, range(3), 3)
    for _ in range(LIMITS.window_count):
        window.accept("did:plc:good")
    assert window.counts == {"frames": 0, "accounts": 0, "servers": 0}
    refuse(window, range(3, 6), 3)


def test_who_knows_better_goes_on_and_still_sees_the_counts() -> None:
    window = RefusalWindow(LIMITS, is_binding=False)
    refuse(window, range(100), 10)
    assert window.counts == {"frames": 20, "accounts": 20, "servers": 10}


FRAMES = st.tuples(st.integers(0, 9), st.none() | st.integers(0, 4), st.booleans())


@given(st.lists(FRAMES, max_size=80))
def test_the_counts_are_those_of_the_last_frames(
    frames: list[tuple[int, int | None, bool]],
) -> None:
    window = RefusalWindow(LIMITS, is_binding=False)
    for account, server, is_refused in frames:
        if is_refused:
            window.refuse(str(account), None if server is None else str(server))
        else:
            window.accept(str(account))
    refused = [frame for frame in frames[-LIMITS.window_count :] if frame[2]]
    assert window.counts == {
        "frames": len(refused),
        "accounts": len({account for account, _, _ in refused}),
        "servers": len({server for _, server, _ in refused} - {None}),
    }


def test_the_default_limits_are_what_the_metric_and_the_runbook_say() -> None:
    assert tuple(DEFAULT_LIMITS) == (50, 5, 500)
