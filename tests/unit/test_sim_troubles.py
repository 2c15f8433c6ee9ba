"""What goes wrong in a generated network: what a reader sees of it, and what stays true."""

import itertools
from collections.abc import Iterator
from dataclasses import replace

import pytest
from support.network import LIVELY, TROUBLED
from support.oracle import build
from support.reader import Reader

from pipelines.atproto.errors import SignatureError
from pipelines.atproto.frames import Kind
from pipelines.atproto.repo import verify_repo
from pipelines.atproto.syntax import Did
from pipelines.compact.reducer import Outcome
from pipelines.errors import ConfigError
from pipelines.identity.documents import parse_document
from pipelines.sim.events import Event, Status
from pipelines.sim.generated import export
from pipelines.sim.generator import Generator
from pipelines.sim.identities import PlcIdentity, WebIdentity
from pipelines.sim.mix import Mix, Settings, Trouble
from pipelines.sim.truth import AccountTruth, Truth

# Commits and nothing else, so that all else is trouble.
WRITING = Mix(
    did_web=0.3,
    delete_account=0,
    deactivate_account=0,
    change_handle=0,
    rotate_key=0,
    sign_again=0,
)
ALONE = Settings(10, seed=4, records_count=12, hosts_count=3, mix=WRITING)
ALL = Settings(12, seed=6, hosts_count=3, mix=LIVELY, trouble=TROUBLED)


def read(settings: Settings, count: int) -> tuple[Reader, list[Event]]:
    generator = Generator(settings)
    reader = Reader(Truth(generator.established))
    events = list(itertools.islice(generator.events(), count))
    for event in events:
        reader.read(event)
    return reader, events


@pytest.mark.parametrize(
    ("trouble", "reasons"),
    [
        (Trouble(drop_commit=0.1), {"chain.since"}),
        (Trouble(skip_commit=0.1), {"chain.prev_data"}),
        (Trouble(wrong_since=0.1), {"chain.since"}),
        (Trouble(wrong_prev_data=0.1), {"commit.prev_data_mismatch"}),
        (Trouble(storm_sync=0.02), set()),
        (Trouble(flap_account=0.05), {"sync.data"}),
        (Trouble(import_repo=0.1), {"chain.since", "sync.data"}),
        (Trouble(migrate_account=0.1), {"chain.since"}),
    ],
    ids=lambda value: (
        next(name for name in value.__slots__ if getattr(value, name))
        if isinstance(value, Trouble)
        else ""
    ),
)
def test_each_trouble_is_seen_as_what_it_is(trouble: Trouble, reasons: set[str]) -> None:
    """spec: G-16, G-19, G-32: by the judge and the reducer, and by nothing else of theirs."""
    reader, _ = read(replace(ALONE, trouble=trouble), 400)
    assert reader.reasons.keys() == reasons
    assert not reasons or min(reader.reasons.values()) > 2


def test_an_account_that_returns_begins_anew() -> None:
    """spec: H-02: empty as at its creation, or with records of which no commit told."""
    mix = replace(WRITING, delete_account=0.02, create_account=0.5)
    settings = replace(ALONE, mix=mix, trouble=Trouble(return_account=1))
    reader, events = read(settings, 1_000)
    assert reader.reasons.keys() == {"history.unknown"}
    assert len({event.state.did for event in events}) == ALONE.accounts_count
    gone: set[str] = set()
    beginnings = {True: 0, False: 0}
    for account, identity, third in zip(events, events[1:], events[2:], strict=False):
        did = account.state.did
        if account.state.status is Status.DELETED:
            gone.add(did)
        elif did in gone and account.kind is Kind.ACCOUNT:
            gone.remove(did)
            assert [identity.kind, identity.state.did, third.state.did] == [
                Kind.IDENTITY,
                did,
                did,
            ]
            beginnings[third.kind is Kind.COMMIT] += 1
            assert bool(third.untold) is (third.kind is Kind.SYNC)
    assert min(beginnings.values()) > 2


@pytest.fixture(scope="module")
def troubled() -> tuple[Reader, list[Event]]:
    return read(ALL, 2_500)


def test_whoever_repairs_at_once_arrives_at_the_truth(
    troubled: tuple[Reader, list[Event]],
) -> None:
    """In between only those are not known of whose change nobody was told of."""
    reader, events = troubled
    unaware = set()
    for event in events:
        unaware |= {untold.state.did for untold in event.untold}
        if event.kind in (Kind.COMMIT, Kind.SYNC) and event.state.status is None:
            unaware.discard(event.state.did)
        elif event.kind is Kind.COMMIT:
            unaware.add(event.state.did)
        elif event.state.status is Status.DELETED:
            unaware.discard(event.state.did)
    assert reader.what_is_wrong().keys() == unaware
    assert reader.reasons.keys() >= {
        "chain.since",
        "chain.prev_data",
        "commit.prev_data_mismatch",
        "sync.data",
        "history.unknown",
    }
    # The reader tracks everybody, and repairs at once: nothing is on its way.
    others = {Outcome.APPLYING, Outcome.WAITING, Outcome.UNTRACKED}
    assert reader.outcomes.keys() == set(Outcome) - others


def test_after_the_calm_everything_is_known() -> None:
    settings = replace(ALL, calm_after=1_000)
    reader, events = read(settings, 1_000 + 20 * ALL.accounts_count)
    assert any(event.untold for event in events[:1_000])
    # What was under way is brought to its end.
    assert not any(event.untold for event in events[1_100:])
    assert reader.what_is_wrong() == {}


def test_the_truth_is_what_the_repositories_contain(
    troubled: tuple[Reader, list[Event]],
) -> None:
    """At any moment, also of what nobody was told of; and every CAR proves it. spec: I-04."""
    _, events = troubled
    truth = Truth([])
    checked = 0
    for number, event in enumerate(events):
        truth.apply([event])
        for did in {event.state.did, *(untold.state.did for untold in event.untold)}:
            account = truth.account(did)
            head = account.state.head
            if head is None:
                assert not account.records
            elif number % (3 if event.untold else 50) == 0:
                assert build(account.cids()).root == head.commit.data_cid == head.tree.root_cid
                check_car(account)
                checked += 1
    assert checked > 30


def check_car(account: AccountTruth) -> None:
    key = account.state.identity.signing_key
    if account.state.head is None or account.state.status is not None:
        return
    signed = account.state.head.commit
    try:
        key.verify(signed.unsigned, signed.signature)
    except SignatureError:  # the key is new, and nothing was signed with it yet
        return
    proven = verify_repo(export(account), key, did=account.state.did)
    assert proven.commit == signed
    assert proven.record_count == len(account.records)


def test_the_same_settings_give_the_same_trouble(troubled: tuple[Reader, list[Event]]) -> None:
    _, events = troubled
    again = itertools.islice(Generator(ALL).events(), 1_000)
    assert list(again) == events[:1_000]
    other = itertools.islice(Generator(replace(ALL, seed=7)).events(), 1_000)
    assert not {event.frame for event in other} & {event.frame for event in events}


def test_an_import_removes_half_of_what_was_there() -> None:
    settings = replace(ALONE, records_count=200, trouble=Trouble(import_repo=0.2))
    generator = Generator(settings)
    sizes = {state.did: len(records) for state, records in generator.established}
    imports = first_imports(itertools.islice(generator.events(), 400))
    assert len(imports) > 3
    for did, removed in imports.items():
        assert sizes[did] * 0.3 < removed < sizes[did] * 0.7


def first_imports(events: Iterator[Event]) -> dict[Did, int]:
    """Returns how many records the first import of each account removes."""
    removed: dict[Did, int] = {}
    for event in events:
        for untold in event.untold:
            count = sum(record is None for _, record in untold.ops)
            removed.setdefault(untold.state.did, count)
    return removed


def test_a_migration_is_told_by_both_servers() -> None:
    """spec: H-13, J-10: the old one speaks before the new one has the account."""
    settings = replace(ALONE, trouble=Trouble(migrate_account=0.1))
    events = list(itertools.islice(Generator(settings).events(), 1_000))
    before: dict[str, Event] = {}
    orders = set()
    kinds = set()
    for number, event in enumerate(events[:-3]):
        did = event.state.did
        earlier = before.get(did)
        before[did] = event
        if earlier is None or earlier.state.host == event.state.host:
            continue
        assert event.kind is Kind.IDENTITY
        document = parse_document(did, event.state.identity.document())
        assert document.pds == f"https://{event.state.host}"
        same_key = earlier.state.identity.signing_key == event.state.identity.signing_key
        assert same_key is isinstance(event.state.identity, WebIdentity)
        if isinstance(event.state.identity, PlcIdentity):
            assert len(event.state.identity.entries) == len(event.state.left) + 1
        assert event.state.left[-1].host == earlier.state.host
        first = number - (earlier.kind is Kind.ACCOUNT)
        told = events[first : first + 4]
        assert {item.state.did for item in told} == {did}
        orders.add(tuple(item.kind for item in told[:3]))
        assert told[2].state.status is None
        assert {item.state.status for item in told[:2]} == {Status.DEACTIVATED}
        kinds.add(told[3].kind)
    assert orders == {
        (Kind.ACCOUNT, Kind.IDENTITY, Kind.ACCOUNT),
        (Kind.IDENTITY, Kind.ACCOUNT, Kind.ACCOUNT),
    }
    assert kinds == {Kind.SYNC, Kind.COMMIT}


def test_accounts_cannot_migrate_with_one_server() -> None:
    with pytest.raises(ConfigError, match="choose more hosts"):
        Settings(3, trouble=Trouble(migrate_account=0.1))
