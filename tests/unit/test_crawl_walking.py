"""Reading many lists side by side: what is taken in, in which order, and what is given up."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path

import pytest

from pipelines.atproto.syntax import Did
from pipelines.crawl import walking
from pipelines.crawl.candidates import Judgment
from pipelines.crawl.listing import MAX_EMPTY_PAGES_COUNT, Listing, ListingError, Page, Walk
from pipelines.crawl.lists import DidFile
from pipelines.crawl.progress import (
    Job,
    Progress,
    State,
    Target,
    encode_progress,
    parse_progress,
    step,
)
from pipelines.crawl.walking import Taken, Walker
from pipelines.errors import ConfigError, IdentityUnavailableError
from pipelines.identity.fetching import AbsentError, UnusableError

Outcome = Page | Exception


def _did(number: int) -> Did:
    return Did(f"did:web:{number}.example")


def _page(start: int, end: int, cursor: str | None) -> Page:
    return Page(tuple(Listing(_did(number)) for number in range(start, end)), 0, cursor)


class _List:
    """A host that answers each cursor with what stands there, the first time with an error."""

    def __init__(
        self,
        name: str,
        pages: Mapping[str | None, Sequence[Outcome]],
        most_count: int | None = None,
    ) -> None:
        self.host: str | None = f"https://{name}.example"
        self.subject = name
        self.most_count = most_count
        self.asked: list[str | None] = []
        self._pages = {cursor: list(outcomes) for cursor, outcomes in pages.items()}

    def request(self, cursor: str | None) -> Future[Page]:
        self.asked.append(cursor)
        outcomes = self._pages[cursor]
        outcome = outcomes.pop(0) if len(outcomes) > 1 else outcomes[0]
        future: Future[Page] = Future()
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
        return future


class _Reading:
    """A walker with everything that it hands over."""

    def __init__(self, *lists: _List, should_stop: Callable[[], bool] = lambda: False) -> None:
        self.after: dict[str, Progress] = {}
        self.wanted: list[Did] = []
        self.most_lists = 0
        self._listed: set[tuple[str, Did]] = set()
        self.walker = Walker(self._judge, self._take, should_stop, 2)
        self.walker.run((repos, _begin(repos.subject)) for repos in lists)

    def _judge(self, subject: str, listing: Listing) -> Judgment:
        is_new = (subject, listing.did) not in self._listed
        self._listed.add((subject, listing.did))
        return Judgment.REQUESTED if is_new else Judgment.AGAIN

    def _take(self, taken: Sequence[Taken]) -> None:
        self.most_lists = max(self.most_lists, len(taken))
        for _, (before, after, wanted) in taken:
            assert before == self.after.get(after.target.subject, _begin(after.target.subject))
            self.after[after.target.subject] = after
            self.wanted += [listing.did for listing in wanted]


def _begin(subject: str) -> Progress:
    return Progress(Target(Job.BACKFILL, subject))


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walking, "MIN_PAUSE_S", 0.001)
    monkeypatch.setattr(walking, "WAKE_S", 0.001)


def test_every_list_is_read_to_its_end_some_at_once() -> None:
    lists = [
        _List(
            f"host{n}",
            {None: [_page(10 * n, 10 * n + 3, "x")], "x": [_page(10 * n + 3, 10 * n + 5, None)]},
        )
        for n in range(5)
    ]
    reading = _Reading(*lists)
    assert {progress.state for progress in reading.after.values()} == {State.DONE}
    assert Counter(reading.wanted) == Counter(
        _did(n + number) for n in range(0, 50, 10) for number in range(5)
    )
    assert reading.most_lists == 2
    assert [repos.asked for repos in lists] == [[None, "x"]] * 5


def test_a_host_that_comes_back_is_read_on() -> None:
    away = IdentityUnavailableError("away", retry_after_s=0.001)
    repos = _List("host", {None: [away, _page(0, 2, "x")], "x": [away, away, _page(2, 3, None)]})
    reading = _Reading(repos)
    assert reading.wanted == [_did(0), _did(1), _did(2)]
    assert repos.asked == [None, None, "x", "x", "x"]
    assert reading.walker.away == {}


def test_a_host_that_stays_away_is_left_and_does_not_hold_up_the_others() -> None:
    away = _List("away", {None: [IdentityUnavailableError("nobody is there")]})
    reading = _Reading(away, _List("host", {None: [_page(0, 2, None)]}))
    assert reading.walker.away == {"away": "nobody is there"}
    assert len(away.asked) == walking.ATTEMPTS_COUNT
    assert reading.after.keys() == {"host"}


@pytest.mark.parametrize(
    "error", [ListingError("no JSON"), AbsentError("no list"), UnusableError("too large")], ids=str
)
def test_a_list_that_cannot_be_read_on_is_cut_and_what_came_before_counts(
    error: Exception,
) -> None:
    reading = _Reading(_List("host", {None: [_page(0, 2, "x")], "x": [error]}))
    after = reading.after["host"]
    assert (after.state, after.problem) == (State.CUT, str(error))
    assert after.walk.cursor == "x"
    assert reading.wanted == [_did(0), _did(1)]


def test_a_list_in_a_circle_is_cut_with_its_last_page_taken_in() -> None:
    reading = _Reading(_List("host", {None: [_page(0, 2, "x")], "x": [_page(2, 4, "x")]}))
    after = reading.after["host"]
    assert after.state is State.CUT
    assert "cursor that was there before" in (after.problem or "")
    assert reading.wanted == [_did(number) for number in range(4)]


class _Endless(_List):
    """A host that begins again after its last repository, under cursors that never come again."""

    def __init__(self) -> None:
        super().__init__("host", {})

    def request(self, cursor: str | None) -> Future[Page]:
        number = int(cursor or 0)
        self._pages[cursor] = [_page(number % 10, number % 10 + 2, str(number + 2))]
        return super().request(cursor)


def test_a_list_that_begins_again_and_again_is_cut() -> None:
    repos = _Endless()
    reading = _Reading(repos)
    assert reading.wanted == [_did(number) for number in range(10)]
    assert reading.after["host"].state is State.CUT
    assert "nothing new" in (reading.after["host"].problem or "")
    assert len(repos.asked) == 5 + MAX_EMPTY_PAGES_COUNT


def test_a_host_that_makes_repositories_up_is_cut() -> None:
    starts = [None, *map(str, range(10, 1_000, 10))]
    pages = {
        start: [_page(10 * n, 10 * n + 10, str(10 * n + 10))] for n, start in enumerate(starts)
    }
    repos = _List("host", pages, most_count=35)
    reading = _Reading(repos)
    assert len(reading.wanted) == 40
    assert reading.after["host"].state is State.CUT
    assert "35 repositories" in (reading.after["host"].problem or "")


def test_a_stop_ends_reading_after_what_is_in_hand() -> None:
    endless = _List(
        "host", {None: [_page(0, 1, "x")], "x": [_page(1, 2, "y")], "y": [_page(2, 3, "z")]}
    )
    pages = iter([False, False, True])
    reading = _Reading(endless, should_stop=lambda: next(pages))
    assert reading.after["host"].state is State.RUNNING
    assert reading.after["host"].walk == Walk("y", 2, 0, "y")


def test_progress_comes_back_from_its_bytes() -> None:
    page = Page((Listing(_did(1)), Listing(_did(2))), 3, "x")
    judgments = iter([Judgment.REQUESTED, Judgment.SYNCHRONIZED])
    before, after, wanted = step(
        _begin("repos https://pds.example"), page, lambda _: next(judgments)
    )
    assert wanted == (Listing(_did(1)),)
    assert (after.listed_count, after.invalid_count) == (2, 3)
    found = parse_progress(encode_progress(after, 17))
    assert found.counts == {judgment: after.counts.get(judgment, 0) for judgment in Judgment}
    assert (found.target, found.state, found.walk) == (before.target, State.RUNNING, after.walk)


@pytest.mark.parametrize("value", [b"{}", b"[]", b'{"job": "other"}', b"x"], ids=bytes.decode)
def test_what_is_no_progress_is_an_error(value: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - as it says of itself
        parse_progress(value)


def test_a_file_of_dids_is_read_in_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.crawl.lists.PAGE_LIMIT", 3)
    path = tmp_path / "dids.txt"
    lines = ["# mine", "", *(f"  {_did(n)}\r" for n in range(7)), "did:nonsense", "x" * 20_000]
    path.write_text("\n".join(lines))
    repos = DidFile(path)
    pages = [repos.request(None).result()]
    while pages[-1].cursor is not None:
        pages.append(repos.request(pages[-1].cursor).result())
    assert [listing.did for page in pages for listing in page.listings] == [
        _did(n) for n in range(7)
    ]
    # The line without end is taken in pieces.
    assert sum(page.invalid_count for page in pages) == 1 + -(-20_000 // 4_096)
    assert all(len(page.listings) + page.invalid_count <= 3 for page in pages)
    path.write_text("\n".join(lines[:-1]))
    assert DidFile(path).subject != repos.subject


def test_a_file_that_is_not_there_is_a_wrong_setting(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read the DIDs"):
        DidFile(tmp_path / "missing")
