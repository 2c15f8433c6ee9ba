"""The key ring: what is fetched, how long it is kept, and that one DID never harms another."""

import asyncio
import traceback
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from pipelines.atproto.errors import IdentityError, Reason
from pipelines.atproto.keys import VerifyingKey, parse_multikey
from pipelines.atproto.syntax import Did
from pipelines.errors import IdentityUnavailableError
from pipelines.identity import keyring
from pipelines.identity.documents import Identity
from pipelines.identity.plc import KeyChange, KeyHistory

_ALICE, _BOB, _CAROL = (
    Did("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"),
    Did("did:plc:bbbbbbbbbbbbbbbbbbbbbbbb"),
    Did("did:plc:cccccccccccccccccccccccc"),
)
_OLD = parse_multikey("zQ3shqwJEJyMBsBXCWyCBpUBMqxcon9oHB7mCvx4sSpMdLJwc")
_NEW = parse_multikey("zDnaembgSGUhZULN2Caob4HLJPaxBh92N7rtH21TErzqf8HQo")
# Far longer than any test may take: a coroutine that waits for it is as good as stuck.
_STUCK_S = 60.0


class FakeResolver:
    """Answers from tables; a DID that is missing there does not exist."""

    def __init__(self) -> None:
        self.keys: dict[Did, VerifyingKey | None] = {}
        self.unavailable: dict[Did, float | None] = {}
        self.stuck: set[Did] = set()
        self.logs: dict[Did, KeyHistory | IdentityError] = {}
        self.fetched: Counter[Did] = Counter()
        self.logs_fetched: Counter[Did] = Counter()
        self.running = 0
        self.most_running = 0
        self.is_closed = False

    async def resolve(self, did: Did) -> Identity:
        self.fetched[did] += 1
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            await asyncio.sleep(_STUCK_S if did in self.stuck else 0)
        finally:
            self.running -= 1
        self._check_available(did)
        if did not in self.keys:
            raise IdentityError(Reason.IDENTITY_NOT_FOUND, "no such DID", did=did)
        return Identity(did, self.keys[did], None, None)

    async def audit_log(self, did: Did) -> KeyHistory | None:
        self.logs_fetched[did] += 1
        self._check_available(did)
        log = self.logs.get(did)
        if isinstance(log, IdentityError):
            raise log
        return log

    async def close(self) -> None:
        self.is_closed = True

    def _check_available(self, did: Did) -> None:
        if did in self.unavailable:
            raise IdentityUnavailableError("away", retry_after_s=self.unavailable[did])


class FakeClock:
    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def resolver() -> FakeResolver:
    return FakeResolver()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def ring(resolver: FakeResolver, clock: FakeClock) -> Iterator[keyring.KeyRing]:
    ring = keyring.KeyRing(resolver, clock)
    yield ring
    ring.close()


def _error(call: Callable[[], object]) -> IdentityError | IdentityUnavailableError:
    with pytest.raises((IdentityError, IdentityUnavailableError)) as refusal:
        call()
    assert isinstance(refusal.value, IdentityError | IdentityUnavailableError)
    return refusal.value


def test_a_key_is_fetched_once(ring: keyring.KeyRing, resolver: FakeResolver) -> None:
    resolver.keys[_ALICE] = _OLD
    assert [ring.current_key(_ALICE) for _ in range(3)] == [_OLD] * 3
    assert resolver.fetched == {_ALICE: 1}


def test_a_batch_is_looked_up_side_by_side(ring: keyring.KeyRing, resolver: FakeResolver) -> None:
    resolver.keys = {_ALICE: _OLD, _BOB: _NEW}
    ring.prefetch([_ALICE, _BOB, _CAROL, _ALICE])
    assert resolver.most_running == 3
    assert ring.current_key(_ALICE) == _OLD
    assert ring.current_key(_BOB) == _NEW
    assert _error(lambda: ring.current_key(_CAROL)).args[0] is Reason.IDENTITY_NOT_FOUND
    ring.prefetch([_ALICE, _BOB, _CAROL])
    assert resolver.fetched == {_ALICE: 1, _BOB: 1, _CAROL: 1}


def test_dids_that_fail_do_not_affect_the_others(
    ring: keyring.KeyRing, resolver: FakeResolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyring, "PREFETCH_BUDGET_S", 0.2)
    missing, stuck, away = _BOB, _CAROL, Did("did:plc:dddddddddddddddddddddddd")
    resolver.keys[_ALICE] = _OLD
    resolver.stuck.add(stuck)
    resolver.unavailable[away] = None
    ring.prefetch([missing, stuck, away, _ALICE])
    assert ring.current_key(_ALICE) == _OLD
    assert isinstance(_error(lambda: ring.current_key(missing)), IdentityError)
    assert isinstance(_error(lambda: ring.current_key(away)), IdentityUnavailableError)
    assert isinstance(_error(lambda: ring.current_key(stuck)), IdentityUnavailableError)
    assert set(resolver.fetched.values()) == {1}
    assert resolver.running == 0


def test_an_identity_is_kept_for_its_lifetime(
    ring: keyring.KeyRing, resolver: FakeResolver, clock: FakeClock
) -> None:
    """Spec: E-12."""
    resolver.keys[_ALICE] = _OLD
    ring.current_key(_ALICE)
    resolver.keys[_ALICE] = _NEW
    clock.now_s += keyring.IDENTITY_LIFETIME_S - 1
    assert ring.current_key(_ALICE) == _OLD
    clock.now_s += 1
    assert ring.current_key(_ALICE) == _NEW


def test_that_a_did_does_not_exist_is_kept_for_minutes(
    ring: keyring.KeyRing, resolver: FakeResolver, clock: FakeClock
) -> None:
    _error(lambda: ring.current_key(_ALICE))
    resolver.keys[_ALICE] = _OLD
    clock.now_s += keyring.NEGATIVE_LIFETIME_S - 1
    assert isinstance(_error(lambda: ring.current_key(_ALICE)), IdentityError)
    assert resolver.fetched[_ALICE] == 1
    clock.now_s += 1
    assert ring.current_key(_ALICE) == _OLD


def test_a_document_without_key_is_asked_for_again_after_minutes(
    ring: keyring.KeyRing, resolver: FakeResolver, clock: FakeClock
) -> None:
    """Spec: E-15."""
    resolver.keys[_ALICE] = None
    assert _error(lambda: ring.current_key(_ALICE)).args[0] is Reason.IDENTITY_NO_KEY
    resolver.keys[_ALICE] = _OLD
    clock.now_s += keyring.NEGATIVE_LIFETIME_S
    assert ring.current_key(_ALICE) == _OLD


@pytest.mark.parametrize(
    ("retry_after_s", "lifetime_s"),
    [
        (None, keyring.UNAVAILABLE_LIFETIME_S),
        (0.0, keyring.UNAVAILABLE_LIFETIME_S),
        (30.0, 30.0),
        (1e9, keyring.MAX_RETRY_AFTER_S),
    ],
)
def test_a_host_that_is_away_is_asked_again_soon(
    ring: keyring.KeyRing,
    resolver: FakeResolver,
    clock: FakeClock,
    retry_after_s: float | None,
    lifetime_s: float,
) -> None:
    """Spec: E-18."""
    resolver.unavailable[_ALICE] = retry_after_s
    error = _error(lambda: ring.current_key(_ALICE))
    assert isinstance(error, IdentityUnavailableError)
    assert error.retry_after_s == retry_after_s
    del resolver.unavailable[_ALICE]
    resolver.keys[_ALICE] = _OLD
    clock.now_s += lifetime_s - 0.5
    _error(lambda: ring.current_key(_ALICE))
    assert resolver.fetched[_ALICE] == 1
    clock.now_s += 0.5
    assert ring.current_key(_ALICE) == _OLD


def test_a_refresh_gives_the_changed_key_and_keeps_it(
    ring: keyring.KeyRing, resolver: FakeResolver
) -> None:
    """Spec: E-14."""
    resolver.keys[_ALICE] = _OLD
    ring.current_key(_ALICE)
    resolver.keys[_ALICE] = _NEW
    assert ring.refreshed_key(_ALICE) == _NEW
    assert ring.current_key(_ALICE) == _NEW
    assert resolver.fetched[_ALICE] == 2


def test_a_refresh_of_a_did_that_was_not_usable_gives_its_key(
    ring: keyring.KeyRing, resolver: FakeResolver
) -> None:
    _error(lambda: ring.current_key(_ALICE))
    resolver.keys = {_ALICE: _OLD, _BOB: _NEW}
    assert ring.refreshed_key(_ALICE) == _OLD
    assert ring.refreshed_key(_BOB) == _NEW  # never asked for before
    assert ring.current_key(_ALICE) == _OLD


def test_a_refresh_that_changes_nothing_gives_none(
    ring: keyring.KeyRing, resolver: FakeResolver
) -> None:
    resolver.keys[_ALICE] = _OLD
    ring.current_key(_ALICE)
    assert ring.refreshed_key(_ALICE) is None
    assert resolver.fetched[_ALICE] == 2


def test_refreshes_of_one_did_are_limited_in_rate(
    ring: keyring.KeyRing, resolver: FakeResolver, clock: FakeClock
) -> None:
    """Spec: E-14, M-09."""
    resolver.keys = {_ALICE: _OLD, _BOB: _OLD}
    ring.prefetch([_ALICE, _BOB])
    ring.refreshed_key(_ALICE)
    resolver.keys = {_ALICE: _NEW, _BOB: _NEW}
    clock.now_s += keyring.REFRESH_INTERVAL_S - 1
    assert ring.refreshed_key(_ALICE) is None
    assert resolver.fetched[_ALICE] == 2
    assert ring.refreshed_key(_BOB) == _NEW
    clock.now_s += 1
    assert ring.refreshed_key(_ALICE) == _NEW


def test_an_announcement_does_not_lift_the_limit_on_refreshes(
    ring: keyring.KeyRing, resolver: FakeResolver
) -> None:
    resolver.keys[_ALICE] = _OLD
    ring.current_key(_ALICE)
    ring.refreshed_key(_ALICE)
    ring.forget(_ALICE)
    ring.current_key(_ALICE)
    assert ring.refreshed_key(_ALICE) is None
    assert resolver.fetched[_ALICE] == 3


def test_a_refresh_without_an_answer_changes_and_counts_nothing(
    ring: keyring.KeyRing, resolver: FakeResolver
) -> None:
    """Spec: E-18: a host that is away must not turn a commit into a refused one."""
    resolver.keys[_ALICE] = _OLD
    ring.current_key(_ALICE)
    resolver.unavailable[_ALICE] = None
    assert isinstance(_error(lambda: ring.refreshed_key(_ALICE)), IdentityUnavailableError)
    assert ring.current_key(_ALICE) == _OLD
    del resolver.unavailable[_ALICE]
    resolver.keys[_ALICE] = _NEW
    assert ring.refreshed_key(_ALICE) == _NEW


def test_a_refresh_may_find_that_the_did_is_gone(
    ring: keyring.KeyRing, resolver: FakeResolver
) -> None:
    """Spec: E-10."""
    resolver.keys[_ALICE] = _OLD
    ring.current_key(_ALICE)
    del resolver.keys[_ALICE]
    assert isinstance(_error(lambda: ring.refreshed_key(_ALICE)), IdentityError)
    assert isinstance(_error(lambda: ring.current_key(_ALICE)), IdentityError)
    assert resolver.fetched[_ALICE] == 2


def test_an_announced_change_is_looked_up_at_the_next_use(
    ring: keyring.KeyRing, resolver: FakeResolver
) -> None:
    """Spec: E-13."""
    resolver.keys[_ALICE] = _OLD
    ring.current_key(_ALICE)
    ring.key_at(_ALICE, 0)
    resolver.keys[_ALICE] = _NEW
    ring.forget(_ALICE)
    ring.forget(_BOB)
    assert resolver.fetched == {_ALICE: 1}
    assert ring.current_key(_ALICE) == _NEW
    ring.key_at(_ALICE, 0)
    assert resolver.logs_fetched[_ALICE] == 2


def test_the_key_at_a_time_comes_from_the_audit_log(
    ring: keyring.KeyRing, resolver: FakeResolver, clock: FakeClock
) -> None:
    resolver.logs[_ALICE] = (KeyChange(100, _OLD), KeyChange(200, _NEW))
    assert [ring.key_at(_ALICE, time_us) for time_us in (99, 199, 200)] == [_OLD, _OLD, _NEW]
    assert resolver.logs_fetched[_ALICE] == 1
    clock.now_s += keyring.AUDIT_LOG_LIFETIME_S
    ring.key_at(_ALICE, 100)
    assert resolver.logs_fetched[_ALICE] == 2


def test_without_history_there_is_no_key_at_a_time(
    ring: keyring.KeyRing, resolver: FakeResolver
) -> None:
    assert [ring.key_at(_ALICE, 0) for _ in range(2)] == [None, None]
    assert resolver.logs_fetched[_ALICE] == 1


def test_a_history_that_cannot_be_had_raises_its_error(
    ring: keyring.KeyRing, resolver: FakeResolver
) -> None:
    resolver.logs[_ALICE] = IdentityError(Reason.IDENTITY_LOG, "malformed", did=_ALICE)
    resolver.unavailable[_BOB] = None
    assert isinstance(_error(lambda: ring.key_at(_ALICE, 0)), IdentityError)
    assert isinstance(_error(lambda: ring.key_at(_BOB, 0)), IdentityUnavailableError)


@pytest.fixture
def small_ring(
    resolver: FakeResolver, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> Iterator[keyring.KeyRing]:
    """A ring with room for two of each."""
    monkeypatch.setattr(keyring, "MAX_IDENTITIES", 2)
    monkeypatch.setattr(keyring, "MAX_AUDIT_LOGS", 2)
    ring = keyring.KeyRing(resolver, clock)
    yield ring
    ring.close()


def test_the_identity_unused_for_longest_is_dropped_first(
    small_ring: keyring.KeyRing, resolver: FakeResolver
) -> None:
    resolver.keys = {_ALICE: _OLD, _BOB: _OLD, _CAROL: _OLD}
    for did in (_ALICE, _BOB, _ALICE, _CAROL, _ALICE):
        small_ring.current_key(did)
    assert resolver.fetched == {_ALICE: 1, _BOB: 1, _CAROL: 1}
    small_ring.current_key(_BOB)
    assert resolver.fetched[_BOB] == 2


def test_the_audit_log_unused_for_longest_is_dropped_first(
    small_ring: keyring.KeyRing, resolver: FakeResolver
) -> None:
    for did in (_ALICE, _BOB, _ALICE, _CAROL, _ALICE):
        small_ring.key_at(did, 0)
    assert resolver.logs_fetched == {_ALICE: 1, _BOB: 1, _CAROL: 1}
    small_ring.key_at(_BOB, 0)
    assert resolver.logs_fetched[_BOB] == 2


def test_a_cached_error_does_not_collect_tracebacks(
    ring: keyring.KeyRing, resolver: FakeResolver
) -> None:
    resolver.unavailable[_BOB] = 7.0
    for did in (_ALICE, _BOB):
        depths = []
        for _ in range(3):
            error = _error(lambda did=did: ring.current_key(did))  # type: ignore[misc]  # bound
            depths.append(len(traceback.extract_tb(error.__traceback__)))
        assert len(set(depths)) == 1


def test_closing_closes_the_resolver(resolver: FakeResolver) -> None:
    ring = keyring.KeyRing(resolver)
    assert not resolver.is_closed
    ring.close()
    assert resolver.is_closed
