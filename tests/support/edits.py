"""Every commit between small repositories, and every lie that a message could tell about one."""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from support import wire
from support.oracle import Tree, build, cid_of, covering_nodes, layer_of
from support.repo import DID, make_op, make_ops

from pipelines.atproto.commit import (
    AuthenticCommit,
    OpenedCommit,
    SignedCommit,
    VerifiedCommit,
    prove_commit,
)
from pipelines.atproto.frames import Action, CommitMessage, Op
from pipelines.atproto.syntax import Tid

_BLOCK = b"any record: records are not looked into"
_REV, _SINCE = Tid(wire.rev(1)), Tid(wire.rev(0))


class State:
    """A repository.

    Attributes:
        records: path → record CID.
        tree: the oracle's.
    """

    def __init__(self, records: Mapping[str, bytes]) -> None:
        self.records = records
        self.tree: Tree = build(records)
        self._covering: dict[str, dict[bytes, bytes]] = {}

    def covering(self, ops: Iterable[Op]) -> dict[bytes, bytes]:
        """Returns the blocks that a message with some ops has to bring; see `covering_nodes`."""
        blocks: dict[bytes, bytes] = {}
        for op in ops:
            # What is needed for several paths is what is needed for each.
            if op.path not in self._covering:
                self._covering[op.path] = covering_nodes(self.tree, [op.path])
            blocks |= self._covering[op.path]
        return blocks


class Edit(NamedTuple):
    """A repository before and after a commit."""

    before: State
    after: State

    @property
    def ops(self) -> tuple[Op, ...]:
        """What the commit did."""
        return make_ops(self.before.records, self.after.records)


def ascending_paths(places: Sequence[Sequence[int]]) -> list[tuple[str, ...]]:
    """Finds paths of wanted layers by trying one after the other.

    Args:
        places: the layers of the paths of each place.

    Returns:
        The paths of each place; all of a place come before all of the next one.
    """
    candidates = (f"com.example.note/{number:05}" for number in itertools.count())
    return [
        tuple(
            next(path for path in candidates if layer_of(path.encode()) == layer)
            for layer in layers
        )
        for layers in places
    ]


def every_state(places: Sequence[Sequence[str]], values: Sequence[bytes]) -> list[State]:
    """Returns every repository with at most one of the paths of each place.

    Args:
        places: the paths of each place.
        values: the CIDs that a record may have.
    """
    choices = [[None, *itertools.product(paths, values)] for paths in places]
    return [
        State(dict(chosen for chosen in combination if chosen is not None))
        for combination in itertools.product(*choices)
    ]


def every_edit(states: Sequence[State]) -> Iterator[Edit]:
    """Yields every pair of repositories; a commit without ops is among them."""
    return itertools.starmap(Edit, itertools.product(states, repeat=2))


def lies(edit: Edit, paths: Iterable[str], values: Sequence[bytes]) -> dict[str, list[list[Op]]]:
    """Returns lists of ops that are not what a commit did, by the kind of the lie.

    Which CIDs an op has is fixed by its action, as the frame's parser sees to it.

    Args:
        edit: the commit.
        paths: where the lies may say that something happened.
        values: CIDs for them to name.
    """
    honest = list(edit.ops)
    paths = list(paths)
    found: dict[str, list[list[Op]]] = {}

    def tell(kind: str, ops: list[Op]) -> None:
        if not _is_honest(ops, edit):
            found.setdefault(kind, []).append(ops)

    for index, op in enumerate(honest):
        others = honest[:index] + honest[index + 1 :]
        tell("missing", others)
        tell("repeated", [*honest, op])
        for value in values:
            if op.cid:
                tell("value", [*others, op._replace(cid=value)])
            if op.prev:
                tell("prev", [*others, op._replace(prev=value)])
        for path in paths:
            tell("path", [*others, make_op(op.action, path, op.cid, op.prev)])
        for other in _any_ops(op.path, values):
            if other.action is not op.action:
                tell("action", [*others, other])
    for path in paths:
        for other in _any_ops(path, values):
            tell("added", [*honest, other])
    return found


def _any_ops(path: str, values: Sequence[bytes]) -> Iterator[Op]:
    for value in values:
        yield make_op(Action.CREATE, path, value, None)
        yield make_op(Action.DELETE, path, None, value)
        for prev in values:
            yield make_op(Action.UPDATE, path, value, prev)


def _is_honest(ops: Sequence[Op], edit: Edit) -> bool:
    """Tells whether a list says nothing else than what happened, each path once.

    An update whose `prev` is its `cid`, of a record that is there, says nothing: deployed servers
    emit it.
    """
    telling = [op for op in ops if op.cid != op.prev or op.cid != edit.after.records.get(op.path)]
    return set(telling) == set(edit.ops) and len({op.path for op in ops}) == len(ops)


def prove(edit: Edit, ops: Iterable[Op]) -> VerifiedCommit:
    """Judges a message about a commit that says some ops; every block is at its writer's hands.

    Raises:
        ProtocolError: it is not proven.
    """
    ops = tuple(ops)
    tree = edit.after.tree
    records = dict.fromkeys((op.cid for op in ops if op.cid), _BLOCK)
    signed = SignedCommit(DID, _REV, tree.root, None, bytes(64), b"", b"")
    commit_cid = cid_of(b"")
    opened = OpenedCommit(signed, commit_cid, records | tree.nodes)
    message = CommitMessage(
        1, DID, wire.START_TIME, _REV, _SINCE, commit_cid, edit.before.tree.root, ops, b""
    )
    return prove_commit(message, AuthenticCommit(opened))
