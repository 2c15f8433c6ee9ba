"""A full-text index of all posts in one SQLite file, exact after any crash.

    python -m pipelines.consume.examples.posts follow posts.db
    python -m pipelines.consume.examples.posts search posts.db "fire hose"

`follow` reads everything that there is, says when the index is complete, and goes on with what
comes until Ctrl-C. Killed at any moment, it goes on where the file is; deleting the file builds it
anew. `search` may run beside it.

Posts, accounts and positions change in one transaction of SQLite: that is all there is to it.
"""

import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final, NamedTuple, assert_never

import click

from pipelines.config import DEFAULT_BOOTSTRAP_SERVERS, DEFAULT_TOPIC_PREFIX, KafkaConfig
from pipelines.consume import AccountChanged, Batch, Change, Delete, Index, Put
from pipelines.errors import BrokerUnavailableError, ConfigError
from pipelines.process import stop_event

COLLECTION: Final = "app.bsky.feed.post"
# `search` waits for a transaction of `follow`.
_BUSY_TIMEOUT_S: Final = 30.0

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS posts (
    id INTEGER PRIMARY KEY,
    uri TEXT NOT NULL UNIQUE,
    did TEXT NOT NULL,
    rev TEXT NOT NULL,
    text TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS accounts (
    did TEXT PRIMARY KEY,
    is_active INTEGER NOT NULL,
    sync TEXT NOT NULL,
    deleted_rev TEXT
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS positions (
    partition INTEGER PRIMARY KEY,
    position TEXT NOT NULL
);
CREATE VIRTUAL TABLE IF NOT EXISTS words USING fts5(text, content='posts', content_rowid='id');
CREATE TRIGGER IF NOT EXISTS post_added AFTER INSERT ON posts BEGIN
    INSERT INTO words(rowid, text) VALUES (new.id, new.text);
END;
CREATE TRIGGER IF NOT EXISTS post_removed AFTER DELETE ON posts BEGIN
    INSERT INTO words(words, rowid, text) VALUES ('delete', old.id, old.text);
END;
CREATE TRIGGER IF NOT EXISTS post_changed AFTER UPDATE ON posts BEGIN
    INSERT INTO words(words, rowid, text) VALUES ('delete', old.id, old.text);
    INSERT INTO words(rowid, text) VALUES (new.id, new.text);
END;
"""

# As `AccountChanged.shows` says; an account without a row is one that was never heard of.
_SEARCH: Final = """
SELECT posts.uri, posts.text, ifnull(accounts.sync, 'synchronized') = 'applying'
FROM words
JOIN posts ON posts.id = words.rowid
LEFT JOIN accounts ON accounts.did = posts.did
WHERE words MATCH ?
    AND ifnull(accounts.is_active, 1)
    AND (accounts.deleted_rev IS NULL OR accounts.deleted_rev < posts.rev)
ORDER BY words.rank, posts.uri
LIMIT ?
"""


class Hit(NamedTuple):
    """A post that was found.

    Attributes:
        uri: its address.
        text: all of it.
        is_in_repair: whether its account is just being repaired, so that it may be gone already.
    """

    uri: str
    text: str
    is_in_repair: bool


class PostIndex:
    """The file."""

    def __init__(self, path: Path) -> None:
        """Opens the index; makes one if there is none."""
        self._database = sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S, isolation_level=None)
        # Readers and the writer do not wait for each other. A power cut may take the last
        # transactions along, each whole: their positions are gone with them.
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = NORMAL")
        self._database.executescript(_TABLES)

    def close(self) -> None:
        """Closes the file."""
        self._database.close()

    def positions(self) -> dict[int, str]:
        """Returns how far the index is."""
        return dict(self._database.execute("SELECT partition, position FROM positions"))

    def count(self) -> int:
        """Returns how many posts there are, also of accounts that are not shown."""
        [count] = self._database.execute("SELECT count(*) FROM posts").fetchone()
        return int(count)

    def apply(self, batch: Batch) -> None:
        """Takes a batch over, all of it or nothing.

        Raises:
            ConfigError: another process has written the index.
        """
        self._database.execute("BEGIN IMMEDIATE")
        try:
            stored = self.positions()
            if any(stored.get(number) != before for number, before in batch.before.items()):
                raise ConfigError("another process follows into this file: stop one of the two")
            for change in batch:
                self._apply(change)
            self._database.executemany(
                "INSERT OR REPLACE INTO positions VALUES (?, ?)", batch.positions.items()
            )
        except BaseException:
            self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")

    def search(self, words: str, limit: int) -> list[Hit]:
        """Returns posts that have all the words, the best ones first.

        Args:
            words: separated by white space.
            limit: of hits.
        """
        quoted = " ".join('"' + word.replace('"', '""') + '"' for word in words.split())
        if not quoted:
            return []
        found = self._database.execute(_SEARCH, (quoted, limit))
        return [Hit(uri, text, bool(is_in_repair)) for uri, text, is_in_repair in found]

    def _apply(self, change: Change) -> None:
        match change:
            case Put():
                if change.replaces(self._rev(change.uri)):
                    text = (change.record or {}).get("text")
                    # One without a text that can be read takes the place of its predecessor, too.
                    self._database.execute(
                        "INSERT INTO posts (uri, did, rev, text) VALUES (?, ?, ?, ?) "
                        "ON CONFLICT (uri) DO UPDATE SET rev = excluded.rev, text = excluded.text",
                        (
                            change.uri,
                            change.did,
                            change.rev,
                            text if isinstance(text, str) else "",
                        ),
                    )
            case Delete():
                if change.replaces(self._rev(change.uri)):
                    self._database.execute("DELETE FROM posts WHERE uri = ?", (change.uri,))
            case AccountChanged():
                self._database.execute(
                    "INSERT OR REPLACE INTO accounts VALUES (?, ?, ?, ?)",
                    (change.did, change.is_active, change.sync, change.deleted_rev),
                )
            case _:
                assert_never(change)

    def _rev(self, uri: str) -> str | None:
        row = self._database.execute("SELECT rev FROM posts WHERE uri = ?", (uri,)).fetchone()
        return None if row is None else str(row[0])


def follow(
    path: Path, kafka: KafkaConfig, *, is_ending: bool, should_stop: Callable[[], bool]
) -> None:
    """Keeps the index in a file current.

    Args:
        path: the file; made if missing.
        kafka: the cluster.
        is_ending: whether to end once everything is in it that was there at the start.
        should_stop: asked between batches.

    Raises:
        ConfigError: the index cannot be continued, or what it needs is not there.
        BrokerUnavailableError: no broker answers.
    """
    with closing(PostIndex(path)) as posts:
        is_told = False
        index = Index(kafka, [COLLECTION], posts.positions(), should_stop=should_stop)
        for batch in index.batches():
            posts.apply(batch)
            if batch.is_complete and batch.behind_count == 0 and not is_told:
                is_told = True
                click.echo(f"complete: {posts.count():,} posts", err=True)
                if is_ending:
                    return


@click.group(help=(__doc__ or "").partition("\n")[0])
def main() -> None:
    """Takes the command line apart."""


@main.command("follow", help="Build the index, and keep it current until Ctrl-C.")
@click.argument("path", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--bootstrap-servers", default=DEFAULT_BOOTSTRAP_SERVERS, show_default=True)
@click.option("--topic-prefix", default=DEFAULT_TOPIC_PREFIX, show_default=True)
@click.option("--once", is_flag=True, help="End once everything is in it that is there now.")
def follow_command(path: Path, bootstrap_servers: str, topic_prefix: str, once: bool) -> None:
    """Runs `follow`."""
    with _errors_told(path), stop_event() as stopped:
        kafka = KafkaConfig(bootstrap_servers, topic_prefix)
        follow(path, kafka, is_ending=once, should_stop=stopped.is_set)


@main.command("search", help="Show posts that have all WORDS, the best ones first.")
@click.argument("path", metavar="FILE", type=click.Path(exists=True, path_type=Path))
@click.argument("words")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1))
def search_command(path: Path, words: str, limit: int) -> None:
    """Runs `PostIndex.search`; prints address and text, a line for each post."""
    with _errors_told(path), closing(PostIndex(path)) as posts:
        for hit in posts.search(words, limit):
            mark = " (in repair)" if hit.is_in_repair else ""
            click.echo(f"{hit.uri}{mark}\t{' '.join(hit.text.split())}")


@contextmanager
def _errors_told(path: Path) -> Iterator[None]:
    """Ends the process with 2 if it was started wrongly or the index cannot go on, else with 1."""
    try:
        yield
    except ConfigError as error:
        click.echo(f"{path}: {error}", err=True)
        sys.exit(2)
    except BrokerUnavailableError as error:
        click.echo(str(error), err=True)
        sys.exit(1)
    except sqlite3.Error as error:
        # As of a full disk: what was committed is in the file.
        click.echo(f"{path}: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
