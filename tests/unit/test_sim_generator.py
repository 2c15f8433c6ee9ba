"""The events of a generated network: proven, chained, complete, and always the same."""

from collections import defaultdict

import pytest
from support.network import LIVELY, DirectoryKeys, make_events
from support.oracle import build, cid_of, covering_nodes

from pipelines.atproto.car import read_car
from pipelines.atproto.commit import VerifiedCommit, VerifiedSync
from pipelines.atproto.frames import (
    AccountMessage,
    CommitMessage,
    IdentityMessage,
    Kind,
    parse_frame,
)
from pipelines.sim.events import Event, Status
from pipelines.sim.mix import Settings
from pipelines.sim.truth import Truth
from pipelines.verdict import Proven, Unsigned, judge_frame

SETTINGS = Settings(accounts_count=25, seed=3, mix=LIVELY)


@pytest.fixture(scope="module")
def events() -> list[Event]:
    return make_events(SETTINGS, 4_000)


def test_every_frame_is_proven_and_every_chain_holds(events: list[Event]) -> None:
    """spec: G-12, G-16: with the key in the document of that moment, refreshed never."""
    keys = DirectoryKeys()
    heads: dict[str, tuple[str, bytes]] = {}
    records: dict[str, dict[str, bytes]] = defaultdict(dict)
    for event in events:
        did = event.state.did
        keys.identities[did] = event.state.identity
        verdict = judge_frame(event.frame, keys, received_us=event.time_us)
        match verdict:
            case Proven(VerifiedCommit(message, commit, ops)):
                assert event.kind is Kind.COMMIT
                expected = heads.get(did, (None, None))
                assert (message.since, message.prev_data) == expected
                assert [(op, record) for op, record in ops] == list(event.ops)
                for op, record in ops:
                    if record is None:
                        del records[did][op.path]
                    else:
                        records[did][op.path] = cid_of(record)
                heads[did] = (commit.rev, commit.data_cid)
            case Proven(VerifiedSync(message, commit, _)):
                assert event.kind is Kind.SYNC
                assert commit.data_cid == heads[did][1]
                assert commit.rev >= heads[did][0]
                heads[did] = (commit.rev, commit.data_cid)
            case Unsigned(AccountMessage() as message):
                assert (message.active, message.status) == (
                    event.state.status is None,
                    event.state.status,
                )
                if message.status == Status.DELETED:
                    del heads[did]
                    records[did].clear()
            case Unsigned(IdentityMessage() as message):
                assert message.handle in (None, event.state.handle)
            case _:
                raise AssertionError(verdict)
        head = event.state.head
        assert heads.get(did) == (head and (head.commit.rev, head.commit.data_cid))
    for name, (_, data_cid) in heads.items():
        assert build(records[name]).root == data_cid


def test_a_commit_brings_exactly_what_proves_it(events: list[Event]) -> None:
    """spec: C-15, G-21: checked against trees that are built anew from the records."""
    records: dict[str, dict[str, bytes]] = defaultdict(dict)
    for number, event in enumerate(events):
        paths = records[event.state.did]
        for op, _ in event.ops:
            if op.cid is None:
                del paths[op.path]
            else:
                paths[op.path] = op.cid
        if number % 7 == 0 and event.ops and event.state.head is not None:
            message = parse_frame(event.frame)
            assert isinstance(message, CommitMessage)
            blocks = read_car(message.blocks).blocks
            commit = {message.commit_cid: event.state.head.commit.block}
            new_records = {op.cid: record for op, record in event.ops if record is not None}
            covering = covering_nodes(build(paths), [op.path for op, _ in event.ops])
            assert blocks == commit | covering | new_records


def test_the_truth_follows_from_the_events(events: list[Event]) -> None:
    truth = Truth([])
    truth.apply(events)
    accounts = truth.accounts()
    assert accounts.keys() == {event.state.did for event in events}
    gone = [account for account in accounts.values() if account.state.head is None]
    assert gone
    assert {account.state.status for account in gone} == {Status.DELETED}
    assert all(not account.records for account in gone)
    for account in accounts.values():
        head = account.state.head
        if head is not None:
            assert build(account.cids()).root == head.commit.data_cid == head.tree.root_cid


def test_the_same_settings_give_the_same_bytes(events: list[Event]) -> None:
    assert [event.frame for event in make_events(SETTINGS, 500)] == [
        event.frame for event in events[:500]
    ]
    other = make_events(Settings(accounts_count=25, seed=4, mix=LIVELY), 500)
    dids, other_dids = ({e.state.did for e in made} for made in (events, other))
    assert not dids & other_dids
