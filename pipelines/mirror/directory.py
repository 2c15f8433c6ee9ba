"""The export of a running directory, read page by page, one page ahead of whoever works on it.

A directory that is away, or asks for a pause, is waited for: an import takes hours and the answer
to the same question is the same later. How often it is asked and how large a page may be is
bounded by `pipelines.identity.fetching`.
"""

import random
import threading
from collections.abc import Generator
from concurrent.futures import Future
from typing import Final

from pipelines import logs
from pipelines.errors import ConfigError, IdentityUnavailableError
from pipelines.identity.background import BackgroundFetcher
from pipelines.identity.fetching import (
    AbsentError,
    Fetcher,
    FetchLimits,
    UnusableError,
    parse_base_url,
)
from pipelines.identity.pace import MAX_PAUSE_S, MIN_PAUSE_S, PaceLimits
from pipelines.mirror.export import (
    MAX_SEQ,
    PAGE_LINES,
    ExportError,
    is_sequenced,
    parse_page,
    position_after,
)
from pipelines.mirror.source import Chunk

# A page of the largest operations is some 10 MB, an ordinary one 1 MB.
MAX_PAGE_BYTES: Final = 32 * 1024 * 1024
PAGE_TIMEOUT_S: Final = 60.0
# How often a directory is asked whether there is more, once everything is read.
POLL_INTERVAL_S: Final = 2.0
# Pages in a row that are no export, before something else is taken to be there.
MAX_BAD_PAGES: Final = 5
# How exactly the end of the export is looked for, as a share of it: more would cost requests.
END_PRECISION: Final = 0.01

_WAKE_S: Final = 0.2

_log = logs.get_logger("identity")


class DirectoryExport:
    """The export of a directory.

    Attributes:
        url: base URL of the directory, without a slash at its end.
    """

    def __init__(self, url: str, *, per_s: float, follows: bool) -> None:
        """Takes the settings; nothing is connected yet.

        Args:
            url: base URL of the directory.
            per_s: requests a second at most.
            follows: whether to wait for more where the export ends.

        Raises:
            ConfigError: the URL is not of the form http(s)://host[:port][/path].
        """
        self.url = parse_base_url("the PLC directory's URL", url)
        self._per_s = per_s
        self._follows = follows
        self._bad_pages_count = 0
        self._pause_s = 0.0

    def chunks(self, position: str, stop: threading.Event) -> Generator[Chunk]:
        """Yields the lines after a position, a page at a time.

        Raises:
            ConfigError: there is no export at the URL.
        """
        end: int | None = None
        is_first = True
        pace = PaceLimits(1, self._per_s, max(1, int(self._per_s)))
        fetcher = Fetcher(FetchLimits(pace, 1, PAGE_TIMEOUT_S), takes_gzip=True)
        with BackgroundFetcher(fetcher, "export") as background:
            pages = _Pages(self.url, background, stop)
            page = pages.request(position)
            while not stop.is_set():
                try:
                    lines = parse_page(pages.result(page))
                    is_full = len(lines) >= PAGE_LINES
                    after = position_after(position, lines, is_full=is_full)
                except _StoppedError:
                    return
                except (IdentityUnavailableError, ExportError) as error:
                    self._wait(error, stop)
                    page = pages.request(position)
                    continue
                self._bad_pages_count, self._pause_s, position = 0, 0.0, after
                if is_first and is_full and is_sequenced(position):
                    end = _find_end(pages, int(position))
                is_first = False
                if is_full:
                    page = pages.request(position)
                yield Chunk(lines, position, _share(position, end), not is_full)
                if not is_full:
                    if not self._follows or stop.wait(POLL_INTERVAL_S):
                        return
                    page = pages.request(position)

    def _wait(self, error: IdentityUnavailableError | ExportError, stop: threading.Event) -> None:
        asked_s: float | None = None
        match error:
            case IdentityUnavailableError(retry_after_s=asked_s):
                pass
            case ExportError():
                # One page may be cut off on its way. If all are, there is no export.
                self._bad_pages_count += 1
                if self._bad_pages_count == MAX_BAD_PAGES:
                    raise ConfigError(f"{self.url}/export is not that of a directory: {error}")
        self._pause_s = min(MAX_PAUSE_S, max(MIN_PAUSE_S, 2 * self._pause_s))
        chance = random.random()  # noqa: S311 - spreads requests, guards no secret
        pause_s = max(self._pause_s * (1 + chance) / 2, asked_s or 0.0)
        _log.warning("directory_unavailable", detail=str(error), pause_s=round(pause_s, 1))
        stop.wait(pause_s)


class _StoppedError(Exception):
    """A stop was asked for while a page was on its way."""


class _Pages:
    """Requests for pages of an export."""

    def __init__(self, url: str, fetcher: BackgroundFetcher, stop: threading.Event) -> None:
        self._url = url
        self._fetcher = fetcher
        self._stop = stop

    def request(self, position: str, count: int = PAGE_LINES) -> Future[bytes]:
        """Begins to fetch the page after a position."""
        url = f"{self._url}/export?count={count}&after={position}"
        return self._fetcher.get(url, MAX_PAGE_BYTES)

    def result(self, page: Future[bytes]) -> bytes:
        """Waits for a page.

        Raises:
            ConfigError: there is no export.
            IdentityUnavailableError: the directory is away.
            _StoppedError: a stop was asked for meanwhile.
        """
        while not self._stop.is_set():
            try:
                return page.result(_WAKE_S)
            except TimeoutError:
                continue
            except AbsentError as error:
                raise ConfigError(f"there is no directory with an export: {error}") from None
            except UnusableError as error:
                raise ConfigError(f"the export cannot be read: {error}") from None
        raise _StoppedError


def _find_end(pages: _Pages, known: int) -> int | None:
    """Finds about where the export ends, by asking what comes after sequence numbers.

    Returns:
        A sequence number within `END_PRECISION` above the last one; None if nobody says, or if
        there is always more, whatever the number.
    """

    def has_more(after: int) -> bool:
        return bool(pages.result(pages.request(str(after), count=1)))

    low, high = known, 2 * known
    try:
        while has_more(high):
            low, high = high, 2 * high
            if high > MAX_SEQ:
                return None
        while high - low > max(PAGE_LINES, high * END_PRECISION):
            middle = (low + high) // 2
            low, high = (middle, high) if has_more(middle) else (low, middle)
    except (IdentityUnavailableError, _StoppedError):
        return None
    return high


def _share(position: str, end: int | None) -> float | None:
    return None if end is None else min(1.0, int(position) / end)
