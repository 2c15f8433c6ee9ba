"""Accounts from within: what their next commit does."""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from random import Random
from typing import Final

from pipelines.atproto import cbor
from pipelines.atproto.cid import cid_of, encode_cid
from pipelines.atproto.frames import Action, Op
from pipelines.atproto.mst.tree import Tree, Write
from pipelines.atproto.signing import SigningKey, sign_commit
from pipelines.atproto.syntax import Tid, parse_path
from pipelines.sim.clock import Clock
from pipelines.sim.content import BLOG_ENTRY, GATE, POST, PROFILE, Content, Post
from pipelines.sim.events import AccountState, Head, WrittenOp
from pipelines.sim.mix import Mix

# What a commit of several operations has at most here: "up to dozens". The protocol takes 200.
MAX_OPS_COUNT: Final = 48
# How many of its records an account remembers, to delete one of them, and to edit one.
_DELETABLE_COUNT: Final = 16
_EDITABLE_COUNT: Final = 4
# Of a post, to come with a record that closes it to answers.
_GATE_SHARE: Final = 0.02

_PROFILE_PATH: Final = f"{PROFILE}/self"


@dataclass(slots=True)
class Author:
    """An account.

    Attributes:
        number: how many accounts were made before it.
        signing_key: its current one.
        state: the account after the last event that was made.
        deletable: paths and raw record CIDs of some of its records.
        editable: likewise; of records that are never deleted.
        keys_count: signing keys it had so far.
        handles_count: names it had so far.
    """

    number: int
    signing_key: SigningKey
    state: AccountState
    deletable: list[tuple[str, bytes]] = field(default_factory=list)
    editable: dict[str, bytes] = field(default_factory=dict)
    keys_count: int = 1
    handles_count: int = 1

    @property
    def head(self) -> Head:
        """The head of an account that has one."""
        assert self.state.head is not None
        return self.state.head

    def commit(self, tree: Tree, rev: Tid) -> None:
        """Signs a tree, which is the account's new head."""
        commit = sign_commit(self.signing_key, self.state.did, rev, tree.root_cid)
        head = Head(commit, cid_of(commit.block), tree)
        self.state = replace(self.state, head=head)

    def is_profile(self, path: str) -> bool:
        """Tells whether a record is the profile, which every account with records has."""
        return path == _PROFILE_PATH

    def forget(self, gone: AbstractSet[str]) -> None:
        """Notes that records were deleted, by their paths."""
        self.deletable = [item for item in self.deletable if item[0] not in gone]
        self.editable = {path: cid for path, cid in self.editable.items() if path not in gone}


class Batch:
    """The operations of one commit.

    Attributes:
        ops: as the message has them, with what they wrote.
        writes: the same for the tree.
    """

    def __init__(self) -> None:
        self.ops: list[WrittenOp] = []
        self.writes: list[Write] = []

    def put(self, path: str, record: bytes, prev: bytes | None = None) -> bytes:
        """Creates or replaces a record; returns its raw CID."""
        cid = cid_of(record)
        self._add(Action.CREATE if prev is None else Action.UPDATE, path, cid, prev, record)
        return cid

    def delete(self, path: str, prev: bytes) -> None:
        """Deletes a record."""
        self._add(Action.DELETE, path, None, prev, None)

    def tree(self) -> Tree:
        """Returns the tree of a batch that creates all there is."""
        return Tree.of(sorted((op.path, op.cid) for op, _ in self.ops if op.cid is not None))

    def extend(self, other: "Batch") -> None:
        """Adds the operations of another batch, none of which is on a path of this one."""
        self.ops += other.ops
        self.writes += other.writes

    def _add(
        self,
        action: Action,
        path: str,
        cid: bytes | None,
        prev: bytes | None,
        record: bytes | None,
    ) -> None:
        op = Op(action, path, *parse_path(path), cid, prev)
        self.ops.append(WrittenOp(op, record))
        self.writes.append(Write(path.encode(), prev, cid))


class Composer:
    """Decides what accounts write."""

    def __init__(self, mix: Mix, content: Content, clock: Clock, random: Random) -> None:
        self._mix = mix
        self._content = content
        self._clock = clock
        self._random = random

    def compose(self, author: Author) -> Batch:
        """Returns what an account's next commit does: its profile first, then by the mix."""
        if not author.editable:
            return self.compose_creates(author, 1)
        count = 1
        if self._random.random() < self._mix.several_ops:
            count = min(MAX_OPS_COUNT, 2 + int(self._random.expovariate(1 / 6)))
        batch = Batch()
        # What this commit writes is remembered after it: a path occurs once in a commit.
        created: list[tuple[str, bytes]] = []
        unedited = list(author.editable)
        for _ in range(count):
            chance = self._random.random()
            if chance < self._mix.delete and author.deletable:
                self._delete(author, batch)
            elif chance > 1 - self._mix.update and unedited:
                path = unedited.pop(int(len(unedited) * self._random.random()))
                self._update(author, batch, path)
            else:
                created.append(self._create(author, batch))
        for item in created:
            self._remember(author, item)
        return batch

    def compose_creates(self, author: Author, count: int) -> Batch:
        """Returns a commit of an account without records that creates some, a profile first."""
        batch = Batch()
        profile = cbor.encode(self._content.compose_profile(self._clock.text()))
        author.editable[_PROFILE_PATH] = batch.put(_PROFILE_PATH, profile)
        self._add_creates(author, batch, count - 1)
        return batch

    def compose_more(self, author: Author, count: int) -> Batch:
        """Returns a commit of any account that creates some records."""
        if not author.editable:
            return self.compose_creates(author, count)
        batch = Batch()
        self._add_creates(author, batch, count)
        return batch

    def _add_creates(self, author: Author, batch: Batch, count: int) -> None:
        for _ in range(count):
            self._remember(author, self._create(author, batch))

    def _create(self, author: Author, batch: Batch) -> tuple[str, bytes]:
        created_at = self._clock.text()
        collection, fields = self._content.compose(created_at)
        rkey = self._clock.tid()
        path = f"{collection}/{rkey}"
        cid = batch.put(path, cbor.encode(fields))
        if collection == POST:
            uri = f"at://{author.state.did}/{path}"
            self._content.remember_post(Post(uri, encode_cid(cid)))
            if self._random.random() < _GATE_SHARE:
                gate = self._content.compose_gate(uri, created_at)
                batch.put(f"{GATE}/{rkey}", cbor.encode(gate))
        return path, cid

    def _update(self, author: Author, batch: Batch, path: str) -> None:
        compose = (
            self._content.compose_profile
            if path == _PROFILE_PATH
            else self._content.compose_blog_entry
        )
        record = cbor.encode(compose(self._clock.text()))
        author.editable[path] = batch.put(path, record, author.editable[path])

    def _delete(self, author: Author, batch: Batch) -> None:
        index = int(len(author.deletable) * self._random.random())
        path, cid = author.deletable[index]
        author.deletable[index] = author.deletable[-1]
        author.deletable.pop()
        batch.delete(path, cid)

    def _remember(self, author: Author, item: tuple[str, bytes]) -> None:
        path, cid = item
        if path.startswith(BLOG_ENTRY) and len(author.editable) < _EDITABLE_COUNT:
            author.editable[path] = cid
        elif len(author.deletable) < _DELETABLE_COUNT:
            author.deletable.append(item)
        else:
            author.deletable[int(_DELETABLE_COUNT * self._random.random())] = item
