"""Accounts that send without end are named, with bounded memory whatever else comes."""

import itertools
import random
from collections import Counter

from pipelines.atproto.syntax import Did
from pipelines.bridge.busy import BUSY_COUNT, COUNTERS_COUNT, BusyAccounts

NOW_US = 1_790_000_000_000_000
MINUTE_US = 60_000_000


def did(number: int) -> Did:
    return Did(f"did:web:a{number}.example")


def test_who_sends_as_much_as_nobody_does_is_named_at_the_end_of_the_minute() -> None:
    busy = BusyAccounts()
    assert busy.advance(NOW_US) == {}
    for number, count in ((1, BUSY_COUNT), (2, BUSY_COUNT - 1), (3, 3 * BUSY_COUNT)):
        for _ in range(count):
            busy.count(did(number))
    assert busy.advance(NOW_US + MINUTE_US - 1) is None
    assert busy.advance(NOW_US + MINUTE_US) == {did(1): BUSY_COUNT, did(3): 3 * BUSY_COUNT}
    assert busy.advance(NOW_US + 2 * MINUTE_US) == {}


def test_a_crowd_of_made_up_accounts_hides_nobody_and_accuses_nobody() -> None:
    """Half of the events are of one account each."""
    busy = BusyAccounts()
    busy.advance(NOW_US)
    choose = random.Random(1)
    crowd = map(did, itertools.count(100))
    regular = [did(n) for n in range(10)]
    weights = [n + 1 for n in range(10)]
    sent: Counter[Did] = Counter()
    events_count = 20 * COUNTERS_COUNT
    for _ in range(events_count):
        one = choose.choices(regular, weights)[0] if choose.random() < 0.5 else next(crowd)
        sent[one] += 1
        busy.count(one)
        assert len(busy._counts) <= COUNTERS_COUNT
    found = busy.advance(NOW_US + MINUTE_US)
    assert found is not None
    error = events_count // COUNTERS_COUNT
    for one, count in found.items():
        assert sent[one] - error <= count <= sent[one]
    surely = {one for one, count in sent.items() if count >= BUSY_COUNT + error}
    assert surely
    assert surely <= found.keys() <= set(regular)
