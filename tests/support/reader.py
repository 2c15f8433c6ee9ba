"""What a reader makes of a stream: the real judge, events and reducer, without Kafka.

It has every document as it is at the moment of a frame. What it cannot follow it repairs at once,
as if somebody told it the truth: so each trouble shows by itself, and afterwards its state has to
be the truth again.
"""

import base64
from collections import Counter
from dataclasses import replace

from support.admissions import NOBODY
from support.network import DirectoryKeys

from pipelines.atproto.cid import encode_cid
from pipelines.atproto.frames import Action
from pipelines.atproto.syntax import Did
from pipelines.compact.accounts import without_repository
from pipelines.compact.events import Signed, parse_event
from pipelines.compact.events import Source as CompactSource
from pipelines.compact.reducer import Outcome, reduce_event
from pipelines.compact.state import Head, RepoState, Sync
from pipelines.explode.outputs import OutputTopics, outputs_of
from pipelines.explode.sources import Source
from pipelines.kafka.messages import InputMessage
from pipelines.sim.events import Event
from pipelines.sim.truth import AccountTruth, Truth
from pipelines.verdict import judge_frame

_HOST = "relay.example"
_TOPICS = OutputTopics("events", "quarantine", "identities", "parked", "records", {}, NOBODY)


class Reader:
    """Reads events in order.

    Attributes:
        truth: what really happened so far.
        states: what the reader holds of each repository.
        paths: record CIDs, as text, by repository and path.
        outcomes: how often what became of an event.
        reasons: how often which reason made a repository's state doubtful; each time it was
            repaired.
    """

    def __init__(self, truth: Truth) -> None:
        """Knows from the start what existed before the first event."""
        self.truth = truth
        self.states: dict[Did, RepoState] = {}
        self.paths: dict[Did, dict[str, str]] = {}
        self.outcomes: Counter[Outcome] = Counter()
        self.reasons: Counter[str] = Counter()
        self._keys = DirectoryKeys()
        self._count = 0
        for did, account in truth.accounts().items():
            self._repair(RepoState(did, CompactSource(_HOST, 0, None, 0, 0, 0)), account)

    def read(self, event: Event) -> None:
        """Takes one frame, and the truth about it."""
        self.truth.apply([event])
        did = event.state.did
        self._keys.identities[did] = event.state.identity
        verdict = judge_frame(event.frame, self._keys, event.time_us)
        self._count += 1
        message = InputMessage("frames", 0, self._count, 0, did.encode(), event.frame, [])
        outputs = outputs_of(verdict, Source(_HOST, event.time_us, message), _TOPICS)
        for output in outputs:
            if output.topic == _TOPICS.events:
                assert output.value is not None
                self._reduce(did, output.value)

    def what_is_wrong(self) -> dict[Did, str]:
        """Returns in what the reader's state is not the truth, by account."""
        wrong = {}
        for did, account in self.truth.accounts().items():
            state, truth = self.states[did], account.state
            expected = (truth.status is None, truth.status, _head_of(account))
            if (state.active, state.status, state.head) != expected:
                wrong[did] = f"{state} is not {expected}"
            elif self.paths.get(did, {}) != _paths_of(account):
                wrong[did] = "its records are others"
        return wrong

    def _reduce(self, did: Did, value: bytes) -> None:
        reduction = reduce_event(self.states.get(did), parse_event(value), 0)
        self.outcomes[reduction.outcome] += 1
        if reduction.state is None or reduction.outcome is Outcome.INACTIVE:
            return  # what an account writes while it is away: its server confirms that it is
        state = reduction.state
        if state.deletion_us is not None:
            state = without_repository(state)  # nobody is asked whether it is so
        self.states[did] = state
        paths = self.paths.setdefault(did, {})
        for op in reduction.ops:
            if op.action is Action.DELETE:
                del paths[op.path]
            else:
                assert op.cid is not None
                paths[op.path] = op.cid
        if state.head is None:
            paths.clear()
        if state.sync is Sync.DESYNCHRONIZED:
            assert state.reason is not None
            self.reasons[state.reason] += 1
            self._repair(state, self.truth.account(did))

    def _repair(self, state: RepoState, account: AccountTruth) -> None:
        head = _head_of(account)
        assert head is not None
        self.states[state.did] = replace(
            state,
            sync=Sync.SYNCHRONIZED,
            reason=None,
            desynchronized_us=None,
            requested_us=None,
            head=head,
            seen=head.signed,
            waiting=(),
        )
        self.paths[state.did] = _paths_of(account)


def _head_of(account: AccountTruth) -> Head | None:
    head = account.state.head
    if head is None:
        return None
    commit = head.commit
    signed = Signed(commit.rev, encode_cid(head.commit_cid), encode_cid(commit.data_cid))
    return Head(signed, base64.b64encode(commit.block).decode())


def _paths_of(account: AccountTruth) -> dict[str, str]:
    return {path: encode_cid(cid) for path, cid in account.cids().items()}
