"""The events of a generated network: proven, chained, complete, and always the same."""

import itertools
from collections import Counter, defaultdict
from dataclasses import replace

import pytest
from support.network import LIVELY, DirectoryKeys, make_events
from support.oracle import build, cid_of, covering_nodes

from pipelines.atproto.car import read_car
from pipelines.atproto.commit import VerifiedCommit, VerifiedSync
from pipelines.atproto.errors import SignatureError
from pipelines.atproto.frames import (
    AccountMessage,
    Action,
    CommitMessage,
    IdentityMessage,
    Kind,
    SyncMessage,
    parse_envelope,
    parse_frame,
)
from pipelines.atproto.keys import parse_did_key
from pipelines.atproto.mst import EMPTY_ROOT_CID
from pipelines.atproto.syntax import parse_datetime, tid_time_us
from pipelines.identity.plc import key_at, verify_audit_log
from pipelines.sim.clock import START_US
from pipelines.sim.events import Event, Status
from pipelines.sim.generator import Generator
from pipelines.sim.identities import PlcIdentity, WebIdentity
from pipelines.sim.mix import Mix, Settings
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
    again = make_events(SETTINGS, 500)
    assert [event.frame for event in again] == [event.frame for event in events[:500]]
    other = make_events(replace(SETTINGS, seed=4), 500)
    assert not {event.state.did for event in other} & {event.state.did for event in events}


def test_the_key_changes_between_two_commits(events: list[Event]) -> None:
    """spec: E-13: an #identity tells of it; each side of it is signed with its own key."""
    changed = Counter[type]()
    before: dict[str, Event] = {}
    for event in events:
        did, identity = event.state.did, event.state.identity
        earlier = before.get(did)
        before[did] = event
        head = event.state.head
        if event.kind in (Kind.COMMIT, Kind.SYNC):
            assert head is not None
            identity.signing_key.verify(head.commit.unsigned, head.commit.signature)
        if earlier is None or earlier.state.identity.signing_key == identity.signing_key:
            continue
        assert event.kind is Kind.IDENTITY
        assert earlier.state.head == head
        assert head is not None
        with pytest.raises(SignatureError):
            identity.signing_key.verify(head.commit.unsigned, head.commit.signature)
        changed[type(identity)] += 1
    assert changed[PlcIdentity] > 3
    assert changed[WebIdentity] > 3


def test_the_log_proves_every_commit_of_the_past(events: list[Event]) -> None:
    """As a worker sees it that comes later, with the log at the end."""
    histories = {
        event.state.did: verify_audit_log(event.state.did, event.state.identity.audit_log())
        for event in events
        if isinstance(event.state.identity, PlcIdentity)
    }
    outdated_count = 0
    for event in events:
        head = event.state.head
        if event.state.did not in histories or event.kind is not Kind.COMMIT or head is None:
            continue
        history = histories[event.state.did]
        # The first commit of an account may be some milliseconds older than its DID.
        key = key_at(history, max(tid_time_us(head.commit.rev), history[0].created_us))
        assert key is not None
        key.verify(head.commit.unsigned, head.commit.signature)
        outdated_count += key != history[-1].signing_key
    assert outdated_count > 50


def test_a_did_web_keeps_its_key_unless_it_is_told_not_to() -> None:
    """Nobody could prove later what was signed before."""
    mix = Mix(did_web=1, rotate_key=0.2, change_handle=0.1)
    events = make_events(Settings(accounts_count=4, mix=mix), 600)
    keys = {event.state.did: {event.state.identity.signing_key} for event in events}
    assert {event.state.identity.signing_key for event in events} == set().union(*keys.values())
    assert {did.rpartition(":")[0] for did in keys} == {"did:web"}
    handles = {event.state.handle for event in events if event.kind is Kind.IDENTITY}
    assert len(handles) > 2 * len(keys)


def test_time_and_sequence_numbers_only_rise(events: list[Event]) -> None:
    """spec: F-20: with gaps now and then."""
    steps = [later.seq - earlier.seq for earlier, later in itertools.pairwise(events)]
    assert events[0].seq > 0
    assert min(steps) == 1
    assert 0.005 < sum(step > 1 for step in steps) / len(steps) < 0.05
    times = [event.time_us for event in events]
    assert times == sorted(times)
    assert times[0] >= START_US
    for event in events:
        envelope = parse_envelope(event.frame)
        assert envelope.seq == event.seq
        assert parse_datetime(envelope.time) == event.time_us // 1000 * 1000


def test_revisions_rise_and_are_never_ahead_of_their_time(events: list[Event]) -> None:
    """spec: B-04, G-05: a rev that a sync repeats is one that was told before."""
    revs: dict[str, list[str]] = defaultdict(list)
    for event in events:
        head = event.state.head
        if event.kind in (Kind.COMMIT, Kind.SYNC):
            assert head is not None
            assert tid_time_us(head.commit.rev) <= event.time_us
            revs[event.state.did].append(head.commit.rev)
    for told in revs.values():
        assert told == sorted(told)
    every = {rev for told in revs.values() for rev in told}
    assert len(every) == sum(len(set(told)) for told in revs.values())


def test_an_account_begins_as_on_the_reference_server(events: list[Event]) -> None:
    """spec: G-31, H-13: identity, account, an empty first commit, and a sync to the same."""
    of_account: dict[str, list[Event]] = defaultdict(list)
    for event in events:
        of_account[event.state.did].append(event)
    for began in of_account.values():
        if len(began) >= 4:
            assert [e.kind for e in began[:4]] == [
                Kind.IDENTITY,
                Kind.ACCOUNT,
                Kind.COMMIT,
                Kind.SYNC,
            ]
            first, sync = parse_frame(began[2].frame), parse_frame(began[3].frame)
            assert isinstance(first, CommitMessage)
            assert isinstance(sync, SyncMessage)
            assert (first.since, first.prev_data, first.ops) == (None, None, ())
            assert sync.rev == first.rev
            assert EMPTY_ROOT_CID in read_car(first.blocks).blocks


def test_an_account_comes_back_as_on_the_reference_server(events: list[Event]) -> None:
    """spec: H-11: account, identity, and a sync to the head it had."""
    active: set[str] = set()
    came_back = []
    for number, event in enumerate(events):
        did = event.state.did
        if event.kind is Kind.ACCOUNT and event.state.status is None:
            if did in active:
                came_back.append(number)
            active.add(did)
    assert came_back
    for number in came_back:
        account, identity, sync = events[number : number + 3]
        assert [identity.kind, sync.kind] == [Kind.IDENTITY, Kind.SYNC]
        assert account.state == identity.state == sync.state
        before = next(e for e in reversed(events[:number]) if e.state.did == account.state.did)
        assert before.state.status is Status.DEACTIVATED
        assert before.state.head == account.state.head


def test_an_inactive_account_writes_nothing(events: list[Event]) -> None:
    """spec: H-10."""
    for event in events:
        if event.state.status is not None:
            assert event.kind is Kind.ACCOUNT


def test_a_lively_network_has_some_of_everything(events: list[Event]) -> None:
    """Without it the other tests would show little."""
    last = {event.state.did: event.state for event in events}
    assert {event.kind for event in events} == {
        Kind.COMMIT,
        Kind.SYNC,
        Kind.IDENTITY,
        Kind.ACCOUNT,
    }
    assert {state.status for state in last.values()} == {
        None,
        Status.DELETED,
        Status.DEACTIVATED,
    }
    identities = [state.identity for state in last.values()]
    logs = [identity.entries for identity in identities if isinstance(identity, PlcIdentity)]
    signing_keys = [
        [parse_did_key(entry.fields["verificationMethods"]["atproto"]) for entry in log]
        for log in logs
    ]
    assert {key.curve for keys in signing_keys for key in keys} == {"k256", "p256"}
    assert any(len(set(keys)) > 1 for keys in signing_keys), "no key was rotated"
    names = [len({entry.fields["alsoKnownAs"][0] for entry in log}) for log in logs]
    assert max(names) > 1, "no handle was changed"
    assert 0.1 < sum(isinstance(item, WebIdentity) for item in identities) / len(last) < 0.5
    actions = Counter(op.action for event in events for op, _ in event.ops)
    assert set(actions) == set(Action)
    counts = {len(event.ops) for event in events}
    assert max(counts) > 12
    living = sum(state.status is not Status.DELETED for state in last.values())
    assert living == SETTINGS.accounts_count


def test_a_deleted_account_is_replaced_by_a_new_one(events: list[Event]) -> None:
    living: set[str] = set()
    most = 0
    for event in events:
        if event.state.status is Status.DELETED:
            living.discard(event.state.did)
        else:
            living.add(event.state.did)
        most = max(most, len(living))
    assert most == SETTINGS.accounts_count
    assert len({event.state.did for event in events}) > most


def test_the_ordinary_mix_is_that_of_the_network() -> None:
    """The shares are those that `Mix` promises, within what chance allows."""
    made = make_events(Settings(accounts_count=40), 12_000)
    commits = [event for event in made if event.ops]
    actions = Counter(op.action for event in commits for op, _ in event.ops)
    share = {action: count / actions.total() for action, count in actions.items()}
    assert share[Action.CREATE] == pytest.approx(0.955, abs=0.01)
    assert share[Action.DELETE] == pytest.approx(0.039, abs=0.01)
    assert share[Action.UPDATE] == pytest.approx(0.006, abs=0.003)
    single = sum(len(event.ops) == 1 for event in commits) / len(commits)
    assert single == pytest.approx(0.99, abs=0.005)
    names = Counter(str(op.collection) for event in commits for op, _ in event.ops)
    assert names["app.bsky.feed.like"] / names.total() == pytest.approx(0.7, abs=0.05)


def test_one_account_more_may_be_large() -> None:
    """It is there before the stream begins, among others that are or are not."""
    for records_count, others_count in ((3, 2), (0, 0)):
        generator = Generator(Settings(2, records_count=records_count, large_count=500))
        sizes = [len(records) for _, records in generator.established]
        assert 500 <= sizes.pop() < 550
        assert len(sizes) == others_count
        events = list(itertools.islice(generator.events(), 300))
        assert len({event.state.did for event in events}) == 3
        state, records = generator.established[-1]
        assert state.head is not None
        paths = {path: cid_of(record) for path, record in records.items()}
        assert build(paths).root == state.head.commit.data_cid


def test_accounts_may_have_records_before_the_stream_begins() -> None:
    settings = Settings(accounts_count=3, records_count=200)
    generator = Generator(settings)
    established = generator.established
    assert len(established) == 3
    truth = Truth(established)
    for state, records in established:
        assert 200 <= len(records) < 220  # some posts come with a second record
        assert state.head is not None
        assert build(truth.account(state.did).cids()).root == state.head.commit.data_cid
    first = next(event for event in generator.events() if event.kind is Kind.COMMIT)
    before = next(state for state, _ in established if state.did == first.state.did)
    assert before.head is not None
    message = parse_frame(first.frame)
    assert isinstance(message, CommitMessage)
    assert message.since == before.head.commit.rev
    assert message.prev_data == before.head.tree.root_cid
