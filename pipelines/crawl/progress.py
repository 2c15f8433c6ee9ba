"""How far a list has been read, and what became of its repositories; its form in `crawls`. Pure.

The progress after a page goes into Kafka in the transaction of the requests that the page led to:
reading goes on after it, and each page is answered with requests once.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Final, NamedTuple

import orjson

from pipelines.atproto.syntax import Did
from pipelines.crawl.candidates import Judgment
from pipelines.crawl.listing import Listing, ListingError, Page, Walk

TOPIC: Final = "crawls"


class Job(StrEnum):
    """What lists are read for."""

    BACKFILL = "backfill"
    SWEEP = "sweep"


class State(StrEnum):
    """Whether there is more of a list."""

    RUNNING = "running"
    DONE = "done"  # it was read to its end
    CUT = "cut"  # it cannot be read on


class Target(NamedTuple):
    """What is read, and for what: the key of a message of `crawls`.

    Attributes:
        job: what for.
        subject: the list, such as `repos https://pds.example`.
    """

    job: Job
    subject: str

    @property
    def key(self) -> bytes:
        """The message key."""
        return f"{self.job} {self.subject}".encode()


@dataclass(frozen=True, slots=True)
class Answer:
    """What a list that is being read is the answer to, and what reading it on needs.

    Attributes:
        host: the upstream whose gaps it answers.
        next_offset: the offset in `gaps` after the last of them.
        since_us: when the first of them began, microseconds since the epoch; None if nobody knows.
        listed_us: when reading the list began, likewise.
        listings_offset: none of its messages in `listings` is before it.
        missed_did: the list was read to its end, and what it does not have was asked for up to
            this account; None if it was not yet.
    """

    host: str
    next_offset: int
    since_us: int | None
    listed_us: int
    listings_offset: int
    missed_did: Did | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a list has been read.

    Attributes:
        target: which list.
        state: whether there is more.
        walk: where to go on.
        counts: what became of its repositories so far.
        invalid_count: entries so far that are no repository.
        problem: why the list was cut, or None.
        answer: of a list that a sweep is reading; None of all others.
    """

    target: Target
    state: State = State.RUNNING
    walk: Walk = field(default_factory=Walk)
    counts: Mapping[Judgment, int] = field(default_factory=dict)
    invalid_count: int = 0
    problem: str | None = None
    answer: Answer | None = None

    @property
    def listed_count(self) -> int:
        """How many repositories there were so far."""
        return sum(self.counts.values())


class Step(NamedTuple):
    """What a page comes to.

    Attributes:
        before: the progress before it.
        after: the progress after it.
        wanted: the repositories to be requested, in the list's order.
    """

    before: Progress
    after: Progress
    wanted: tuple[Listing, ...] = ()


def step(
    progress: Progress,
    page: Page,
    judge: Callable[[Listing], Judgment],
    most_count: int | None = None,
) -> Step:
    """Takes a page in.

    Args:
        progress: before it.
        page: the one at the walk's cursor.
        judge: tells what becomes of a repository; asked once for each, in the list's order.
        most_count: a list with more repositories is not read on; None for any number.
    """
    judgments = [(listing, judge(listing)) for listing in page.listings]
    counts = Counter(progress.counts)
    counts.update(judgment for _, judgment in judgments)
    after = replace(
        progress, counts=dict(counts), invalid_count=progress.invalid_count + page.invalid_count
    )
    if page.cursor is None:
        after = replace(after, state=State.DONE)
    elif most_count is not None and after.listed_count > most_count:
        after = cut(after, f"it has more than the {most_count:,} repositories that are likely")
    else:
        try:
            is_empty = all(judgment is Judgment.AGAIN for _, judgment in judgments)
            after = replace(after, walk=progress.walk.after(page.cursor, is_empty=is_empty))
        except ListingError as error:
            after = cut(after, str(error))
    wanted = (listing for listing, judgment in judgments if judgment is Judgment.REQUESTED)
    return Step(progress, after, tuple(wanted))


def cut(progress: Progress, problem: str) -> Progress:
    """Returns the progress of a list that cannot be read on."""
    return replace(progress, state=State.CUT, problem=problem)


def encode_progress(progress: Progress, updated_us: int) -> bytes:
    """Returns the value of a message of `crawls`: JSON, version 1.

    Args:
        progress: what it says.
        updated_us: now, microseconds since the epoch.
    """
    walk = progress.walk
    return orjson.dumps(
        {
            "job": progress.target.job,
            "subject": progress.target.subject,
            "state": progress.state,
            "cursor": walk.cursor,
            "pages_count": walk.pages_count,
            "empty_count": walk.empty_count,
            "mark": walk.mark,
            "counts": {str(name): progress.counts.get(name, 0) for name in Judgment},
            "invalid_count": progress.invalid_count,
            "problem": progress.problem,
            "answer": None if progress.answer is None else asdict(progress.answer),
            "updated_us": updated_us,
        }
    )


def parse_target(key: bytes | None) -> Target:
    """Takes a key of `crawls` apart.

    Args:
        key: as `Target.key`.

    Raises:
        ValueError: it is of another shape.
    """
    job, _, subject = (key or b"").decode().partition(" ")
    return Target(Job(job), subject)


def parse_progress(value: bytes) -> Progress:
    """Takes a value of `crawls` apart.

    Args:
        value: as `encode_progress` writes it.

    Raises:
        ValueError: it is of another shape, which a newer version may have written.
    """
    try:
        found = orjson.loads(value)
        walk = Walk(found["cursor"], found["pages_count"], found["empty_count"], found["mark"])
        return Progress(
            Target(Job(found["job"]), found["subject"]),
            State(found["state"]),
            walk,
            {Judgment(name): count for name, count in found["counts"].items()},
            found["invalid_count"],
            found["problem"],
            # The first ones had none.
            None if found.get("answer") is None else Answer(**found["answer"]),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"not the progress of a list, version 1: {error!r}") from error
