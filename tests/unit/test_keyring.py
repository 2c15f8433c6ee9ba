"""The key ring: what is looked up, how long it is used, and that one DID never harms another."""

import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from support.identities import (
    ALICE,
    BOB,
    CAROL,
    DAVE,
    NEW_KEY,
    OLD_KEY,
    SECOND_US,
    WEB,
    Clock,
    FakeResolver,
    FakeShelf,
)
from support.kafka import wait_until

from pipelines.atproto.errors import IdentityError, Reason
from pipelines.atproto.syntax import Did
from pipelines.errors import IdentityUnavailableError
from pipelines.identity import flapping, keyring, lifetimes, lookups, pace, waiting
from pipelines.identity.documents import Identity
from pipelines.identity.entries import (
    IdentityEntry,
    Origin,
    entry_of_document,
    entry_of_refusal,
    stale,
)
from pipelines.identity.keyring import KeyRing
from pipelines.identity.plc import KeyChange

LIFETIME_S = lifetimes.IDENTITY_LIFETIME_US / SECOND_US
UNCONFIRMED_S = lifetimes.UNCONFIRMED_LIFETIME_US / SECOND_US
NEGATIVE_S = lifetimes.NEGATIVE_LIFETIME_US / SECOND_US
NEW_DID_S = lifetimes.NEW_DID_US / SECOND_US
REFRESH_S = keyring.REFRESH_INTERVAL_US / SECOND_US


@pytest.fixture
def resolver() -> FakeResolver:
    return FakeResolver()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def shelf() -> FakeShelf:
    return FakeShelf()


@pytest.fixture
def ring(resolver: FakeResolver, shelf: FakeShelf, clock: Clock) -> Iterator[KeyRing]:
    ring = KeyRing(resolver, shelf, max_keys=1_000, clock_us=clock)
    yield ring
    ring.close()


def error_of(call: Callable[[], object]) -> IdentityError | IdentityUnavailableError:
    with pytest.raises((IdentityError, IdentityUnavailableError)) as refusal:
        call()
    assert isinstance(refusal.value, IdentityError | IdentityUnavailableError)
    return refusal.value


def is_unavailable(call: Callable[[], object]) -> bool:
    return isinstance(error_of(call), IdentityUnavailableError)


def entry(clock: Clock, *, age_s: float = 0) -> IdentityEntry:
    """What the topic says of Alice: her old key, as of some time ago."""
    asked_us = clock.now_us - int(age_s * SECOND_US)
    return entry_of_document(Identity(ALICE, OLD_KEY, None, None), "https://plc.example", asked_us)


class TestLookups:
    def test_a_key_is_fetched_once(self, ring: KeyRing, resolver: FakeResolver) -> None:
        resolver.keys[ALICE] = OLD_KEY
        assert [ring.current_key(ALICE) for _ in range(3)] == [OLD_KEY] * 3
        assert resolver.fetched == {ALICE: 1}

    def test_a_batch_is_looked_up_side_by_side(
        self, ring: KeyRing, resolver: FakeResolver
    ) -> None:
        resolver.keys = {ALICE: OLD_KEY, BOB: NEW_KEY}
        resolver.held |= {ALICE, BOB, CAROL}
        ring.prefetch([ALICE, BOB, CAROL, ALICE], 0.01)
        wait_until(lambda: resolver.running == 3, "all three of them")
        resolver.held.clear()
        ring.prefetch([ALICE, BOB, CAROL, ALICE])
        assert ring.current_key(ALICE) == OLD_KEY
        assert ring.current_key(BOB) == NEW_KEY
        assert error_of(lambda: ring.current_key(CAROL)).args[0] is Reason.IDENTITY_NOT_FOUND
        ring.prefetch([ALICE, BOB, CAROL])
        assert resolver.fetched == {ALICE: 1, BOB: 1, CAROL: 1}

    def test_dids_that_fail_do_not_affect_the_others(
        self, ring: KeyRing, resolver: FakeResolver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(waiting, "WAIT_S", {"plc": 0.2, "web": 0.2})
        ring = KeyRing(resolver)
        missing, stuck, away = BOB, CAROL, DAVE
        resolver.keys[ALICE] = OLD_KEY
        resolver.held.add(stuck)
        resolver.unavailable[away] = None
        ring.prefetch([missing, stuck, away, ALICE])
        assert ring.current_key(ALICE) == OLD_KEY
        assert isinstance(error_of(lambda: ring.current_key(missing)), IdentityError)
        assert is_unavailable(lambda: ring.current_key(away))
        assert is_unavailable(lambda: ring.current_key(stuck))
        assert set(resolver.fetched.values()) == {1}
        ring.close()
        assert resolver.running == 0

    def test_a_look_up_that_comes_too_late_for_its_batch_serves_the_next(
        self, ring: KeyRing, resolver: FakeResolver
    ) -> None:
        resolver.keys[ALICE] = OLD_KEY
        resolver.held.add(ALICE)
        ring.prefetch([ALICE], 0.01)
        assert is_unavailable(lambda: ring.current_key(ALICE))
        resolver.held.clear()
        ring.prefetch([ALICE])
        assert ring.current_key(ALICE) == OLD_KEY
        assert resolver.fetched[ALICE] == 1

    def test_what_takes_long_holds_up_one_batch_and_not_the_next_ones(
        self, resolver: FakeResolver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(waiting, "WAIT_S", {"plc": 0.5, "web": 0.5})
        waits: list[float] = []
        land = lookups.Lookups.land

        def note(self: lookups.Lookups, timeout_s: float = 0.0) -> lookups.Landed | None:
            waits.append(timeout_s)
            return land(self, timeout_s)

        monkeypatch.setattr(lookups.Lookups, "land", note)
        ring = KeyRing(resolver)
        resolver.keys = {ALICE: OLD_KEY, CAROL: OLD_KEY}
        resolver.held |= {ALICE, BOB}
        ring.prefetch([ALICE])
        assert max(waits) > 0.1
        waits.clear()
        ring.prefetch([BOB])
        assert 0 < max(waits) <= 0.05
        waits.clear()
        ring.prefetch([CAROL])  # answered in time: from now on it is worth waiting again
        ring.prefetch([DAVE, BOB])
        assert max(waits) > 0.1
        ring.close()

    def test_a_slow_did_web_host_does_not_make_batches_wait_for_the_directory_less(
        self, ring: KeyRing, resolver: FakeResolver
    ) -> None:
        resolver.keys[ALICE] = OLD_KEY
        resolver.held.add(WEB)
        ring.prefetch([WEB])
        ring.prefetch([WEB, ALICE])
        assert ring.current_key(ALICE) == OLD_KEY

    def test_more_look_ups_than_may_be_under_way_are_not_started(
        self, resolver: FakeResolver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(lookups, "MAX_LOOKUPS", {"plc": 2, "web": 2})
        ring = KeyRing(resolver)
        resolver.keys = {ALICE: OLD_KEY, BOB: OLD_KEY, CAROL: OLD_KEY}
        resolver.held |= {ALICE, BOB}
        ring.prefetch([ALICE, BOB, CAROL], 0.01)
        assert is_unavailable(lambda: ring.current_key(CAROL))
        assert resolver.fetched[CAROL] == 0
        resolver.held.clear()
        ring.prefetch([ALICE, BOB])
        ring.prefetch([CAROL])
        assert ring.current_key(CAROL) == OLD_KEY
        ring.close()

    def test_did_web_hosts_that_never_answer_leave_room_for_the_directory(
        self, resolver: FakeResolver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(lookups, "MAX_LOOKUPS", {"plc": 1, "web": 1})
        ring = KeyRing(resolver)
        other = Did("did:web:other.example.com")
        resolver.held |= {WEB, other}
        resolver.keys[ALICE] = OLD_KEY
        ring.prefetch([WEB, other, ALICE])
        assert ring.current_key(ALICE) == OLD_KEY
        assert resolver.fetched == {WEB: 1, ALICE: 1}
        ring.close()

    def test_a_bug_in_the_resolver_ends_the_worker(
        self, ring: KeyRing, resolver: FakeResolver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def fail(*_: object, **__: object) -> Identity:
            raise ZeroDivisionError

        monkeypatch.setattr(resolver, "resolve", fail)
        with pytest.raises(ZeroDivisionError):
            ring.prefetch([ALICE])

    def test_closing_closes_the_resolver_and_cuts_off_what_is_under_way(
        self, resolver: FakeResolver
    ) -> None:
        ring = KeyRing(resolver)
        resolver.held.add(ALICE)
        ring.prefetch([ALICE], 0.01)
        ring.close()
        assert resolver.is_closed
        assert resolver.running == 0
        ring.close()


class TestLifetimes:
    def test_an_identity_is_kept_for_its_lifetime(
        self, ring: KeyRing, resolver: FakeResolver, clock: Clock
    ) -> None:
        """Spec: E-12."""
        resolver.keys[ALICE] = OLD_KEY
        ring.current_key(ALICE)
        resolver.keys[ALICE] = NEW_KEY
        clock.turn(LIFETIME_S - 1)
        assert ring.current_key(ALICE) == OLD_KEY
        clock.turn(1)
        assert ring.current_key(ALICE) == NEW_KEY

    def test_an_old_key_stays_in_use_while_nobody_can_say_whether_it_holds(
        self, ring: KeyRing, resolver: FakeResolver, clock: Clock
    ) -> None:
        resolver.keys[ALICE] = OLD_KEY
        ring.current_key(ALICE)
        resolver.unavailable[ALICE] = None
        clock.turn(LIFETIME_S)
        ring.prefetch([ALICE])
        assert ring.current_key(ALICE) == OLD_KEY
        assert resolver.fetched[ALICE] == 2
        clock.turn(UNCONFIRMED_S)
        assert is_unavailable(lambda: ring.current_key(ALICE))

    def test_an_old_key_is_not_used_once_it_is_known_that_the_did_is_gone(
        self, ring: KeyRing, resolver: FakeResolver, clock: Clock
    ) -> None:
        """Spec: E-10."""
        resolver.keys[ALICE] = OLD_KEY
        ring.current_key(ALICE)
        del resolver.keys[ALICE]
        clock.turn(LIFETIME_S)
        for _ in range(2):
            assert isinstance(error_of(lambda: ring.current_key(ALICE)), IdentityError)
        assert resolver.fetched[ALICE] == 2

    def test_that_a_did_does_not_exist_is_kept_for_minutes(
        self, ring: KeyRing, resolver: FakeResolver, clock: Clock
    ) -> None:
        error_of(lambda: ring.current_key(ALICE))
        clock.turn(NEW_DID_S)
        error_of(lambda: ring.current_key(ALICE))
        resolver.keys[ALICE] = OLD_KEY
        clock.turn(NEGATIVE_S - 1)
        assert isinstance(error_of(lambda: ring.current_key(ALICE)), IdentityError)
        assert resolver.fetched[ALICE] == 2
        clock.turn(1)
        assert ring.current_key(ALICE) == OLD_KEY

    def test_a_did_that_was_made_just_now_is_asked_for_again_soon(
        self, ring: KeyRing, resolver: FakeResolver, clock: Clock
    ) -> None:
        received_us = clock.now_us
        error_of(lambda: ring.current_key(ALICE))
        assert ring.may_appear(ALICE, received_us)
        resolver.keys[ALICE] = OLD_KEY
        clock.turn(lifetimes.NEW_DID_LIFETIME_US / SECOND_US)
        assert ring.current_key(ALICE) == OLD_KEY
        assert not ring.may_appear(ALICE, received_us)

    def test_a_did_that_stays_missing_does_not_appear_any_more(
        self, ring: KeyRing, clock: Clock
    ) -> None:
        error_of(lambda: ring.current_key(ALICE))
        clock.turn(NEW_DID_S - 1)
        assert ring.may_appear(ALICE, clock.now_us)
        clock.turn(1)
        assert not ring.may_appear(ALICE, clock.now_us)

    def test_a_missing_did_of_a_frame_of_long_ago_does_not_appear_any_more(
        self, ring: KeyRing, clock: Clock
    ) -> None:
        error_of(lambda: ring.current_key(ALICE))
        assert not ring.may_appear(ALICE, clock.now_us - lifetimes.NEW_DID_US)

    def test_a_document_without_key_is_asked_for_again_after_minutes(
        self, ring: KeyRing, resolver: FakeResolver, clock: Clock
    ) -> None:
        """Spec: E-15."""
        resolver.keys[ALICE] = None
        assert error_of(lambda: ring.current_key(ALICE)).args[0] is Reason.IDENTITY_NO_KEY
        resolver.keys[ALICE] = OLD_KEY
        clock.turn(NEGATIVE_S - 1)
        assert error_of(lambda: ring.current_key(ALICE)).args[0] is Reason.IDENTITY_NO_KEY
        clock.turn(1)
        assert ring.current_key(ALICE) == OLD_KEY

    @pytest.mark.parametrize(
        ("retry_after_s", "lifetime_s"),
        [(None, 5.0), (0.0, 5.0), (30.0, 30.0), (1e9, pace.MAX_RETRY_AFTER_S)],
    )
    def test_a_host_that_is_away_is_asked_again_soon(
        self,
        ring: KeyRing,
        resolver: FakeResolver,
        clock: Clock,
        retry_after_s: float | None,
        lifetime_s: float,
    ) -> None:
        """Spec: E-18."""
        resolver.unavailable[ALICE] = retry_after_s
        error = error_of(lambda: ring.current_key(ALICE))
        assert isinstance(error, IdentityUnavailableError)
        assert error.retry_after_s == retry_after_s
        del resolver.unavailable[ALICE]
        resolver.keys[ALICE] = OLD_KEY
        clock.turn(lifetime_s - 0.5)
        assert is_unavailable(lambda: ring.current_key(ALICE))
        assert resolver.fetched[ALICE] == 1
        clock.turn(0.5)
        assert ring.current_key(ALICE) == OLD_KEY

    def test_a_cached_error_does_not_collect_tracebacks(
        self, ring: KeyRing, resolver: FakeResolver
    ) -> None:
        resolver.unavailable[BOB] = 7.0
        for did in (ALICE, BOB):
            depths = []
            for _ in range(4):
                error = error_of(lambda did=did: ring.current_key(did))  # type: ignore[misc]  # bound
                depths.append(len(traceback.extract_tb(error.__traceback__)))
            assert len(set(depths[1:])) == 1


class TestRefresh:
    def test_a_refresh_gives_the_changed_key_and_keeps_it(
        self, ring: KeyRing, resolver: FakeResolver, clock: Clock
    ) -> None:
        """Spec: E-14."""
        resolver.keys[ALICE] = OLD_KEY
        ring.current_key(ALICE)
        resolver.keys[ALICE] = NEW_KEY
        assert ring.refreshed_key(ALICE, clock.now_us) == NEW_KEY
        assert ring.current_key(ALICE) == NEW_KEY
        assert resolver.fetched[ALICE] == 2
        assert resolver.forced[ALICE] == 1

    def test_a_refresh_of_a_did_that_was_not_usable_gives_its_key(
        self, ring: KeyRing, resolver: FakeResolver, clock: Clock
    ) -> None:
        error_of(lambda: ring.current_key(ALICE))
        resolver.keys = {ALICE: OLD_KEY, BOB: NEW_KEY}
        assert ring.refreshed_key(ALICE, clock.now_us) == OLD_KEY
        assert ring.refreshed_key(BOB, None) == NEW_KEY  # never asked for before
        assert ring.current_key(ALICE) == OLD_KEY

    def test_one_refresh_serves_for_all_frames_received_before_it(
        self, ring: KeyRing, resolver: FakeResolver, clock: Clock
    ) -> None:
        """Spec: E-14, M-09."""
        resolver.keys = {ALICE: OLD_KEY}
        received_us = clock.now_us
        clock.turn(1)
        for age_us in range(5):
            assert ring.refreshed_key(ALICE, received_us - age_us) == OLD_KEY
        assert resolver.fetched[ALICE] == 1

    def test_a_frame_that_came_after_a_refresh_waits_for_the_next_and_is_not_refused(
        self, ring: KeyRing, resolver: FakeResolver, clock: Clock
    ) -> None:
        """Spec: E-14, M-09."""
        resolver.keys = {ALICE: OLD_KEY, BOB: OLD_KEY}
        ring.refreshed_key(ALICE, clock.now_us)
        resolver.keys = {ALICE: NEW_KEY, BOB: NEW_KEY}
        clock.turn(REFRESH_S - 10)
        received_us = clock.now_us
        error = error_of(lambda: ring.refreshed_key(ALICE, received_us))
        assert isinstance(error, IdentityUnavailableError)
        assert error.retry_after_s == 10
        assert is_unavailable(lambda: ring.refreshed_key(ALICE, None))
        assert resolver.fetched[ALICE] == 1
        assert ring.refreshed_key(BOB, received_us) == NEW_KEY
        clock.turn(10)
        assert ring.refreshed_key(ALICE, received_us) == NEW_KEY

    def test_an_announcement_does_not_lift_the_limit_on_refreshes(
        self, ring: KeyRing, resolver: FakeResolver, clock: Clock
    ) -> None:
        resolver.keys[ALICE] = OLD_KEY
        ring.refreshed_key(ALICE, clock.now_us)
        clock.turn(1)
        ring.forget(ALICE, clock.now_us)
        ring.current_key(ALICE)
        assert is_unavailable(lambda: ring.refreshed_key(ALICE, clock.now_us))
        assert resolver.fetched[ALICE] == 2

    def test_refreshes_of_all_accounts_of_the_directory_are_limited_together(
        self, ring: KeyRing, resolver: FakeResolver, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Spec: M-09. A did:web host has a pace of its own."""
        monkeypatch.setattr(ring._refreshes, "reserve", lambda *_: None)
        resolver.keys = {ALICE: OLD_KEY, WEB: OLD_KEY}
        assert is_unavailable(lambda: ring.refreshed_key(ALICE, clock.now_us))
        assert ring.refreshed_key(WEB, clock.now_us) == OLD_KEY
        assert resolver.fetched == {WEB: 1}

    def test_a_refresh_without_an_answer_changes_and_counts_nothing(
        self, ring: KeyRing, resolver: FakeResolver, clock: Clock
    ) -> None:
        """Spec: E-18: a host that is away must not turn a commit into a refused one."""
        resolver.keys[ALICE] = OLD_KEY
        ring.current_key(ALICE)
        resolver.unavailable[ALICE] = None
        for _ in range(2):
            assert is_unavailable(lambda: ring.refreshed_key(ALICE, clock.now_us))
        assert ring.current_key(ALICE) == OLD_KEY
        assert resolver.forced[ALICE] == 1
        del resolver.unavailable[ALICE]
        resolver.keys[ALICE] = NEW_KEY
        clock.turn(5)
        assert ring.refreshed_key(ALICE, clock.now_us) == NEW_KEY

    def test_a_refresh_that_takes_too_long_goes_on_and_serves_later(
        self, ring: KeyRing, resolver: FakeResolver, clock: Clock
    ) -> None:
        resolver.keys[ALICE] = OLD_KEY
        resolver.held.add(ALICE)
        received_us = clock.now_us
        ring.prefetch([], 0.01)
        assert is_unavailable(lambda: ring.refreshed_key(ALICE, received_us))
        resolver.held.clear()
        ring.prefetch([])
        assert ring.refreshed_key(ALICE, received_us) == OLD_KEY
        assert resolver.fetched[ALICE] == 1

    def test_a_refresh_may_find_that_the_did_is_gone(
        self, ring: KeyRing, resolver: FakeResolver, clock: Clock
    ) -> None:
        """Spec: E-10."""
        resolver.keys[ALICE] = OLD_KEY
        ring.current_key(ALICE)
        del resolver.keys[ALICE]
        refresh = error_of(lambda: ring.refreshed_key(ALICE, clock.now_us))
        assert isinstance(refresh, IdentityError)
        assert isinstance(error_of(lambda: ring.current_key(ALICE)), IdentityError)
        assert resolver.fetched[ALICE] == 2


class TestAnnouncements:
    def test_an_announced_change_is_looked_up_at_the_next_use(
        self, ring: KeyRing, resolver: FakeResolver, clock: Clock
    ) -> None:
        """Spec: E-13."""
        resolver.keys[ALICE] = OLD_KEY
        ring.current_key(ALICE)
        ring.key_at(ALICE, 0)
        resolver.keys[ALICE] = NEW_KEY
        clock.turn(1)
        ring.forget(ALICE, clock.now_us)
        ring.forget(BOB, clock.now_us)
        assert resolver.fetched == {ALICE: 1}
        assert ring.current_key(ALICE) == NEW_KEY
        ring.key_at(ALICE, 0)
        assert resolver.logs_fetched[ALICE] == 2

    def test_an_announced_change_is_not_made_up_for_by_the_old_key(
        self, ring: KeyRing, resolver: FakeResolver, clock: Clock
    ) -> None:
        resolver.keys[ALICE] = OLD_KEY
        ring.current_key(ALICE)
        clock.turn(1)
        ring.forget(ALICE, clock.now_us)
        resolver.unavailable[ALICE] = None
        assert is_unavailable(lambda: ring.current_key(ALICE))

    def test_what_was_asked_for_after_an_announcement_stays(
        self, ring: KeyRing, resolver: FakeResolver, shelf: FakeShelf, clock: Clock
    ) -> None:
        """A batch is looked up before its announcements are read, and a worker may lag."""
        resolver.keys[ALICE] = OLD_KEY
        ring.current_key(ALICE)
        ring.forget(ALICE, clock.now_us)
        ring.current_key(ALICE)
        assert resolver.fetched[ALICE] == 1
        assert len(shelf.kept) == 1
        ring.forget(ALICE, clock.now_us + 1)
        ring.current_key(ALICE)
        assert resolver.fetched[ALICE] == 2

    def test_a_look_up_that_was_under_way_at_an_announcement_is_made_again(
        self, ring: KeyRing, resolver: FakeResolver, clock: Clock
    ) -> None:
        resolver.keys[ALICE] = OLD_KEY
        resolver.held.add(ALICE)
        ring.prefetch([ALICE], 0.01)
        wait_until(lambda: resolver.fetched[ALICE] == 1, "the first request")
        clock.turn(1)
        ring.forget(ALICE, clock.now_us)
        resolver.keys[ALICE] = NEW_KEY
        resolver.held.clear()
        ring.prefetch([ALICE])
        assert ring.current_key(ALICE) == NEW_KEY
        assert resolver.fetched[ALICE] == 2

    def test_an_announcement_ends_that_a_did_is_missing(
        self, ring: KeyRing, resolver: FakeResolver, clock: Clock
    ) -> None:
        error_of(lambda: ring.current_key(ALICE))
        resolver.keys[ALICE] = OLD_KEY
        ring.forget(ALICE, clock.now_us)
        assert ring.current_key(ALICE) == OLD_KEY

    def test_one_that_never_ends_announcing_is_looked_up_now_and_then(
        self, ring: KeyRing, resolver: FakeResolver, clock: Clock
    ) -> None:
        """Spec: M-09. It waits for its own look-up, with the newest key, and nobody else does."""
        resolver.keys = {ALICE: OLD_KEY, BOB: OLD_KEY}
        waits_s = []
        begun_us, seconds = clock.now_us, 1_200
        for _ in range(seconds):
            clock.turn(1)
            ring.forget(ALICE, clock.now_us)
            try:
                ring.current_key(ALICE)
            except IdentityUnavailableError as error:
                waits_s.append(error.retry_after_s or 0)
            ring.forget(BOB, begun_us)
            assert ring.current_key(BOB) == OLD_KEY
        interval_s = flapping.INTERVAL_US / SECOND_US
        looked_up_count = resolver.fetched[ALICE]
        assert looked_up_count == flapping.BURST_COUNT + seconds // interval_s - 1
        assert looked_up_count + len(waits_s) == seconds
        assert 0 < min(waits_s) <= max(waits_s) <= interval_s
        assert ring.groups["lookups"]["put_off"] == len(waits_s)
        assert resolver.fetched[BOB] == 1
        resolver.keys[ALICE] = NEW_KEY
        clock.turn(interval_s)
        assert ring.current_key(ALICE) == NEW_KEY

    def test_a_look_up_that_became_outdated_waits_as_well(
        self, ring: KeyRing, resolver: FakeResolver, clock: Clock
    ) -> None:
        resolver.keys[ALICE] = OLD_KEY
        for _ in range(flapping.BURST_COUNT - 1):
            ring.current_key(ALICE)
            clock.turn(0.001)
            ring.forget(ALICE, clock.now_us)
        resolver.held.add(ALICE)
        ring.prefetch([ALICE], 0.01)
        wait_until(lambda: resolver.fetched[ALICE] == flapping.BURST_COUNT, "the last request")
        clock.turn(0.001)
        ring.forget(ALICE, clock.now_us)
        resolver.keys[ALICE] = NEW_KEY
        resolver.held.clear()
        wait_until(lambda: ring.outlook(ALICE) > keyring.RECHECK_S, "the answer that is too old")
        assert is_unavailable(lambda: ring.current_key(ALICE))
        clock.turn(flapping.INTERVAL_US / SECOND_US)
        ring.prefetch([ALICE])
        assert ring.current_key(ALICE) == NEW_KEY
        assert resolver.fetched[ALICE] == flapping.BURST_COUNT + 1


class TestHistory:
    def test_the_key_at_a_time_comes_from_the_history(
        self, ring: KeyRing, resolver: FakeResolver, clock: Clock
    ) -> None:
        resolver.logs[ALICE] = (KeyChange(100, OLD_KEY), KeyChange(200, NEW_KEY))
        found = [ring.key_at(ALICE, time_us) for time_us in (99, 199, 200)]
        assert found == [OLD_KEY, OLD_KEY, NEW_KEY]
        assert resolver.logs_fetched[ALICE] == 1
        clock.turn(lifetimes.HISTORY_LIFETIME_US / SECOND_US)
        ring.key_at(ALICE, 100)
        assert resolver.logs_fetched[ALICE] == 2

    def test_long_histories_are_remembered_as_far_as_they_fit(
        self, ring: KeyRing, resolver: FakeResolver
    ) -> None:
        long = tuple(KeyChange(n, OLD_KEY) for n in range(keyring.MAX_HISTORY_CHANGES // 2))
        resolver.logs = {ALICE: long, BOB: long, CAROL: (KeyChange(1, NEW_KEY),)}
        for did in (ALICE, BOB, CAROL, BOB, ALICE):
            ring.key_at(did, 0)
        assert resolver.logs_fetched == {ALICE: 2, BOB: 1, CAROL: 1}

    def test_without_history_there_is_no_key_at_a_time(
        self, ring: KeyRing, resolver: FakeResolver
    ) -> None:
        assert [ring.key_at(ALICE, 0) for _ in range(2)] == [None, None]
        assert resolver.logs_fetched[ALICE] == 1

    def test_a_history_that_cannot_be_had_raises_its_error(
        self, ring: KeyRing, resolver: FakeResolver
    ) -> None:
        resolver.logs[ALICE] = IdentityError(Reason.IDENTITY_LOG, "malformed", did=ALICE)
        resolver.unavailable[BOB] = None
        assert isinstance(error_of(lambda: ring.key_at(ALICE, 0)), IdentityError)
        assert is_unavailable(lambda: ring.key_at(BOB, 0))

    def test_a_history_that_takes_too_long_serves_later(
        self, ring: KeyRing, resolver: FakeResolver
    ) -> None:
        resolver.logs[ALICE] = (KeyChange(100, OLD_KEY),)
        resolver.held.add(ALICE)
        ring.prefetch([], 0.01)
        assert is_unavailable(lambda: ring.key_at(ALICE, 100))
        resolver.held.clear()
        ring.prefetch([])
        assert ring.key_at(ALICE, 100) == OLD_KEY
        assert resolver.logs_fetched[ALICE] == 1

    def test_a_change_of_the_key_makes_its_history_old(
        self, ring: KeyRing, resolver: FakeResolver, clock: Clock
    ) -> None:
        resolver.keys[ALICE] = OLD_KEY
        resolver.logs[ALICE] = (KeyChange(100, OLD_KEY),)
        ring.current_key(ALICE)
        ring.key_at(ALICE, 300)
        resolver.keys[ALICE] = NEW_KEY
        resolver.logs[ALICE] = (KeyChange(100, OLD_KEY), KeyChange(200, NEW_KEY))
        ring.refreshed_key(ALICE, clock.now_us)
        assert ring.key_at(ALICE, 300) == NEW_KEY


class TestShelf:
    def test_what_the_topic_knows_is_not_looked_up(
        self, ring: KeyRing, resolver: FakeResolver, shelf: FakeShelf, clock: Clock
    ) -> None:
        shelf.entries[ALICE] = entry(clock, age_s=LIFETIME_S - 1)
        ring.prefetch([ALICE])
        assert ring.current_key(ALICE) == OLD_KEY
        assert resolver.fetched == {}
        assert shelf.kept == []

    @pytest.mark.parametrize("is_announced", [True, False])
    def test_what_is_stale_or_too_old_is_looked_up_and_kept(
        self,
        ring: KeyRing,
        resolver: FakeResolver,
        shelf: FakeShelf,
        clock: Clock,
        *,
        is_announced: bool,
    ) -> None:
        shelf.entries[ALICE] = stale(entry(clock)) if is_announced else entry(clock, age_s=1e7)
        resolver.keys[ALICE] = NEW_KEY
        ring.prefetch([ALICE])
        assert ring.current_key(ALICE) == NEW_KEY
        [kept] = shelf.kept
        assert kept.signing_key == NEW_KEY
        assert kept.as_of_us == kept.fetched_us == clock.now_us
        assert kept.source == "https://directory.example/plc"
        assert kept.origin is Origin.DOCUMENT

    def test_an_announcement_makes_what_the_topic_knows_stale_once(
        self, ring: KeyRing, shelf: FakeShelf, clock: Clock
    ) -> None:
        """Spec: E-13."""
        known = shelf.entries[ALICE] = entry(clock, age_s=1)
        for _ in range(2):
            ring.forget(ALICE, clock.now_us)
        assert shelf.kept == [stale(known)]

    def test_a_did_that_is_gone_takes_its_key_out_of_use_for_everybody(
        self, ring: KeyRing, shelf: FakeShelf, clock: Clock
    ) -> None:
        shelf.entries[ALICE] = stale(entry(clock))
        assert isinstance(error_of(lambda: ring.current_key(ALICE)), IdentityError)
        [kept] = shelf.kept
        assert (kept.signing_key, kept.reason) == (None, Reason.IDENTITY_NOT_FOUND)

    def test_that_an_unknown_did_does_not_exist_is_not_written_down(
        self, ring: KeyRing, shelf: FakeShelf
    ) -> None:
        """An outsider could fill the topic with made-up accounts otherwise."""
        assert isinstance(error_of(lambda: ring.current_key(ALICE)), IdentityError)
        assert shelf.kept == []

    def test_that_a_did_has_no_identity_is_believed_for_minutes(
        self, ring: KeyRing, resolver: FakeResolver, shelf: FakeShelf, clock: Clock
    ) -> None:
        gone = IdentityError(Reason.IDENTITY_NOT_FOUND, "gone", did=ALICE)
        shelf.entries[ALICE] = entry_of_refusal(gone, ALICE, "https://plc.example", clock.now_us)
        resolver.keys[ALICE] = OLD_KEY
        assert isinstance(error_of(lambda: ring.current_key(ALICE)), IdentityError)
        clock.turn(NEGATIVE_S)
        assert ring.current_key(ALICE) == OLD_KEY

    def test_what_others_write_counts_if_it_is_newer_and_the_did_is_in_use(
        self, ring: KeyRing, resolver: FakeResolver, shelf: FakeShelf, clock: Clock
    ) -> None:
        resolver.keys[ALICE] = OLD_KEY
        ring.current_key(ALICE)
        older = replace(entry(clock, age_s=1), signing_key=NEW_KEY)
        ring.hear(older)
        assert ring.current_key(ALICE) == OLD_KEY
        clock.turn(1)
        ring.hear(replace(entry(clock), signing_key=NEW_KEY, origin=Origin.OPERATION))
        assert ring.current_key(ALICE) == NEW_KEY
        assert resolver.fetched[ALICE] == 1
        ring.hear(replace(entry(clock), did=BOB))
        assert ring.groups["keys"] == {"memory": 1}
        clock.turn(1)
        shelf.entries[ALICE] = stale(entry(clock))
        ring.hear(shelf.entries[ALICE])
        resolver.keys[ALICE] = OLD_KEY
        assert ring.current_key(ALICE) == OLD_KEY
        assert resolver.fetched[ALICE] == 2


class TestOutlook:
    def test_a_key_that_is_known_can_be_used_now(
        self, ring: KeyRing, resolver: FakeResolver
    ) -> None:
        resolver.keys[ALICE] = OLD_KEY
        ring.current_key(ALICE)
        error_of(lambda: ring.current_key(BOB))
        assert ring.outlook(ALICE) == ring.outlook(BOB) == 0

    def test_what_is_not_known_is_looked_up_without_waiting(
        self, ring: KeyRing, resolver: FakeResolver
    ) -> None:
        resolver.keys[ALICE] = OLD_KEY
        assert ring.outlook(ALICE) == keyring.RECHECK_S
        wait_until(lambda: ring.outlook(ALICE) == 0, "the answer")
        assert resolver.fetched[ALICE] == 1

    def test_what_nobody_can_say_now_is_asked_again_when_that_makes_sense(
        self, ring: KeyRing, resolver: FakeResolver, clock: Clock
    ) -> None:
        resolver.unavailable = {WEB: 40.0}
        error_of(lambda: ring.current_key(WEB))
        clock.turn(10)
        assert ring.outlook(WEB) == 30.0
        clock.turn(30)
        assert ring.outlook(WEB) == keyring.RECHECK_S
        wait_until(lambda: ring.outlook(WEB) != keyring.RECHECK_S, "the answer")
        assert resolver.fetched[WEB] == 2

    def test_while_the_directory_is_left_alone_no_other_account_is_asked_for(
        self, ring: KeyRing, resolver: FakeResolver, clock: Clock
    ) -> None:
        resolver.unavailable = {ALICE: 40.0}
        error_of(lambda: ring.current_key(ALICE))
        assert ring.outlook(BOB) == 40.0
        assert resolver.fetched[BOB] == 0
        clock.turn(40)
        assert ring.outlook(BOB) == keyring.RECHECK_S
        wait_until(lambda: resolver.fetched[BOB] == 1, "the request")


def test_what_the_ring_did_is_counted(
    ring: KeyRing, resolver: FakeResolver, shelf: FakeShelf, clock: Clock
) -> None:
    shelf.entries[ALICE] = entry(clock)
    resolver.keys[BOB] = OLD_KEY
    resolver.unavailable[DAVE] = None
    ring.prefetch([ALICE, BOB, CAROL, DAVE])
    clock.turn(1)
    ring.refreshed_key(BOB, clock.now_us)
    ring.key_at(BOB, 0)
    assert ring.groups == {
        "lookups": {
            "shelf": 1,
            "document": 3,
            "fresh_document": 1,
            "history": 1,
            "unavailable": 1,
        },
        "keys": {"memory": 2},
    }


class TestServer:
    """Whose server may speak for an account, where servers are read directly. spec: J-10"""

    HOST = "pds.example"

    def test_a_document_that_names_it_is_enough(
        self, ring: KeyRing, resolver: FakeResolver, clock: Clock
    ) -> None:
        resolver.keys = {ALICE: OLD_KEY}
        resolver.servers = {ALICE: "https://PDS.example"}
        assert ring.is_served_by(ALICE, self.HOST, clock.now_us)
        clock.turn(1)
        assert ring.is_served_by(ALICE, self.HOST, clock.now_us)
        assert resolver.fetched[ALICE] == 1

    def test_one_that_names_another_is_fetched_anew_once(
        self, ring: KeyRing, resolver: FakeResolver, clock: Clock
    ) -> None:
        resolver.keys = {ALICE: OLD_KEY}
        resolver.servers = {ALICE: "https://old.example"}
        ring.current_key(ALICE)
        clock.turn(REFRESH_S + 1)
        resolver.servers = {ALICE: "https://pds.example"}
        assert ring.is_served_by(ALICE, self.HOST, clock.now_us)
        assert (resolver.fetched[ALICE], resolver.forced[ALICE]) == (2, 1)

    def test_who_speaks_for_others_without_end_causes_a_look_up_a_minute_and_no_wait(
        self, ring: KeyRing, resolver: FakeResolver, clock: Clock
    ) -> None:
        resolver.keys = {ALICE: OLD_KEY}
        resolver.servers = {ALICE: "https://other.example"}
        for _ in range(3 * int(REFRESH_S)):
            clock.turn(1)
            assert not ring.is_served_by(ALICE, self.HOST, clock.now_us)
        assert 2 <= resolver.fetched[ALICE] <= 4

    @pytest.mark.parametrize(
        "pds", [None, "https://pds.example:99999", "https://[:::]", "https://pds.example:444"]
    )
    def test_no_server_or_none_that_could_be_is_not_it(
        self, ring: KeyRing, resolver: FakeResolver, clock: Clock, pds: str | None
    ) -> None:
        resolver.keys = {ALICE: OLD_KEY}
        if pds is not None:
            resolver.servers = {ALICE: pds}
        assert not ring.is_served_by(ALICE, self.HOST, clock.now_us)

    def test_an_account_without_a_key_still_has_its_server(
        self, ring: KeyRing, resolver: FakeResolver, clock: Clock
    ) -> None:
        resolver.keys = {ALICE: None}
        resolver.servers = {ALICE: "https://pds.example"}
        assert ring.is_served_by(ALICE, self.HOST, clock.now_us)

    def test_nobody_is_refused_while_nobody_can_tell(
        self, ring: KeyRing, resolver: FakeResolver, clock: Clock
    ) -> None:
        resolver.unavailable[ALICE] = None
        assert is_unavailable(lambda: ring.is_served_by(ALICE, self.HOST, clock.now_us))
        resolver.unavailable.clear()
        resolver.keys, resolver.servers = {ALICE: OLD_KEY}, {ALICE: "https://pds.example"}
        clock.turn(60)
        assert ring.is_served_by(ALICE, self.HOST, clock.now_us)
