"""Where repositories are listed: by a host, by a relay for a collection, or in a file of DIDs."""

import hashlib
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

from pipelines.atproto.errors import ProtocolError
from pipelines.atproto.syntax import MAX_DID_LENGTH, Nsid, parse_did
from pipelines.crawl.listing import (
    MAX_PAGE_BYTES,
    PAGE_LIMIT,
    Host,
    Listing,
    ListingError,
    Page,
    Walk,
    hosts_url,
    parse_hosts_page,
    parse_repos_page,
    repos_url,
)
from pipelines.errors import ConfigError
from pipelines.identity.background import BackgroundFetcher
from pipelines.identity.fetching import AbsentError, UnusableError


class HostList:
    """The repositories of a host, or those of a relay that have records in a collection.

    Attributes:
        host: base URL of the host.
        subject: what the list is called in `crawls`.
        most_count: how many repositories it may have; None for any number.
    """

    def __init__(
        self,
        host: str,
        fetcher: BackgroundFetcher,
        *,
        collection: Nsid | None = None,
        most_count: int | None = None,
        base: str | None = None,
    ) -> None:
        """Takes what tells the list; nothing is asked yet.

        Args:
            host: base URL, without a slash at its end.
            fetcher: asks the host.
            collection: only repositories with records in it.
            most_count: how many repositories it may have; None for any number.
            base: for simulated networks: where the host is to be found instead.
        """
        self.host: str | None = host
        self.subject = f"repos {host}" if collection is None else f"{collection} {host}"
        self.most_count = most_count
        self._base = base or host
        self._fetcher = fetcher
        self._collection = collection

    def request(self, cursor: str | None) -> Future[Page]:
        """Begins to read a page, as `pipelines.crawl.walking.RepoList`."""
        return self._fetcher.run(self._get(repos_url(self._base, cursor, self._collection)))

    async def _get(self, url: str) -> Page:
        body = await self._fetcher.fetcher.get(url, MAX_PAGE_BYTES)
        return parse_repos_page(body, time.time_ns() // 1_000)


class DidFile:
    """The DIDs in a file, one a line; empty lines and those that begin with # are passed over.

    The cursor is a position in the file, and the subject has the file's hash: one that was changed
    is another list.

    Attributes:
        host: None: the file does not say where the repositories are.
        subject: what the list is called in `crawls`.
        most_count: None: the operator's file may have any number.
    """

    def __init__(self, path: Path) -> None:
        """Reads the file once, for its hash.

        Raises:
            ConfigError: it cannot be read.
        """
        self.host: str | None = None
        self.most_count: int | None = None
        self._path = path
        try:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise ConfigError(f"cannot read the DIDs in {path}: {error.strerror}") from None
        self.subject = f"dids sha256:{digest}"

    def request(self, cursor: str | None) -> Future[Page]:
        """Reads a page, as `pipelines.crawl.walking.RepoList`."""
        page: Future[Page] = Future()
        page.set_result(self._read(int(cursor or 0)))
        return page

    def _read(self, start: int) -> Page:
        listings: list[Listing] = []
        invalid_count = 0
        with self._path.open("rb") as file:
            file.seek(start)
            while len(listings) + invalid_count < PAGE_LIMIT:
                # A line without end is taken in pieces, each of them no DID.
                line = file.readline(2 * MAX_DID_LENGTH)
                if not line:
                    return Page(tuple(listings), invalid_count, None)
                text = line.strip()
                if not text or text.startswith(b"#"):
                    continue
                try:
                    listings.append(Listing(parse_did(text.decode("ascii", "replace"))))
                except ProtocolError:
                    invalid_count += 1
            return Page(tuple(listings), invalid_count, str(file.tell()))


def hosts_of(relay: str, fetcher: BackgroundFetcher) -> Iterator[Host]:
    """Yields the hosts that a relay reads, page by page.

    Args:
        relay: base URL, without a slash at its end.
        fetcher: asks it.

    Raises:
        ConfigError: the relay gives no such list.
        IdentityUnavailableError: it is away.
    """
    walk = Walk()
    while True:
        try:
            body = fetcher.get(hosts_url(relay, walk.cursor), MAX_PAGE_BYTES).result()
            page = parse_hosts_page(body)
            yield from page.hosts
            if page.cursor is None:
                return
            is_empty = not page.hosts and not page.left_out_count
            walk = walk.after(page.cursor, is_empty=is_empty)
        except (AbsentError, UnusableError, ListingError) as error:
            raise ConfigError(
                f"{relay} gives no list of its hosts ({error}): name another --relay, or hosts "
                "with --hosts"
            ) from None
