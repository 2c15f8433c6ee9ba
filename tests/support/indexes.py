"""A made-up network as compact writes it into `repos` and `latest.*`, and what is true of it."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, Final

from support.admissions import in_force
from support.events import HOST, rev
from support.frames import NOW_US

from pipelines.atproto.cid import cid_of, encode_cid
from pipelines.atproto.frames import Action
from pipelines.atproto.syntax import Did, Tid, parse_path
from pipelines.compact.events import Body, EventOp, Source
from pipelines.compact.outputs import (
    OutputTopics,
    record_messages,
    repo_message,
    tombstone_messages,
)
from pipelines.compact.service import output_topics
from pipelines.compact.state import RepoState, Sync
from pipelines.config import KafkaConfig
from pipelines.kafka.admission import Admissions
from pipelines.kafka.messages import OutputMessage
from pipelines.kafka.partition import partition_for
from pipelines.kafka.topics import registry

POST: Final = "app.bsky.feed.post"
LIKE: Final = "app.bsky.feed.like"
DIDS: Final = [Did(f"did:plc:{name * 24}") for name in "abcdef"]
# Every text has this word.
COMMON_WORD: Final = "text"


@dataclass
class Author:
    """One account.

    Attributes:
        state: as it was written last.
        records: text and revision by path.
        doomed: the same of records that went with a deletion and still wait for their nulls.
    """

    state: RepoState
    records: dict[str, tuple[str, Tid]] = field(default_factory=dict)
    doomed: dict[str, tuple[str, Tid]] = field(default_factory=dict)


class Network:
    """Accounts that do things at random; each thing is one transaction of messages."""

    def __init__(
        self,
        kafka: KafkaConfig,
        partitions: int,
        seed: int,
        *,
        admitted: Iterable[str] = (),
        keys_count: int = 8,
    ) -> None:
        """Begins with nothing.

        Args:
            kafka: has the prefix.
            partitions: of every topic.
            seed: the same gives the same.
            admitted: the first table of collections.
            keys_count: record keys that an account uses in a collection.
        """
        self._kafka = kafka
        self._partitions = partitions
        self._random = Random(seed)
        self._number = 0
        self._keys_count = keys_count
        self.tables: list[tuple[list[str], list[int]]] = [(sorted(admitted), [0] * partitions)]
        self.authors = {did: Author(RepoState(did, self._source())) for did in DIDS}

    @property
    def admissions(self) -> Admissions:
        """The tables so far."""
        return in_force(*self.tables)

    @property
    def topics(self) -> OutputTopics:
        """Where messages go by the newest table."""
        admissions = self.admissions
        known = registry().admitting(admissions.ever)
        return output_topics(self._kafka, known, admissions)

    def posts(self) -> dict[str, str]:
        """Returns the text of every post that there is, by its address."""
        return {
            f"at://{did}/{path}": text
            for did, author in self.authors.items()
            for path, (text, _) in author.records.items()
            if path.startswith(f"{POST}/")
        }

    def shown(self) -> dict[str, str]:
        """Returns those of accounts that may be shown."""
        return {
            uri: text
            for uri, text in self.posts().items()
            if self.authors[Did(uri.split("/")[2])].state.active
        }

    def change_table(self) -> None:
        """Gives posts a topic of their own, or takes it away."""
        collections, offsets = self.tables[-1]
        changed = sorted({*collections} ^ {POST})
        self.tables.append((changed, offsets))

    def step(self) -> list[list[OutputMessage]]:
        """Does something; returns the messages of each transaction, which may be none."""
        author = self._random.choice(list(self.authors.values()))
        kinds = ["edit"] * 12 + ["remove"] * 4 + ["status"] * 2 + ["delete", "repair", "audit"]
        kinds += ["purge"] * 3 if author.doomed else []
        kind = self._random.choice(kinds)
        if kind not in ("status", "purge") and not author.state.active:
            return []
        if kind == "repair":
            return self._repair(author)
        acts = {
            "audit": self._correct,
            "delete": self._delete,
            "edit": self._edit,
            "purge": self._purge,
            "remove": self._remove,
            "status": self._change_status,
        }
        return [acts[kind](author)]

    def finish(self) -> list[list[OutputMessage]]:
        """Writes the nulls that are still missing."""
        found = []
        for author in self.authors.values():
            while author.doomed:
                found.append(self._purge(author))
        return found

    def _edit(self, author: Author) -> list[OutputMessage]:
        return self._commit(author, self._edits(author, self._paths(self._random.randint(1, 3))))

    def _remove(self, author: Author) -> list[OutputMessage]:
        return self._commit(author, self._removals(author, 1))

    def _commit(self, author: Author, ops: list[EventOp]) -> list[OutputMessage]:
        source = self._source()
        records = self._write(author, ops, rev(self._number))
        return [self._repo(author, source, sync=Sync.SYNCHRONIZED), *records]

    def _change_status(self, author: Author) -> list[OutputMessage]:
        is_active = not author.state.active
        status = None if is_active else "deactivated"
        return [
            self._repo(author, self._source(), upstream_active=is_active, upstream_status=status)
        ]

    def _delete(self, author: Author) -> list[OutputMessage]:
        author.doomed |= author.records
        author.records = {}
        message = self._repo(
            author,
            self._source(),
            upstream_active=False,
            upstream_status="deleted",
            sync=Sync.UNKNOWN,
            deleted_rev=rev(self._number),
            is_purging=bool(author.doomed),
        )
        return [message]

    def _purge(self, author: Author) -> list[OutputMessage]:
        did, source = author.state.did, self._source()
        author.state = replace(author.state, source=source)
        found = []
        for path in list(author.doomed)[: self._random.randint(1, 3)]:
            text, _ = author.doomed.pop(path)
            found += tombstone_messages(
                did, path, _cid(text), author.state, self._partition(did), self.topics
            )
        if not author.doomed:
            found.append(self._repo(author, source, is_purging=False))
        return found

    def _repair(self, author: Author) -> list[list[OutputMessage]]:
        source = self._source()._replace(
            seq=None, time=None, frame_partition=None, frame_offset=None, snapshot_offset=0
        )
        at = rev(self._number)
        begin = [self._repo(author, source, sync=Sync.APPLYING)]
        first = self._write(author, self._edits(author, self._paths(2)), at)
        last = self._write(author, self._removals(author, 2), at)
        return [begin, first, [*last, self._repo(author, source, sync=Sync.SYNCHRONIZED)]]

    def _correct(self, author: Author) -> list[OutputMessage]:
        """Writes a record that was wrong again, as that of the same commit.

        Only as long as that goes to the same topic: between two, nothing orders the messages.
        """
        if not author.records or len(self.tables) > 1:
            return []
        path = self._random.choice(sorted(author.records))
        before, at = author.records[path]
        [op] = self._edits(author, [path])
        assert op.prev == _cid(before)
        return self._write(author, [op], at)

    def _paths(self, count: int) -> list[str]:
        numbers = self._random.sample(range(self._keys_count), count)
        return [f"{self._random.choice([POST, POST, LIKE])}/{number}" for number in numbers]

    def _edits(self, author: Author, paths: list[str]) -> list[EventOp]:
        ops = []
        for path in paths:
            before = author.records.get(path)
            self._number += 1
            text = f"{COMMON_WORD} {self._number} by {author.state.did[-1]}"
            action = Action.CREATE if before is None else Action.UPDATE
            prev = None if before is None else _cid(before[0])
            body = Body({"$type": "any", "text": text}, None, None)
            ops.append(EventOp(action, *parse_path(path), _cid(text), prev, body))
        return ops

    def _removals(self, author: Author, count: int) -> list[EventOp]:
        paths = self._random.sample(sorted(author.records), min(count, len(author.records)))
        return [
            EventOp(Action.DELETE, *parse_path(path), None, _cid(author.records[path][0]), None)
            for path in paths
        ]

    def _write(self, author: Author, ops: list[EventOp], at: Tid) -> list[OutputMessage]:
        """Returns the messages of a commit, or of a slice of a repair, with these operations."""
        state = author.state
        for op in ops:
            author.doomed.pop(op.path, None)
            if op.body is None:
                del author.records[op.path]
            else:
                assert op.body.record is not None
                author.records[op.path] = (op.body.record["text"], at)
        partition = self._partition(state.did)
        return record_messages(state.did, at, ops, state.source, partition, self.topics)

    def _repo(self, author: Author, source: Source, **changes: Any) -> OutputMessage:
        author.state = replace(author.state, source=source, **changes)
        return repo_message(author.state, self._partition(author.state.did), self.topics)

    def _source(self) -> Source:
        self._number += 1
        return Source(HOST, self._number, "2026-11-01T00:00:00Z", NOW_US + self._number, 0, 0)

    def _partition(self, did: Did) -> int:
        return partition_for(did, self._partitions)


def _cid(text: str) -> str:
    return encode_cid(cid_of(text.encode()))
