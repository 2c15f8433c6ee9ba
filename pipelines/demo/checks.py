"""What must hold after a run over a simulated network. Pure.

The network tells no lies and breaks no chain: every frame must have been proven, and what the
topics hold must be what really happened, account by account and record by record.
"""

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from pipelines.compact.audit import Finding
from pipelines.compact.state import Sync
from pipelines.demo.outcome import HeldRepo, Outcome
from pipelines.demo.truth import TrueAccount, Truth
from pipelines.kafka.topics import OTHER
from pipelines.status.overview import Overview
from pipelines.status.stages import STAGES

# Of one kind of difference: the rest is counted.
SHOWN_COUNT = 3

# The stages that have something to catch up with.
_READERS = frozenset(stage.name for stage in STAGES if stage.inputs)


class Check(NamedTuple):
    """One thing that must hold.

    Attributes:
        claim: what, as a sentence.
        problems: what speaks against it; none if it holds.
    """

    claim: str
    problems: tuple[str, ...]


def is_through(overview: Overview, frames_count: int) -> bool:
    """Returns whether a run is over: every frame is in Kafka, and no stage has anything to do.

    Args:
        overview: a look at the pipeline.
        frames_count: how many frames the network sends.
    """
    lags = [stage.lag for stage in overview.stages if stage.name in _READERS]
    return (
        overview.frames_count >= frames_count
        and len(lags) == len(_READERS)
        and all(lag is not None and lag.messages_count == 0 for lag in lags)
    )


def check_all(outcome: Outcome, truth: Truth, frames_count: int) -> list[Check]:
    """Checks a run.

    Args:
        outcome: what is in the topics.
        truth: what really happened.
        frames_count: how many frames the network sent.
    """
    repos = outcome.repos
    records_count = sum(len(repo.records) for repo in repos.values())
    minutes_count = outcome.minutes.total()
    return [
        Check(
            f"{frames_count:,} frames are in Kafka, each once",
            _listed(_frames(outcome, truth, frames_count)),
        ),
        Check("each was judged once, and proven", _listed(_verdicts(outcome))),
        Check(
            f"{len(repos):,} repositories have the state that they really have",
            _listed(_states(outcome, truth)),
        ),
        Check(
            f"the {records_count:,} latest records are those that really exist",
            _listed(_records(outcome, truth)),
        ),
        Check(
            f"the roots of {len(repos):,} repositories, recomputed, are those that were signed",
            _listed(_audits(outcome)),
        ),
        Check(
            f"analytics counted each of {minutes_count:,} record messages once",
            _listed(_minutes(outcome)),
        ),
    ]


def _frames(outcome: Outcome, truth: Truth, frames_count: int) -> Iterator[str]:
    if len(outcome.frames) != frames_count:
        yield f"there are {len(outcome.frames):,} frames"
    if outcome.last_seq != truth.seq:
        yield f"the last one has the sequence number {outcome.last_seq}, sent was {truth.seq}"


def _verdicts(outcome: Outcome) -> Iterator[str]:
    judged = set(outcome.judged)
    if len(judged) < len(outcome.judged):
        yield f"{len(outcome.judged) - len(judged):,} frames have two events"
    if judged != outcome.frames:
        yield f"{len(judged ^ outcome.frames):,} frames have no event, or events no frame"
    for reason, count in outcome.quarantined.items():
        yield f"{count:,} frames were refused: {reason}"


def _states(outcome: Outcome, truth: Truth) -> Iterator[str]:
    for did in sorted(truth.accounts.keys() | outcome.repos.keys()):
        held, true = outcome.repos.get(did), truth.accounts.get(did)
        if held is None or true is None:
            yield f"{did} is {'not held' if held is None else 'not real'}"
        else:
            yield from (f"{did}: {problem}" for problem in _state(held, true))


def _state(held: HeldRepo, true: TrueAccount) -> Iterator[str]:
    state = held.state
    if (state.active, state.status) != (true.status is None, true.status):
        yield f"the account is held as {state.status or 'active'}"
    head: tuple[str | None, str | None, str | None] = (None, None, None)
    if state.head is not None:
        head = (state.head.signed.rev, state.head.signed.commit, state.head.signed.data)
    if head != true.head:
        yield f"the head is held as {head}, and is {true.head}"
    expected = Sync.UNKNOWN if true.head[0] is None else Sync.SYNCHRONIZED
    if state.sync is not expected:
        yield f"it is {state.sync}: {state.reason}"


def _records(outcome: Outcome, truth: Truth) -> Iterator[str]:
    for did, true in truth.accounts.items():
        held = outcome.repos[did].records if did in outcome.repos else {}
        differing = dict(held.items() ^ true.records.items())
        if differing:
            yield f"{did}: {len(differing):,} records differ, among them {min(differing)}"


def _audits(outcome: Outcome) -> Iterator[str]:
    for repo in outcome.repos.values():
        if repo.audit.finding not in {Finding.MATCHES, Finding.EMPTY}:
            yield f"{repo.audit.did} is {repo.audit.finding}: {repo.audit.problem}"
    if not any(repo.audit.finding is Finding.MATCHES for repo in outcome.repos.values()):
        yield "there is none that has a root"


def _minutes(outcome: Outcome) -> Iterator[str]:
    written: Counter[str] = Counter()
    for collection, count in outcome.records.items():
        written[collection if collection in outcome.admitted else OTHER] += count
    counted: Counter[str] = Counter()
    for (_, collection), count in outcome.minutes.items():
        counted[collection] += count
    for collection in sorted(written.keys() | counted.keys()):
        if written[collection] != counted[collection]:
            yield (
                f"{collection}: {written[collection]:,} messages, counted {counted[collection]:,}"
            )
    if not written:
        yield "there is none"


def _listed(problems: Iterator[str]) -> tuple[str, ...]:
    found = list(problems)
    rest = len(found) - SHOWN_COUNT
    return (*found[:SHOWN_COUNT], *([f"and {rest} more"] if rest > 0 else []))
