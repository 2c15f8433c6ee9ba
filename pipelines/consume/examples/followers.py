"""How many followers each account has, in PostgreSQL, exact after any crash.

    python -m pipelines.consume.examples.followers follow "host=db.example dbname=index"
    python -m pipelines.consume.examples.followers top "host=db.example dbname=index"

`follow` reads everything that there is, says when the counts are complete, and goes on with what
comes until Ctrl-C. Killed at any moment, it goes on where the database is. Needs the extra
`postgres` of this package.

A follower is an account that is shown and has a record that follows; two such records count once.
Neither a delete nor `prev` names the account that was followed, so each record that counts is a
row. What a batch may change are pairs of a follower and who is followed: those of its records, and
all of an account that is shown from now on, or no longer. Which of them count is looked up before
the batch and after it, and the difference goes into the counts, with the positions, in one
transaction.
"""

import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import closing, contextmanager
from typing import Final, NamedTuple, TypeAlias

import click
import psycopg

from pipelines.config import DEFAULT_BOOTSTRAP_SERVERS, DEFAULT_TOPIC_PREFIX, KafkaConfig
from pipelines.consume import AccountChanged, Batch, Delete, Index, Put
from pipelines.errors import BrokerUnavailableError, ConfigError
from pipelines.process import stop_event

COLLECTION: Final = "app.bsky.graph.follow"

# Revisions are compared as bytes, whatever the database's language is.
_TABLES: Final = """
CREATE TABLE IF NOT EXISTS follows (
    uri text PRIMARY KEY,
    did text NOT NULL,
    rev text COLLATE "C" NOT NULL,
    subject text NOT NULL
);
CREATE INDEX IF NOT EXISTS follows_pairs ON follows (did, subject);
CREATE TABLE IF NOT EXISTS accounts (
    did text PRIMARY KEY,
    is_active boolean NOT NULL,
    deleted_rev text COLLATE "C"
);
CREATE TABLE IF NOT EXISTS followers (
    did text PRIMARY KEY,
    count bigint NOT NULL
);
CREATE TABLE IF NOT EXISTS positions (
    partition integer PRIMARY KEY,
    position text NOT NULL
);
"""

# As `AccountChanged.shows` says; an account without a row is one that was never heard of.
_COUNTED: Final = """
SELECT DISTINCT did, subject
FROM unnest(%s::text[], %s::text[]) AS pairs (did, subject)
JOIN follows USING (did, subject)
LEFT JOIN accounts USING (did)
WHERE coalesce(is_active, true) AND (deleted_rev IS NULL OR deleted_rev < rev)
"""

Pair: TypeAlias = tuple[str, str]


class _Follow(NamedTuple):
    """A record; the subject is "" where it names nobody."""

    did: str
    rev: str
    subject: str


class FollowerIndex:
    """The database."""

    def __init__(self, conninfo: str) -> None:
        """Connects, and makes the tables if there are none.

        Args:
            conninfo: as PostgreSQL's programs take it, a URI or words.

        Raises:
            psycopg.OperationalError: there is no database.
        """
        self._connection = psycopg.connect(conninfo, autocommit=True)
        self._connection.execute(_TABLES)

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()

    def positions(self) -> dict[int, str]:
        """Returns how far the counts are."""
        return dict(self._connection.execute("SELECT partition, position FROM positions"))

    def top(self, limit: int) -> list[tuple[str, int]]:
        """Returns who has the most followers, and how many.

        Args:
            limit: of accounts.
        """
        found = self._connection.execute(
            "SELECT did, count FROM followers WHERE count > 0 ORDER BY count DESC, did LIMIT %s",
            (limit,),
        )
        return [(did, count) for did, count in found]

    def apply(self, batch: Batch) -> None:
        """Takes a batch over, all of it or nothing.

        Raises:
            ConfigError: another process has written the counts.
        """
        with self._connection.transaction():
            self._connection.execute("LOCK TABLE positions IN EXCLUSIVE MODE")
            stored = self.positions()
            if any(stored.get(number) != before for number, before in batch.before.items()):
                raise ConfigError(
                    "another process follows into this database: stop one of the two"
                )
            self._apply(batch)
            self._insert(
                "INSERT INTO positions VALUES (%s, %s) "
                "ON CONFLICT (partition) DO UPDATE SET position = excluded.position",
                batch.positions.items(),
            )

    def _apply(self, batch: Batch) -> None:
        accounts = {each.did: each for each in batch if isinstance(each, AccountChanged)}
        records = [each for each in batch if not isinstance(each, AccountChanged)]
        held = self._held({record.uri for record in records})
        changed = _changed(held, records)
        pairs = {
            (follow.did, follow.subject)
            for follow in (*held.values(), *changed.values())
            if follow is not None
        }
        pairs |= self._pairs_of(self._otherwise(accounts.values()))
        before = self._counted(pairs)
        gone = [uri for uri, follow in changed.items() if follow is None]
        self._connection.execute("DELETE FROM follows WHERE uri = ANY(%s)", (gone,))
        self._insert(
            "INSERT INTO follows VALUES (%s, %s, %s, %s) ON CONFLICT (uri) DO UPDATE "
            "SET rev = excluded.rev, subject = excluded.subject",
            ((uri, *follow) for uri, follow in changed.items() if follow is not None),
        )
        self._insert(
            "INSERT INTO accounts VALUES (%s, %s, %s) ON CONFLICT (did) DO UPDATE "
            "SET is_active = excluded.is_active, deleted_rev = excluded.deleted_rev",
            ((each.did, each.is_active, each.deleted_rev) for each in accounts.values()),
        )
        after = self._counted(pairs)
        changes = Counter(subject for _, subject in after - before)
        changes.subtract(subject for _, subject in before - after)
        self._insert(
            "INSERT INTO followers VALUES (%s, %s) ON CONFLICT (did) DO UPDATE "
            "SET count = followers.count + excluded.count",
            ((did, change) for did, change in changes.items() if change),
        )

    def _held(self, uris: Collection[str]) -> dict[str, _Follow]:
        """Returns the records that there are at some addresses."""
        found = self._connection.execute(
            "SELECT uri, did, rev, subject FROM follows WHERE uri = ANY(%s)", (list(uris),)
        )
        return {uri: _Follow(*members) for uri, *members in found}

    def _otherwise(self, accounts: Collection[AccountChanged]) -> list[str]:
        """Returns which accounts are not as the database has them."""
        dids = [account.did for account in accounts]
        found = self._connection.execute(
            "SELECT did, is_active, deleted_rev FROM accounts WHERE did = ANY(%s)", (dids,)
        )
        known = {did: (is_active, deleted_rev) for did, is_active, deleted_rev in found}
        return [
            account.did
            for account in accounts
            if known.get(account.did, (True, None)) != (account.is_active, account.deleted_rev)
        ]

    def _pairs_of(self, dids: Collection[str]) -> set[Pair]:
        found = self._connection.execute(
            "SELECT DISTINCT did, subject FROM follows WHERE did = ANY(%s)", (list(dids),)
        )
        return {(did, subject) for did, subject in found}

    def _counted(self, pairs: Collection[Pair]) -> set[Pair]:
        """Returns which pairs count now; one of nobody never does."""
        wanted = [pair for pair in pairs if pair[1]]
        dids, subjects = [did for did, _ in wanted], [subject for _, subject in wanted]
        return set(self._connection.execute(_COUNTED, (dids, subjects)))

    def _insert(self, statement: str, rows: Iterable[tuple[object, ...]]) -> None:
        with self._connection.cursor() as cursor:
            cursor.executemany(statement, list(rows))


def _changed(
    held: dict[str, _Follow], records: Iterable[Put | Delete]
) -> dict[str, _Follow | None]:
    """Returns what there is after some changes, where they changed anything."""
    changed: dict[str, _Follow | None] = {}
    for record in records:
        known = changed.get(record.uri, held.get(record.uri))
        if not record.replaces(None if known is None else known.rev):
            continue
        if isinstance(record, Delete):
            changed[record.uri] = None
        else:
            subject = (record.record or {}).get("subject")
            # One that names nobody takes the place of its predecessor, too.
            changed[record.uri] = _Follow(
                record.did, record.rev, subject if isinstance(subject, str) else ""
            )
    return changed


def follow(
    conninfo: str, kafka: KafkaConfig, *, is_ending: bool, should_stop: Callable[[], bool]
) -> None:
    """Keeps the counts in a database current.

    Args:
        conninfo: the database.
        kafka: the cluster.
        is_ending: whether to end once everything is in it that was there at the start.
        should_stop: asked between batches.

    Raises:
        ConfigError: the counts cannot be continued, or what they need is not there.
        BrokerUnavailableError: no broker answers.
        psycopg.Error: the database is away, or refuses.
    """
    with closing(FollowerIndex(conninfo)) as followers:
        is_told = False
        index = Index(kafka, [COLLECTION], followers.positions(), should_stop=should_stop)
        for batch in index.batches():
            followers.apply(batch)
            if batch.is_complete and batch.behind_count == 0 and not is_told:
                is_told = True
                click.echo("complete", err=True)
                if is_ending:
                    return


@click.group(help=(__doc__ or "").partition("\n")[0])
def main() -> None:
    """Takes the command line apart."""


@main.command("follow", help="Count, and keep the counts current until Ctrl-C.")
@click.argument("conninfo", metavar="DATABASE")
@click.option("--bootstrap-servers", default=DEFAULT_BOOTSTRAP_SERVERS, show_default=True)
@click.option("--topic-prefix", default=DEFAULT_TOPIC_PREFIX, show_default=True)
@click.option("--once", is_flag=True, help="End once everything is counted that is there now.")
def follow_command(conninfo: str, bootstrap_servers: str, topic_prefix: str, once: bool) -> None:
    """Runs `follow`."""
    with _errors_told(), stop_event() as stopped:
        kafka = KafkaConfig(bootstrap_servers, topic_prefix)
        follow(conninfo, kafka, is_ending=once, should_stop=stopped.is_set)


@main.command("top", help="Show who has the most followers, and how many.")
@click.argument("conninfo", metavar="DATABASE")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1))
def top_command(conninfo: str, limit: int) -> None:
    """Runs `FollowerIndex.top`; prints count and DID, a line for each account."""
    with _errors_told(), closing(FollowerIndex(conninfo)) as followers:
        for did, count in followers.top(limit):
            click.echo(f"{count}\t{did}")


@contextmanager
def _errors_told() -> Iterator[None]:
    """Ends the process with 2 if it was started wrongly or cannot go on, else with 1."""
    try:
        yield
    except ConfigError as error:
        click.echo(str(error), err=True)
        sys.exit(2)
    except (BrokerUnavailableError, psycopg.Error) as error:
        # What was committed is in the database.
        click.echo(str(error), err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
